# SPDX-License-Identifier: Apache-2.0
"""The statements that answer a timeseries question.

Each aggregate is a plain one of stored columns, and so are bucket and groups, so that the engine
can take it from whatever it keeps of them; the range is asked for in slots, of which it keeps more.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from otel_apinalytics.catalogue import INBOUND, WEIGHT_SCALE
from otel_apinalytics.query import kept, percentiles, slots
from otel_apinalytics.query.aggregations import (
    PERCENTILE,
    UNIQUE,
    Part,
    Recipe,
    recipe,
    weight_of,
)
from otel_apinalytics.query.expressions import (
    expression_parameters,
    follow_hours,
    number_expression,
    text_expression,
)
from otel_apinalytics.query.filters import Filter, visible_values
from otel_apinalytics.query.kept import Measure
from otel_apinalytics.query.statement import Statement, range_condition, seconds_until
from otel_apinalytics.query.timeseries_parameters import Timeseries

# Points over all groups in one answer; it is built in memory.
MAX_ROWS = 500_000
# The engine finds the hours of a few consumers at once, among those of all.
_CONSUMER = "consumer_id"
_IS_KEPT_CONSUMER = f"{_CONSUMER} IN %(kept_consumers)s"
# Dimensions that hardly have more values than are asked for.
_FEW = frozenset({"method", "status_class", "is_error", "is_edge", "direction", "route_source"})


class Compiler:
    """Compiles the statements of one question.

    Args:
        question: The question.
        application: Whose events.
        timeout_s: Longest time that the engine may take from now on, for all statements.
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
        self._deadline = time.monotonic() + timeout_s
        self._keys = {
            f"key_{number}": text_expression(operand, f"group_{number}", self._local)
            for number, operand in enumerate(question.groups)
        }
        self._filters = filters = question.filters.and_also(mandatory)
        self._conditions = filters.conditions(self._local)
        operands = [
            ("value", question.value),
            *((f"group_{number}", operand) for number, operand in enumerate(question.groups)),
            *filters.operands(),
        ]
        if "direction" not in self._dimensions(self._keys):
            # Calls of our API; those that it makes are asked for by group or filter.
            self._conditions.append(f"direction = '{INBOUND}'")
        self._divided_hours = question.buckets.divided_hours()
        if not follow_hours((each for _, each in operands), self._local):
            self._divided_hours = None
        self._parameters = {
            "application": application,
            "start_us": question.start_us,
            "end_us": question.end_us,
            **filters.parameters(),
            **expression_parameters(
                question.start_us, question.end_us, operands, visible_values(mandatory)
            ),
        }
        self.recipe: Recipe = recipe(question.aggregation, question.value, self._local)
        self._parts = {f"part_{number}": part for number, part in enumerate(self.recipe.parts)}
        self._measure = _measure(question)

    @property
    def _settings(self) -> str:
        limit = f"max_execution_time = {seconds_until(self._deadline):.3f}"
        return f"SETTINGS {limit}, {slots.PLANNING}"

    @property
    def has_few_groups(self) -> bool:
        """Whether no group is likely to be folded, and points tell which are the largest."""
        return self.recipe.is_additive and all(each.name in _FEW for each in self._question.groups)

    @property
    def takes_others_from_all(self) -> bool:
        """Whether folded groups are what is left of all events without those of named groups."""
        return self.recipe.is_additive and self._is_grouped_by_consumer

    def points(self, kept: Sequence[Sequence[Any]] | None = None) -> Statement:
        """Return the statement of all points.

        Its rows are the groups' values, whether they are folded, the bucket's number, the parts of
        the aggregation, and whether an event stands for several requests; in order of groups and
        time. Where others are taken from all, rows that are folded are of all events.

        Args:
            kept: Rows of `ranking`, the groups that are named, others being folded; None for all.
        """
        if kept is None:
            selects = [self._points(self._keys)]
        elif self.takes_others_from_all:
            is_kept = [_IS_KEPT_CONSUMER]
            if len(self._keys) > 1:
                is_kept.append(self._is_kept)
            selects = [self._points(self._keys, is_kept), self._points({}, is_folded="true")]
        else:
            keys = {name: f"if({self._is_kept}, {key}, '')" for name, key in self._keys.items()}
            selects = [self._points({**keys, "is_folded": f"NOT {self._is_kept}"})]
        order = ", ".join((*self._keys, "is_folded", "bucket"))
        return Statement(
            f"SELECT * FROM ({' UNION ALL '.join(selects)}) ORDER BY {order} "
            f"LIMIT {MAX_ROWS + 1} {self._settings}",
            {**self._parameters, **self._kept(kept or ())},
        )

    def ranking(self, limit: int) -> Statement:
        """Return the statement of the largest groups over the whole range.

        Its rows are the groups' values, their hash and the number of all groups; the largest first,
        equal ones in order of their values.
        """
        keys = ", ".join(self._keys)
        groups = self._aggregates(self._keys, by_bucket=False)
        return Statement(
            f"SELECT {keys}, {_hash(self._keys)}, count() OVER () "
            f"FROM (SELECT {keys}, {self.recipe.rank} AS rank FROM ({groups})) "
            f"WHERE isNotNull(rank) ORDER BY rank DESC, {keys} LIMIT {limit} {self._settings}",
            self._parameters,
        )

    def values(self) -> Statement:
        """Return the statement that counts the events whose values a percentile is taken of."""
        where = " AND ".join((range_condition(), *self._conditions, *self._with_value))
        return Statement(
            f"SELECT count() FROM events WHERE {where} {self._settings}", self._parameters
        )

    def _points(
        self, keys: Mapping[str, str], conditions: Sequence[str] = (), is_folded: str = "false"
    ) -> str:
        """Return a SELECT of the columns of `points`; those that are not in keys are constant."""
        constant = {**dict.fromkeys(self._keys, "''"), "is_folded": is_folded}
        columns = [name if name in keys else f"{sql} AS {name}" for name, sql in constant.items()]
        by_bucket = not self._question.buckets.is_single
        columns.append("bucket" if by_bucket else "0 AS bucket")
        groups = self._aggregates(keys, conditions, by_bucket=by_bucket)
        return f"SELECT {', '.join((*columns, *self._parts, 'is_sampled'))} FROM ({groups})"

    @property
    def _is_kept(self) -> str:
        return f"{_hash(self._keys.values())} IN %(kept)s"

    @property
    def _is_grouped_by_consumer(self) -> bool:
        return any(operand.name == _CONSUMER for operand in self._question.groups)

    def _kept(self, ranked: Sequence[Sequence[Any]]) -> dict[str, Any]:
        """Return the parameters that say which groups are named."""
        found = {"kept": tuple(row[-2] for row in ranked)}
        for place, operand in enumerate(self._question.groups):
            if operand.name == _CONSUMER:
                found["kept_consumers"] = tuple({row[place] for row in ranked})
        return found

    def _aggregates(
        self,
        keys: Mapping[str, str],
        conditions: Sequence[str] = (),
        *,
        by_bucket: bool,
    ) -> str:
        """Return a SELECT of keys, `bucket`, `part_0`, `part_1` … of each, and `is_sampled`.

        Args:
            keys: Names and SQL of what to group by.
            conditions: What events must match beyond the question's conditions.
            by_bucket: Whether to group by bucket; else there is no such column.
        """
        names = [*keys, *(["bucket"] if by_bucket else [])]
        if self._question.aggregation.name == PERCENTILE:
            return self._percentiles(keys, names, conditions, by_bucket=by_bucket)
        return self._merged(keys, names, self._parts, conditions, by_bucket=by_bucket)

    def _percentiles(
        self,
        keys: Mapping[str, str],
        names: Sequence[str],
        conditions: Sequence[str],
        *,
        by_bucket: bool,
    ) -> str:
        level, exact = self._question.aggregation.level, self._question.exact
        assert level is not None, "only a percentile has bins"  # noqa: S101
        parts = {
            "bin_weight": Part(f"sum({weight_of(self._question.value)})", "sum"),
            "least": Part(f"min({self._number})", "min"),
            "greatest": Part(f"max({self._number})", "max"),
        }
        bins = self._merged(
            {**keys, "bin": self._bin},
            [*names, "bin"],
            parts,
            [*conditions, *self._with_value],
            by_bucket=by_bucket,
        )
        found = [*names, *percentiles.pick(level, exact=exact), "max(is_sampled) AS sampled"]
        return (
            f"SELECT {''.join(f'{name}, ' for name in names)}result AS part_0, "
            f"sampled AS is_sampled FROM (SELECT {', '.join(found)} "
            f"FROM ({bins}) {_group_by(names)} HAVING notEmpty(bins))"
        )

    def _merged(
        self,
        keys: Mapping[str, str],
        names: Sequence[str],
        parts: Mapping[str, Part],
        conditions: Sequence[str],
        *,
        by_bucket: bool,
    ) -> str:
        """Return a SELECT of names, parts and `is_sampled`, the parts of all slots made one."""
        question = self._question
        sets = [f"some_{name}" for name, part in parts.items() if part.is_set]
        some = [f"{part.sql} AS some_{name}" for name, part in parts.items()]
        few_consumers = _IS_KEPT_CONSUMER in conditions or kept.names_few_consumers(self._filters)
        named = self._dimensions(keys)
        selects = []
        for slot in slots.divide(
            question.start_us,
            question.end_us,
            self._divided_hours,
            by_day=question.buckets.are_days or not by_bucket,
        ):
            dimensions = dict(keys)
            if by_bucket:
                dimensions["bucket"] = question.buckets.sql(slot.moment)
            columns = ", ".join((*_aliased(dimensions), *some, "max(weight) AS max_weight"))
            where = " AND ".join((slot.condition, *self._conditions, *conditions))
            taken = kept.settings(slot.moment, named, self._measure, few_consumers=few_consumers)
            selects.append(
                f"SELECT {columns} FROM events WHERE {where} {_group_by([*dimensions, *sets])}"
                f"{taken}"
            )
        merged = [f"{part.merged(f'some_{name}')} AS {name}" for name, part in parts.items()]
        columns = ", ".join((*names, *merged, f"max(max_weight) > {WEIGHT_SCALE} AS is_sampled"))
        return f"SELECT {columns} FROM ({' UNION ALL '.join(selects)}) {_group_by(names)}"

    def _dimensions(self, keys: Mapping[str, str]) -> list[str]:
        """Return the names of the fields that a SELECT with these keys groups and filters by."""
        operands = [operand for _, operand in self._filters.operands()]
        if self._keys.keys() & keys.keys():
            operands += self._question.groups
        if self._question.aggregation.name == UNIQUE:
            operands.append(self._question.value)
        return [operand.name for operand in operands]

    @property
    def _number(self) -> str:
        return number_expression(self._question.value, "value")

    @property
    def _bin(self) -> str:
        return percentiles.bin_of(self._number, exact=self._question.exact)

    @property
    def _with_value(self) -> list[str]:
        """The conditions on events that are in a percentile."""
        # Of the bin, for the engine keeps no values but bins.
        conditions = [f"isNotNull({self._bin})"]
        if self._question.value.name == "response_us":
            # What a stream lasts says nothing of how fast the API answers.
            conditions.append("NOT is_stream")
        return conditions


def _measure(question: Timeseries) -> Measure:
    name, value = question.aggregation.name, question.value.name
    if name in ("count", "rate", "error_rate", UNIQUE):
        return Measure.REQUESTS
    if value != "response_us" or question.exact:
        return Measure.OTHER
    return Measure.PERCENTILES if name == PERCENTILE else Measure.RESPONSE_TIMES


def _hash(keys: Iterable[str]) -> str:
    return f"sipHash64({', '.join(keys)})"


def _aliased(dimensions: Mapping[str, str]) -> list[str]:
    return [f"{sql} AS {name}" for name, sql in dimensions.items()]


def _group_by(names: Iterable[str]) -> str:
    found = ", ".join(names)
    return f"GROUP BY {found}" if found else ""
