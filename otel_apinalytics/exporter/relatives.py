# SPDX-License-Identifier: Apache-2.0
"""Relatives in different batches: spans that wait for the one around them, and what is said of it.

The rules look at what arrived together (`batch_rules`), and here a span comes when it has ended:
often in an earlier batch than the span around it. So what spans say of their parent is kept until
the parent comes, and so is a SERVER span within its process, which is none of its own if the parent
is one. Both are bounded: where a parent never comes, a span counts by itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanContext, SpanKind

from otel_apinalytics.normalize.batch_rules import Child, Key, children_of

MAX_WAITING = 1024
MAX_WAIT_NS = 30 * 1_000_000_000
MAX_TOLD = 2048
MAX_CHILDREN = 32


class Relatives:
    """Keeps what later batches need of earlier ones. Not for several threads at once."""

    def __init__(self) -> None:
        # With the time that each came, the first one first.
        self._waiting: list[tuple[int, ReadableSpan]] = []
        # Of each parent, what its children say.
        self._told: dict[Key, list[Child]] = {}

    @property
    def waiting(self) -> int:
        """How many spans wait for the ones around them."""
        return len(self._waiting)

    def joined(
        self, spans: Sequence[ReadableSpan], received_ns: int, *, is_last: bool
    ) -> Sequence[ReadableSpan]:
        """Return the spans that need not wait: those whose wait is over, and those of the batch.

        Args:
            spans: The batch.
            received_ns: The time, Unix nanoseconds.
            is_last: Whether there may be no further batch.
        """
        inner = [(received_ns, span) for span in spans if is_inner(span)]
        if not (inner or self._waiting):
            return spans
        known = {key_of(span.context) for span in spans if not is_inner(span)}
        waiting = [*self._waiting, *inner]
        self._waiting = [] if is_last else _without_family(waiting, known)
        oldest_ns, surplus = received_ns - MAX_WAIT_NS, len(self._waiting) - MAX_WAITING
        self._waiting = [one for one in self._waiting[max(0, surplus) :] if one[0] > oldest_ns]
        kept = {id(span) for _, span in self._waiting}
        earlier = [span for _, span in waiting[: len(waiting) - len(inner)]]
        return [span for span in (*earlier, *spans) if id(span) not in kept]

    def said_of(self, parents: Iterable[SpanContext], said: Sequence[Child]) -> dict[Key, Child]:
        """Return what their children say of spans, in their batch and before; keep the rest.

        Args:
            parents: The spans.
            said: What spans of the batch say, each of its parent.
        """
        told = self._told
        for child in said:
            told.setdefault(child.parent, []).append(child)
        if not told:
            return {}
        found = [child for key in map(key_of, parents) for child in told.pop(key, ())]
        for parent in list(told)[: max(0, len(told) - MAX_TOLD)]:
            del told[parent]
        for child in said:
            del told.get(child.parent, [])[MAX_CHILDREN:]
        return children_of(found)


def is_inner(span: ReadableSpan) -> bool:
    """Return whether a span serves within its process."""
    return span.kind is SpanKind.SERVER and span.parent is not None and not span.parent.is_remote


def _without_family(
    waiting: Sequence[tuple[int, ReadableSpan]], known: Iterable[Key]
) -> list[tuple[int, ReadableSpan]]:
    """Return those that are within none of the known spans, nor within one that is."""
    known = set(known)
    while True:
        left = [one for one in waiting if key_of(one[1].parent) not in known]
        if len(left) == len(waiting):
            return left
        known |= {key_of(span.context) for _, span in waiting}
        known -= {key_of(span.context) for _, span in left}
        waiting = left


def key_of(context: SpanContext | None) -> Key:
    """Return what names a span."""
    if context is None:
        return b"", b""
    return context.trace_id.to_bytes(16, "big"), context.span_id.to_bytes(8, "big")
