# SPDX-License-Identifier: Apache-2.0
"""The statements that answer a timeseries question.

Each aggregate is a plain one of stored columns, and so are bucket and groups, so that the engine
can take it from whatever it keeps of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from otel_apinalytics.catalogue import INBOUND, WEIGHT_SCALE
from otel_apinalytics.query import percentiles
from otel_apinalytics.query.aggregations import PERCENTILE, UNIQUE, Recipe, recipe, weight_of
from otel_apinalytics.query.expressions import (
    Operand,
    expression_parameters,
    number_expression,
    text_expression,
)
from otel_apinalytics.query.filters import Filter
from otel_apinalytics.query.statement import Statement, range_condition
from otel_apinalytics.query.timeseries_parameters import Timeseries

# Points over all groups in one answer; it is built in memory.
MAX_ROWS = 500_000

_IS_SAMPLED = f"max(weight) > {WEIGHT_SCALE} AS is_sampled"


class Compiler:
    """Compiles the statements of one question.

    Args:
        question: The question.
        application: Whose events.
        timeout_s: Longest time that the engine may take for a statement.
        mandatory: What events must match beyond what is asked.
    """

    def __init__(
        self,
        question: Timeseries,
        application: str,
        timeout_s: float,
        mandatory: Sequence[Filter] = (),
    ) -> None:
        self._question = question
        self._local = question.buckets.local
        self._settings = f"SETTINGS max_execution_time = {timeout_s}"
        self._keys = {
            f"key_{number}": text_expression(operand, f"group_{number}", self._local)
            for number, operand in enumerate(question.groups)
        }
        filters = question.filters.and_also(mandatory)
        self._conditions = [range_condition(), *filters.conditions(self._local)]
        if not _names_direction(question):
            # Calls of our API; those that it makes are asked for by group or filter.
            self._conditions.append(f"direction = '{INBOUND}'")
        operands = [
            ("value", question.value),
            *((f"group_{number}", operand) for number, operand in enumerate(question.groups)),
            *filters.operands(),
        ]
        self._parameters = {
            "application": application,
            "start_us": question.start_us,
            "end_us": question.end_us,
            **filters.parameters(),
            **expression_parameters(question.start_us, question.end_us, operands),
        }
        self.recipe: Recipe = recipe(question.aggregation, question.value, self._local)

    def points(self, kept: Sequence[int] | None = None) -> Statement:
        """Return the statement of all points.

        Its rows are the groups' values, whether they are folded, the bucket's number, the parts of
        the aggregation, and whether an event stands for several requests; in order of groups and
        time.

        Args:
            kept: Hashes of the groups that are named, the others being folded; None for all.
        """
        dimensions = dict(self._keys)
        if kept is not None:
            is_folded = f"{_hash(self._keys.values())} NOT IN %(kept)s"
            dimensions = {name: f"if({is_folded}, '', {key})" for name, key in self._keys.items()}
            dimensions["is_folded"] = is_folded
        if (bucket := self._question.buckets.sql) is not None:
            dimensions["bucket"] = bucket
        columns = [
            *self._keys,
            "false" if kept is None else "is_folded",
            "0" if bucket is None else "bucket",
            *(f"part_{number}" for number, _ in enumerate(self.recipe.parts)),
            "is_sampled",
        ]
        order = f"ORDER BY {', '.join(dimensions)} " if dimensions else ""
        return Statement(
            f"SELECT {', '.join(columns)} FROM ({self._aggregates(dimensions)}) "
            f"{order}LIMIT {MAX_ROWS + 1} {self._settings}",
            {**self._parameters, "kept": tuple(kept or ())},
        )

    def ranking(self, limit: int) -> Statement:
        """Return the statement of the largest groups over the whole range.

        Its rows are the groups' values, their hash and the number of all groups; the largest first,
        equal ones in order of their values.
        """
        keys = ", ".join(self._keys)
        return Statement(
            f"SELECT {keys}, {_hash(self._keys)}, count() OVER () "
            f"FROM (SELECT {keys}, {self.recipe.rank} AS rank "
            f"FROM ({self._aggregates(self._keys)})) "
            f"WHERE isNotNull(rank) ORDER BY rank DESC, {keys} LIMIT {limit} {self._settings}",
            self._parameters,
        )

    def values(self) -> Statement:
        """Return the statement that counts the events whose values a percentile is taken of."""
        return Statement(
            f"SELECT count() FROM events WHERE {self._with_value} {self._settings}",
            self._parameters,
        )

    @property
    def _number(self) -> str:
        return number_expression(self._question.value, "value")

    @property
    def _with_value(self) -> str:
        """The condition on events that are in a percentile."""
        conditions = [*self._conditions, f"isNotNull({self._number})"]
        if self._question.value.name == "response_us":
            # What a stream lasts says nothing of how fast the API answers.
            conditions.append("NOT is_stream")
        return " AND ".join(conditions)

    def _aggregates(self, dimensions: dict[str, str]) -> str:
        """Return a SELECT of dimensions, of `part_0`, `part_1` … of each, and of `is_sampled`."""
        if self._question.aggregation.name == PERCENTILE:
            return self._percentiles(dimensions)
        columns = [
            *_aliased(dimensions),
            *(f"{part} AS part_{number}" for number, part in enumerate(self.recipe.parts)),
            _IS_SAMPLED,
        ]
        where = " AND ".join(self._conditions)
        return f"SELECT {', '.join(columns)} FROM events WHERE {where} {_group_by(dimensions)}"

    def _percentiles(self, dimensions: dict[str, str]) -> str:
        level, exact, number = self._question.aggregation.level, self._question.exact, self._number
        assert level is not None, "only a percentile has bins"  # noqa: S101
        columns = [
            *_aliased({**dimensions, "bin": percentiles.bin_of(number, exact=exact)}),
            f"sum({weight_of(self._question.value)}) AS bin_weight",
            f"min({number}) AS least",
            f"max({number}) AS greatest",
            _IS_SAMPLED,
        ]
        bins = (
            f"SELECT {', '.join(columns)} FROM events WHERE {self._with_value} "
            f"{_group_by([*dimensions, 'bin'])}"
        )
        found = [*dimensions, *percentiles.pick(level, exact=exact), "max(is_sampled) AS sampled"]
        return (
            f"SELECT {''.join(f'{name}, ' for name in dimensions)}result AS part_0, "
            f"sampled AS is_sampled FROM (SELECT {', '.join(found)} "
            f"FROM ({bins}) {_group_by(dimensions)} HAVING notEmpty(bins))"
        )


def _names_direction(question: Timeseries) -> bool:
    operands: list[Operand] = [operand for _, operand in question.filters.operands()]
    if question.aggregation.name == UNIQUE:
        operands.append(question.value)
    return any(operand.name == "direction" for operand in (*operands, *question.groups))


def _hash(keys: Iterable[str]) -> str:
    return f"sipHash64({', '.join(keys)})"


def _aliased(dimensions: dict[str, str]) -> list[str]:
    return [f"{sql} AS {name}" for name, sql in dimensions.items()]


def _group_by(names: Iterable[str]) -> str:
    found = ", ".join(names)
    return f"GROUP BY {found}" if found else ""
