# SPDX-License-Identifier: Apache-2.0
"""The API in gRPC."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
from opentelemetry.instrumentation.grpc import GrpcInstrumentorServer

from tests.instrumentations.apps import program
from tests.instrumentations.scenario import ADDRESS, RPC_CALLS, RPC_SERVICE, USER_HEADER, Call


def get_user(request: bytes, context: Any) -> bytes:
    """Answer with a user."""
    program.identify(dict(context.invocation_metadata()).get(USER_HEADER.lower()))
    return request


def find_order(request: bytes, context: Any) -> bytes:
    """Find nothing."""
    context.abort(grpc.StatusCode.NOT_FOUND, "there is no such order")
    raise AssertionError("abort raises")


def boom(request: bytes, context: Any) -> bytes:
    """Forget to handle an error."""
    raise program.Boom


@contextmanager
def serve() -> Iterator[int]:
    """Serve the instrumented API."""
    GrpcInstrumentorServer().instrument()
    handlers = {"GetUser": get_user, "FindOrder": find_order, "Boom": boom}
    methods = {
        name: grpc.unary_unary_rpc_method_handler(handler) for name, handler in handlers.items()
    }
    server = grpc.server(
        ThreadPoolExecutor(1), handlers=[grpc.method_handlers_generic_handler(RPC_SERVICE, methods)]
    )
    port = server.add_insecure_port(f"{ADDRESS}:0")
    server.start()
    yield port
    server.stop(grace=None).wait()


def make_calls(port: int) -> None:
    """Make the calls of the scenario, one after the other.

    Raises:
        AssertionError: A call ends with another status than the scenario says.
    """
    with grpc.insecure_channel(f"{ADDRESS}:{port}") as channel:
        for call in RPC_CALLS:
            status = _status(channel, call)
            if status != call.answer:
                raise AssertionError(f"{call.name}: {status} instead of {call.answer}")


def _status(channel: Any, call: Call) -> str:
    metadata = [(name.lower(), value) for name, value in call.headers.items()]
    if parent := program.trace_parent(call):
        metadata.append(("traceparent", parent))
    try:
        channel.unary_unary(call.path)(b"", metadata=metadata)
    except grpc.RpcError as error:
        return str(error.code().name)
    return "OK"


if __name__ == "__main__":
    program.run(serve, make_calls)
