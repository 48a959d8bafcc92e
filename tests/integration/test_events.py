# SPDX-License-Identifier: Apache-2.0
"""JSON events into the running service and back out by a query."""

from __future__ import annotations

import json
import time
import uuid
from typing import Any

import pytest

from otel_apinalytics.service import Service
from tests.support.clients import READ_HEADERS, WRITE_HEADERS, Client
from tests.support.otlp import CALL, make_request, make_span
from tests.support.waiting import wait_for


def event(**fields: Any) -> dict[str, Any]:
    """Return an event as a client of 2014 sends it."""
    return {
        "timestamp": int(time.time()),
        "consumer_id": "alice",
        "method": "GET",
        "url": "/users/7?token=secret&page=2",
        "function": "get_user",
        "response_us": 2500,
        "status_code": 200,
    } | fields


def groups_of(client: Client, consumer: str, **parameters: str) -> dict[str, list[list[float]]]:
    """Return a consumer's groups, once it has any event."""
    include = {"include": f"consumer_id:{consumer}"}
    wait_for(lambda: client.groups({**include, "group": "consumer_id"}))
    return client.groups({**include, **parameters})


@pytest.mark.parametrize("path", ["/1/event/", "/1/event", "/1/events/", "/1/events"])
def test_an_event_of_2014_is_counted(client: Client, path: str) -> None:
    """All spellings of the path take the array, and the answer is 200."""
    consumer = f"c-{uuid.uuid4()}"
    status, body = client.post_events([event(consumer_id=consumer)], path)
    assert (status, body) == (200, {"received": 1})
    for field, value in {
        "consumer_source": "event",
        "method": "GET",
        "url": "/users/7?token=REDACTED&page=2",
        "function": "get_user",
        "status_code": "200",
        "is_error": "false",
        "direction": "inbound",
        "service": "",
    }.items():
        assert list(groups_of(client, consumer, group=field)) == [value], field
    assert next(iter(groups_of(client, consumer, aggregation="sum").values()))[0][1] == 2500


def test_equal_events_count_each(client: Client) -> None:
    """Without ids, two events that look the same are two."""
    consumer = f"c-{uuid.uuid4()}"
    client.post_events([event(consumer_id=consumer)] * 3)
    assert groups_of(client, consumer, group="consumer_id")[consumer][0][1] == 3


def test_spans_and_events_in_one_segment_are_all_stored(client: Client) -> None:
    """Both payloads go through the same load, neither hides the other."""
    consumer = f"c-{uuid.uuid4()}"
    with client.exporter() as call:
        metadata = tuple((k.lower(), v) for k, v in WRITE_HEADERS.items())
        call(make_request(make_span({**CALL, "enduser.id": consumer})), metadata=metadata)
        client.post_events([event(consumer_id=consumer)])
    counted = {"include": f"consumer_id:{consumer}", "group": "consumer_source"}
    groups = wait_for(lambda: client.groups(counted), until=lambda g: len(g) == 2)
    assert {source: points[0][1] for source, points in groups.items()} == {
        "enduser.id": 1,
        "event": 1,
    }


def test_missing_stays_missing(client: Client) -> None:
    """Only the time is required; nothing is made up for the rest."""
    at = 86_400 * 365 * 20
    status, _ = client.post_events([{"timestamp": at + 0.25}])
    assert status == 200
    wait_for(lambda: client.groups({"group": "function"}, at, at + 1))
    for field, value in {"consumer_id": "", "status_code": "", "function": "unknown"}.items():
        assert list(client.groups({"group": field}, at, at + 1)) == [value]
    assert client.groups({"aggregation": "mean"}, at, at + 1) == {"shop": []}


def test_an_invalid_event_refuses_the_request_whole(client: Client, service: Service) -> None:
    """The answer names index, field, value and what is allowed; nothing is stored."""
    consumer = f"c-{uuid.uuid4()}"
    bad = event(consumer_id=consumer, status_code="OK")
    status, body = client.post_events([event(consumer_id=consumer), bad])
    assert status == 400
    assert body["error"] == {
        "code": "invalid_request",
        "message": "event 1: field 'status_code': Expected `int | null`, got `str`",
        "parameter": "status_code",
        "value": '"OK"',
        "allowed": "an integer from 100 to 599",
        "index": 1,
    }
    mark = f"{consumer}-mark"
    client.post_events([event(consumer_id=mark)])
    groups_of(client, mark)
    assert client.groups({"include": f"consumer_id:{consumer}", "group": "url"}) == {}


def test_an_event_too_far_ahead_is_refused(client: Client) -> None:
    """More than a day ahead of the service's clock is no event time, and the client is told so."""
    status, body = client.post_events([event(), event(timestamp=int(time.time()) + 90_000)])
    assert status == 400
    assert (body["error"]["index"], body["error"]["parameter"]) == (1, "timestamp")


def test_the_body_of_the_go_client_of_2014_is_accepted(client: Client) -> None:
    """It always sends `data`, as null."""
    consumer = f"c-{uuid.uuid4()}"
    status, body = client.post_events([event(consumer_id=consumer, data=None)])
    assert (status, body) == (200, {"received": 1})


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({}, 401, "unauthenticated"),
        ({**WRITE_HEADERS, "X-Auth-Key": "wrong"}, 401, "unauthenticated"),
        ({**WRITE_HEADERS, "X-Auth-User": "other"}, 401, "unauthenticated"),
        (READ_HEADERS, 403, "forbidden"),
    ],
)
def test_events_need_a_write_key(
    client: Client, headers: dict[str, str], status: int, code: str
) -> None:
    """Unknown keys and keys of the wrong kind are told apart."""
    answered, body, _ = client.request("POST", "/1/event/", b"[]", headers)
    assert (answered, body["error"]["code"]) == (status, code)


def test_a_part_is_taken_where_it_is_asked_for(client: Client) -> None:
    """All places of what is refused, and what is wrong with the first hundred."""
    good, bad = {"timestamp": 1_400_000_000}, {"timestamp": -1}
    body = json.dumps([bad, good] * 150).encode()
    status, answer, _ = client.request("POST", "/1/event/?partial=true", body, WRITE_HEADERS)
    assert (status, answer["received"]) == (200, 150)
    assert answer["refused"] == list(range(0, 300, 2))
    assert [error["index"] for error in answer["errors"]] == list(range(0, 200, 2))
    assert answer["errors"][0]["parameter"] == "timestamp"
    status, answer, _ = client.request("POST", "/1/event/", body, WRITE_HEADERS)
    assert (status, answer["error"]["index"]) == (400, 0)


@pytest.mark.parametrize(("query", "named"), [("partial=maybe", "partial"), ("all=true", "all")])
def test_a_wrong_parameter_is_refused(client: Client, query: str, named: str) -> None:
    """It would be taken for something else."""
    status, answer, _ = client.request("POST", f"/1/event/?{query}", b"[]", WRITE_HEADERS)
    assert (status, answer["error"]["parameter"]) == (400, named)


def test_an_unknown_compression_is_refused_clearly(client: Client) -> None:
    """What is not supported says what is."""
    headers = {**WRITE_HEADERS, "Content-Encoding": "br"}
    status, body, _ = client.request("POST", "/1/event/", b"[]", headers)
    assert status == 400
    assert body["error"]["allowed"] == "gzip, deflate, zstd, identity"
