# SPDX-License-Identifier: Apache-2.0
"""The timeseries question: asks the store, and makes series of what it gives."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from otel_apinalytics.errors import InvalidRequestError
from otel_apinalytics.query.aggregations import PERCENTILE, UNIQUE, Finish, Number
from otel_apinalytics.query.filters import Filter
from otel_apinalytics.query.statement import Statement, engine_faults
from otel_apinalytics.query.timeseries_parameters import Timeseries
from otel_apinalytics.query.timeseries_sql import MAX_ROWS, Compiler
from otel_apinalytics.store.engine import Engine

# Values of which an exact percentile is taken; the engine keeps each different one in memory.
MAX_EXACT_VALUES = 10_000_000
_ADVICE = "ask for a shorter range, a filter, or the largest groups only (limit)"

Points: TypeAlias = list[tuple[int, Number | None]]
_Rows: TypeAlias = Sequence[Sequence[Any]]
# Values of the groups; None stands for all groups that are folded.
GroupKey: TypeAlias = tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class Answer:
    """What a timeseries question found.

    Args:
        question: The question.
        application: Whose events.
        series: Group → points, each a pair of bucket start in Unix seconds and value, in order of
            time. With a limit, the largest group first and what is folded last.
        folded: How many groups are folded.
        is_sampled: Whether an event that was counted stands for several requests.
        is_empty: Whether nothing was counted, or nothing has a value.
    """

    question: Timeseries
    application: str
    series: Mapping[GroupKey, Points]
    folded: int
    is_sampled: bool
    is_empty: bool

    @property
    def number_of_points(self) -> int:
        """How many points there are."""
        return sum(map(len, self.series.values()))


def run_timeseries(
    engine: Engine,
    application: str,
    question: Timeseries,
    timeout_s: float,
    mandatory: Sequence[Filter] = (),
) -> Answer:
    """Ask the store.

    Args:
        engine: The store.
        application: Whose events.
        question: What to ask.
        timeout_s: Longest time that the engine may take.
        mandatory: What events must match beyond what is asked.

    Raises:
        InvalidRequestError: The answer is too large, or takes too long or too much memory.
        RetryableError: The store is not available.
    """
    compiler = Compiler(question, application, timeout_s, mandatory)

    def ask(statement: Statement) -> _Rows:
        with engine_faults(timeout_s, _ADVICE):
            return engine.query(statement.sql, statement.parameters).rows

    if question.exact and question.aggregation.name == PERCENTILE:
        _refuse_too_many_values(ask(compiler.values())[0][0])
    rows, largest, folded = _ask_for_points(question, compiler, ask)
    _refuse_too_many_points(len(rows))
    is_sampled = any(row[-1] for row in rows)
    if folded and compiler.takes_others_from_all:
        rows = _others_from_all(rows, len(question.groups))
    series: dict[GroupKey, Points] = {} if question.groups else {(): []}
    series |= {key: [] for key in largest}
    _add_points(series, rows, question, compiler)
    # A rate of errors, or a least time, may well be zero.
    is_zero_none = question.aggregation.name in ("count", "rate", UNIQUE)
    found = (value for points in series.values() for _, value in points)
    is_empty = not any(value or not is_zero_none for value in found)
    if question.fill != "none":
        series = _filled(series, question)
    return Answer(question, application, series, folded, is_sampled, is_empty)


def _ask_for_points(
    question: Timeseries, compiler: Compiler, ask: Callable[[Statement], _Rows]
) -> tuple[_Rows, list[tuple[str, ...]], int]:
    """Return rows of `Compiler.points`, the largest groups first, and how many are folded."""
    if not question.limit or not question.groups:
        return ask(compiler.points()), [], 0
    if compiler.has_few_groups:
        rows = ask(compiler.points())
        largest = _largest_first(rows, len(question.groups), compiler.recipe.finish)
        if len(largest) <= question.limit:
            return rows, largest, 0
    ranked = ask(compiler.ranking(question.limit))
    folded = ranked[0][-1] - len(ranked) if ranked else 0
    rows = ask(compiler.points(ranked if folded else None))
    return rows, [tuple(row[:-2]) for row in ranked], folded


def _largest_first(rows: _Rows, width: int, finish: Finish) -> list[tuple[str, ...]]:
    """Return the groups of points in the order of `Compiler.ranking`; their parts are sums."""
    points: dict[tuple[str, ...], list[Sequence[Any]]] = {}
    for row in rows:
        points.setdefault(tuple(row[:width]), []).append(row[width + 2 : -1])
    values = {
        key: finish([sum(part or 0 for part in parts) for parts in zip(*each, strict=True)], 1.0)
        for key, each in points.items()
    }
    ranks = {key: value for key, value in values.items() if value is not None}
    return sorted(ranks, key=lambda key: (-ranks[key], key))


def _others_from_all(rows: _Rows, width: int) -> list[Sequence[Any]]:
    """Return the rows with those of all events replaced by what named groups leave of them.

    Args:
        rows: Rows of `Compiler.points`.
        width: How many groups the question has.
    """
    named = [row for row in rows if not row[width]]
    left = {row[width + 1]: list(row) for row in rows if row[width]}
    parts = slice(width + 2, -1)
    for row in named:
        rest = left[row[width + 1]]
        rest[parts] = [
            whole if part is None else whole - part
            for whole, part in zip(rest[parts], row[parts], strict=True)
        ]
    # The last part is how many requests there are.
    return [*named, *(row for row in left.values() if row[-2])]


def _add_points(
    series: dict[GroupKey, Points],
    rows: _Rows,
    question: Timeseries,
    compiler: Compiler,
) -> None:
    buckets, finish, width = question.buckets, compiler.recipe.finish, len(question.groups)
    bounds: dict[int, tuple[int, float]] = {}
    for row in rows:
        number = row[width + 1]
        if number not in bounds:
            bounds[number] = buckets.start_of(number), buckets.seconds_inside(number)
        start, seconds = bounds[number]
        value = finish(row[width + 2 : -1], seconds)
        if value is not None:
            _refuse_infinite(value)
            key = None if row[width] else tuple(row[:width])
            series.setdefault(key, []).append((start, value))


def _filled(series: Mapping[GroupKey, Points], question: Timeseries) -> dict[GroupKey, Points]:
    buckets = question.buckets
    starts = [buckets.start_of(number) for number in buckets]
    _refuse_too_many_points(len(starts) * len(series))
    missing = 0 if question.fill == "zero" else None
    filled: dict[GroupKey, Points] = {}
    for key, points in series.items():
        known = dict(points)
        filled[key] = [(start, known.get(start, missing)) for start in starts]
    return filled


def _refuse_too_many_points(number: int) -> None:
    if number > MAX_ROWS:
        raise InvalidRequestError(
            f"the answer has more than {MAX_ROWS} points: ask for the largest groups only "
            "(limit), a coarser granularity, a shorter range or a filter",
            parameter="limit",
            value="",
            allowed=f"at most {MAX_ROWS} points",
        )


def _refuse_too_many_values(number: int) -> None:
    if number > MAX_EXACT_VALUES:
        raise InvalidRequestError(
            f"an exact percentile of {number} values: ask for a shorter range or a filter, or "
            "leave out exact: the percentile is then within 1 %",
            parameter="exact",
            value="true",
            allowed=f"at most {MAX_EXACT_VALUES} values",
        )


def _refuse_infinite(value: Number) -> None:
    """Numbers of the sender's own may be so large that their sum is none."""
    if not math.isfinite(value):
        raise InvalidRequestError(
            "the aggregate is larger than any number: ask for a shorter range or a filter"
        )
