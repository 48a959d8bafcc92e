# SPDX-License-Identifier: Apache-2.0
"""Erasing over HTTP: a consumer goes from everything that answers, and nobody else does."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping
from typing import Any

import pytest
from pydantic import TypeAdapter

from otel_apinalytics.api import audit_answers
from otel_apinalytics.service import Service
from tests.support.clients import (
    ADMIN_HEADERS,
    APPLICATION,
    READ_HEADERS,
    WRITE_HEADERS,
    Client,
)
from tests.support.otlp import CALL, make_request, make_span
from tests.support.waiting import wait_for

_RECEIPT = TypeAdapter(audit_answers.Erased)


def erase(client: Client, consumer: str, **more: str) -> dict[str, Any]:
    """Erase a consumer, and return the receipt."""
    body = json.dumps({"consumer": consumer, **more}).encode()
    status, answer, headers = client.request("POST", "/1/erase/", body, ADMIN_HEADERS)
    while status == 202:
        status, answer, headers = client.request("GET", headers["location"], None, ADMIN_HEADERS)
    assert status == 200, answer
    _RECEIPT.validate_python(answer)
    receipt: dict[str, Any] = answer
    return receipt


def counts(client: Client, start: float, end: float, **more: str) -> dict[str, float]:
    """Return the numbers of calls by consumer."""
    groups = client.groups({"group": "consumer_id", **more}, start, end)
    return {name: points[0][1] for name, points in groups.items()}


def test_a_consumer_goes_from_everything_that_answers(client: Client) -> None:
    """Also what is only in the log yet; answers about others stay to the letter."""
    start = time.time() // 3600 * 3600 - 50 * 86_400
    names = ("erased-a", "erased-b")
    events = [
        {"timestamp": start + n, "consumer_id": names[n % 2], "route": f"/e{n % 3}",
         "response_us": 1000 * n, "method": "GET"}
        for n in range(120)
    ]  # fmt: skip
    bounds = (start, start + 3600)

    def questions(consumer: str) -> list[Any]:
        of_consumer = {"include": f"consumer_id:{consumer}"}
        return [
            client.groups({**of_consumer, **more}, *bounds)
            for more in ({}, {"group": "route"}, {"group": "method", "aggregation": "p95"},
                         {"aggregation": "mean"}, {"granularity": "minute"})
        ]  # fmt: skip

    assert client.post_events(events[:60])[0] == 200
    wait_for(lambda: len(client.raw_events(*bounds)), until=lambda count: count == 60)
    before = counts(client, *bounds)
    assert before == {"erased-a": 30, "erased-b": 30}
    # Not loaded when it is asked for.
    assert client.post_events(events[60:])[0] == 200
    receipt = erase(client, "erased-a")
    assert receipt["erased"]["events"] == 60
    assert receipt["application"] == APPLICATION
    assert counts(client, *bounds) == {"erased-b": 60}
    found = client.raw_events(*bounds)
    assert [each["consumer_id"] for each in found] == ["erased-b"] * 60
    for groups in questions("erased-a"):
        assert not any(value for points in groups.values() for _, value in points), groups
    expected = [each for each in events if each["consumer_id"] == "erased-b"]
    total, by_route, *_ = questions("erased-b")
    assert total[APPLICATION][0][1] == len(expected)
    assert sum(points[0][1] for points in by_route.values()) == len(expected)
    mean = client.groups({"aggregation": "mean"}, *bounds)[APPLICATION][0][1]
    assert mean == pytest.approx(sum(1000 * n for n in range(1, 120, 2)) / 60)
    assert erase(client, "erased-a")["erased"] == {"events": 0, "rejected": 0, "audit": 5}
    assert erase(client, "erased-a")["erased"] == {"events": 0, "rejected": 0, "audit": 0}


def test_no_segment_is_left_of_what_was_acknowledged(service: Service, client: Client) -> None:
    """What is loaded again after a power cut is newer than the receipt."""
    event = {"timestamp": time.time(), "consumer_id": "erased-segment"}
    assert client.post_events([event])[0] == 200
    first = service._log._next_sequence
    assert erase(client, "erased-segment")["erased"]["events"] == 1
    assert all(int(path.stem) >= first for path in service._log._directory.glob("*.log"))


def test_dead_letters_and_the_audit_go_too(client: Client) -> None:
    """The entry of the audit stays, and says no more whom it was about."""
    late = make_span({**CALL, "enduser.id": "erased-letter"}, start_ns=4 * 10**18)
    client.export(make_request(late))
    letters = "/1/rejected/?start=-1h&limit=10000"

    def rejected() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = client.request("GET", letters, None, READ_HEADERS)[1][
            "rejected"
        ]
        return [each for each in found if each["consumer_id"] == "erased-letter"]

    wait_for(rejected)
    client.ask({"include": "consumer_id:erased-letter"})
    assert erase(client, "erased-letter")["erased"] == {"events": 0, "rejected": 1, "audit": 1}
    assert rejected() == []
    audit = client.request("GET", "/1/audit/-1h/now/?limit=10000", None, ADMIN_HEADERS)[1]
    assert "erased-letter" not in json.dumps(audit)


def test_the_erasure_itself_is_in_the_audit(service: Service, client: Client) -> None:
    """Who asked for it, and how much it was; whom it was of is in the receipt only."""
    client.post_events([{"timestamp": time.time(), "consumer_id": "erased-quietly"}])
    receipt = erase(client, "erased-quietly")
    service._log.flush(60)
    path = "/1/audit/-1h/now/?action=consumer"
    entries = client.request("GET", path, None, ADMIN_HEADERS)[1]["entries"]
    of_it = [each for each in entries if receipt["erasure"] in json.dumps(each)]
    # Newest first: who wanted it was on disk before anything was erased.
    assert [each["action"] for each in of_it] == ["consumer.erased", "consumer.erase"]
    parameters = {each["name"]: each["value"] for each in of_it[0]["parameters"]}
    assert parameters["events"] == "1"
    assert "erased-quietly" not in json.dumps(entries)


def test_another_application_s_consumer_stays(client: Client) -> None:
    """The same id is somebody else there."""
    client.request("PUT", "/1/applications/erased-app/", b"{}", ADMIN_HEADERS)
    wanted = json.dumps({"scope": "write", "application": "erased-app"}).encode()
    made = client.request("POST", "/1/keys/", wanted, ADMIN_HEADERS)[1]
    event = json.dumps([{"timestamp": time.time(), "consumer_id": "erased-twice"}]).encode()
    for headers in ({"X-Auth-Key": made["key"]}, WRITE_HEADERS):
        headers = {**headers, "Content-Type": "application/json"}
        assert client.request("POST", "/1/event/", event, headers)[0] == 200
    for application in (APPLICATION, "erased-app"):
        receipt = erase(client, "erased-twice", application=application)
        assert (receipt["application"], receipt["erased"]["events"]) == (application, 1)


def test_bound_keys_are_named(client: Client) -> None:
    """They are for whoever was erased."""
    wanted = json.dumps({"scope": "read", "bound_to": {"consumer_id": "erased-bound"}}).encode()
    status, made, _ = client.request("POST", "/1/keys/", wanted, ADMIN_HEADERS)
    assert status == 201
    assert erase(client, "erased-bound")["not_reached"]["bound_keys"] == [made["key_id"]]


def test_others_are_taken_and_answered_meanwhile(client: Client) -> None:
    """An erasure holds up nobody, and loses nothing."""
    stop, sent = threading.Event(), []

    def send() -> None:
        while not stop.is_set():
            event = {"timestamp": time.time(), "consumer_id": "erased-not"}
            sent.append(client.post_events([event] * 10)[0])

    sender = threading.Thread(target=send)
    sender.start()
    try:
        for _ in range(3):
            client.post_events([{"timestamp": time.time(), "consumer_id": "erased-meanwhile"}] * 5)
            assert erase(client, "erased-meanwhile")["erased"]["events"] == 5
    finally:
        stop.set()
        sender.join()
    assert set(sent) == {200}
    question = {"include": "consumer_id:erased-not"}
    expected = 10 * len(sent)
    wait_for(lambda: client.groups(question), until=lambda groups: bool(groups))
    wait_for(
        lambda: client.groups(question)[APPLICATION][0][1], until=lambda count: count == expected
    )


@pytest.mark.parametrize(
    ("body", "status", "parameter"),
    [
        ({}, 400, "consumer"),
        ({"consumer": ""}, 400, "consumer"),
        ({"consumer": 7}, 400, "consumer"),
        ({"consumer": "x" * 1025}, 400, "consumer"),
        ({"consumer": "x", "consumers": 1}, 400, "consumers"),
        ({"consumer": "x", "application": "nobody"}, 404, "application"),
        ([], 400, None),
    ],
)
def test_wrong_bodies_are_refused(
    client: Client, body: Any, status: int, parameter: str | None
) -> None:
    """By name, with what is allowed."""
    sent = json.dumps(body).encode()
    found, answer, _ = client.request("POST", "/1/erase/", sent, ADMIN_HEADERS)
    assert (found, answer["error"]["parameter"]) == (status, parameter), answer


@pytest.mark.parametrize("headers", [READ_HEADERS, WRITE_HEADERS, {}])
def test_erasing_is_for_administrators(client: Client, headers: Mapping[str, str]) -> None:
    """Of that application."""
    body = b'{"consumer": "acme"}'
    assert client.request("POST", "/1/erase/", body, headers)[0] in (401, 403)
    assert client.request("GET", "/1/erase/x/", None, headers)[0] in (401, 403)


def test_a_receipt_that_there_is_not(client: Client) -> None:
    """After a restart, an erasure is begun again."""
    status, body, _ = client.request("GET", "/1/erase/unknown/", None, ADMIN_HEADERS)
    assert (status, body["error"]["parameter"]) == (404, "erasure")
