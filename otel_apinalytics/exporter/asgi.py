# SPDX-License-Identifier: Apache-2.0
"""ASGI middleware that says who calls: FastAPI, Starlette, Django and Quart under ASGI."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias

from otel_apinalytics.exporter.consumers import Consumer
from otel_apinalytics.exporter.identification import Identification
from otel_apinalytics.exporter.sources import (
    Ask,
    consumer_of_user,
    consumer_said,
    header_source,
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
        consumer: From the scope to an id, a `Consumer`, or None.
        header: Name of a request header that has the id. After it, the authenticated user that
            a middleware left in the scope is the consumer (`scope["user"]`).
        secret: Whether the header is a secret, to be hashed. Headers with credentials and keys,
            such as `authorization` and `x-api-key`, always are.
    """

    def __init__(
        self,
        app: ASGIApplication,
        *,
        consumer: Ask[Scope] | None = None,
        header: str | None = None,
        secret: bool = False,
    ) -> None:
        self._app = app
        self._ask = consumer
        self._header = header_source(header, secret) if header else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        with Identification(lambda: self._find(scope)) as identification:

            async def send_on(message: Message) -> None:
                identification.response_begins()
                await send(message)

            await self._app(scope, receive, send_on)

    def _find(self, scope: Scope) -> Consumer | None:
        said = consumer_said(self._ask(scope)) if self._ask else None
        if said is None and self._header:
            said = self._header.consumer(_header(scope, self._header.name.encode()))
        return said or consumer_of_user(scope.get("user"))


def _header(scope: Scope, name: bytes) -> str | None:
    for sent, value in scope.get("headers", ()):
        if sent.lower() == name:
            # As the instrumentation decodes what it captures, so that a hash is the same.
            try:
                return str(value, "utf-8")
            except UnicodeDecodeError:
                return str(value, "latin-1")
    return None
