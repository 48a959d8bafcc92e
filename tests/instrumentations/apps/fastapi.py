# SPDX-License-Identifier: Apache-2.0
"""The API in FastAPI, under uvicorn."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Annotated

import fastapi
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor

from tests.instrumentations.apps import program


def get_user(user_id: int, x_user: Annotated[str | None, fastapi.Header()] = None) -> int:
    """Answer with a user."""
    program.identify(x_user)
    return user_id


async def create_order() -> str:
    """Answer with an order."""
    return "created"


def boom() -> None:
    """Forget to handle an error."""
    raise program.Boom


def serve() -> AbstractContextManager[int]:
    """Serve the instrumented API."""
    FastAPIInstrumentor().instrument()
    app = fastapi.FastAPI()
    app.add_api_route("/users/{user_id}", get_user)
    app.add_api_route("/orders", create_order, methods=["POST"], status_code=201)
    app.add_api_route("/boom", boom)
    return program.asgi_server(app)


if __name__ == "__main__":
    program.run(serve)
