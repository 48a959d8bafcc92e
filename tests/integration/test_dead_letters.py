# SPDX-License-Identifier: Apache-2.0
"""Dead letters over HTTP: what was rejected, and why, as far as it is known."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from otel_apinalytics.catalogue import FIELDS
from otel_apinalytics.normalize import outcomes
from otel_apinalytics.receiver.events_json import encode_events
from otel_apinalytics.receiver.records import (
    events_record,
    header_of,
    rejected_at_the_door,
    spans_record,
)
from otel_apinalytics.service import Service
from tests.support.clients import (
    ADMIN_HEADERS,
    APPLICATION,
    READ_HEADERS,
    WRITE_HEADERS,
    Client,
)
from tests.support.otlp import CALL, make_request, make_span
from tests.support.pipeline import Pipeline, header_at, load_records

MINUTE, DAY = 60, 86_400
OTHER = "letters-test"
_days = itertools.count(int(datetime(2011, 1, 1, tzinfo=timezone.utc).timestamp()), DAY)


@pytest.fixture
def day() -> int:
    """Return the start of a day that no other test uses, Unix seconds."""
    return next(_days)


def ask(
    client: Client, headers: Mapping[str, str] = ADMIN_HEADERS, /, **parameters: object
) -> tuple[int, Any]:
    """Ask for dead letters; return status and body."""
    path = f"/1/rejected/?{urlencode(parameters)}"
    status, body, _ = client.request("GET", path, headers=headers)
    return status, body


def letters(
    client: Client, day: int, headers: Mapping[str, str] = ADMIN_HEADERS, /, **parameters: object
) -> list[dict[str, Any]]:
    """Return the dead letters of a day; there are no more of them."""
    status, body = ask(client, headers, start=day, end=day + DAY, **parameters)
    assert status == 200, body
    assert body["more"] is False
    found: list[dict[str, Any]] = body["rejected"]
    return found


def undecodable(received_s: float) -> bytes:
    """Return a record that passes the door and not the engine: an attribute's key has no end."""
    request = make_request(make_span({"marker": "x"}, start_ns=int(received_s * 1e9)))
    attribute = b"\x0a\x06marker"
    assert attribute in request
    malformed = request.replace(attribute, b"\x0a\x7fmarker")
    return spans_record(header_at(received_s, 1, OTHER), malformed)


def refused_event(received_s: float, application: str = OTHER) -> bytes:
    """Return a record of an event that was rejected at the door."""
    return rejected_at_the_door(header_at(received_s, 1, application), outcomes.INVALID_EVENT)


def test_a_span_with_all_that_is_known_of_it(client: Client, service: Service, day: int) -> None:
    """In the form of raw events; what is missing is null."""
    start_ns = (day + 1) * 10**9 + 250_000
    attributes = {**CALL, "x.secret": "s", "server.address": "api.example"}
    span = make_span(attributes, start_ns=start_ns, trace_id=bytes(16))
    record = spans_record(header_at(day + 30.5, 1, OTHER), make_request(span, service="shop"))
    load_records(service, record)
    (letter,) = letters(client, day)
    own = ["key_id", "transport", "record_id", "reason", "received_at"]
    fields = [field.name for field in FIELDS]
    assert list(letter) == [*own, *(name for name in fields if name not in own)]
    known = {
        "key_id": "key",
        "transport": "grpc",
        "record_id": header_of(record).record_id.hex(),
        "reason": "invalid_trace_id",
        "received_at": day + 30.5,
        "timestamp": day + 1.00025,
        "consumer_id": "alice",
        "consumer_source": "enduser.id",
        "method": "GET",
        "url": "/users/7",
        "route": "/users/{id}",
        "status_code": 200,
        "is_error": False,
        "response_us": 12_345,
        "weight": 1,
        "host": "api.example",
        "service": "shop",
        "direction": "inbound",
        "attributes": {},
        "metrics": {},
        "application": OTHER,
        "trace_id": None,
        "span_id": span.span_id.hex(),
        "parent_span_id": None,
        "plan_id": None,
        "upstream_us": None,
        "user_agent": None,
    }
    assert {name: letter[name] for name in known} == known


def test_an_event_is_shown_like_a_span(client: Client, service: Service, day: int) -> None:
    """With its own attributes and metrics; its time is later than it may be."""
    body = f'[{{"timestamp": {day + 10 * DAY}, "attributes": {{"a": "é"}}, "metrics": {{"m": 2}}}}]'
    batch = encode_events(body.encode()).batch
    load_records(service, events_record(header_at(day, 1, OTHER), batch))
    (letter,) = letters(client, day)
    assert letter["reason"] == "time_out_of_range"
    assert letter["timestamp"] == day + 10 * DAY
    assert (letter["attributes"], letter["metrics"]) == ({"a": "é"}, {"m": 2})
    assert letter["event_id"].isdecimal()


def test_of_a_record_that_cannot_be_read_only_the_record_is_known(
    client: Client, service: Service, day: int
) -> None:
    """Neither false nor zero is made up for what nobody could decode."""
    load_records(service, undecodable(day + 7), refused_event(day + 8))
    found = letters(client, day)
    assert [letter["reason"] for letter in found] == ["invalid_event", "undecodable"]
    for letter, received_at in zip(found, (day + 8, day + 7), strict=True):
        known = {name: value for name, value in letter.items() if value is not None}
        assert known.pop("record_id")
        assert known.pop("reason")
        assert known == {
            "key_id": "key",
            "transport": "grpc",
            "received_at": received_at,
            "application": OTHER,
        }


def test_the_newest_come_first(client: Client, service: Service, day: int) -> None:
    """As many as asked for; the answer says if there are more."""
    load_records(service, *(refused_event(day + number) for number in range(5)))
    times = [letter["received_at"] - day for letter in letters(client, day)]
    assert times == [4, 3, 2, 1, 0]
    for limit, more in ((1, True), (4, True), (5, False), (10_000, False)):
        status, body = ask(client, start=day, end=day + DAY, limit=limit)
        assert status == 200
        assert [letter["received_at"] - day for letter in body["rejected"]] == times[:limit]
        assert body["more"] is more


def test_the_range_is_half_open(client: Client, service: Service, day: int) -> None:
    """By receipt; each bound can be left out."""
    load_records(service, *(refused_event(day + number) for number in range(3)))
    status, body = ask(client, start=day + 1, end=day + 2)
    assert status == 200
    assert [letter["received_at"] for letter in body["rejected"]] == [day + 1]
    _, from_start = ask(client, start=day + 1, limit=10_000)
    assert min(letter["received_at"] for letter in from_start["rejected"]) == day + 1
    _, to_end = ask(client, end=day + 2, limit=1)
    assert [letter["received_at"] for letter in to_end["rejected"]] == [day + 1]


def test_a_reason_can_be_chosen(client: Client, service: Service, day: int) -> None:
    """One that rejects nothing is an error, not an empty answer."""
    start_ns = day * 10**9
    spans = [make_span(start_ns=start_ns, trace_id=bytes(16)), make_span(span_id=b"bad")]
    load_records(service, spans_record(header_at(day, 2, OTHER), make_request(*spans)))
    assert len(letters(client, day)) == 2
    (letter,) = letters(client, day, reason="invalid_span_id")
    assert letter["reason"] == "invalid_span_id"
    assert letters(client, day, reason="undecodable") == []
    status, body = ask(client, reason="nested_in_server_span")
    assert status == 400
    assert body["error"]["allowed"] == ", ".join(outcomes.REJECT_REASONS)


def test_a_load_that_is_repeated_makes_no_more(
    client: Client, service: Service, tmp_path: Path, day: int
) -> None:
    """Under another token, before any merge."""
    span = make_span(start_ns=day * 10**9, trace_id=bytes(16))
    records = [
        spans_record(header_at(day, 1, OTHER), make_request(span)),
        refused_event(day + 1),
    ]
    for number in range(2):
        with Pipeline(service.engine, tmp_path / str(number)) as pipeline:
            pipeline.load(records)
    assert len(letters(client, day)) == 2


def test_a_few_of_each_kind_stand_for_all(client: Client, service: Service, day: int) -> None:
    """The ledger has the number."""
    start_ns = day * 10**9
    spans = [make_span(start_ns=start_ns, trace_id=bytes(16)) for _ in range(40)]
    spans += [make_span(start_ns=start_ns, span_id=bytes(8)) for _ in range(3)]
    load_records(service, spans_record(header_at(day, 43, OTHER), make_request(*spans)))
    found = Counter(letter["reason"] for letter in letters(client, day))
    assert found == {"invalid_trace_id": 10, "invalid_span_id": 3}
    _, ledger, _ = client.request("GET", f"/1/ledger/{day}/{day + DAY}", headers=ADMIN_HEADERS)
    assert (ledger["totals"]["rejected"], ledger["totals"]["difference"]) == (43, 0)


def test_an_application_sees_its_own(client: Client, service: Service, day: int) -> None:
    """An admin sees all."""
    load_records(service, refused_event(day), refused_event(day + 1, APPLICATION))
    assert {letter["application"] for letter in letters(client, day)} == {APPLICATION, OTHER}
    (own,) = letters(client, day, READ_HEADERS)
    assert own["application"] == APPLICATION


@pytest.mark.parametrize(
    ("headers", "status"), [({}, 401), ({"X-Auth-Key": "wrong"}, 401), (WRITE_HEADERS, 403)]
)
def test_dead_letters_need_a_key(client: Client, headers: dict[str, str], status: int) -> None:
    """One that may read, or administer."""
    found, body = ask(client, headers)
    assert found == status
    assert status == 401 or "a read or admin key is needed" in body["error"]["message"]


@pytest.mark.parametrize(
    "parameters",
    [{"limit": 0}, {"limit": 10_001}, {"start": "then"}, {"start": 2, "end": 1}, {"format": "csv"}],
)
def test_a_wrong_question_is_refused(client: Client, parameters: dict[str, object]) -> None:
    """With the parameter and what is allowed."""
    status, body = ask(client, **parameters)
    assert (status, body["error"]["code"]) == (400, "invalid_request")
    assert body["error"]["parameter"] in parameters
    assert body["error"]["allowed"]
