# SPDX-License-Identifier: Apache-2.0
"""Tests of the SQL rendering: the engine makes the same of a span as the Python rendering."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from otel_apinalytics.normalize.python import Normalized, Scalar, SpanView, normalize_span
from otel_apinalytics.normalize.rules import RESOURCE_RULES, SPAN_RULES
from otel_apinalytics.normalize.sql import spans_select
from otel_apinalytics.normalize.transforms import MISSING_WORDS
from otel_apinalytics.wire.log_pb2 import Event, LogRecord

Rows = list[dict[str, Any]]
NormalizeSpans = Callable[[Sequence[SpanView], int], Rows]
NormalizeEvents = Callable[[Sequence[Event], int], Rows]
NormalizeRecords = Callable[[Sequence[LogRecord], Callable[[str], str]], Rows]

# What a span becomes, by name.
FIELDS = (
    "timestamp", "consumer_id", "consumer_source", "method", "url", "function", "route",
    "response_us", "status_code", "is_error", "direction", "service", "host",
)  # fmt: skip
PHASES = (Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink)

RECEIVED_NS = 1_700_000_000_123_456_789

# A lone surrogate has no form in UTF-8, so no wire carries one. Everything else does, NUL included.
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
pieces = [*"abk=&?#:/@[].é%1\0", "://", "token=", "KEY", "\u017fig", "=REDACTED"]
urls = st.lists(st.sampled_from(pieces), max_size=12).map("".join)
words = st.sampled_from([*MISSING_WORDS, "NULL", "200", "503", "get", "GET", "x"])
integers = st.integers(-(2**63), 2**63 - 1) | st.sampled_from([0, 200, 404, 500])
# Quarters up to a million: numbers that both write in the same way; the others follow below.
numbers = st.integers(-4_000_000, 4_000_000).map(lambda number: number / 4)
scalars: st.SearchStrategy[Scalar] = texts | urls | words | integers | st.booleans() | numbers
values = scalars | st.lists(scalars, max_size=2)
names = [n for rule in SPAN_RULES for source in rule.sources for n in source.attributes]
resource_names = [n for r in RESOURCE_RULES for source in r.sources for n in source.attributes]
# Around the bounds, and anything that is less than 2**63; what is later follows below.
times = (
    st.sampled_from([0, 1, 999, RECEIVED_NS, 2**63 - 1])
    | st.integers(RECEIVED_NS - 10**15, RECEIVED_NS + 10**14 + 10**9)
    | st.integers(0, 2**63 - 1)
)


def ids(length: int) -> st.SearchStrategy[bytes]:
    """Return valid ids, missing ones and zeros."""
    return st.binary(min_size=length, max_size=length) | st.sampled_from([b"", bytes(length)])


spans = st.builds(
    SpanView,
    trace_id=ids(16),
    span_id=ids(8),
    parent_span_id=ids(8),
    name=texts,
    kind=st.sampled_from([0, 1, 2, 2, 2, 3]),
    start_ns=times,
    end_ns=times,
    status=st.integers(0, 2),
    attributes=st.dictionaries(st.sampled_from(names) | texts, values, max_size=8),
    resource=st.dictionaries(st.sampled_from(resource_names), values, max_size=1),
)


def assert_agree(normalize_spans: NormalizeSpans, batch: Sequence[SpanView]) -> None:
    """Demand the same outcome and event of each span from both renderings."""
    for span, row in zip(batch, normalize_spans(batch, RECEIVED_NS), strict=True):
        expected = normalize_span(span, RECEIVED_NS)
        got = Normalized(row["outcome"], row["reason"], {name: row[name] for name in FIELDS})
        assert got == expected


def call(**changes: Any) -> SpanView:
    """Return a span that is stored, but for the changes."""
    span = SpanView(
        trace_id=b"\1" * 16,
        span_id=b"\2" * 8,
        parent_span_id=b"",
        name="call",
        kind=2,
        start_ns=RECEIVED_NS,
        end_ns=RECEIVED_NS,
        status=0,
        attributes={"http.request.method": "GET"},
        resource={},
    )
    return replace(span, **changes)


@settings(deadline=None, max_examples=60, phases=PHASES)
@given(batch=st.lists(spans, min_size=1, max_size=20))
def test_engine_and_python_agree(normalize_spans: NormalizeSpans, batch: list[SpanView]) -> None:
    """Whatever a span holds, both renderings give the same outcome and the same event."""
    assert_agree(normalize_spans, batch)


def test_a_difference_beyond_63_bits_is_no_duration(normalize_spans: NormalizeSpans) -> None:
    """A span of 292 years or more has no response time, in the engine as in Python."""
    assert_agree(normalize_spans, [call(start_ns=1, end_ns=2**63 + 1)])


@pytest.mark.parametrize("start_ns", [2**63, 2**64 - 1])
def test_a_time_beyond_the_store_s_is_rejected(
    normalize_spans: NormalizeSpans, start_ns: int
) -> None:
    """The latest times that the wire can carry throw nothing and are out of range."""
    (row,) = normalize_spans([call(start_ns=start_ns, end_ns=start_ns)], RECEIVED_NS)
    assert (row["outcome"], row["reason"]) == ("rejected", "time_out_of_range")


@pytest.mark.parametrize("number", [1.5, 0.1, 1 / 3, -7.0, 1e20, math.inf, -math.inf, math.nan])
def test_numbers_are_written_alike(normalize_spans: NormalizeSpans, number: float) -> None:
    """A consumer that is sent as a floating-point number is the same in both renderings."""
    assert_agree(normalize_spans, [call(attributes={"url.path": "/", "enduser.id": number})])


@pytest.mark.parametrize("number", [1e21, 2.0**60, 1e-5, 1e-7, -0.0])
def test_very_large_and_small_numbers_are_written_alike(
    normalize_spans: NormalizeSpans, number: float
) -> None:
    """Where the engine writes an exponent, or drops digits, Python does too."""
    assert_agree(normalize_spans, [call(attributes={"url.path": "/", "enduser.id": number})])


def test_text_that_is_not_utf_8_is_kept_readable(normalize_records: NormalizeRecords) -> None:
    """Bytes that are no UTF-8 become replacement characters and cost nothing else."""
    record = LogRecord(application="app", received_ns=RECEIVED_NS)
    span = (
        record.traces.resource_spans.add()
        .scope_spans.add()
        .spans.add(trace_id=b"\1" * 16, span_id=b"\2" * 8, name=b"\xff", kind=2)
    )
    for key, value in {b"url.path": b"/a\xffb", b"enduser.id": b"\xc3", b"\xff": b"x"}.items():
        span.attributes.add(key=key).value.string_value = value
    (row,) = normalize_records([record], spans_select)
    assert (row["outcome"], row["url"], row["consumer_id"]) == ("stored", "/a\ufffdb", "\ufffd")


@settings(deadline=None, max_examples=30, phases=PHASES)
@given(junk=st.lists(st.tuples(st.sampled_from(names), st.binary(max_size=30)), max_size=20))
def test_no_bytes_make_the_engine_throw(
    normalize_records: NormalizeRecords, junk: list[tuple[str, bytes]]
) -> None:
    """Any bytes as the text of any attribute, even repeated, give a row."""
    record = LogRecord(application="app", received_ns=RECEIVED_NS)
    span = record.traces.resource_spans.add().scope_spans.add().spans.add(kind=2)
    for name, value in junk:
        span.attributes.add(key=name.encode()).value.string_value = value
    (row,) = normalize_records([record], spans_select)
    assert row["reason"] == "invalid_trace_id"


def test_identity_is_of_the_ids_alone(normalize_spans: NormalizeSpans) -> None:
    """Two spans with the same ids are one event, whatever else differs; other ids are another."""
    first, second, third = normalize_spans(
        [call(), call(kind=3, start_ns=5, status=2), call(span_id=b"\3" * 8)], RECEIVED_NS
    )
    assert first["event_id"] == second["event_id"]
    assert first["event_id"] != third["event_id"]


def test_locality_is_of_service_and_name(normalize_spans: NormalizeSpans) -> None:
    """No attribute that a rule could map otherwise moves a span to another place."""
    named = {"service.name": "shop"}
    first, second, third = normalize_spans(
        [
            call(resource=named),
            call(resource=named, attributes={"url.path": "/x"}),
            call(resource=named, name="other"),
        ],
        RECEIVED_NS,
    )
    assert first["locality"] == second["locality"] != third["locality"]


# ---- JSON events ----

_NOW_US = RECEIVED_NS // 1000


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (
            Event(),
            {
                "consumer_id": "",
                "consumer_source": "",
                "method": "",
                "url": "",
                "function": "unknown",
                "route": "",
                "response_us": None,
                "status_code": None,
                "is_error": False,
                "direction": "inbound",
                "service": "",
                "host": "",
                "outcome": "stored",
                "reason": "",
            },
        ),
        (Event(consumer_id="c"), {"consumer_id": "c", "consumer_source": "event"}),
        (Event(method="get"), {"method": "GET"}),
        (Event(method="brew"), {"method": "_OTHER"}),
        (Event(url="/a?token=t&b=1"), {"url": "/a?token=REDACTED&b=1"}),
        (Event(url="https://u:p@h/a?key=1#f"), {"url": "/a?key=REDACTED"}),
        (Event(url="/" + "a" * 3000), {"url": "/" + "a" * 2047}),
        (Event(function="f", method="GET", route="/r"), {"function": "f", "route": "/r"}),
        (Event(method="get", route="/r"), {"function": "GET /r"}),
        (Event(route="/r"), {"function": "/r"}),
        (Event(response_us=0), {"response_us": 0}),
        (Event(response_us=7), {"response_us": 7}),
        (Event(status_code=499), {"status_code": 499, "is_error": False}),
        (Event(status_code=500), {"status_code": 500, "is_error": True}),
        (Event(status_code=200, is_error=True), {"is_error": True}),
        (Event(direction="outbound"), {"direction": "outbound"}),
        (Event(service="s", host="h"), {"service": "s", "host": "h"}),
        (Event(event_id=2**64 - 1), {"event_id": 2**64 - 1}),
        (Event(event_id=7, trace_id=bytes(16), span_id=b"\1" * 8), {"event_id": 7}),
        (Event(event_id=7, trace_id=b"\1" * 16), {"event_id": 7, "trace_id": "01" * 16}),
    ],
)
def test_event_fields(
    normalize_events: NormalizeEvents, event: Event, expected: dict[str, object]
) -> None:
    """A JSON event keeps what was sent; the rules of spans apply to method, URL and function."""
    event.timestamp_us = _NOW_US
    (row,) = normalize_events([event], RECEIVED_NS)
    assert {name: row[name] for name in expected} == expected
    assert row["timestamp"] == _NOW_US


def test_an_event_with_ids_is_the_span_with_these_ids(
    normalize_events: NormalizeEvents, normalize_spans: NormalizeSpans
) -> None:
    """The same call, sent as an event and as a span, has one identity."""
    span = call()
    event = Event(event_id=5, trace_id=span.trace_id, span_id=span.span_id, timestamp_us=_NOW_US)
    (sent,) = normalize_events([event], RECEIVED_NS)
    (seen,) = normalize_spans([span], RECEIVED_NS)
    assert sent["event_id"] == seen["event_id"] != 5


@pytest.mark.parametrize(
    ("timestamp_us", "reason"),
    [
        (0, ""),
        (-1, "time_out_of_range"),
        (_NOW_US + 86_400_000_000, ""),
        (_NOW_US + 86_400_000_001, "time_out_of_range"),
    ],
)
def test_event_time_has_bounds(
    normalize_events: NormalizeEvents, timestamp_us: int, reason: str
) -> None:
    """Event time lies between 1970 and a day after receipt."""
    (row,) = normalize_events([Event(timestamp_us=timestamp_us)], RECEIVED_NS)
    assert row["reason"] == reason
    assert row["outcome"] == ("rejected" if reason else "stored")
