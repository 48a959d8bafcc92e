# SPDX-License-Identifier: Apache-2.0
"""The gate: proves that an OTLP trace request parses, and counts its spans and bad ids.

It reads the nesting, ids and kinds, no attribute: half a microsecond a span.
"""

from __future__ import annotations

from dataclasses import dataclass

from google.protobuf.message import DecodeError

from otel_apinalytics.errors import InvalidRequestError
from otel_apinalytics.normalize.batch_rules import BatchRules
from otel_apinalytics.normalize.rules import (
    FLAGS_PARENT_KNOWN,
    FLAGS_PARENT_REMOTE,
    KIND_INTERNAL,
    KIND_SERVER,
)
from otel_apinalytics.wire.log_pb2 import GateRequest, GateSpan

# A request of tiny spans within the size limit would want gigabytes in the engine.
MAX_SPANS = 131_072

_NO_TRACE_ID = bytes(16)
_NO_SPAN_ID = bytes(8)
_PARENT_FLAGS = FLAGS_PARENT_KNOWN | FLAGS_PARENT_REMOTE


@dataclass(frozen=True, slots=True)
class Counts:
    """What the gate saw.

    Args:
        spans: All spans of the request.
        invalid_trace_ids: Spans whose trace id is not 16 bytes, or zero (otlp.md B16).
        invalid_span_ids: Spans whose trace id is valid, and whose span id is not 8 bytes, or zero.
        batch_rules: Which batch rules its spans need.
    """

    spans: int
    invalid_trace_ids: int
    invalid_span_ids: int
    batch_rules: BatchRules = BatchRules.NONE

    @property
    def invalid(self) -> int:
        """Spans that can never be stored."""
        return self.invalid_trace_ids + self.invalid_span_ids


def inspect(body: bytes) -> Counts:
    """Count the spans of an `ExportTraceServiceRequest`.

    Args:
        body: The serialized message, decompressed.

    Raises:
        InvalidRequestError: It does not parse, or has too many spans.
    """
    try:
        request = GateRequest.FromString(body)
    except DecodeError as error:
        raise InvalidRequestError(
            "the body is not an OTLP ExportTraceServiceRequest in protobuf"
        ) from error
    spans = invalid_trace_ids = invalid_span_ids = 0
    batch_rules = BatchRules.NONE
    for resource_spans in request.resource_spans:
        for scope_spans in resource_spans.scope_spans:
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
        raise InvalidRequestError(
            f"the request has {spans} spans; at most {MAX_SPANS} are allowed in one: send smaller "
            "batches"
        )
    return Counts(spans, invalid_trace_ids, invalid_span_ids, batch_rules)


def _batch_rules(span: GateSpan) -> BatchRules:
    """Return which batch rules look at a span with a parent."""
    if span.kind == KIND_SERVER and span.flags & _PARENT_FLAGS == FLAGS_PARENT_KNOWN:
        return BatchRules.NESTED
    return BatchRules.CHILDREN if span.kind == KIND_INTERNAL else BatchRules.NONE
