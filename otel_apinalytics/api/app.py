# SPDX-License-Identifier: Apache-2.0
"""The HTTP application: puts routes, error answers and the page together."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import BaseRoute

from otel_apinalytics import __version__
from otel_apinalytics.api import (
    routes_backup,
    routes_health,
    routes_ledger,
    routes_metrics,
    routes_page,
    routes_query,
    routes_timeseries,
)
from otel_apinalytics.api.error_answers import install_error_answers
from otel_apinalytics.store.engine import Engine
from otel_apinalytics.store.keys import KeyRing
from otel_apinalytics.telemetry import Telemetry

# What senders and pages set beyond what browsers always allow.
_CORS_HEADERS = (
    "Authorization", "Content-Encoding", "Content-Type", "Idempotency-Key", "X-Auth-Key",
    "X-Auth-User",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class AppParts:
    """What the application is made of; the service provides it.

    Args:
        engine: The store.
        keys: The known keys.
        query_timeout_s: Longest time that a query may run.
        settled_until: Returns the time, Unix seconds, such that all that was received before is
            loaded.
        last_refusal: For an application, the latest request that was not let in, as JSON, or None.
        exporter_settings: Variables that point an OpenTelemetry SDK here, without the key.
        ingest_routes: Routes that take data.
        cors_origins: Origins whose pages may send and ask; none by default.
        faults: Returns what keeps requests from being taken, in words; nothing if they are.
        telemetry: The service's metrics.
        backup: Begins a backup, and returns it in blocks.
    """

    engine: Engine
    keys: KeyRing
    query_timeout_s: float
    settled_until: Callable[[], float]
    last_refusal: Callable[[str], dict[str, Any] | None]
    exporter_settings: str
    ingest_routes: Sequence[BaseRoute]
    cors_origins: Sequence[str]
    faults: Callable[[], Sequence[str]]
    telemetry: Telemetry
    backup: Callable[[], Generator[bytes, None, None]]


def create_app(parts: AppParts) -> FastAPI:
    """Return the application."""
    app = FastAPI(
        title="otel-apinalytics",
        version=__version__,
        description="API analytics on OpenTelemetry.",
        redirect_slashes=False,
    )
    install_error_answers(app)
    if parts.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(parts.cors_origins),
            allow_methods=["GET", "POST"],
            allow_headers=_CORS_HEADERS,
            expose_headers=["Retry-After"],
        )
    # First: the routes of the hot path are matched in order.
    app.router.routes[:0] = parts.ingest_routes
    app.include_router(routes_health.router(parts.faults))
    app.include_router(routes_metrics.router(parts.telemetry))
    app.include_router(routes_timeseries.router(parts.engine, parts.keys, parts.query_timeout_s))
    app.include_router(
        routes_query.router(parts.engine, parts.keys, parts.query_timeout_s, parts.last_refusal)
    )
    app.include_router(
        routes_ledger.router(parts.engine, parts.keys, parts.query_timeout_s, parts.settled_until)
    )
    app.include_router(routes_backup.router(parts.keys, parts.backup))
    app.include_router(routes_page.router(parts.exporter_settings))
    return app
