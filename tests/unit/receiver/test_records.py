# SPDX-License-Identifier: Apache-2.0
"""Tests of the records: what is put together as bytes reads back as the message."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from google.protobuf.internal.encoder import _VarintBytes  # type: ignore[attr-defined]
from hypothesis import given
from hypothesis import strategies as st

from otel_apinalytics.normalize.batch_rules import BatchRules
from otel_apinalytics.receiver.records import (
    events_record,
    hash_key_field,
    header_of,
    new_header,
    rejected_record,
    spans_record,
    varint,
)
from otel_apinalytics.wire.log_pb2 import (
    PAYLOAD_REJECTED,
    Event,
    EventBatch,
    LogHeader,
    LogRecord,
    TraceRequest,
)

HEADER_FIELDS = [field.name for field in LogHeader.DESCRIPTOR.fields]


def request(names: list[str]) -> TraceRequest:
    """Return a request with a span for each name."""
    made = TraceRequest()
    spans = made.resource_spans.add().scope_spans.add().spans
    for name in names:
        spans.add(trace_id=b"\1" * 16, span_id=b"\2" * 8, name=name.encode())
    return made


def assert_header(record: LogRecord, header: LogHeader) -> None:
    """Demand that a record carries the header, field by field."""
    for name in HEADER_FIELDS:
        assert getattr(record, name) == getattr(header, name)


@pytest.mark.parametrize("number", [0, 1, 127, 128, 300, 16383, 16384, 2**32, 2**63, 2**64 - 1])
def test_varint_at_its_lengths(number: int) -> None:
    """A varint is what protobuf's own encoder writes, at each change of length."""
    assert varint(number) == _VarintBytes(number)


@given(number=st.integers(0, 2**64 - 1))
def test_varint(number: int) -> None:
    """A varint is what protobuf's own encoder writes."""
    assert varint(number) == _VarintBytes(number)


@given(names=st.lists(st.text(st.characters(exclude_categories=["Cs"])), max_size=5))
def test_spans_record(names: list[str]) -> None:
    """The record of a request is a header and the request."""
    payload = request(names)
    header = new_header("app", "key", "grpc", len(names))
    record = LogRecord.FromString(spans_record(header, payload.SerializeToString()))
    assert_header(record, header)
    assert record.traces == payload
    assert not record.HasField("events")


@given(methods=st.lists(st.text(st.characters(exclude_categories=["Cs"])), max_size=5))
def test_events_record(methods: list[str]) -> None:
    """The record of a batch of events is a header and the batch."""
    payload = EventBatch(events=[Event(method=method) for method in methods])
    header = new_header("app", "key", "http", len(methods))
    record = LogRecord.FromString(events_record(header, payload.SerializeToString()))
    assert_header(record, header)
    assert record.events == payload
    assert not record.HasField("traces")


def test_headers_say_what_the_record_says() -> None:
    """The writer's view and the engine's view agree on the header's fields."""
    for field in LogHeader.DESCRIPTOR.fields:
        twin = LogRecord.DESCRIPTOR.fields_by_name[field.name]
        assert (twin.number, twin.type) == (field.number, field.type)


def test_record_ids_differ() -> None:
    """Each record has an id of its own, of 16 bytes."""
    ids = {new_header("app", "key", "grpc", 1).record_id for _ in range(100)}
    assert len(ids) == 100
    assert {len(record_id) for record_id in ids} == {16}


@pytest.mark.parametrize("make", [spans_record, events_record])
def test_a_rejected_record_keeps_the_header_only(
    make: Callable[[LogHeader, bytes], bytes],
) -> None:
    """The reason is added; of the payload nothing is left."""
    header = new_header("app", "key", "grpc", 3)
    payload = request(["marker"]).SerializeToString()
    rejected = rejected_record(make(header, payload), "undecodable")
    assert b"marker" not in rejected
    record = LogRecord.FromString(rejected)
    assert not record.HasField("traces")
    assert not record.HasField("events")
    header.reject_reason = "undecodable"
    header.payload = PAYLOAD_REJECTED
    assert_header(record, header)


def test_a_record_can_be_rejected_twice() -> None:
    """A load that is repeated marks the same record again."""
    record = spans_record(new_header("app", "key", "grpc", 3), b"\xff not a message")
    once = rejected_record(record, "undecodable")
    assert rejected_record(once, "undecodable") == once


@given(key=st.binary(max_size=40), sent=st.binary(max_size=40))
def test_an_appended_hash_key_wins(key: bytes, sent: bytes) -> None:
    """Of one field the last counts: what was received cannot set another key."""
    payload = request(["call"]).SerializeToString()
    record = spans_record(new_header("app", "key", "grpc", 1), payload)
    record += LogRecord(hash_key=sent).SerializeToString()
    read = LogRecord.FromString(record + hash_key_field(key))
    # An empty field is none; a real key has 32 bytes.
    assert read.hash_key == (key or sent)
    assert read.traces == request(["call"])
    assert_header(read, header_of(record))


def test_a_payload_cannot_reach_the_header() -> None:
    """What looks like fields of a record, inside a request, stays inside it."""
    forged = LogRecord(application="other", hash_key=b"chosen", batch_rules=BatchRules.NESTED)
    record = spans_record(new_header("app", "key", "grpc", 1), forged.SerializeToString())
    read = header_of(record)
    assert (read.application, read.batch_rules) == ("app", BatchRules.NONE)


@pytest.mark.parametrize("batch_rules", BatchRules)
def test_the_header_says_which_batch_rules_are_needed(batch_rules: BatchRules) -> None:
    """The loader chooses its statement by it."""
    header = new_header("app", "key", "grpc", 1, batch_rules)
    assert header_of(spans_record(header, b"")).batch_rules == batch_rules
