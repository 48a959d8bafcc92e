# SPDX-License-Identifier: Apache-2.0
"""Spans of the SDK for tests of the exporter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

CALL: Mapping[str, Any] = {
    "http.request.method": "GET",
    "url.path": "/users/7",
    "http.route": "/users/{id}",
    "http.response.status_code": 200,
}


def served(
    attributes: Sequence[Mapping[str, Any]] = ({},),
    *,
    kind: SpanKind = SpanKind.SERVER,
    resource: Mapping[str, Any] | None = None,
    scope: str = "test",
) -> list[ReadableSpan]:
    """Return a span of a call for each of these attributes, which it has beside the usual ones."""
    memory = InMemorySpanExporter()
    provider = TracerProvider(
        resource=Resource(dict(resource or {"service.name": "shop"})), shutdown_on_exit=False
    )
    provider.add_span_processor(SimpleSpanProcessor(memory))
    tracer = provider.get_tracer(scope)
    for of_span in attributes:
        with tracer.start_as_current_span("GET /users/{id}", kind=kind) as span:
            span.set_attributes({**CALL, **of_span})
    finished = list(memory.get_finished_spans())
    memory.clear()
    return finished


def calls(number: int) -> list[ReadableSpan]:
    """Return so many spans, told apart by their paths."""
    return served([{"url.path": f"/users/{n}"} for n in range(number)])
