# SPDX-License-Identifier: Apache-2.0
"""The Python rendering of the rules: from spans to events, the same that the engine makes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache

from otel_apinalytics.normalize import outcomes, rules
from otel_apinalytics.normalize.batch_rules import Child, Key, are_nested, children_of
from otel_apinalytics.normalize.call import Call, Fields, Normalized
from otel_apinalytics.normalize.mapping import NO_MAPPING, Mapping
from otel_apinalytics.normalize.reading import Attributes, Reader
from otel_apinalytics.normalize.span_view import SpanView, has_ids, key_of

__all__ = [
    "Normalized",
    "SpanView",
    "children_in",
    "nested_in",
    "normalize",
    "normalize_spans",
    "said_in",
]

_NO_RESOURCE: Attributes = {}


def normalize_spans(
    spans: Sequence[SpanView],
    received_ns: int,
    *,
    hash_key: bytes | None = None,
    mapping: Mapping = NO_MAPPING,
    application: str | None = None,
) -> list[Normalized]:
    """Return what the rules make of each span of a batch. Never raises.

    Args:
        spans: The spans.
        received_ns: When they arrived, Unix nanoseconds.
        hash_key: The application's hash key; without it, what would be hashed is left out.
        mapping: The operator's mapping.
        application: The application, for entries of the mapping that hold for one.
    """
    return list(normalize(spans, received_ns, Reader(mapping, hash_key, application)))


def normalize(spans: Sequence[SpanView], received_ns: int, reader: Reader) -> Iterator[Normalized]:
    """Give what the rules make of each span of a batch, one after the other. Never raises.

    Args:
        spans: The spans.
        received_ns: When they arrived, Unix nanoseconds.
        reader: Reads their attributes.
    """
    children, nested = children_in(spans, reader), nested_in(spans, reader)
    for number, span in enumerate(spans):
        if span.kind in rules.OTHER_KINDS and has_ids(span):
            yield _of_other_kind(span)
        else:
            child = children.get(key_of(span)) if children else None
            yield Call(span, reader).normalized(received_ns, child, number in nested)


def children_in(spans: Sequence[SpanView], reader: Reader) -> dict[Key, Child]:
    """Return for each parent what its children say."""
    return children_of(said_in(spans, reader))


def said_in(spans: Sequence[SpanView], reader: Reader) -> list[Child]:
    """Return what each of the spans may tell of its parent."""
    return [
        # Its own attributes only: its resource is the parent's as well.
        Call(replace(span, resource=_NO_RESOURCE), reader).as_child()
        for span in spans
        if span.parent_span_id
        and (
            _is_local_server(span)
            or (span.kind == rules.KIND_INTERNAL and reader.tells(span.attributes))
        )
        and has_ids(span)
    ]


def nested_in(spans: Sequence[SpanView], reader: Reader) -> set[int]:
    """Return the numbers of the spans that are a part of another one's call."""
    outer = {(s.trace_id, s.parent_span_id) for s in spans if _is_local_server(s)}
    if not outer:
        return set()
    numbers = [n for n, s in enumerate(spans) if _is_local_server(s) or key_of(s) in outer]
    are = are_nested([Call(spans[number], reader).as_server() for number in numbers])
    return {number for number, is_nested in zip(numbers, are, strict=True) if is_nested}


def _is_local_server(span: SpanView) -> bool:
    known = span.flags & (rules.FLAGS_PARENT_KNOWN | rules.FLAGS_PARENT_REMOTE)
    is_local = span.kind == rules.KIND_SERVER and known == rules.FLAGS_PARENT_KNOWN
    return is_local and bool(span.parent_span_id)


def _of_other_kind(span: SpanView) -> Normalized:
    # Most spans are of such a kind: their attributes are not read.
    ids: Fields = {
        "trace_id": span.trace_id,
        "span_id": span.span_id,
        "parent_span_id": span.parent_span_id,
    }
    return Normalized(outcomes.FILTERED, outcomes.KIND_NOT_SERVER_OR_CLIENT, _no_fields() | ids)


@lru_cache(maxsize=1)
def _no_fields() -> Fields:
    nothing = SpanView(b"", b"", b"", "", rules.KIND_UNSPECIFIED, 0, 0, 0, {}, {})
    return Call(nothing, Reader(NO_MAPPING, None, None)).normalized(0, None, False).fields
