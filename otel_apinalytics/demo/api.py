# SPDX-License-Identifier: Apache-2.0
"""The demo's API: a small ASGI application, instrumented as any user would instrument theirs.

Run as `python -m otel_apinalytics.demo.api`. Where spans go is said by `OTEL_EXPORTER_OTLP_*`; the
port that it listens on is the first line it prints.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import sys
from collections.abc import AsyncIterator

import uvicorn
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

SERVICE = "shop-api"
# Who a key belongs to; a real API asks its database.
CONSUMERS = {
    "key-acme": "acme",
    "key-globex": "globex",
    "key-initech": "initech",
    "key-hooli": "hooli",
}


class DescribeCall:
    """Puts the route and the caller on the request's span, as a framework's hooks do.

    Args:
        app: The application behind.
        routes: Its routes.
    """

    def __init__(self, app: ASGIApp, routes: list[Route]) -> None:
        self._app = app
        self._routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Describe an HTTP call, then pass it on."""
        if scope["type"] == "http":
            span = trace.get_current_span()
            # Full and partial matches differ by method only; the path is that of the route.
            for route in self._routes:
                if route.path_regex.match(scope["path"]):
                    span.set_attribute("http.route", route.path)
            key = dict(scope["headers"]).get(b"x-api-key", b"").decode("latin-1")
            if consumer := CONSUMERS.get(key):
                span.set_attribute("enduser.id", consumer)
        await self._app(scope, receive, send)


async def list_items(request: Request) -> Response:
    """Answer quickly."""
    await asyncio.sleep(random.uniform(0.001, 0.006))  # noqa: S311 - load, not a secret
    return JSONResponse([{"id": 1}, {"id": 2}])


async def get_item(request: Request) -> Response:
    """Answer with an item, or 404 for ids from 900 on."""
    await asyncio.sleep(random.uniform(0.002, 0.012))  # noqa: S311
    number = request.path_params["number"]
    return JSONResponse({"id": number}, 404 if number >= 900 else 200)


async def create_order(request: Request) -> Response:
    """Take a while; every order of 13 items fails."""
    await asyncio.sleep(random.uniform(0.010, 0.040))  # noqa: S311
    items = (await request.json())["items"]
    return JSONResponse({"items": items}, 500 if items == 13 else 201)


async def search(request: Request) -> Response:
    """Take longest."""
    await asyncio.sleep(random.uniform(0.015, 0.080))  # noqa: S311
    return JSONResponse({"q": request.query_params.get("q", "")})


ROUTES = [
    Route("/items", list_items),
    Route("/items/{number:int}", get_item),
    Route("/orders", create_order, methods=["POST"]),
    Route("/search", search),
]


def main() -> None:
    """Serve until SIGTERM or SIGINT."""
    provider = TracerProvider(resource=Resource.create({SERVICE_NAME: SERVICE}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(), schedule_delay_millis=500))

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        # Once all calls have ended: the last spans go out before the process does.
        provider.shutdown()

    api = DescribeCall(Starlette(routes=ROUTES, lifespan=lifespan), ROUTES)
    app = OpenTelemetryMiddleware(api, tracer_provider=provider)
    listener = socket.create_server(("127.0.0.1", 0))
    sys.stdout.write(f"{listener.getsockname()[1]}\n")
    sys.stdout.flush()
    uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listener])


if __name__ == "__main__":
    main()
