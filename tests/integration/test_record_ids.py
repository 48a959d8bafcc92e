# SPDX-License-Identifier: Apache-2.0
"""The id of a record: from the answer to a request to what became of what was in it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlencode

import grpc
import pytest

from otel_apinalytics.receiver.grpc_server import SERVICE
from tests.support.clients import (
    ADMIN_HEADERS,
    APPLICATION,
    READ_HEADERS,
    WRITE_HEADERS,
    WRITE_KEY,
    Client,
)
from tests.support.otlp import CALL, INTERNAL, make_request, make_span
from tests.support.waiting import wait_for

Send = Callable[[Client, Any], str]
PROTOBUF = {**WRITE_HEADERS, "Content-Type": "application/x-protobuf"}
PROBE = {"apinalytics.probe": "1"}


def by_grpc(client: Client, body: bytes) -> str:
    """Send spans by gRPC, and return the id."""
    with grpc.insecure_channel(client.grpc) as channel:
        metadata = (("x-auth-user", APPLICATION), ("x-auth-key", WRITE_KEY))
        export = channel.unary_unary(f"/{SERVICE}/Export")
        _, call = export.with_call(body, metadata=metadata, timeout=30)
    return str(dict(call.trailing_metadata()).get("x-record-id", ""))


def by_http(
    client: Client, body: bytes, path: str = "/v1/traces", headers: Mapping[str, str] = PROTOBUF
) -> str:
    """Send a body by HTTP, and return the id."""
    status, answer, found = client.request("POST", path, body, headers)
    assert status == 200, answer
    return found.get("X-Record-Id", "")


def as_events(client: Client, events: Any, path: str = "/1/event/", **headers: str) -> str:
    """Send JSON events, and return the id."""
    all_headers = {**WRITE_HEADERS, "Content-Type": "application/json", **headers}
    return by_http(client, json.dumps(events).encode(), path, all_headers)


def account(client: Client, record_id: str, items: int) -> tuple[Any, dict[tuple[str, str], int]]:
    """Return the ledger of a record, and its outcomes, once so many items have one."""
    path = f"/1/ledger/-1h/now/?record_id={record_id}"
    body = wait_for(
        lambda: client.request("GET", path, headers=READ_HEADERS)[1],
        until=lambda body: (
            body["totals"]["received"] == items and sum(body["totals"].values()) == 2 * items
        ),
    )
    return body, {(row["outcome"], row["reason"]): row["items"] for row in body["rows"]}


@pytest.mark.parametrize("send", [by_grpc, by_http])
def test_what_became_of_a_request_with_spans(client: Client, send: Send) -> None:
    """Nothing else is in the answer, whatever came at the same time."""
    client.export(make_request(make_span()))
    record_id = send(client, make_request(make_span(), make_span(CALL, kind=INTERNAL)))
    client.export(make_request(make_span()))
    body, outcomes = account(client, record_id, 2)
    assert outcomes == {
        ("received", ""): 2,
        ("stored", ""): 1,
        ("filtered", "kind_not_server_or_client"): 1,
    }
    assert {row["transport"] for row in body["rows"]} == {send.__name__.removeprefix("by_")}


def test_what_became_of_a_request_with_events(client: Client) -> None:
    """Those that are left out are a record of their own."""
    record_id = as_events(
        client, [{"timestamp": time.time()}, {"timestamp": "x"}], "/1/event/?partial=true"
    )
    assert account(client, record_id, 1)[1] == {("received", ""): 1, ("stored", ""): 1}
    record_id = as_events(client, [{"timestamp": "x"}], "/1/event/?partial=true")
    assert account(client, record_id, 1)[1] == {
        ("received", ""): 1,
        ("rejected", "invalid_event"): 1,
    }


def test_a_request_that_comes_again_has_another_record(client: Client) -> None:
    """It says that it is a duplicate."""
    body = make_request(make_span())
    first, second = by_grpc(client, body), by_http(client, body)
    assert first != second
    assert account(client, second, 1)[1] == {("received", ""): 1, ("duplicate", ""): 1}
    event = [{"timestamp": time.time()}]
    first, second = (as_events(client, event, **{"Idempotency-Key": "k"}) for _ in range(2))
    assert first != second
    assert account(client, second, 1)[1] == {("received", ""): 1, ("duplicate", ""): 1}


def test_a_request_without_anything_has_none(client: Client) -> None:
    """Nothing was written."""
    assert by_grpc(client, b"") == by_http(client, b"") == as_events(client, []) == ""


@pytest.mark.parametrize("way", ["grpc", "http", "event"])
def test_a_probe_is_accounted_for_and_not_counted(client: Client, way: str) -> None:
    """The equation closes, and no statistics know of it."""
    consumer = f"probe-{way}"
    span = make_span({**CALL, **PROBE, "enduser.id": consumer})
    if way == "event":
        event = {"timestamp": time.time(), "consumer_id": consumer, "attributes": PROBE}
        record_id = as_events(client, [event])
    else:
        record_id = (by_grpc if way == "grpc" else by_http)(client, make_request(span))
    body, outcomes = account(client, record_id, 1)
    assert outcomes == {("received", ""): 1, ("filtered", "probe"): 1}
    assert body["totals"]["difference"] == 0
    assert client.groups({"include": f"consumer_id:{consumer}", "group": "method"}) == {}


@pytest.mark.parametrize("text", ["x", "0" * 31, "0" * 33, "g" * 32, "é" * 32, "0" * 31 + "\u0661"])
def test_an_id_is_32_digits(client: Client, text: str) -> None:
    """Anything else names the parameter."""
    path = f"/1/ledger/-1h/now/?{urlencode({'record_id': text})}"
    status, body, _ = client.request("GET", path, headers=ADMIN_HEADERS)
    assert (status, body["error"]["parameter"]) == (400, "record_id")


def test_an_unknown_id_has_no_rows(client: Client) -> None:
    """And an empty one stands for all records."""
    path = "/1/ledger/-1h/now/?record_id="
    _, body, _ = client.request("GET", path + "ab" * 16, headers=ADMIN_HEADERS)
    assert body["rows"] == []
    client.export(make_request(make_span()))
    wait_for(lambda: client.request("GET", path, headers=ADMIN_HEADERS)[1]["rows"])
