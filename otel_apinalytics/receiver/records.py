# SPDX-License-Identifier: Apache-2.0
"""Records of the request log: the header of our own in front of a payload as it was received."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence

from google.protobuf.message import DecodeError

from otel_apinalytics.normalize.batch_rules import BatchRules
from otel_apinalytics.wire import log_pb2
from otel_apinalytics.wire.log_pb2 import AuditBatch, AuditEntry, LogHeader, LogRecord, Payload

_LENGTH_DELIMITED = 2
_TRACES = LogRecord.DESCRIPTOR.fields_by_name["traces"].number
_EVENTS = LogRecord.DESCRIPTOR.fields_by_name["events"].number
_AUDIT = LogRecord.DESCRIPTOR.fields_by_name["audit"].number


def spans_record(header: LogHeader, request: bytes) -> bytes:
    """Return a record whose payload is an OTLP trace request, as raw bytes."""
    header.payload = log_pb2.PAYLOAD_TRACES
    return _with_payload(header, _TRACES, request)


def events_record(header: LogHeader, batch: bytes) -> bytes:
    """Return a record whose payload is a serialized `EventBatch`."""
    header.payload = log_pb2.PAYLOAD_EVENTS
    return _with_payload(header, _EVENTS, batch)


def new_header(
    application: str,
    key_id: str,
    transport: str,
    count: int,
    batch_rules: BatchRules = BatchRules.NONE,
) -> LogHeader:
    """Return the header for something received now.

    Args:
        application: The application, from the key.
        key_id: The key that it was sent with.
        transport: `grpc` or `http`.
        count: Spans or events in it, as counted at the door.
        batch_rules: Which batch rules spans in it need.
    """
    return LogHeader(
        record_id=os.urandom(16),
        application=application,
        key_id=key_id,
        transport=transport,
        received_ns=time.time_ns(),
        received_count=count,
        batch_rules=batch_rules,
    )


def rejected_at_the_door(header: LogHeader, reason: str) -> bytes:
    """Return a record of what was rejected before it was kept: its count, for the ledger."""
    header.payload = log_pb2.PAYLOAD_REJECTED
    header.reject_reason = reason
    return header.SerializeToString()


def duplicate_record(header: LogHeader) -> bytes:
    """Return a record of what was received before: its count, for the ledger."""
    header.payload = log_pb2.PAYLOAD_DUPLICATE
    return header.SerializeToString()


def refused_record(header: LogHeader, reason: str) -> bytes:
    """Return a record of requests that were not let in: their count, for the ledger."""
    header.payload = log_pb2.PAYLOAD_REFUSED
    header.reject_reason = reason
    return header.SerializeToString()


def audit_record(entries: Sequence[AuditEntry]) -> bytes:
    """Return a record of audit entries."""
    # Each entry names its application; nothing is received that the ledger would count.
    header = new_header("", "", "", 0)
    header.payload = log_pb2.PAYLOAD_AUDIT
    return _with_payload(header, _AUDIT, AuditBatch(entries=entries).SerializeToString())


def control_record(payload: Payload, batch_rules: BatchRules) -> bytes:
    """Return a record without content: a load of it runs all statements and stores nothing."""
    header = LogHeader(batch_rules=batch_rules)
    if payload == log_pb2.PAYLOAD_TRACES:
        return spans_record(header, b"")
    if payload == log_pb2.PAYLOAD_EVENTS:
        return events_record(header, b"")
    return LogHeader(payload=payload).SerializeToString()


def without_unknown_fields(record: bytes) -> bytes | None:
    """Return the record with only what the engine reads of it; None if it does not parse.

    What the engine cannot decode may be in a field that no rule reads.
    """
    try:
        parsed = LogRecord.FromString(record)
    except DecodeError:
        return None
    parsed.DiscardUnknownFields()
    return parsed.SerializeToString()


def rejected_record(record: bytes, reason: str) -> bytes:
    """Return the record without its payload, marked as rejected."""
    header = LogHeader.FromString(record)
    header.DiscardUnknownFields()
    header.payload = log_pb2.PAYLOAD_REJECTED
    header.reject_reason = reason
    return header.SerializeToString()


def header_of(record: bytes) -> LogHeader:
    """Return a record's header."""
    return LogHeader.FromString(record)


def hash_key_field(hash_key: bytes) -> bytes:
    """Return what is appended to a record so that the engine reads it with the hash key.

    Fields may follow each other in any order, and the last of one counts: nothing that was received
    can set another key.
    """
    return LogRecord(hash_key=hash_key).SerializeToString()


def varint(number: int) -> bytes:
    """Return `number` as a protobuf varint."""
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def _with_payload(header: LogHeader, field: int, payload: bytes) -> bytes:
    tag = varint(field << 3 | _LENGTH_DELIMITED)
    return b"".join((header.SerializeToString(), tag, varint(len(payload)), payload))
