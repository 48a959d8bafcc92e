# SPDX-License-Identifier: Apache-2.0
"""The gate: proves that an OTLP trace request parses, and counts its spans and bad ids.

It reads the nesting, ids and kinds, no attribute: half a microsecond a span.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

from google.protobuf.message import DecodeError, Message
from google.protobuf.unknown_fields import UnknownFieldSet

from otel_apinalytics.errors import InvalidRequestError, RequestTooLargeError
from otel_apinalytics.normalize.batch_rules import BatchRules
from otel_apinalytics.normalize.rules import (
    FLAGS_PARENT_KNOWN,
    FLAGS_PARENT_REMOTE,
    KIND_INTERNAL,
    KIND_SERVER,
)
from otel_apinalytics.receiver.wire_format import fields
from otel_apinalytics.wire.log_pb2 import GateRequest, GateSpan

# A request of tiny spans within the size limit would want gigabytes in the engine.
MAX_SPANS = 131_072
# So would a single span of tiny attributes; stack traces are a hundredth of this.
MAX_PART_BYTES = 4 << 20
# With the resources and scopes around them, and fields that only newer senders know.
_MAX_FIELDS = 2 * MAX_SPANS
# What is smaller can exceed none of these: a field of a message has at least two bytes.
_SAFE_BYTES = 2 * MAX_SPANS
# Field numbers of the messages on the way to a span (trace_service.proto, trace.proto).
_RESOURCE_SPANS, _SCOPE_SPANS, _SPANS = 1, 2, 2
_START_GROUP = 3

_NO_TRACE_ID = bytes(16)
_NO_SPAN_ID = bytes(8)
_PARENT_FLAGS = FLAGS_PARENT_KNOWN | FLAGS_PARENT_REMOTE


@dataclass(frozen=True, slots=True)
class Counts:
    """What the gate saw.

    Args:
        spans: All spans of the request.
        invalid_trace_ids: Spans whose trace id is not 16 bytes, or zero.
        invalid_span_ids: Spans whose trace id is valid, and whose span id is not 8 bytes, or zero.
        batch_rules: Which batch rules its spans need.
        has_no_scopes: Whether there are resources, and none has a scope: senders before OTLP 0.15
            wrote their spans to a field that is not read.
    """

    spans: int
    invalid_trace_ids: int = 0
    invalid_span_ids: int = 0
    batch_rules: BatchRules = BatchRules.NONE
    has_no_scopes: bool = False

    @property
    def invalid(self) -> int:
        """Spans that can never be stored."""
        return self.invalid_trace_ids + self.invalid_span_ids


def inspect(body: bytes) -> Counts:
    """Count the spans of an `ExportTraceServiceRequest`.

    Args:
        body: The serialized message, decompressed.

    Raises:
        InvalidRequestError: It does not parse, or has a group in the place of a message.
        RequestTooLargeError: It has too many spans, or one that is too large.
    """
    if len(body) > _SAFE_BYTES:
        _check_sizes(memoryview(body))
    try:
        request = GateRequest.FromString(body)
    except DecodeError as error:
        raise InvalidRequestError(
            "the body is not an OTLP ExportTraceServiceRequest in protobuf"
        ) from error
    spans = invalid_trace_ids = invalid_span_ids = 0
    batch_rules = BatchRules.NONE
    _refuse_groups(request)
    for resource_spans in request.resource_spans:
        _refuse_groups(resource_spans)
        for scope_spans in resource_spans.scope_spans:
            _refuse_groups(scope_spans)
            spans += len(scope_spans.spans)
            for span in scope_spans.spans:
                trace_id = span.trace_id
                if len(trace_id) != 16 or trace_id == _NO_TRACE_ID:
                    invalid_trace_ids += 1
                    continue
                span_id = span.span_id
                if len(span_id) != 8 or span_id == _NO_SPAN_ID:
                    invalid_span_ids += 1
                    continue
                if span.parent_span_id and batch_rules is not BatchRules.NESTED:
                    batch_rules = max(batch_rules, _batch_rules(span))
    if spans > MAX_SPANS:
        raise _too_many()
    has_no_scopes = bool(request.resource_spans) and not any(
        resource_spans.scope_spans for resource_spans in request.resource_spans
    )
    return Counts(spans, invalid_trace_ids, invalid_span_ids, batch_rules, has_no_scopes)


def _refuse_groups(message: Message) -> None:
    """Refuse a group in the place of a message: passed over here, it is that message to the engine.

    It would load spans that nobody counted. OTLP has no groups.
    """
    # The type that is published has no iterator.
    for field in cast(Any, UnknownFieldSet(message)):
        if field.wire_type == _START_GROUP and field.field_number <= _SPANS:
            raise InvalidRequestError("the request has a group in the place of a message")


def _check_sizes(request: memoryview) -> None:
    """Refuse a request that would want too much memory to be parsed; it is not parsed for that.

    Raises:
        RequestTooLargeError: It has too many elements, or one that is too large.
    """
    walk = _Walk()
    for number, resource_spans in walk.fields(request):
        if number != _RESOURCE_SPANS:
            continue
        for number_within, part in walk.fields(resource_spans):
            if number_within != _SCOPE_SPANS:
                _check_part(part, "resource")
                continue
            for number_of_span, span in walk.fields(part):
                _check_part(span, "span" if number_of_span == _SPANS else "scope")


class _Walk:
    """Counts all fields that it gives, of all messages."""

    def __init__(self) -> None:
        self._left = _MAX_FIELDS

    def fields(self, message: memoryview) -> Iterator[tuple[int, memoryview]]:
        for field in fields(message):
            self._left -= 1
            if self._left < 0:
                raise _too_many()
            yield field


def _check_part(part: memoryview, name: str) -> None:
    if len(part) > MAX_PART_BYTES:
        raise RequestTooLargeError(
            f"a {name} of the request has {len(part)} bytes; at most {MAX_PART_BYTES} are allowed"
        )


def _too_many() -> RequestTooLargeError:
    return RequestTooLargeError(
        f"the request has more than {MAX_SPANS} spans, resources and scopes: send smaller batches"
    )


def _batch_rules(span: GateSpan) -> BatchRules:
    """Return which batch rules look at a span with a parent."""
    if span.kind == KIND_SERVER and span.flags & _PARENT_FLAGS == FLAGS_PARENT_KNOWN:
        return BatchRules.NESTED
    return BatchRules.CHILDREN if span.kind == KIND_INTERNAL else BatchRules.NONE
