# SPDX-License-Identifier: Apache-2.0
"""Rendering: from a batch of spans to events in JSON, or why there is none.

Calls of one kind differ in little: path, caller, sizes, times. What the rules make of all else is
kept in a mould, and of each part of the rest what they made of it last, so that most spans cost a
fraction of what the rules cost. Where a span is not typical, the rules make all of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanContext, SpanKind

from otel_apinalytics.exporter.counters import Fate
from otel_apinalytics.exporter.events import head, members, place, without_defaults
from otel_apinalytics.exporter.noise import Noise
from otel_apinalytics.exporter.relatives import Relatives, is_inner, key_of
from otel_apinalytics.exporter.spans import Views, plain
from otel_apinalytics.normalize import outcomes, rules, urls
from otel_apinalytics.normalize.batch_rules import Child
from otel_apinalytics.normalize.call import Call, Fields, latest_us, response_us
from otel_apinalytics.normalize.python import nested_in, said_in
from otel_apinalytics.normalize.reading import (
    OWN_PARTS,
    Attributes,
    Found,
    Part,
    Reader,
    text_of,
)
from otel_apinalytics.normalize.span_view import SpanView

_MAX_MOULDS = 1024
# Of each part.
_MAX_PIECES = 2048
_HEAD = ("timestamp", "trace_id", "span_id", "parent_span_id", "response_us")

# An event, or why a span is none.
Rendered: TypeAlias = str | Fate


@dataclass(frozen=True, slots=True, eq=False)
class _Mould:
    """What calls of one kind have in common.

    Args:
        resource: Attributes of the resource that they have.
        is_typical: Whether they have enough in common.
        call: Becomes each of them in turn.
        found: What was found in the attributes that they have in common.
        text: Their common fields, as JSON.
    """

    resource: Attributes
    is_typical: bool
    call: Call
    found: Found
    text: str


class Rendering:
    """Turns spans into events. Not for several threads at once.

    Args:
        reader: Reads their attributes.
        noise: What to leave out.
        client_spans: Whether CLIENT spans are to be sent.
    """

    def __init__(self, reader: Reader, noise: Noise, *, client_spans: bool) -> None:
        self._reader = reader
        self._noise = noise
        self._kinds = (SpanKind.SERVER, SpanKind.CLIENT)[: 1 + client_spans]
        self._views = Views()
        self._relatives = Relatives()
        self._moulds: dict[tuple[Any, ...], _Mould] = {}
        # What was made of a part of a call, by the mould and the part's attributes.
        self._pieces: dict[Part, dict[tuple[Any, ...], str | None]] = {p: {} for p in OWN_PARTS}

    @property
    def waiting(self) -> int:
        """How many spans wait for those of a later batch."""
        return self._relatives.waiting

    def forget(self) -> None:
        """Forget the batches that were."""
        self._relatives = Relatives()

    def events(
        self, spans: Sequence[ReadableSpan], received_ns: int, *, is_last: bool = False
    ) -> Iterator[Rendered]:
        """Give what becomes of each span of a batch; first of those that are no calls.

        What becomes of a SERVER span within one that has not come yet is given with a later batch.

        Args:
            spans: The spans.
            received_ns: The time, Unix nanoseconds.
            is_last: Whether there may be no further batch.
        """
        calls: list[tuple[ReadableSpan, SpanContext]] = []
        inner: list[SpanView] = []
        for span in self._relatives.joined(spans, received_ns, is_last=is_last):
            context = span.get_span_context()
            if context is not None and span.kind in self._kinds:
                calls.append((span, context))
                continue
            if context is not None and self._tells(span):
                inner.append(self._views.of(span, context))
            yield Fate.FILTERED
        nested: set[int] = set()
        if any(is_inner(span) for span, _ in calls):
            views = [self._views.of(span, context) for span, context in calls]
            nested = nested_in(views, self._reader)
            inner += views
        said = said_in(inner, self._reader) if inner else []
        children = self._relatives.said_of((context for _, context in calls), said)
        for number, (span, context) in enumerate(calls):
            if number in nested:
                yield Fate.FILTERED
                continue
            child = children.get(key_of(context)) if children else None
            rendered = None if child else self._typical(span, context, received_ns)
            yield rendered or self._event(self._views.of(span, context), received_ns, child)

    def _tells(self, span: ReadableSpan) -> bool:
        """Return whether a span that is no call may tell its parent something."""
        return span.kind is SpanKind.INTERNAL and self._reader.tells(plain(span.attributes))

    # ---- by the rules ----

    def _event(self, span: SpanView, received_ns: int, child: Child | None) -> Rendered:
        call = Call(span, self._reader)
        made = call.normalized(received_ns, child, is_nested=False)
        if made.outcome != outcomes.STORED:
            return Fate.FILTERED
        values: dict[str, Any] = made.fields
        if call.kind == rules.KIND_SERVER and (
            self._noise.has_path(values["url"]) or self._noise.has_user_agent(values["user_agent"])
        ):
            return Fate.EXCLUDED
        rest: Fields = {name: value for name, value in made.fields.items() if name not in _HEAD}
        ids = (span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex())
        begin = head(values["timestamp"], *ids, values["response_us"])
        return f"{begin}{_place(span)}{members(without_defaults(rest))}}}"

    # ---- by a mould ----

    def _typical(
        self, span: ReadableSpan, context: SpanContext, received_ns: int
    ) -> Rendered | None:
        """Return a typical span's event; None if it is not typical."""
        if span.events or not context.is_valid:
            return None
        start_ns, end_ns = span.start_time or 0, span.end_time or 0
        timestamp_us = (start_ns or end_ns or received_ns) // 1000
        parts = self._reader.parted(plain(span.attributes))
        mould = self._mould(span, context, parts[Part.COMMON])
        if mould is None or not mould.is_typical or timestamp_us > latest_us(received_ns):
            return None
        text = mould.text
        for part in OWN_PARTS:
            piece = self._piece(mould, part, parts[part])
            if piece is None:
                return Fate.EXCLUDED
            text += piece
        parent = format(span.parent.span_id, "016x") if span.parent else ""
        ids = (format(context.trace_id, "032x"), format(context.span_id, "016x"), parent)
        return f"{head(timestamp_us, *ids, response_us(start_ns, end_ns))}{text}}}"

    def _piece(self, mould: _Mould, part: Part, given: list[str]) -> str | None:
        """Return a part of an event, or None if it says that the call is noise."""
        pieces = self._pieces[part]
        key = (mould, *given)
        if key in pieces:
            return pieces[key]
        attributes = dict(zip(given[::2], given[1::2], strict=True))
        piece = self._new_piece(mould, part, attributes)
        # A secret is not kept, not even here.
        if not self._reader.have_secret(attributes):
            if len(pieces) >= _MAX_PIECES:
                pieces.clear()
            pieces[key] = piece
        return piece

    def _new_piece(self, mould: _Mould, part: Part, given: Attributes) -> str | None:
        call = mould.call
        call.become(self._reader.read_more(mould.found, given))
        fields = call.own_fields(part)
        if call.kind == rules.KIND_SERVER and self._is_noise(part, fields):
            return None
        return members(fields)

    def _is_noise(self, part: Part, fields: dict[str, Any]) -> bool:
        if part is Part.PATH:
            return self._noise.has_path(fields["url"])
        return part is Part.AGENT and self._noise.has_user_agent(fields["user_agent"])

    def _mould(self, span: ReadableSpan, context: SpanContext, common: list[str]) -> _Mould | None:
        """Return the mould for a span; None if a secret would be kept with it."""
        resource, scope = self._views.resource(span.resource), span.instrumentation_scope
        key = (
            id(resource),
            scope.name if scope else "",
            span.name,
            span.kind,
            span.status.status_code,
            context.trace_state.to_header() if context.trace_state else "",
            *common,
        )
        mould = self._moulds.get(key)
        # An id may be another one's later.
        if mould is None or mould.resource is not resource:
            if any(urls.redacted.python(text) != text for text in (span.name, *common)):
                return None
            if len(self._moulds) >= _MAX_MOULDS:
                self._moulds.clear()
            mould = self._moulds[key] = self._new_mould(self._views.of(span, context), common)
        return mould

    def _new_mould(self, span: SpanView, common: list[str]) -> _Mould:
        attributes = dict(zip(common[::2], common[1::2], strict=True))
        found = self._reader.read(attributes, span.resource)
        call = Call(replace(span, attributes=attributes, events=()), self._reader)
        is_typical = call.has_common_route() and not call.no_call()
        text = _place(span) + members(without_defaults(call.common_fields()))
        return _Mould(span.resource, is_typical, call, found, text)


def _place(span: SpanView) -> str:
    return place(text_of(span.resource.get("service.name", "")), span.name)
