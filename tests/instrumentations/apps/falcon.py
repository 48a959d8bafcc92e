# SPDX-License-Identifier: Apache-2.0
"""The API in Falcon, under the standard library's server."""

from __future__ import annotations

from contextlib import AbstractContextManager

import falcon
from opentelemetry.instrumentation.falcon import FalconInstrumentor

from tests.instrumentations.apps import program
from tests.instrumentations.scenario import USER_HEADER


class User:
    """A user."""

    def on_get(self, request: falcon.Request, response: falcon.Response, user_id: int) -> None:
        """Answer with a user."""
        program.identify(request.get_header(USER_HEADER))
        response.text = str(user_id)


class Orders:
    """All orders."""

    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        """Answer with an order."""
        response.status = falcon.HTTP_201


class Explosion:
    """What fails."""

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """Forget to handle an error."""
        raise program.Boom


def serve() -> AbstractContextManager[int]:
    """Serve the instrumented API."""
    FalconInstrumentor().instrument()
    app = falcon.App()
    app.add_route("/users/{user_id:int}", User())
    app.add_route("/orders", Orders())
    app.add_route("/boom", Explosion())
    return program.wsgi_server(app)


if __name__ == "__main__":
    program.run(serve)
