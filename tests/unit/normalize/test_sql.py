# SPDX-License-Identifier: Apache-2.0
"""Tests of the SQL rendering: the engine makes the same of spans as the Python rendering."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st

from otel_apinalytics.catalogue import MAX_TEXT_LENGTH
from otel_apinalytics.normalize.batch_rules import BatchRules
from otel_apinalytics.normalize.lookup import look_up
from otel_apinalytics.normalize.mapping import FIELDS, NO_MAPPING, Mapping, MappingEntry
from otel_apinalytics.normalize.outcomes import FILTERED
from otel_apinalytics.normalize.python import SpanView
from otel_apinalytics.normalize.rules import FLAGS_PARENT_KNOWN, KIND_INTERNAL, KIND_SERVER
from otel_apinalytics.wire.log_pb2 import PAYLOAD_TRACES, LogRecord
from tests.engine_fixtures import LoadRecords, Row, new_header, span_records
from tests.unit.normalize.agreement import comparable, made_by_python
from tests.unit.normalize.strategies import MAPPING, RECEIVED_NS, mappings, spans

# What a span has in any case, mapped to every field that may be set.
EVERYTHING = Mapping(tuple(MappingEntry("x.any", field) for field in FIELDS))
PHASES = (Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink)


def assert_agree(
    load_records: LoadRecords, batch: Sequence[SpanView], mapping: Mapping, size: int
) -> None:
    """Demand the same of both renderings for a batch, in records of so many spans."""
    expected = made_by_python(batch, RECEIVED_NS, mapping)
    rows = load_records(span_records(batch, RECEIVED_NS, size), mapping)
    got = [comparable({name: row[name] for name in expected[0]}) for row in rows]
    expected = [comparable(row) for row in expected]
    if size > 1:
        # Rows of a record are in any order.
        got, expected = sorted(got, key=_order), sorted(expected, key=_order)
    for one, other in zip(got, expected, strict=True):
        assert one == other


def _order(row: Row) -> list[tuple[str, str]]:
    return sorted((name, repr(value)) for name, value in row.items())


@settings(deadline=None, max_examples=40, phases=PHASES)
@given(batch=st.lists(spans, min_size=1, max_size=12), mapping=mappings, size=st.integers(1, 4))
def test_engine_and_python_agree(
    load_records: LoadRecords, batch: list[SpanView], mapping: Mapping, size: int
) -> None:
    """Whatever spans hold, both renderings give the same outcomes and the same events."""
    assert_agree(load_records, batch, mapping, size)


def call(**changes: Any) -> SpanView:
    """Return a span that is stored, but for the changes."""
    span = SpanView(
        trace_id=b"\1" * 16,
        span_id=b"\2" * 8,
        parent_span_id=b"",
        name="call",
        kind=KIND_SERVER,
        start_ns=RECEIVED_NS,
        end_ns=RECEIVED_NS,
        status=0,
        attributes={"http.request.method": "GET"},
        resource={},
    )
    return replace(span, **changes)


@settings(deadline=None, max_examples=10, phases=PHASES)
@given(batch=st.lists(spans, min_size=1, max_size=12))
def test_all_statements_give_the_same_of_single_spans(
    load_records: LoadRecords, batch: list[SpanView]
) -> None:
    """To look for children where there are none changes nothing of what is stored or rejected."""
    alone = [replace(span, parent_span_id=b"") for span in batch]
    records = span_records(alone, RECEIVED_NS)
    without, *others = (
        [comparable(row) for row in load_records(records, MAPPING, batch_rules=asked)]
        for asked in BatchRules
    )
    assert all(other == without for other in others)


@pytest.mark.parametrize("size", [1, 2, 3])
def test_the_segment_is_the_batch(load_records: LoadRecords, size: int) -> None:
    """What one span says of another does not depend on the requests that they came in."""
    root = call(span_id=b"\1" * 8)
    others = [
        call(
            span_id=b"\2" * 8,
            parent_span_id=b"\1" * 8,
            kind=KIND_INTERNAL,
            attributes={"enduser.id": "alice"},
        ),
        call(
            span_id=b"\3" * 8,
            parent_span_id=b"\1" * 8,
            flags=FLAGS_PARENT_KNOWN,
            attributes={"http.route": "/inner"},
        ),
    ]
    for batch in ([root, *others], [*others, root]):
        assert_agree(load_records, batch, NO_MAPPING, size)
        rows = load_records(span_records(batch, RECEIVED_NS, size))
        (stored,) = (row for row in rows if row["outcome"] == "stored")
        assert (stored["span_id"], stored["consumer_id"]) == (b"\1" * 8, "alice")
        assert stored["route"] == "/inner"
        assert {row["reason"] for row in rows} == {
            "",
            "kind_not_server_or_client",
            "nested_in_server_span",
        }


def test_a_difference_beyond_63_bits_is_no_duration(load_records: LoadRecords) -> None:
    """A span of 292 years or more has no response time, in the engine as in Python."""
    assert_agree(load_records, [call(start_ns=1, end_ns=2**63 + 1)], NO_MAPPING, 1)


@pytest.mark.parametrize("start_ns", [2**63, 2**64 - 1])
def test_a_time_beyond_the_store_s_is_rejected(load_records: LoadRecords, start_ns: int) -> None:
    """The latest times that the wire can carry throw nothing and are out of range."""
    span = call(start_ns=start_ns, end_ns=start_ns)
    (row,) = load_records(span_records([span], RECEIVED_NS))
    (made,) = made_by_python([span], RECEIVED_NS)
    for one in (row, made):
        assert (one["outcome"], one["reason"]) == ("rejected", "time_out_of_range")


@settings(deadline=None, max_examples=15, phases=PHASES)
@given(numbers=st.lists(st.floats(), min_size=1, max_size=40))
@example([1.5, 0.1, 1 / 3, -7.0, 1e20, 1e21, 2.0**60, 1e-5, 1e-6, 1e-7, -0.0, 5e-324])
@example([math.inf, -math.inf, math.nan])
def test_numbers_are_written_alike(load_records: LoadRecords, numbers: list[float]) -> None:
    """A consumer that is sent as a floating-point number is the same in both renderings."""
    batch = [call(attributes={"url.path": "/", "enduser.id": number}) for number in numbers]
    assert_agree(load_records, batch, NO_MAPPING, 1)


def spans_of(record: LogRecord) -> Any:
    """Return the spans of a new resource and scope of a record."""
    return record.traces.resource_spans.add().scope_spans.add().spans


def raw_record() -> LogRecord:
    """Return a record to which spans may be added, other than a sender's library could."""
    record = LogRecord.FromString(new_header(RECEIVED_NS).SerializeToString())
    record.payload = PAYLOAD_TRACES
    return record


def test_text_that_is_not_utf_8_is_kept_readable(load_records: LoadRecords) -> None:
    """Bytes that are no UTF-8 become replacement characters and cost nothing else."""
    record = raw_record()
    span = spans_of(record).add(trace_id=b"\1" * 16, span_id=b"\2" * 8, name=b"\xff", kind=2)
    for key, value in {b"url.path": b"/a\xffb", b"enduser.id": b"\xc3", b"\xff": b"x"}.items():
        span.attributes.add(key=key).value.string_value = value
    exception = span.events.add(name=b"exception").attributes.add(key=b"exception.type")
    exception.value.string_value = b"Bad\xff"
    (row,) = load_records([record.SerializeToString()])
    assert (row["outcome"], row["url"], row["consumer_id"]) == ("stored", "/a\ufffdb", "\ufffd")
    assert row["error_type"] == "Bad\ufffd"


NAMES = sorted({e.attribute for target in look_up(MAPPING) for e in target.entries})


@settings(deadline=None, max_examples=15, phases=PHASES)
@given(
    junk=st.lists(st.tuples(st.sampled_from(NAMES), st.binary(max_size=30)), max_size=20),
    texts=st.lists(st.binary(max_size=30), min_size=4, max_size=4),
    batch_rules=st.sampled_from(BatchRules),
)
def test_no_bytes_make_the_engine_throw(
    load_records: LoadRecords,
    junk: list[tuple[str, bytes]],
    texts: list[bytes],
    batch_rules: BatchRules,
) -> None:
    """Any bytes as the text of anything, attributes even repeated, give a row."""
    record = raw_record()
    record.traces.resource_spans.add().scope_spans.add().scope.name = texts[0]
    resource = record.traces.resource_spans[0].resource
    span = (
        record.traces.resource_spans[0]
        .scope_spans[0]
        .spans.add(kind=2, name=texts[1], trace_state=texts[2], trace_id=b"\1" * 16)
    )
    span.events.add(name=b"exception").attributes.add(key=texts[3])
    for name, value in junk:
        for attributes in (span.attributes, resource.attributes):
            attributes.add(key=name.encode()).value.string_value = value
    (row,) = load_records([record.SerializeToString()], MAPPING, batch_rules=batch_rules)
    assert row["reason"] == "invalid_span_id"


def test_a_long_name_is_not_repeated_for_each_span(load_records: LoadRecords) -> None:
    """Megabytes of service and scope, times thousands of spans, are more than the engine has."""
    record = raw_record()
    resource_spans = record.traces.resource_spans.add()
    service = resource_spans.resource.attributes.add(key=b"service.name")
    service.value.string_value = b"s" * (3 << 20)
    scope_spans = resource_spans.scope_spans.add()
    scope_spans.scope.name = b"n" * (3 << 20)
    for number in range(1, 4001):
        scope_spans.spans.add(trace_id=b"\1" * 16, span_id=number.to_bytes(8, "big"), kind=2)
    rows = load_records([record.SerializeToString()])
    assert len(rows) == 4000
    assert {row["service"] for row in rows} == {"s" * 1024}


def test_of_a_repeated_attribute_the_first_counts(load_records: LoadRecords) -> None:
    """OTLP wants names to be unique; senders that repeat one get the first that is usable."""
    record = raw_record()
    span = spans_of(record).add(trace_id=b"\1" * 16, span_id=b"\2" * 8, kind=2)
    for value in (b"-", b"/first", b"/second"):
        span.attributes.add(key=b"url.path").value.string_value = value
    (row,) = load_records([record.SerializeToString()])
    assert row["url"] == "/first"


def test_identity_is_of_the_ids_alone(load_records: LoadRecords) -> None:
    """Two spans with the same ids are one event, whatever else differs; other ids are another."""
    batch = [call(), call(kind=3, start_ns=5, status=2), call(span_id=b"\3" * 8)]
    first, second, third = load_records(span_records(batch, RECEIVED_NS))
    assert first["event_id"] == second["event_id"]
    assert first["event_id"] != third["event_id"]


def test_locality_is_of_service_and_name(load_records: LoadRecords) -> None:
    """No attribute that a rule could map otherwise moves a span to another place."""
    named = {"service.name": "shop"}
    batch = [
        call(resource=named),
        call(resource=named, attributes={"url.path": "/x"}),
        call(resource=named, name="other"),
    ]
    first, second, third = load_records(span_records(batch, RECEIVED_NS))
    assert first["locality"] == second["locality"] != third["locality"]


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("GET /a?token=s3cret", "GET /a?token=REDACTED"),
        ("GET /a?page=1", "GET /a?page=1"),
        ("x" * 2000, "x" * MAX_TEXT_LENGTH),
    ],
)
def test_locality_is_of_no_secret(load_records: LoadRecords, name: str, other: str) -> None:
    """A program that makes the event itself sends neither a secret nor more than is allowed."""
    batch = [call(name=name), call(name=other), call(name="GET /a?token")]
    first, second, third = load_records(span_records(batch, RECEIVED_NS))
    assert first["locality"] == second["locality"] != third["locality"]


# What the store keys a row by, and whose it is.
KEY_FIELDS = (
    "event_id", "locality", "timestamp", "application", "trace_id", "span_id", "parent_span_id",
    "received_at",
)  # fmt: skip


@settings(deadline=None, max_examples=12, phases=PHASES)
@given(batch=st.lists(spans, min_size=1, max_size=12))
def test_no_mapping_touches_an_event_s_key(
    load_records: LoadRecords, batch: list[SpanView]
) -> None:
    """A mapping that is changed between two loads of a segment replaces rows, and adds none."""
    records = span_records(batch, RECEIVED_NS)
    plain, mapped = (load_records(records, mapping) for mapping in (NO_MAPPING, MAPPING))
    for before, after in zip(plain, mapped, strict=True):
        if FILTERED not in (before["outcome"], after["outcome"]):
            assert {n: after[n] for n in KEY_FIELDS} == {n: before[n] for n in KEY_FIELDS}


def test_a_mapping_to_every_field_changes_what_it_may(load_records: LoadRecords) -> None:
    """The span's name, service and route feed every field; its key stays."""
    span = call(resource={"service.name": "shop"}, attributes={"url.path": "/a", "x.any": "7"})
    (row,) = load_records(span_records([span], RECEIVED_NS), EVERYTHING)
    set_ = {name for name in FIELDS if row[name] in ("7", 7, "/7")}
    assert set_ == set(FIELDS)
    (unmapped,) = load_records(span_records([span], RECEIVED_NS))
    assert {n: row[n] for n in KEY_FIELDS} == {n: unmapped[n] for n in KEY_FIELDS}
