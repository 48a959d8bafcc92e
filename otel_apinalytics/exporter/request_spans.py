# SPDX-License-Identifier: Apache-2.0
"""Which SERVER span a span belongs to.

A span knows its parent by ids only. Each that starts is therefore given the SERVER span around it:
threads, tasks and whatever else carries the current span lead to it, and what was remembered goes
with the span, also in a request that lasts for days.
"""

from __future__ import annotations

from collections.abc import Iterator

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import Span

_AROUND = "_apinalytics_server_span_around"


def remember(span: Span, parent_context: Context | None) -> None:
    """Remember the SERVER span that a span which starts is in."""
    parent = span.parent
    if parent is None or parent.is_remote:
        return
    current = trace.get_current_span(parent_context)
    if not isinstance(current, Span):
        return
    # A program that calls itself begins another request.
    if current.kind is trace.SpanKind.CLIENT and is_server(span):
        return
    around = current if is_server(current) else getattr(current, _AROUND, None)
    if around is not None:
        setattr(span, _AROUND, around)


def server_spans_of(span: trace.Span) -> Iterator[Span]:
    """Give the SERVER spans that a span is or is in, the inner one first.

    There are several where a framework within a framework makes one of its own. Empty if the span
    began before anything was remembered.
    """
    found = span if isinstance(span, Span) and is_server(span) else getattr(span, _AROUND, None)
    while found is not None:
        yield found
        found = getattr(found, _AROUND, None)


def is_server(span: Span) -> bool:
    """Return whether a span is of kind SERVER."""
    return span.kind is trace.SpanKind.SERVER
