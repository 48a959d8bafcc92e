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
    routes_applications,
    routes_audit,
    routes_backup,
    routes_docs,
    routes_erase,
    routes_events,
    routes_health,
    routes_keys,
    routes_ledger,
    routes_metrics,
    routes_page,
    routes_query,
    routes_retention,
    routes_status,
    routes_timeseries,
    routes_values,
)
from otel_apinalytics.api.audit import AuditMiddleware, Sink
from otel_apinalytics.api.compression import CompressionMiddleware
from otel_apinalytics.api.error_answers import install_error_answers
from otel_apinalytics.api.forwarded import ForwardedMiddleware
from otel_apinalytics.api.openapi import openapi_document
from otel_apinalytics.api.routes_events import NEXT_CURSOR
from otel_apinalytics.api.routes_timeseries import HINT_HEADER
from otel_apinalytics.api.settled import SETTLED_UNTIL, Settled
from otel_apinalytics.store.engine import Engine
from otel_apinalytics.store.erasures import Erasures
from otel_apinalytics.store.key_ring import KeyRing
from otel_apinalytics.store.retention_limits import RetentionLimits
from otel_apinalytics.telemetry import Telemetry

_TITLE = "otel-apinalytics"
# What senders and pages set beyond what browsers always allow.
_CORS_HEADERS = (
    "Authorization", "Content-Encoding", "Content-Type", "Idempotency-Key", "X-Auth-Key",
    "X-Auth-User",
)  # fmt: skip
# What pages may read of an answer, beyond that.
_EXPOSED_HEADERS = ("Link", "Retry-After", HINT_HEADER, NEXT_CURSOR, SETTLED_UNTIL)


@dataclass(frozen=True, slots=True)
class AppParts:
    """What the application is made of; the service provides it.

    Args:
        engine: The store.
        keys: The known keys.
        query_timeout_s: Longest time that a query may run.
        settled_until: Returns the time, Unix seconds, such that all that was received before is
            loaded.
        unique_until: Returns the time, Unix seconds, such that what was received before and is
            stored is there once.
        last_refusal: For an application, the latest request that was not let in, as JSON, or None.
        pending_bytes: Returns how much waits to be loaded.
        exporter_settings: Variables that point an OpenTelemetry SDK here, without the key.
        ingest_routes: Routes that take data.
        trusted_proxies: Addresses and networks of proxies that say whose request it is.
        cors_origins: Origins whose pages may send and ask; none by default.
        faults: Returns what keeps requests from being taken, in words; nothing if they are.
        telemetry: The service's metrics.
        backup: Begins a backup, and returns it in blocks.
        audit: Where requests with keys are noted.
        retention: The limits of retention.
        erasures: The erasures of consumers.
        hash_key: Returns an application's hash key as it is shown.
    """

    engine: Engine
    keys: KeyRing
    query_timeout_s: float
    settled_until: Callable[[], float]
    unique_until: Callable[[], float]
    last_refusal: Callable[[str], dict[str, Any] | None]
    pending_bytes: Callable[[], int]
    exporter_settings: str
    ingest_routes: Sequence[BaseRoute]
    trusted_proxies: Sequence[str]
    cors_origins: Sequence[str]
    faults: Callable[[], Sequence[str]]
    telemetry: Telemetry
    backup: Callable[[], Generator[bytes, None, None]]
    audit: Sink
    retention: RetentionLimits
    erasures: Erasures
    hash_key: Callable[[str], str]


def create_app(parts: AppParts) -> FastAPI:
    """Return the application."""
    app = FastAPI(
        title=_TITLE,
        version=__version__,
        docs_url=None,
        redoc_url=None,
        generate_unique_id_function=lambda route: route.name,
        redirect_slashes=False,
    )
    install_error_answers(app)
    app.add_middleware(AuditMiddleware, sink=parts.audit)
    app.add_middleware(CompressionMiddleware)
    if parts.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(parts.cors_origins),
            allow_methods=["GET", "POST"],
            allow_headers=_CORS_HEADERS,
            expose_headers=_EXPOSED_HEADERS,
        )
    if parts.trusted_proxies:
        app.add_middleware(ForwardedMiddleware, trusted=parts.trusted_proxies)
    engine, keys, timeout_s = parts.engine, parts.keys, parts.query_timeout_s
    settled = Settled(parts.settled_until, parts.unique_until)
    # First: the routes of the hot path are matched in order.
    app.router.routes[:0] = parts.ingest_routes
    app.include_router(routes_health.router(parts.faults))
    app.include_router(routes_metrics.router(parts.telemetry))
    app.include_router(routes_timeseries.router(engine, keys, timeout_s, settled))
    app.include_router(routes_events.router(engine, keys, timeout_s, settled))
    app.include_router(routes_values.router(engine, keys, timeout_s, settled))
    app.include_router(routes_query.router(keys))
    app.include_router(
        routes_status.router(
            engine, keys, timeout_s, parts.last_refusal, parts.settled_until, parts.pending_bytes
        )
    )
    app.include_router(routes_ledger.router(engine, keys, timeout_s, parts.settled_until))
    app.include_router(routes_backup.router(keys, parts.backup))
    app.include_router(routes_audit.router(engine, keys, timeout_s))
    app.include_router(routes_retention.router(engine, keys, parts.retention, timeout_s))
    app.include_router(routes_erase.router(keys, parts.erasures))
    app.include_router(routes_applications.router(keys, parts.hash_key))
    app.include_router(routes_keys.router(keys))
    app.include_router(routes_page.router(parts.exporter_settings))
    app.router.routes += routes_docs.docs_routes(_TITLE)
    app.openapi_schema = openapi_document(app)
    return app
