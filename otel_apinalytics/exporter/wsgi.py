# SPDX-License-Identifier: Apache-2.0
"""WSGI middleware that says who calls: Flask, Django, Falcon, Pyramid and others under WSGI."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

from otel_apinalytics.exporter.consumers import Consumer
from otel_apinalytics.exporter.identification import Identification
from otel_apinalytics.exporter.sources import Ask, consumer_said, header_source

Environ: TypeAlias = dict[str, Any]
StartResponse: TypeAlias = Callable[..., Callable[[bytes], object]]
WSGIApplication: TypeAlias = Callable[[Environ, StartResponse], Iterable[bytes]]


class WSGIConsumerMiddleware:
    """Puts the consumer of each request on its SERVER span: the first of these that there is.

    They are asked before the application is called and, if none gives anything and the application
    says nothing, again when the response begins.

    Args:
        app: The application.
        consumer: From the environ to an id, a `Consumer`, or None.
        header: Name of a request header that has the id. After it, the user that a server or
            a middleware has authenticated is the consumer (`REMOTE_USER`).
        secret: Whether the header is a secret, to be hashed. Headers with credentials and keys,
            such as `authorization` and `x-api-key`, always are.
    """

    def __init__(
        self,
        app: WSGIApplication,
        *,
        consumer: Ask[Environ] | None = None,
        header: str | None = None,
        secret: bool = False,
    ) -> None:
        self._app = app
        self._ask = consumer
        self._header = header_source(header, secret) if header else None

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Serve a request."""
        with Identification(lambda: self._find(environ)) as identification:

            def start(*arguments: Any, **named: Any) -> Callable[[bytes], object]:
                identification.response_begins()
                return start_response(*arguments, **named)

            return self._app(environ, start)

    def _find(self, environ: Environ) -> Consumer | None:
        said = consumer_said(self._ask(environ)) if self._ask else None
        if said is None and self._header:
            name = self._header.name.upper().replace("-", "_")
            said = self._header.consumer(environ.get(f"HTTP_{name}"))
        return said or consumer_said(environ.get("REMOTE_USER"))
