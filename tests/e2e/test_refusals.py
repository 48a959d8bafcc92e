# SPDX-License-Identifier: Apache-2.0
"""Requests that are not let in are in the ledger, by whom and why, and beside the equation."""

from __future__ import annotations

import gzip
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span
from prometheus_client.parser import text_string_to_metric_families

from otel_apinalytics.receiver import gate
from tests.support.clients import (
    ADMIN_HEADERS,
    APPLICATION,
    READ_HEADERS,
    READ_KEY,
    WRITE_HEADERS,
    Client,
)
from tests.support.otlp import CALL, make_request, make_span
from tests.support.service_process import service_process
from tests.support.waiting import wait_for

MAX_REQUEST_BYTES = 500_000
PROTOBUF = {"Content-Type": "application/x-protobuf"}
GARBAGE = b"\xff\xff\xff"
# Larger than allowed once it is decompressed.
LARGE = make_request(make_span({**CALL, "padding": "x" * MAX_REQUEST_BYTES}))
# Spans without anything: too many of them, within the bytes that are allowed.
CROWDED = ExportTraceServiceRequest(
    resource_spans=[ResourceSpans(scope_spans=[ScopeSpans(spans=[Span()] * (gate.MAX_SPANS + 1))])]
).SerializeToString()
HOUR = 3600

# Application, whether the key is known, transport, reason.
Kind = tuple[str, bool, str, str]


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """Run a service that nothing else is sent to."""
    limit = str(MAX_REQUEST_BYTES)
    directory: Path = tmp_path_factory.mktemp("refusals")
    with service_process(directory, max_request_bytes=limit) as service:
        yield service.client


def post(client: Client, body: bytes, headers: Mapping[str, str], path: str = "/v1/traces") -> int:
    """Send a request over HTTP and return its status."""
    return client.request("POST", path, body, {**PROTOBUF, **headers})[0]


def call(client: Client, body: bytes, **metadata: str) -> grpc.StatusCode:
    """Send a request over gRPC, which is refused, and return the status."""
    pairs = tuple((name.replace("_", "-"), value) for name, value in metadata.items())
    with client.exporter() as export, pytest.raises(grpc.RpcError) as refused:
        export(body, metadata=pairs, timeout=30)
    code: grpc.StatusCode = refused.value.code()
    return code


def ledger_of(client: Client, headers: Mapping[str, str]) -> Any:
    """Return the ledger of the hour around now."""
    now = int(time.time())
    path = f"/1/ledger/{now - HOUR}/{now + HOUR}/?granularity=day"
    status, body, _ = client.request("GET", path, headers=headers)
    assert status == 200, body
    return body


def kinds(body: Any) -> Counter[Kind]:
    """Return how many requests were refused, by kind."""
    found: Counter[Kind] = Counter()
    for row in body["rows"]:
        assert row["outcome"] == "refused", row
        kind = (row["application"], row["key_id"] != "", row["transport"], row["reason"])
        found[kind] += row["items"]
    return found


def test_refusals_are_in_the_ledger(client: Client) -> None:
    """By application, key, transport and reason: an application sees those that are its own."""
    ok = grpc.StatusCode
    request = make_request(make_span())
    shop = {"x_auth_user": APPLICATION}
    for _ in range(3):
        assert post(client, request, {}) == 401
    assert call(client, request) is ok.UNAUTHENTICATED
    # The name of an application tells whom it concerns, if it is one.
    assert post(client, request, {"X-Auth-User": APPLICATION}) == 401
    assert post(client, request, {"X-Auth-User": APPLICATION, "X-Auth-Key": "wrong"}) == 401
    assert post(client, b"[]", {"X-Auth-User": "nobody", "X-Auth-Key": "x"}, "/1/event/") == 401
    assert call(client, request, **shop, x_auth_key="wrong") is ok.UNAUTHENTICATED
    assert post(client, request, {"Authorization": f"Bearer {READ_KEY}"}) == 403
    assert call(client, request, x_auth_key=READ_KEY) is ok.PERMISSION_DENIED
    assert post(client, GARBAGE, WRITE_HEADERS) == 400
    assert post(client, b'[{"timestamp": "never"}]', WRITE_HEADERS, "/1/event/") == 400
    good = {name.lower().replace("-", "_"): value for name, value in WRITE_HEADERS.items()}
    assert call(client, GARBAGE, **good) is ok.INVALID_ARGUMENT
    bomb = {**WRITE_HEADERS, "Content-Encoding": "gzip"}
    assert post(client, gzip.compress(LARGE), bomb) == 413
    assert call(client, CROWDED, **good) is ok.RESOURCE_EXHAUSTED
    # The library keeps the message to itself, and does not say why there is none.
    assert call(client, LARGE, **good) is ok.RESOURCE_EXHAUSTED
    own = Counter[Kind](
        {
            (APPLICATION, False, "http", "unauthenticated"): 2,
            (APPLICATION, False, "grpc", "unauthenticated"): 1,
            (APPLICATION, True, "http", "forbidden"): 1,
            (APPLICATION, True, "grpc", "forbidden"): 1,
            (APPLICATION, True, "http", "invalid"): 2,
            (APPLICATION, True, "grpc", "invalid"): 2,
            (APPLICATION, True, "http", "too_large"): 1,
            (APPLICATION, True, "grpc", "too_large"): 1,
        }
    )
    strangers = Counter[Kind](
        {("", False, "http", "unauthenticated"): 4, ("", False, "grpc", "unauthenticated"): 1}
    )
    body = wait_for(
        lambda: ledger_of(client, ADMIN_HEADERS),
        until=lambda body: body["refused_requests"] >= (own + strangers).total(),
    )
    assert kinds(body) == own + strangers
    assert set(body["totals"].values()) == {0}
    assert kinds(ledger_of(client, READ_HEADERS)) == own
    # The same in other words.
    _, status, _ = client.request("GET", "/1/status/", headers=READ_HEADERS)
    assert set(status["outcomes"]) == {"refused"}
    assert sum(status["outcomes"]["refused"].values()) == own.total()
    _, metrics, _ = client.request("GET", "/metrics")
    families = {f.name: f.samples for f in text_string_to_metric_families(metrics.decode())}
    refused = families["apinalytics_refused_requests"]
    total = sum(sample.value for sample in refused if sample.name.endswith("_total"))
    assert total == (own + strangers).total()
    items = families["apinalytics_ledger_items"]
    assert "refused" not in {sample.labels["outcome"] for sample in items}
    assert {sample.value for sample in items} == {0}
