# SPDX-License-Identifier: Apache-2.0
"""The timeseries question: its SQL, and the answer in the shape of 2014."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from otel_apinalytics.catalogue import INBOUND
from otel_apinalytics.errors import InvalidRequestError
from otel_apinalytics.query.expressions import (
    Operand,
    expression_parameters,
    number_expression,
    text_expression,
)
from otel_apinalytics.query.parameters import GRANULARITIES, Aggregation, Timeseries
from otel_apinalytics.query.statement import Statement, engine_faults, range_condition
from otel_apinalytics.store.engine import Engine

# Points over all groups in one answer; it is built in memory.
MAX_ROWS = 500_000
# Error of percentiles: DDSketch guarantees it for each value (Masson et al., VLDB 2019).
PERCENTILE_ERROR = 0.01

# The epoch began on a Thursday, weeks begin on a Monday.
_WEEK_S = GRANULARITIES["week"]
_MONDAY_OFFSET_S = 3 * GRANULARITIES["day"]
_HOUR_S = GRANULARITIES["hour"]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a timeseries question found.

    Args:
        groups: Group value → points, each a pair of bucket start in Unix seconds and value, in
            order of time. Sparse: a bucket without data has no point.
        start: Start of the range in Unix seconds, as asked.
        end: End of the range in Unix seconds, as asked.
        granularity_ms: Width of a bucket in milliseconds.
    """

    groups: Mapping[str, list[tuple[int, float]]]
    start: float
    end: float
    granularity_ms: int

    def as_json(self) -> dict[str, Any]:
        """Return the answer in the shape of 2014."""
        return {
            "groups": self.groups,
            "start": self.start,
            "end": self.end,
            "granularity": self.granularity_ms,
        }


def run_timeseries(
    engine: Engine, application: str, question: Timeseries, timeout_s: float
) -> Answer:
    """Ask the store.

    Args:
        engine: The store.
        application: Whose events.
        question: What to ask.
        timeout_s: Longest time that the engine may take.

    Raises:
        InvalidRequestError: The answer is too large, or takes too long or too much memory.
        RetryableError: The store is not available.
    """
    statement = compile_timeseries(question, application, timeout_s)
    with engine_faults(timeout_s, "ask for a shorter range, fewer groups or a filter"):
        rows = engine.query(statement.sql, statement.parameters).rows
    if len(rows) > MAX_ROWS:
        raise InvalidRequestError(
            f"the answer has more than {MAX_ROWS} points: "
            "ask for a coarser granularity, a shorter range or a filter"
        )
    groups: dict[str, list[tuple[int, float]]] = {} if question.group else {application: []}
    for key, bucket, value in rows:
        _refuse_infinite(value)
        groups.setdefault(str(key) if question.group else application, []).append((bucket, value))
    range_us = question.end_us - question.start_us
    return Answer(
        groups=groups,
        start=seconds_of(question.start_us),
        end=seconds_of(question.end_us),
        granularity_ms=(
            question.granularity_s * 1000 if question.granularity_s else range_us // 1000
        ),
    )


def compile_timeseries(question: Timeseries, application: str, timeout_s: float) -> Statement:
    """Return the statement that answers a question; its rows are group, bucket, value."""
    operands = {"value": question.value}
    conditions = [range_condition()]
    values: dict[str, Any] = {}
    for number, condition in enumerate(question.filters):
        role = f"filter_{number}"
        operands[role] = condition.operand
        conditions.append(f"{text_expression(condition.operand, role)} IN %({role})s")
        values[role] = condition.values
    group = "''"
    if question.group:
        operands["group"] = question.group
        group = text_expression(question.group, "group")
    if not _names_direction(operands.values()):
        # Calls of our API; those that it makes are asked for by group or include.
        conditions.append(f"direction = '{INBOUND}'")
    bucket = _bucket(question.granularity_s, question.start_us)
    # A total has a row even where there is nothing to count.
    group_by = "GROUP BY key, bucket" if question.group or question.granularity_s else ""
    return Statement(
        f"SELECT {group} AS key, {bucket} AS bucket, "
        f"{_aggregate(question.aggregation, question.value)} AS result "
        f"FROM events WHERE {' AND '.join(conditions)} {group_by} "
        f"HAVING isNotNull(result) ORDER BY key, bucket LIMIT {MAX_ROWS + 1} "
        f"SETTINGS max_execution_time = {timeout_s}",
        {
            "application": application,
            "start_us": question.start_us,
            "end_us": question.end_us,
            **values,
            **expression_parameters(question.start_us, question.end_us, operands.items()),
        },
    )


def _names_direction(operands: Iterable[Operand]) -> bool:
    return any(operand.name == "direction" for operand in operands)


def _bucket(granularity_s: int | None, start_us: int) -> str:
    if granularity_s is None:
        return f"toInt64({start_us // 1_000_000})"
    # The stored hour is several times faster to group by than the time itself.
    return bucket_start("hour" if granularity_s % _HOUR_S == 0 else "timestamp", granularity_s)


def bucket_start(time: str, granularity_s: int) -> str:
    """Return the start of the bucket that a time is in, Unix seconds; weeks begin on a Monday.

    Args:
        time: A column with a time.
        granularity_s: Width of a bucket in seconds.
    """
    offset_s = _MONDAY_OFFSET_S if granularity_s == _WEEK_S else 0
    seconds = f"(toInt64(toUnixTimestamp({time})) + {offset_s})"
    return f"intDiv({seconds}, {granularity_s}) * {granularity_s} - {offset_s}"


def _aggregate(aggregation: Aggregation, value: Operand) -> str:
    if aggregation.name == "count":
        return "toInt64(count())"
    number = number_expression(value, "value")
    if aggregation.name == "percentile":
        # What a stream lasts says nothing of how fast the API answers.
        number = f"if(is_stream, NULL, {number})" if value.name == "response_us" else number
        result = f"quantileDDOrNull({PERCENTILE_ERROR}, {aggregation.level})({number})"
    else:
        function = {"mean": "avg", "min": "min", "max": "max", "sum": "sum"}[aggregation.name]
        result = f"{function}OrNull({number})"
    scale = value.field.scale
    return f"{result} / {scale}" if scale > 1 else result


def _refuse_infinite(value: float) -> None:
    """Numbers of the sender's own may be so large that their sum is none."""
    if not math.isfinite(value):
        raise InvalidRequestError(
            "the aggregate is larger than any number: ask for a shorter range or a filter"
        )


def seconds_of(microseconds: int) -> float:
    """Return Unix microseconds as seconds; whole ones as an integer."""
    whole, rest = divmod(microseconds, 1_000_000)
    return microseconds / 1_000_000 if rest else whole
