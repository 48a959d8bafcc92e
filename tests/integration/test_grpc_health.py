# SPDX-License-Identifier: Apache-2.0
"""Tests of the health that gRPC balancers ask for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from otel_apinalytics.receiver.admission import Admission
from otel_apinalytics.receiver.grpc_server import SERVICE, GrpcServer

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


@contextmanager
def health_of(faults: list[str]) -> Iterator[Any]:
    """Give a client of a server with these faults; no request gets as far as admission."""
    server = GrpcServer(cast(Admission, None), "localhost:0", 1 << 20, None, lambda: faults)
    server.start()
    with grpc.insecure_channel(f"localhost:{server.port}") as channel:
        yield health_pb2_grpc.HealthStub(channel)
    server.close()


def test_a_fault_is_told_and_its_end_too() -> None:
    """Of the server, and of the service by name."""
    faults: list[str] = []
    with health_of(faults) as client:

        def states() -> set[int]:
            asked = [health_pb2.HealthCheckRequest(service=name) for name in ("", SERVICE)]
            return {client.Check(request, timeout=30).status for request in asked}

        assert states() == {SERVING}
        faults.append("the request log cannot be written")
        assert states() == {NOT_SERVING}
        faults.clear()
        assert states() == {SERVING}


def test_nobody_watches() -> None:
    """The protocol allows it; a watcher would hold a thread as long as it likes."""
    with health_of([]) as client:
        watched = client.Watch(health_pb2.HealthCheckRequest(service=SERVICE), timeout=30)
        with pytest.raises(grpc.RpcError) as refused:
            next(watched)
        assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_another_service_is_not_found() -> None:
    """As the protocol has it."""
    with health_of([]) as client, pytest.raises(grpc.RpcError) as refused:
        client.Check(health_pb2.HealthCheckRequest(service="other"), timeout=30)
    assert refused.value.code() is grpc.StatusCode.NOT_FOUND
