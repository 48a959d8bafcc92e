# SPDX-License-Identifier: Apache-2.0
"""The API in Flask, under Werkzeug."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import flask
from opentelemetry.instrumentation.flask import FlaskInstrumentor
from werkzeug.serving import make_server

from tests.instrumentations.apps import program
from tests.instrumentations.scenario import ADDRESS, USER_HEADER


def get_user(user_id: int) -> str:
    """Answer with a user."""
    program.identify(flask.request.headers.get(USER_HEADER))
    return str(user_id)


def create_order() -> tuple[str, int]:
    """Answer with an order."""
    return "created", 201


def boom() -> str:
    """Forget to handle an error."""
    raise program.Boom


@contextmanager
def serve() -> Iterator[int]:
    """Serve the instrumented API."""
    FlaskInstrumentor().instrument()
    app = flask.Flask("shop")
    app.add_url_rule("/users/<int:user_id>", view_func=get_user)
    app.add_url_rule("/orders", view_func=create_order, methods=["POST"])
    app.add_url_rule("/boom", view_func=boom)
    logging.getLogger("werkzeug").disabled = True
    # One call at a time: when the server has stopped, every span has ended.
    server = make_server(ADDRESS, 0, app, threaded=False)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


if __name__ == "__main__":
    program.run(serve)
