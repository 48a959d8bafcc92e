# SPDX-License-Identifier: Apache-2.0
"""A span as the rules see it, whichever way it came."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from otel_apinalytics.normalize.batch_rules import Key
from otel_apinalytics.normalize.reading import Attributes


@dataclass(frozen=True, slots=True)
class SpanView:
    """What the rules read of a span.

    Args:
        trace_id: 16 bytes if valid.
        span_id: 8 bytes if valid.
        parent_span_id: 8 bytes, or empty for a root.
        name: The span's name.
        kind: OTLP number of the kind; 2 is SERVER, 3 is CLIENT.
        start_ns: Start in Unix nanoseconds, 0 if unknown.
        end_ns: End in Unix nanoseconds, 0 if unknown.
        status: OTLP number of the status; 2 is ERROR.
        attributes: The span's attributes.
        resource: The resource's attributes.
        scope: Name of the instrumentation scope.
        flags: OTLP flags; 0x100 is set if it is known whether the parent is remote, 0x200 if it is.
        trace_state: W3C trace state.
        events: Name and attributes of the span's events.
    """

    trace_id: bytes
    span_id: bytes
    parent_span_id: bytes
    name: str
    kind: int
    start_ns: int
    end_ns: int
    status: int
    attributes: Attributes
    resource: Attributes
    scope: str = ""
    flags: int = 0
    trace_state: str = ""
    events: Sequence[tuple[str, Attributes]] = ()


def key_of(span: SpanView) -> Key:
    """Return what names a span."""
    return span.trace_id, span.span_id


def has_ids(span: SpanView) -> bool:
    """Return whether a span's ids are valid; what has none says nothing of others."""
    return has_trace_id(span) and has_span_id(span)


def has_trace_id(span: SpanView) -> bool:
    """Return whether a span's trace id is valid (W3C Trace Context)."""
    return len(span.trace_id) == 16 and any(span.trace_id)


def has_span_id(span: SpanView) -> bool:
    """Return whether a span's own id is valid."""
    return len(span.span_id) == 8 and any(span.span_id)
