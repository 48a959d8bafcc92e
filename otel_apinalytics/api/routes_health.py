# SPDX-License-Identifier: Apache-2.0
"""Health: whether the process lives, and whether it takes requests."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fastapi import APIRouter
from fastapi.responses import JSONResponse


def router(faults: Callable[[], Sequence[str]]) -> APIRouter:
    """Return the routes under `/health/`.

    Args:
        faults: Returns what keeps requests from being taken, in words; nothing if they are. Must
            not block.
    """
    routes = APIRouter(prefix="/health", tags=["health"])

    @routes.get("/live")
    async def live() -> JSONResponse:
        """Answer 200 while the process runs."""
        return JSONResponse({"status": "live"})

    @routes.get("/ready")
    async def ready() -> JSONResponse:
        """Answer 200 while data is taken, else 503 and the reasons."""
        if reasons := faults():
            return JSONResponse({"status": "not ready", "reasons": list(reasons)}, 503)
        return JSONResponse({"status": "ready"})

    return routes
