# SPDX-License-Identifier: Apache-2.0
"""Tests of the SQL for JSON events: what was sent is kept, what is left out is derived."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from otel_apinalytics.catalogue import FIELDS, FieldType, Role
from otel_apinalytics.normalize.identity import hashed
from otel_apinalytics.normalize.rules import IDENTITY_FIELDS
from otel_apinalytics.wire.log_pb2 import Event
from tests.engine_fixtures import HASH_KEY, NormalizeEvents
from tests.unit.normalize import strategies
from tests.unit.normalize.strategies import RECEIVED_NS

PHASES = (Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink)
NOW_US = RECEIVED_NS // 1000
SENT = [field for field in FIELDS if field.in_event and field.role is not Role.IDENTITY]
EMPTY: Mapping[FieldType, Any] = {
    FieldType.TEXT: "",
    FieldType.INTEGER: None,
    FieldType.BOOLEAN: False,
    FieldType.TEXT_MAP: {},
    FieldType.NUMBER_MAP: {},
    FieldType.NUMBER: 1.0,
}
TOKEN = "eyJhbGciOi.eyJzdWIiOi.c2ln"


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (
            Event(),
            {
                **{field.name: EMPTY[field.type] for field in SENT},
                "function": "unknown",
                "direction": "inbound",
                "outcome": "stored",
                "reason": "",
            },
        ),
        (Event(consumer_id="c"), {"consumer_id": "c", "consumer_source": "event"}),
        (Event(consumer_id="c", consumer_source="s"), {"consumer_source": "s"}),
        (Event(consumer_source="s"), {"consumer_id": "", "consumer_source": ""}),
        (Event(method="get"), {"method": "GET"}),
        (Event(method="brew"), {"method": "_OTHER"}),
        (Event(url="/a?token=t&b=1"), {"url": "/a?token=REDACTED&b=1"}),
        (Event(url=f"/reset/{TOKEN}?b=1"), {"url": "/reset/REDACTED?b=1", "route": "/reset/{id}"}),
        (
            Event(url="https://u:p@h/a?signature=1#f"),
            {"url": "/a?signature=REDACTED", "route": "/a"},
        ),
        (Event(url="/" + "a" * 3000), {"url": "/" + "a" * 2047}),
        # Routes.
        (
            Event(url="/users/7", method="GET"),
            {"route": "/users/{id}", "route_source": "derived", "function": "GET /users/{id}"},
        ),
        (
            Event(url="/users/7", route="/users/{n}"),
            {"route": "/users/{n}", "route_source": "attribute"},
        ),
        (Event(route="/a", route_source="name"), {"route": "/a", "route_source": "name"}),
        (
            Event(url="/a", status_code=404),
            {"route": "(unmatched)", "route_source": "unmatched", "function": "(unmatched)"},
        ),
        (Event(url="/a", status_code=405), {"route": "(unmatched)"}),
        (Event(url="/a", status_code=401), {"route": "/a"}),
        (Event(url="/a", status_code=404, direction="outbound"), {"route": "/a"}),
        (Event(url="/a", status_code=404, route="/a"), {"route": "/a"}),
        (Event(url="?a=1", status_code=404), {"route": "", "url": "?a=1"}),
        (Event(function="f", method="GET", route="/r"), {"function": "f", "route": "/r"}),
        (Event(method="get", route="/r"), {"function": "GET /r"}),
        (Event(route="/r"), {"function": "/r"}),
        # What became of it.
        (Event(response_us=0), {"response_us": 0}),
        (Event(response_us=7), {"response_us": 7}),
        (Event(status_code=499), {"status_code": 499, "is_error": False}),
        (Event(status_code=500), {"status_code": 500, "is_error": True}),
        (Event(status_code=200, is_error=True), {"is_error": True}),
        (Event(status_code=500, is_error=False), {"is_error": False}),
        (Event(direction="outbound"), {"direction": "outbound"}),
        (Event(service="s", host="h"), {"service": "s", "host": "h"}),
        (Event(is_stream=True), {"is_stream": True}),
        (Event(queue_us=0, quota_consumed=3), {"queue_us": 0, "quota_consumed": 3}),
        (Event(weight=0), {"weight": 1.0}),
        (Event(weight=2500), {"weight": 2.5}),
        # With what.
        (
            Event(user_agent="curl/8.0 (x)"),
            {"client_name": "curl", "client_version": "8.0", "user_agent": "curl/8.0 (x)"},
        ),
        (
            Event(user_agent="curl/8.0", client_name="n", client_version="v"),
            {"client_name": "n", "client_version": "v"},
        ),
        (
            Event(attributes={"plan": "gold", "é": ""}, metrics={"tokens": 1.5, "zero": 0}),
            {"attributes": {"plan": "gold", "é": ""}, "metrics": {"tokens": 1.5, "zero": 0.0}},
        ),
        # Which.
        (Event(event_id=2**64 - 1), {"event_id": 2**64 - 1}),
        (Event(event_id=7, trace_id=bytes(16), span_id=b"\1" * 8), {"event_id": 7}),
        (Event(event_id=7, trace_id=b"\1" * 16), {"event_id": 7, "trace_id": b"\1" * 16}),
        (Event(event_id=7, trace_id=b"\1" * 16, span_id=bytes(8)), {"event_id": 7}),
    ],
)
def test_event_fields(
    normalize_events: NormalizeEvents, event: Event, expected: dict[str, object]
) -> None:
    """A JSON event keeps what was sent; the rules of spans apply to what was left out."""
    event.timestamp_us = NOW_US
    (row,) = normalize_events([event], RECEIVED_NS)
    assert {name: row[name] for name in expected} == expected
    assert row["timestamp"] == NOW_US
    assert row["received_at"] == NOW_US


@pytest.mark.parametrize("name", IDENTITY_FIELDS)
@pytest.mark.parametrize("secret", [TOKEN, "sk_live_0123456789", "x" * 101])
def test_an_identity_that_looks_like_a_secret_is_hashed(
    normalize_events: NormalizeEvents, name: str, secret: str
) -> None:
    """Under the application's key, as it is for spans (reference 4.3)."""
    (row,) = normalize_events([Event(timestamp_us=NOW_US, **{name: secret})], RECEIVED_NS)  # type: ignore[arg-type]
    assert row[name] == hashed(secret, HASH_KEY)
    assert secret not in repr(row)


def test_an_event_with_ids_is_the_span_with_these_ids(
    normalize_events: NormalizeEvents, run_sql: Any
) -> None:
    """The same call, sent as an event and as a span, has one identity."""
    trace_id, span_id = b"\1" * 16, b"\2" * 8
    event = Event(event_id=5, trace_id=trace_id, span_id=span_id, timestamp_us=NOW_US)
    (sent,) = normalize_events([event], RECEIVED_NS)
    ((expected,),) = run_sql(
        f"SELECT sipHash64(unhex('{trace_id.hex()}'), unhex('{span_id.hex()}'))"
    )
    assert sent["event_id"] == expected != 5


def test_events_of_a_batch_keep_to_themselves(normalize_events: NormalizeEvents) -> None:
    """Each is one row; none takes anything from another."""
    events = [Event(timestamp_us=NOW_US, event_id=n + 1, consumer_id=f"c{n}") for n in range(50)]
    rows = normalize_events(events, RECEIVED_NS)
    assert sorted((row["event_id"], row["consumer_id"]) for row in rows) == [
        (n + 1, f"c{n}") for n in range(50)
    ]


@pytest.mark.parametrize(
    ("timestamp_us", "reason"),
    [
        (0, ""),
        (-1, "time_out_of_range"),
        (NOW_US + 86_400_000_000, ""),
        (NOW_US + 86_400_000_001, "time_out_of_range"),
    ],
)
def test_event_time_has_bounds(
    normalize_events: NormalizeEvents, timestamp_us: int, reason: str
) -> None:
    """Event time lies between 1970 and a day after receipt."""
    (row,) = normalize_events([Event(timestamp_us=timestamp_us)], RECEIVED_NS)
    assert row["reason"] == reason
    assert row["outcome"] == ("rejected" if reason else "stored")


def test_a_probe_is_filtered_whatever_its_time(normalize_events: NormalizeEvents) -> None:
    """It only asks whether it arrives; a clock that is wrong does not hide the answer."""
    probe = {"apinalytics.probe": "7"}
    sent = [
        Event(timestamp_us=NOW_US, event_id=1, attributes=probe),
        Event(timestamp_us=-1, event_id=2, attributes=probe),
        Event(timestamp_us=NOW_US, event_id=3, attributes={"apinalytics.probe": ""}),
    ]
    rows = normalize_events(sent, RECEIVED_NS)
    assert sorted((row["event_id"], row["outcome"], row["reason"]) for row in rows) == [
        (1, "filtered", "probe"),
        (2, "filtered", "probe"),
        (3, "stored", ""),
    ]


# ---- whatever is sent ----

_TEXTS = [field.name for field in SENT if field.type is FieldType.TEXT and not field.choices]
events = st.builds(
    Event,
    timestamp_us=st.just(NOW_US),
    status_code=st.none() | st.integers(100, 599),
    direction=st.sampled_from(["", "inbound", "outbound"]),
    attributes=st.dictionaries(strategies.any_text, strategies.texts, max_size=3),
    metrics=st.dictionaries(strategies.any_text, st.floats(allow_nan=False), max_size=3),
    trace_id=st.sampled_from([b"", b"\1" * 16]),
    span_id=st.sampled_from([b"", b"\1" * 8]),
    **{name: st.just("") | strategies.texts for name in ("url", "method", "route", "consumer_id")},
)


@settings(deadline=None, max_examples=20, phases=PHASES)
@given(
    batch=st.lists(events, min_size=1, max_size=10),
    name=st.sampled_from(_TEXTS),
    text=strategies.texts,
)
def test_any_event_becomes_a_row(
    normalize_events: NormalizeEvents, batch: list[Event], name: str, text: str
) -> None:
    """Nothing that the door lets in makes the engine throw; maps are kept as they are."""
    setattr(batch[0], name, text)
    for number, event in enumerate(batch, 1):
        event.event_id = number
        event.ClearField("span_id")
    rows = {row["event_id"]: row for row in normalize_events(batch, RECEIVED_NS)}
    for number, event in enumerate(batch, 1):
        row = rows[number]
        assert (row["outcome"], row["reason"]) == ("stored", "")
        assert set(row["attributes"]) == set(event.attributes)
        assert row["metrics"] == dict(event.metrics)
