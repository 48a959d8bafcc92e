# SPDX-License-Identifier: Apache-2.0
"""The API in Tornado, under its own server."""

from __future__ import annotations

from contextlib import AbstractContextManager

import tornado.web
from opentelemetry.instrumentation.tornado import TornadoInstrumentor
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets

from tests.instrumentations.apps import program
from tests.instrumentations.scenario import ADDRESS, USER_HEADER


class User(tornado.web.RequestHandler):
    """A user."""

    def get(self, user_id: str) -> None:
        """Answer with a user."""
        program.identify(self.request.headers.get(USER_HEADER))
        self.write(user_id)


class Orders(tornado.web.RequestHandler):
    """All orders."""

    async def post(self) -> None:
        """Answer with an order."""
        self.set_status(201)


class Explosion(tornado.web.RequestHandler):
    """What fails."""

    def get(self) -> None:
        """Forget to handle an error."""
        raise program.Boom


class Server:
    """The API's server."""

    async def start(self) -> int:
        """Begin to serve and return the port."""
        app = tornado.web.Application(
            [(r"/users/(\d+)", User), ("/orders", Orders), ("/boom", Explosion)]
        )
        sockets = bind_sockets(0, ADDRESS)
        self._server = HTTPServer(app)
        self._server.add_sockets(sockets)
        port: int = sockets[0].getsockname()[1]
        return port

    async def stop(self) -> None:
        """Stop, when what was begun has ended."""
        self._server.stop()
        await self._server.close_all_connections()


def serve() -> AbstractContextManager[int]:
    """Serve the instrumented API."""
    TornadoInstrumentor().instrument()
    return program.async_server(Server())


if __name__ == "__main__":
    program.run(serve)
