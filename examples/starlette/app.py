# SPDX-License-Identifier: Apache-2.0
"""An API in Starlette. The user that its authentication finds is the consumer."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.authentication import AuthCredentials, AuthenticationBackend, BaseUser, SimpleUser
from starlette.middleware import Middleware
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from otel_apinalytics.exporter import ConsumerMiddleware

USERS = {"Bearer token-of-acme": "acme", "Bearer token-of-globex": "globex"}


class Tokens(AuthenticationBackend):
    """Authenticates by a token."""

    async def authenticate(self, conn: HTTPConnection) -> tuple[AuthCredentials, BaseUser] | None:
        """Return the user that a token belongs to."""
        name = USERS.get(conn.headers.get("authorization", ""))
        return (AuthCredentials(), SimpleUser(name)) if name else None


async def get_order(request: Request) -> JSONResponse:
    """Answer with an order."""
    return JSONResponse({"order": request.path_params["order_id"], "of": str(request.user)})


app = Starlette(
    routes=[Route("/orders/{order_id:int}", get_order)],
    middleware=[
        Middleware(AuthenticationMiddleware, backend=Tokens()),
        Middleware(ConsumerMiddleware),
    ],
)
