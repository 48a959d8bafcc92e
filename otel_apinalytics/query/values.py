# SPDX-License-Identifier: Apache-2.0
"""The values of a field, with how many requests each stands for: what a menu offers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from otel_apinalytics.catalogue import INBOUND, WEIGHT_SCALE
from otel_apinalytics.query import kept, slots
from otel_apinalytics.query.aggregations import quotient
from otel_apinalytics.query.expressions import (
    Operand,
    expression_parameters,
    follow_hours,
    is_map,
    text_expression,
)
from otel_apinalytics.query.filters import Filter, visible_values
from otel_apinalytics.query.kept import Measure
from otel_apinalytics.query.statement import Statement, engine_faults
from otel_apinalytics.query.times import seconds_of
from otel_apinalytics.query.values_parameters import ValuesQuestion
from otel_apinalytics.query.zones import LocalTime
from otel_apinalytics.store.engine import Engine

_ADVICE = "ask for a shorter range or a filter"


@dataclass(frozen=True, slots=True)
class Values:
    """What was found.

    Args:
        question: The question.
        counts: Value and number of requests; the largest number first, equal ones in the order of
            values. A missing value is empty.
        more: Whether there are more values than asked for.
        is_sampled: Whether an event that was counted stands for several requests.
    """

    question: ValuesQuestion
    counts: Sequence[tuple[str, int | float | None]]
    more: bool
    is_sampled: bool

    def as_json(self) -> dict[str, Any]:
        """Return the answer."""
        answer: dict[str, Any] = {
            "field": self.question.operand.name,
            "values": [{"value": value, "count": count} for value, count in self.counts],
            "more": self.more,
            "start": seconds_of(self.question.start_us),
            "end": seconds_of(self.question.end_us),
        }
        return answer | ({"sampled": True} if self.is_sampled else {})


def run_values(
    engine: Engine,
    application: str,
    question: ValuesQuestion,
    timeout_s: float,
    mandatory: Sequence[Filter] = (),
) -> Values:
    """Ask the store.

    Args:
        engine: The store.
        application: Whose events.
        question: What to ask.
        timeout_s: Longest time that the engine may take.
        mandatory: What events must match beyond what is asked.

    Raises:
        InvalidRequestError: It takes too long or too much memory.
        RetryableError: The store is not available.
    """
    statement = compile_values(application, question, timeout_s, mandatory)
    with engine_faults(timeout_s, _ADVICE):
        rows = engine.query(statement.sql, statement.parameters).rows
    found = rows[: question.limit]
    counts = [(str(value), quotient(requests, WEIGHT_SCALE)) for value, requests, _ in found]
    return Values(
        question, counts, len(rows) > question.limit, any(is_sampled for *_, is_sampled in found)
    )


def compile_values(
    application: str,
    question: ValuesQuestion,
    timeout_s: float,
    mandatory: Sequence[Filter] = (),
) -> Statement:
    """Return the statement for one value more than asked for.

    Its rows are value, requests in thousandths, and whether an event stands for several. They are
    those of a timeseries that is grouped by the field.
    """
    local = LocalTime(question.zone, question.start_us, question.end_us)
    wanted = question.filters.and_also(mandatory)
    operands = [("value", question.operand), *wanted.operands()]
    conditions = wanted.conditions(local)
    names = [operand.name for _, operand in operands]
    if "direction" not in names:
        conditions.append(f"direction = '{INBOUND}'")
    divided = () if follow_hours((each for _, each in operands), local) else None
    # As of a timeseries, so that they are taken from what the engine keeps of days and hours.
    few_consumers = kept.names_few_consumers(wanted)
    selects = [
        f"SELECT {_value(question.operand, local)} AS value, sum(weight) AS some, "
        f"max(weight) AS greatest FROM events WHERE {' AND '.join((slot.condition, *conditions))} "
        "GROUP BY value"
        + kept.settings(slot.moment, names, Measure.REQUESTS, few_consumers=few_consumers)
        for slot in slots.divide(question.start_us, question.end_us, divided, by_day=True)
    ]
    having = "HAVING startsWith(value, %(prefix)s) " if question.prefix else ""
    return Statement(
        f"SELECT value, sum(some) AS requests, max(greatest) > {WEIGHT_SCALE} "
        f"FROM ({' UNION ALL '.join(selects)}) GROUP BY value {having}"
        f"ORDER BY requests DESC, value LIMIT {question.limit + 1} "
        f"SETTINGS max_execution_time = {timeout_s}, {slots.PLANNING}",
        {
            "application": application,
            "start_us": question.start_us,
            "end_us": question.end_us,
            "prefix": question.prefix,
            **wanted.parameters(),
            **expression_parameters(
                question.start_us, question.end_us, operands, visible_values(mandatory)
            ),
        },
    )


def _value(operand: Operand, local: LocalTime) -> str:
    if operand.entry is None and is_map(operand.field):
        return f"arrayJoin(mapKeys({operand.field.name}))"
    return text_expression(operand, "value", local)
