# SPDX-License-Identifier: Apache-2.0
"""The API in aiohttp, under its own server."""

from __future__ import annotations

from contextlib import AbstractContextManager

from aiohttp import web
from opentelemetry.instrumentation.aiohttp_server import AioHttpServerInstrumentor

from tests.instrumentations.apps import program
from tests.instrumentations.scenario import ADDRESS, USER_HEADER


async def get_user(request: web.Request) -> web.Response:
    """Answer with a user."""
    program.identify(request.headers.get(USER_HEADER))
    return web.Response(text=request.match_info["user_id"])


async def create_order(request: web.Request) -> web.Response:
    """Answer with an order."""
    return web.Response(text="created", status=201)


async def boom(request: web.Request) -> web.Response:
    """Forget to handle an error."""
    raise program.Boom


class Server:
    """The API's server."""

    async def start(self) -> int:
        """Begin to serve and return the port."""
        app = web.Application()
        app.router.add_get(r"/users/{user_id:\d+}", get_user)
        app.router.add_post("/orders", create_order)
        app.router.add_get("/boom", boom)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        await web.TCPSite(self._runner, ADDRESS, 0).start()
        port: int = self._runner.addresses[0][1]
        return port

    async def stop(self) -> None:
        """Stop, when what was begun has ended."""
        await self._runner.cleanup()


def serve() -> AbstractContextManager[int]:
    """Serve the instrumented API."""
    AioHttpServerInstrumentor().instrument()
    return program.async_server(Server())


if __name__ == "__main__":
    program.run(serve)
