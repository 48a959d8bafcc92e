# SPDX-License-Identifier: Apache-2.0
"""The page at `/`: a static file that asks the API with a key typed in."""

from __future__ import annotations

import html
from importlib import resources

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

# The key is in the page's memory: nothing from elsewhere may run in it, nor frame it.
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; connect-src 'self'; script-src 'unsafe-inline'; "
        "style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",
}


def router(exporter_settings: str) -> APIRouter:
    """Return the route of the page.

    Args:
        exporter_settings: The block to copy where there is no data yet.
    """
    routes = APIRouter(include_in_schema=False)
    template = (resources.files("otel_apinalytics.api") / "dashboard" / "index.html").read_text(
        "utf-8"
    )
    page = template.replace("{{exporter_settings}}", html.escape(exporter_settings))

    @routes.get("/")
    @routes.head("/")
    async def index() -> HTMLResponse:
        return HTMLResponse(page, headers=_HEADERS)

    return routes
