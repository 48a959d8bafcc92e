# SPDX-License-Identifier: Apache-2.0
"""Asking both renderings of the rules, which must agree."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from otel_apinalytics.normalize.mapping import NO_MAPPING, Mapping
from otel_apinalytics.normalize.outcomes import FILTERED
from otel_apinalytics.normalize.python import Normalized, SpanView, normalize_spans
from tests.engine_fixtures import APPLICATION, HASH_KEY, NormalizeInEngine, Row

# An id has a fixed length in the store, whatever was sent.
_ID_LENGTHS = {"trace_id": 16, "span_id": 8, "parent_span_id": 8}


def made_by_python(
    spans: Sequence[SpanView], received_ns: int, mapping: Mapping = NO_MAPPING
) -> list[Row]:
    """Return what the Python rendering makes of spans, in the form of the engine's rows."""
    made = normalize_spans(
        spans, received_ns, hash_key=HASH_KEY, mapping=mapping, application=APPLICATION
    )
    return [_as_row(one) for one in made]


def comparable(row: Row) -> Row:
    """Return what counts of a row: of what is filtered, no more than the reason."""
    return {"reason": row["reason"]} if row["outcome"] == FILTERED else row


def agreed_rows(
    normalize_in_engine: NormalizeInEngine,
    spans: Sequence[SpanView],
    received_ns: int,
    mapping: Mapping = NO_MAPPING,
) -> list[Row]:
    """Return what both renderings make of spans.

    Raises:
        AssertionError: They do not agree.
    """
    expected = made_by_python(spans, received_ns, mapping)
    rows = normalize_in_engine(spans, received_ns, mapping)
    for row, other in zip(rows, expected, strict=True):
        assert comparable({name: row[name] for name in other}) == comparable(other)
    return expected


def _as_row(made: Normalized) -> Row:
    row: dict[str, Any] = dict(made.fields)
    for name, length in _ID_LENGTHS.items():
        row[name] = row[name][:length].ljust(length, b"\0")
    return {**row, "outcome": made.outcome, "reason": made.reason}
