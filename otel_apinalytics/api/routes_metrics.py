# SPDX-License-Identifier: Apache-2.0
"""The service's metrics, for Prometheus. They need no key, for they name nobody."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import PlainTextResponse, Response

from otel_apinalytics.telemetry import CONTENT_TYPE, Telemetry


def router(telemetry: Telemetry) -> APIRouter:
    """Return the route of the metrics."""
    routes = APIRouter(tags=["health"])

    # Not async: it may wait for the store.
    @routes.get("/metrics", response_class=PlainTextResponse)
    @routes.head("/metrics", include_in_schema=False)
    def metrics() -> Response:
        """Return the service's metrics in the Prometheus text format."""
        return Response(telemetry.exposition(), media_type=CONTENT_TYPE)

    return routes
