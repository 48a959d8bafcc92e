# SPDX-License-Identifier: Apache-2.0
"""Why there is no data: what `/1/status/` says in the usual cases.

Each case is an application of its own, whose records go into the log of the running service.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest

from otel_apinalytics.normalize.outcomes import INVALID_EVENT
from otel_apinalytics.query.status import Status, run_status
from otel_apinalytics.query.status_hint import REFUSALS, hint_of
from otel_apinalytics.receiver.records import (
    duplicate_record,
    refused_record,
    rejected_at_the_door,
    spans_record,
)
from otel_apinalytics.service import Service
from otel_apinalytics.telemetry import REFUSAL_REASONS
from tests.support.clients import (
    ADMIN_HEADERS,
    APPLICATION,
    READ_HEADERS,
    READ_KEY,
    WRITE_HEADERS,
    Client,
)
from tests.support.otlp import CALL, CLIENT, INTERNAL, make_request, make_span
from tests.support.pipeline import header_at, load_records
from tests.support.waiting import wait_for

HOUR, DAY = 3600, 86_400
_names = (f"status-{number}" for number in itertools.count())

# From an application and the time to a record that is received then.
MakeRecord = Callable[[str, float], bytes]


@pytest.fixture
def application() -> str:
    """Return an application that no other test uses."""
    return next(_names)


def spans(*sent: Any) -> MakeRecord:
    """Return a maker of a record with spans; each is made at the time of receipt."""

    def make(application: str, at: float) -> bytes:
        made = [make(int(at * 1e9)) for make in sent]
        return spans_record(header_at(at, len(made), application), make_request(*made))

    return make


def span(**changes: Any) -> Callable[[int], Any]:
    """Return a maker of a span that begins at a time, Unix nanoseconds, and is changed."""
    return lambda start_ns: make_span(**{"start_ns": start_ns, **changes})


def refused(kind: str) -> MakeRecord:
    """Return a maker of a record of two refused requests."""
    return lambda application, at: refused_record(header_at(at, 2, application), kind)


def status_after(service: Service, application: str, *records: bytes) -> Status:
    """Load records, and return the status."""
    load_records(service, *records)
    return run_status(service.engine, application, 30)


# ---- the hint ----


@pytest.mark.parametrize(
    ("make", "hint"),
    [
        ((), "nothing has ever arrived, and nothing was refused within a day: check the endpoint"),
        ((refused("unauthenticated"),), "nothing was let in within a day; 2 requests were refused, "
         "2 of them because they came with no key, or with one that is not known"),
        ((refused("forbidden"),), "a write key is needed to send"),
        ((spans(span(kind=INTERNAL), span(kind=INTERNAL)),), "nothing is stored; of 2 spans and "
         "events within a day, 2 were filtered (kind_not_server_or_client): their kind is neither"),
        ((spans(span(attributes={"db.system": "x"})),), "no attribute of HTTP or RPC"),
        ((spans(span(attributes={"apinalytics.probe": "1", **CALL})),), "which are never counted"),
        ((spans(span(start_ns=4 * 10**18)),), "rejected (time_out_of_range)"),
        ((spans(span(trace_id=bytes(16))),), "rejected (invalid_trace_id)"),
        ((lambda a, at: rejected_at_the_door(header_at(at, 3, a), INVALID_EVENT),),
         "3 were rejected (invalid_event)"),
        ((spans(*[span(kind=INTERNAL)] * 3, span(start_ns=4 * 10**18)),), "3 were filtered"),
        ((spans(span(kind=INTERNAL), *[span(start_ns=4 * 10**18)] * 3),), "3 were rejected"),
        ((lambda a, at: duplicate_record(header_at(at, 5, a)),), "all 5 spans and events within a"),
        ((spans(span(kind=CLIENT)),), "calls that your programs make themselves"),
        ((spans(span(kind=CLIENT), span()),), None),
        ((spans(span()), refused("unauthenticated")), None),
    ],
)  # fmt: skip
def test_the_usual_reasons(
    service: Service, application: str, make: tuple[MakeRecord, ...], hint: str | None
) -> None:
    """The likeliest one, in words; none where there is data."""
    records = (each(application, time.time()) for each in make)
    found = hint_of(status_after(service, application, *records))
    assert (found is None) is (hint is None)
    assert (hint or "") in (found or "")


def test_what_arrived_long_ago_is_remembered(service: Service, application: str) -> None:
    """Nothing within a day, and when there was something."""
    long_ago = 1_400_000_010
    make = spans(span(kind=INTERNAL))
    records = (make(application, at) for at in (long_ago, long_ago - DAY, long_ago - 9 * DAY))
    found = status_after(service, application, *records)
    assert found.last_received is not None
    assert found.last_received.timestamp() == long_ago // 60 * 60
    assert found.outcomes == {}
    assert "nothing has arrived since 2014-05-13 16:53 UTC" in str(hint_of(found))


@pytest.mark.parametrize(
    ("start", "end", "hint"),
    [
        (-3 * DAY, -DAY, "all events are newer than this range: the events are from "),
        (2 * HOUR, 3 * HOUR, "all events are older than this range: the events are from "),
        (5, HOUR, "there is no event in this range"),
        (-1, 1, None),
    ],
)
def test_a_range_without_events(
    service: Service, application: str, start: int, end: int, hint: str | None
) -> None:
    """It says where they are."""
    middle = int(time.time()) // DAY * DAY - DAY + 1800
    records = [spans(span())(application, middle + offset) for offset in (0, HOUR + 5)]
    load_records(service, *records)
    asked = ((middle + start) * 10**6, (middle + end) * 10**6)
    found = hint_of(run_status(service.engine, application, 30, asked), asked)
    assert (found is None) is (hint is None)
    assert (hint or "") in (found or "")


# ---- by key and transport ----


def test_each_sender_has_its_own_account(service: Service, application: str) -> None:
    """Key and transport, last arrival, last refusal with its reason, outcomes."""
    now = time.time()
    other = header_at(now - 2 * HOUR, 4, application)
    other.key_id, other.transport = "other", "http"
    stranger = header_at(now - 60, 1, application)
    stranger.key_id = ""
    found = status_after(
        service,
        application,
        spans(span(), span(kind=INTERNAL))(application, now - HOUR),
        spans(span())(application, now - 3 * HOUR),
        refused("too_large")(application, now - 3 * HOUR),
        refused("invalid")(application, now - 60),
        duplicate_record(other),
        refused_record(stranger, "unauthenticated"),
    )
    senders = {(each.key_id, each.transport): each for each in found.senders}
    assert set(senders) == {("key", "grpc"), ("other", "http"), ("", "grpc")}
    mine = senders["key", "grpc"]
    assert mine.outcomes == {
        "received": {"": 3},
        "stored": {"": 2},
        "filtered": {"kind_not_server_or_client": 1},
        "refused": {"too_large": 2, "invalid": 2},
    }
    assert mine.last_received == found.last_received
    assert mine.last_refused is not None
    assert mine.last_refused.kind == "invalid"
    assert senders["other", "http"].last_refused is None
    assert senders["", "grpc"].last_received is None
    assert found.outcomes["received"] == {"": 7}
    assert found.last_refused is not None
    assert found.last_refused.kind in ("invalid", "unauthenticated")


# ---- over HTTP ----


def test_the_answer_of_an_application_with_data(client: Client) -> None:
    """All of it, for a key that reads."""
    client.export(make_request(make_span()))
    assert client.post_events([{"timestamp": "never"}])[0] == 400
    body = wait_for(
        lambda: client.request("GET", "/1/status/", headers=READ_HEADERS)[1],
        until=lambda body: (
            body["events"]["inbound"] > 0
            and any(sender["last_refusal"] for sender in body["senders"])
            and any(sender["transport"] == "grpc" for sender in body["senders"])
        ),
    )
    assert (body["application"], body["hint"]) == (APPLICATION, None)
    assert body["events"]["first"] <= body["events"]["last"]
    assert body["settled_until"] <= time.time()
    assert body["pending_bytes"] >= 0
    assert {"kind", "reason", "at", "transport", "key_id"} == set(body["last_refusal"])
    refusals = [sender["last_refusal"] for sender in body["senders"] if sender["last_refusal"]]
    times = [
        body["last_received"], body["events"]["first"], body["events"]["last"],
        *(sender["last_received"] for sender in body["senders"] if sender["last_received"]),
        *(refusal["at"] for refusal in (body["last_refusal"], *refusals)),
    ]  # fmt: skip
    assert refusals
    assert all(datetime.fromisoformat(each).utcoffset() == timedelta(0) for each in times)


def test_a_range_may_be_named(client: Client) -> None:
    """By either bound, as everywhere."""
    client.export(make_request(make_span()))
    path = "/1/status/?start=0&end=1"
    wait_for(
        lambda: client.request("GET", path, headers=READ_HEADERS)[1]["hint"],
        until=lambda hint: "newer than this range" in (hint or ""),
    )
    for query in ("start=-1h", "end=now", "start=&end="):
        status, body, _ = client.request("GET", f"/1/status/?{query}", headers=READ_HEADERS)
        assert (status, body["hint"]) == (200, None)


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/1/status/?x=1", READ_HEADERS),
        ("/1/status?start=-1h&start=-2h", READ_HEADERS),
        ("/1/status/?start=1&end=1", READ_HEADERS),
        ("/1/status/?end=never", READ_HEADERS),
        ("/1/fields/?x=1", READ_HEADERS),
        ("/1/fields?x=", READ_HEADERS),
        ("/1/backup/?x=1", ADMIN_HEADERS),
        ("/1/backup?full=yes", ADMIN_HEADERS),
    ],
)
def test_a_wrong_parameter_is_named(client: Client, path: str, headers: dict[str, str]) -> None:
    """Also where there are none."""
    status, body, _ = client.request("GET", path, headers=headers)
    assert (status, body["error"]["code"]) == (400, "invalid_request")
    assert body["error"]["parameter"]
    assert body["error"]["allowed"]


@pytest.mark.parametrize("path", ["/1/status/?x=1", "/1/fields/?x=1", "/1/backup/?x=1"])
def test_whoever_has_no_key_learns_nothing(client: Client, path: str) -> None:
    """Not even which parameters there are."""
    assert client.request("GET", path)[0] == 401
    assert client.request("GET", path, headers=WRITE_HEADERS)[0] == 403
    assert client.request("GET", "/1/status/", headers={"X-Auth-Key": READ_KEY})[0] == 200


def test_every_kind_of_refusal_has_words() -> None:
    """What the ledger can say, the status says in a sentence."""
    assert set(REFUSALS) == set(REFUSAL_REASONS)
