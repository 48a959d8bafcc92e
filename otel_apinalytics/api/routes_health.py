# SPDX-License-Identifier: Apache-2.0
"""Health: whether the process lives, and whether it takes requests."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import APIRouter
from fastapi.responses import JSONResponse


def router(is_ready: Callable[[], bool]) -> APIRouter:
    """Return the routes under `/health/`."""
    routes = APIRouter(prefix="/health", tags=["health"])

    @routes.get("/live")
    async def live() -> JSONResponse:
        """Answer 200 while the process runs."""
        return JSONResponse({"status": "live"})

    @routes.get("/ready")
    async def ready() -> JSONResponse:
        """Answer 200 while data is taken and questions are answered, else 503."""
        if is_ready():
            return JSONResponse({"status": "ready"})
        return JSONResponse({"status": "not ready"}, 503)

    return routes
