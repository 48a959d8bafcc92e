# SPDX-License-Identifier: Apache-2.0
"""What the programs share: tracing as a user sets it up, the calls, and what is left behind.

Environment variables of OpenTelemetry say where spans go, what the service is called and which
conventions are spoken. The only argument is the file that the Python rendering of the rules is
written to.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import uvicorn
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from otel_apinalytics.normalize.python import normalize_spans
from tests.instrumentations.scenario import (
    ADDRESS,
    HASH_KEY_VARIABLE,
    HTTP_CALLS,
    SERVER_NAME,
    Call,
)
from tests.support.sdk import span_view

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

# Longer than any program runs: all its spans go out in one request, at the end.
_SCHEDULE_MS = 3_600_000

Serve = Callable[[], AbstractContextManager[int]]
MakeCalls = Callable[[int], None]


class AsyncServer(Protocol):
    """A server that runs in an event loop."""

    async def start(self) -> int:
        """Begin to serve and return the port."""

    async def stop(self) -> None:
        """Stop, when what was begun has ended."""


class Boom(RuntimeError):
    """What the API forgot to handle."""


def run(serve: Serve, make_calls: MakeCalls | None = None) -> None:
    """Serve, call, send the spans to the service, and write what Python makes of the same spans.

    Args:
        serve: Instruments the framework and serves at a free port; called when tracing is set up.
        make_calls: Makes the calls; by default the HTTP ones.
    """
    memory = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(memory))
    provider.add_span_processor(
        BatchSpanProcessor(OTLPSpanExporter(), schedule_delay_millis=_SCHEDULE_MS)
    )
    trace.set_tracer_provider(provider)
    with serve() as port:
        (make_calls or make_http_calls)(port)
    provider.shutdown()
    _write_rendering(Path(sys.argv[1]), memory.get_finished_spans())


def identify(user: str | None) -> None:
    """Say who calls, as an application does after it has authenticated them."""
    if user:
        trace.get_current_span().set_attribute("enduser.id", user)


def trace_parent(call: Call) -> str | None:
    """Return the `traceparent` of a call's caller; None for a call that begins a trace."""
    if call.parent_span_id is None:
        return None
    return f"00-{os.urandom(16).hex()}-{call.parent_span_id}-01"


def make_http_calls(port: int) -> None:
    """Make the calls of the scenario, one after the other.

    Raises:
        AssertionError: An answer has another status than the scenario says.
    """
    for call in HTTP_CALLS:
        connection = http.client.HTTPConnection(ADDRESS, port)
        headers = dict(call.headers)
        if parent := trace_parent(call):
            headers["traceparent"] = parent
        connection.request(call.method, call.path, call.body, headers)
        status = connection.getresponse().status
        connection.close()
        if status != call.answer:
            raise AssertionError(f"{call.name}: {status} instead of {call.answer}")


@contextmanager
def wsgi_server(app: WSGIApplication) -> Iterator[int]:
    """Serve a WSGI application by the standard library's server."""
    with make_server(ADDRESS, 0, app, _NamedServer, _QuietHandler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def asgi_server(app: Any) -> Iterator[int]:
    """Serve an ASGI application by uvicorn."""
    config = uvicorn.Config(app, host=ADDRESS, port=0, lifespan="off", log_level="critical")
    with async_server(_Uvicorn(uvicorn.Server(config))) as port:
        yield port


@contextmanager
def async_server(server: AsyncServer) -> Iterator[int]:
    """Run a server in an event loop of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield asyncio.run_coroutine_threadsafe(server.start(), loop).result()
        asyncio.run_coroutine_threadsafe(server.stop(), loop).result()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


class _NamedServer(WSGIServer):
    def server_bind(self) -> None:
        """Take a name that does not depend on the machine's."""
        super().server_bind()
        self.server_name = SERVER_NAME
        self.setup_environ()


class _QuietHandler(WSGIRequestHandler):
    def log_message(self, *arguments: object) -> None:
        """Log nothing."""


class _Uvicorn:
    def __init__(self, server: uvicorn.Server) -> None:
        self._server = server
        self._serving: asyncio.Task[None] | None = None

    async def start(self) -> int:
        self._serving = asyncio.create_task(self._server.serve())
        while not self._server.started:
            await asyncio.sleep(0)
        port: int = self._server.servers[0].sockets[0].getsockname()[1]
        return port

    async def stop(self) -> None:
        assert self._serving is not None
        self._server.should_exit = True
        await self._serving


def _write_rendering(path: Path, spans: Sequence[ReadableSpan]) -> None:
    hash_key = bytes.fromhex(os.environ[HASH_KEY_VARIABLE])
    rendered = normalize_spans(
        [span_view(span) for span in spans], time.time_ns(), hash_key=hash_key
    )
    with path.open("w", encoding="utf-8") as stream:
        for normalized in rendered:
            line = {"outcome": normalized.outcome, **normalized.fields}
            print(json.dumps(line, default=bytes.hex), file=stream)
