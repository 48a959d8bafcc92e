# SPDX-License-Identifier: Apache-2.0
"""ASGI middleware that says who calls: FastAPI, Starlette, Django and Quart under ASGI."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from inspect import isawaitable
from typing import Any, TypeAlias

from otel_apinalytics.exporter.consumers import Consumer
from otel_apinalytics.exporter.endings import send_what_is_left
from otel_apinalytics.exporter.identification import Identification
from otel_apinalytics.exporter.sources import (
    Answer,
    consumer_of_user,
    consumer_said,
    first_said,
    header_source,
    source_contained,
)

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
ASGIApplication: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]


class ConsumerMiddleware:
    """Puts the consumer of each request on its SERVER span: the first of these that there is.

    They are asked before the application is called and, if none gives anything and the application
    says nothing, again when the response begins.

    Args:
        app: The application.
        consumer: From the scope to an id, a `Consumer`, or None; it may be `async`.
        header: Name of a request header that has the id. After it, the authenticated user that
            a middleware left in the scope is the consumer (`scope["user"]`).
        secret: Whether the header is a secret, to be hashed. Headers with credentials and keys,
            such as `authorization` and `x-api-key`, always are.
    """

    def __init__(
        self,
        app: ASGIApplication,
        *,
        consumer: Callable[[Scope], Answer | Awaitable[Answer]] | None = None,
        header: str | None = None,
        secret: bool = False,
    ) -> None:
        self._app = app
        self._ask = consumer
        self._header = header_source(header, secret) if header else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, _sending_at_end(send))
            return
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        with Identification() as identification:
            identification.request_begins(await self._find(scope))

            async def send_on(message: Message) -> None:
                # An authentication within the application has been done by now.
                if identification.is_wanted():
                    identification.response_begins(await self._find(scope))
                await send(message)

            await self._app(scope, receive, send_on)

    async def _find(self, scope: Scope) -> Consumer | None:
        header = self._header
        return await self._said(scope) or first_said(
            lambda: header.consumer(_header(scope, header.name.encode())) if header else None,
            lambda: consumer_of_user(scope.get("user")),
        )

    async def _said(self, scope: Scope) -> Consumer | None:
        if self._ask:
            with source_contained:
                answer = self._ask(scope)
                return consumer_said(await answer if isawaitable(answer) else answer)
        return None


def _sending_at_end(send: Send) -> Send:
    """Let the program's last spans be sent: servers end a process by the signal that they got."""

    async def send_on(message: Message) -> None:
        if message["type"].startswith("lifespan.shutdown."):
            send_what_is_left()
        await send(message)

    return send_on


def _header(scope: Scope, name: bytes) -> str | None:
    for sent, value in scope.get("headers", ()):
        if sent.lower() == name:
            # As the instrumentation decodes what it captures, so that a hash is the same.
            try:
                return str(value, "utf-8")
            except UnicodeDecodeError:
                return str(value, "latin-1")
    return None
