# SPDX-License-Identifier: Apache-2.0
"""WSGI middleware that says who calls: Flask, Django, Falcon, Pyramid and others under WSGI."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

from otel_apinalytics.exporter.consumers import Consumer
from otel_apinalytics.exporter.identification import Identification
from otel_apinalytics.exporter.sources import Ask, consumer_said, first_said, header_source

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
        with Identification() as identification:
            identification.request_begins(self._find(environ))

            def start(*arguments: Any, **named: Any) -> Callable[[bytes], object]:
                # An authentication within the application has been done by now.
                if identification.is_wanted():
                    identification.response_begins(self._find(environ))
                return start_response(*arguments, **named)

            return self._app(environ, start)

    def _find(self, environ: Environ) -> Consumer | None:
        ask, header = self._ask, self._header
        return first_said(
            lambda: consumer_said(ask(environ)) if ask else None,
            lambda: header.consumer(_header(environ, header.name)) if header else None,
            lambda: consumer_said(environ.get("REMOTE_USER")),
        )


def _header(environ: Environ, name: str) -> str | None:
    text: str | None = environ.get(f"HTTP_{name.upper().replace('-', '_')}")
    return text
