# SPDX-License-Identifier: Apache-2.0
"""Spans of the OpenTelemetry SDK as the Python rendering of the rules sees them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanContext, SpanKind

from otel_apinalytics.normalize import rules
from otel_apinalytics.normalize.python import SpanView
from otel_apinalytics.normalize.reading import Attributes

_KINDS = {
    SpanKind.INTERNAL: 1,
    SpanKind.SERVER: 2,
    SpanKind.CLIENT: 3,
    SpanKind.PRODUCER: 4,
    SpanKind.CONSUMER: 5,
}


def span_view(span: ReadableSpan) -> SpanView:
    """Return a span of the SDK as its OTLP exporter would send it."""
    context, parent, scope = span.get_span_context(), span.parent, span.instrumentation_scope
    assert context is not None
    return SpanView(
        trace_id=context.trace_id.to_bytes(16, "big"),
        span_id=context.span_id.to_bytes(8, "big"),
        parent_span_id=parent.span_id.to_bytes(8, "big") if parent else b"",
        name=span.name,
        kind=_KINDS[span.kind],
        start_ns=span.start_time or 0,
        end_ns=span.end_time or 0,
        status=span.status.status_code.value,
        attributes=_attributes(span.attributes),
        resource=_attributes(span.resource.attributes),
        scope=scope.name if scope else "",
        flags=_flags(parent),
        trace_state=context.trace_state.to_header(),
        events=[(event.name, _attributes(event.attributes)) for event in span.events],
    )


def _attributes(attributes: Mapping[str, Any] | None) -> Attributes:
    # A view has texts, numbers, flags and sequences of them; what else OTLP can carry, no rule
    # reads.
    return {
        name: value
        for name, value in (attributes or {}).items()
        if isinstance(value, (str, bool, int, float, tuple, list))
    }


def _flags(parent: SpanContext | None) -> int:
    # The exporter says of every span that it knows where the parent is, also if there is none.
    remote = parent is not None and parent.is_remote
    return rules.FLAGS_PARENT_KNOWN | (rules.FLAGS_PARENT_REMOTE if remote else 0)
