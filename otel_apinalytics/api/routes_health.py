# SPDX-License-Identifier: Apache-2.0
"""Health: whether the process lives, and whether it takes requests."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from otel_apinalytics import __version__
from otel_apinalytics.api import answers


def router(faults: Callable[[], Sequence[str]]) -> APIRouter:
    """Return the routes under `/health/`.

    Args:
        faults: Returns what keeps requests from being taken, in words; nothing if they are. Must
            not block.
    """
    routes = APIRouter(prefix="/health", tags=["health"])

    @routes.get("/live", responses={200: {"model": answers.Live}})
    @routes.head("/live", include_in_schema=False)
    async def live() -> JSONResponse:
        """Answer 200 while the process runs."""
        return JSONResponse({"status": "live", "version": __version__})

    @routes.get(
        "/ready",
        responses={
            200: {"model": answers.Ready},
            503: {"model": answers.NotReady, "description": "Data is not taken now."},
        },
    )
    @routes.head("/ready", include_in_schema=False)
    async def ready() -> JSONResponse:
        """Answer 200 while data is taken, else 503 and the reasons."""
        if reasons := faults():
            return JSONResponse({"status": "not ready", "reasons": list(reasons)}, 503)
        return JSONResponse({"status": "ready"})

    return routes
