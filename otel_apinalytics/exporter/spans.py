# SPDX-License-Identifier: Apache-2.0
"""Spans of the SDK as the rules see them: what the SDK's OTLP exporter would send of each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanContext, SpanKind

from otel_apinalytics.normalize import rules
from otel_apinalytics.normalize.reading import Attributes
from otel_apinalytics.normalize.span_view import SpanView

_KINDS = {
    SpanKind.INTERNAL: rules.KIND_INTERNAL,
    SpanKind.SERVER: rules.KIND_SERVER,
    SpanKind.CLIENT: rules.KIND_CLIENT,
    SpanKind.PRODUCER: rules.KIND_PRODUCER,
    SpanKind.CONSUMER: rules.KIND_CONSUMER,
}
# OTLP says of each span whether its parent is remote, also of one without a parent.
_LOCAL = rules.FLAGS_PARENT_KNOWN
_REMOTE = rules.FLAGS_PARENT_KNOWN | rules.FLAGS_PARENT_REMOTE
_KEPT_RESOURCES = 16

_Given: TypeAlias = Mapping[str, Any] | None


class Views:
    """Makes views of spans; those of one resource share its attributes."""

    def __init__(self) -> None:
        self._resources: dict[int, tuple[Resource, Attributes]] = {}

    def of(self, span: ReadableSpan, context: SpanContext) -> SpanView:
        """Return the view of a span with its context."""
        parent, scope = span.parent, span.instrumentation_scope
        return SpanView(
            context.trace_id.to_bytes(16, "big"),
            context.span_id.to_bytes(8, "big"),
            parent.span_id.to_bytes(8, "big") if parent else b"",
            span.name,
            _KINDS[span.kind],
            span.start_time or 0,
            span.end_time or 0,
            span.status.status_code.value,
            plain(span.attributes),
            self.resource(span.resource),
            scope.name if scope else "",
            _REMOTE if parent is not None and parent.is_remote else _LOCAL,
            context.trace_state.to_header() if context.trace_state else "",
            [(event.name, plain(event.attributes)) for event in span.events],
        )

    def resource(self, resource: Resource) -> Attributes:
        """Return a resource's attributes, the same mapping each time, as long as it is kept."""
        kept = self._resources.get(id(resource))
        if kept is None:
            if len(self._resources) >= _KEPT_RESOURCES:
                self._resources.clear()
            kept = self._resources[id(resource)] = resource, plain(resource.attributes)
        return kept[1]


def plain(attributes: _Given) -> dict[str, Any]:
    """Return the attributes of a span, an event or a resource of the SDK."""
    # The SDK's own mapping is copied by itself many times as fast as it is walked through.
    copy = getattr(attributes, "copy", None)
    return copy() if copy is not None else dict(attributes or {})
