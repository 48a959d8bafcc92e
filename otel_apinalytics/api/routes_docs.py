# SPDX-License-Identifier: Apache-2.0
"""The documentation at `/docs`: Swagger UI, served from here, for there may be no internet."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from importlib import resources
from pathlib import Path

from fastapi.openapi.docs import get_swagger_ui_html
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

_SCRIPT, _STYLE, _ICON = "swagger-ui-bundle.js", "swagger-ui.css", "favicon-32x32.png"
# Keys are typed in here: nothing from elsewhere may run in it, nor frame it.
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; connect-src 'self'; script-src 'self' 'unsafe-inline'; "
        "style-src 'self' 'unsafe-inline'; img-src 'self' data:; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",
}
_FILE_HEADERS = {"X-Content-Type-Options": "nosniff", "Cache-Control": "max-age=3600"}


def docs_routes(title: str) -> list[Route]:
    """Return the routes of the page and of what it loads, all below `/docs`."""
    # Relative, for a proxy may serve all of it under a prefix.
    page = get_swagger_ui_html(
        openapi_url="openapi.json",
        title=title,
        swagger_js_url=f"docs/{_SCRIPT}",
        swagger_css_url=f"docs/{_STYLE}",
        swagger_favicon_url=f"docs/{_ICON}",
        # Examples say more than types; the schemas at the end are long.
        swagger_ui_parameters={"defaultModelsExpandDepth": 0},
    )
    page.headers.update(_HEADERS)

    async def show(request: Request) -> Response:
        return page

    return [
        Route("/docs", show),
        *(Route(f"/docs/{name}", _file(name)) for name in (_SCRIPT, _STYLE, _ICON)),
    ]


def _file(name: str) -> Callable[[Request], Awaitable[Response]]:
    path = Path(str(resources.files("fastapi_swagger.resources") / name))

    async def give(request: Request) -> Response:
        return FileResponse(path, headers=_FILE_HEADERS)

    return give
