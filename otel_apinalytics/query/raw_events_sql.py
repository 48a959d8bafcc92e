# SPDX-License-Identifier: Apache-2.0
"""The statements that read raw events, a slice of time after the other."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence

from otel_apinalytics.query import raw_events_columns
from otel_apinalytics.query.expressions import expression_parameters
from otel_apinalytics.query.filters import Filter, visible_values
from otel_apinalytics.query.positions import ORDER, POSITION, Position
from otel_apinalytics.query.raw_events_parameters import RawEvents
from otel_apinalytics.query.statement import Statement, range_condition
from otel_apinalytics.query.zones import LocalTime

# Events that the engine sorts at a time; about 1 kB of memory each.
SLICE_ROWS = 200_000
# Events in a block that goes to the client.
BLOCK_ROWS = 1024
_HOUR_US = 3600 * 1_000_000
_DAY_US = 24 * _HOUR_US

_ROW_FORMATS = {"ndjson": "JSONEachRow", "csv": "CSV", "parquet": "JSONCompactEachRow"}
_SETTINGS = (
    # Filters name columns that the result has, too, with another value.
    "prefer_column_name_to_alias = 1, "
    # One thread: the others are for those who send and ask.
    f"max_threads = 1, optimize_read_in_order = 1, max_block_size = {BLOCK_ROWS}"
)
_FORMAT_SETTINGS = (
    "output_format_json_validate_utf8 = 1, output_format_json_escape_forward_slashes = 0, "
    "format_csv_null_representation = '', output_format_csv_crlf_end_of_line = 1, "
    "date_time_output_format = 'iso'"
)


class Compiler:
    """Compiles the statements of one question.

    An event that is stored more than once and not merged yet is there once, in its newest version;
    it is that one which filters look at.

    Args:
        question: The question.
        application: Whose events.
        mandatory: What events must match beyond what is asked.
    """

    def __init__(
        self, question: RawEvents, application: str, mandatory: Sequence[Filter] = ()
    ) -> None:
        self._question = question
        local = LocalTime(question.zone, question.start_us, question.end_us)
        filters = question.filters.and_also(mandatory)
        self._columns = raw_events_columns.selected(question.columns, question.form, local)
        self._conditions = [range_condition(), *filters.conditions(local)]
        self._parameters = {
            "application": application,
            **filters.parameters(),
            # Of the whole range, also for a slice: a parent may be in another one.
            **expression_parameters(
                question.start_us,
                question.end_us,
                [*raw_events_columns.operands(question.columns), *filters.operands()],
                visible_values(mandatory),
            ),
        }

    def days(self, timeout_s: float) -> Statement:
        """Return the statement that finds the days with events, and in them the hours of many.

        Its rows are the day's start in Unix seconds, and pairs of an hour's start and number of
        events. Whether they match is not asked.
        """
        return Statement(
            "SELECT toUnixTimestamp(toStartOfDay(hour)) AS day, "
            f"groupArrayIf((toUnixTimestamp(hour), number), number > {SLICE_ROWS}) "
            "FROM (SELECT hour, count() AS number FROM events "
            f"WHERE {range_condition()} GROUP BY hour) "
            f"GROUP BY day ORDER BY day SETTINGS max_execution_time = {timeout_s}",
            {**self._parameters, "start_us": self.start_us, "end_us": self._question.end_us},
        )

    def last(self, start_us: int, end_us: int, number: int, timeout_s: float) -> Statement:
        """Return the statement for the last of so many events of a slice, or of as many as it has.

        Its row is how many they are, and the position of the last one.
        """
        where, parameters = self._where(start_us, end_us, None)
        return Statement(
            f"SELECT count(), max(position) FROM (SELECT {POSITION} AS position FROM events FINAL "
            f"WHERE {where} ORDER BY {ORDER} LIMIT {number}) "
            f"SETTINGS max_execution_time = {timeout_s}, {_SETTINGS}",
            parameters,
        )

    def lines(
        self, start_us: int, end_us: int, last: Position | None, timeout_s: float
    ) -> Statement:
        """Return the statement whose rows are the events of a slice as lines, in order.

        Args:
            start_us: Start of the slice, Unix microseconds.
            end_us: End of the slice, Unix microseconds.
            last: The last position; None for the end of the slice.
            timeout_s: Longest time that it may take.
        """
        where, parameters = self._where(start_us, end_us, last)
        row_format = _ROW_FORMATS[self._question.form]
        return Statement(
            f"SELECT formatRow('{row_format}', {', '.join(self._columns)}) FROM events FINAL "
            f"WHERE {where} ORDER BY {ORDER} "
            f"SETTINGS max_execution_time = {timeout_s}, {_SETTINGS}, {_FORMAT_SETTINGS}",
            parameters,
        )

    @property
    def start_us(self) -> int:
        """Before it nothing is asked for."""
        after = self._question.after
        return max(self._question.start_us, after.time_us if after else 0)

    def _where(
        self, start_us: int, end_us: int, last: Position | None
    ) -> tuple[str, dict[str, object]]:
        bounds = (("after", ">", self._question.after), ("last", "<=", last))
        conditions = [*self._conditions]
        parameters = {**self._parameters, "start_us": start_us, "end_us": end_us}
        for role, comparison, position in bounds:
            if position is not None:
                conditions.append(position.condition(role, comparison))
                parameters |= position.parameters(role)
        return " AND ".join(conditions), parameters


def slices(
    start_us: int, end_us: int, days: Iterable[tuple[int, Iterable[tuple[int, int]]]]
) -> Iterator[tuple[int, int]]:
    """Yield half-open ranges with all events of a range, one after the other.

    A day is a partition: the engine opens all parts of all that a statement asks for. Within it, it
    sorts an hour at a time, so that hours of many events are cut as well.

    Args:
        start_us: Start of the range, Unix microseconds.
        end_us: End of the range, Unix microseconds.
        days: Days with events, in order: start in Unix seconds, and its hours of too many events
            with their numbers.
    """
    for day_s, busy_hours in days:
        day_us = day_s * 1_000_000
        cuts = {day_us, day_us + _DAY_US}
        for hour_s, number in busy_hours:
            pieces = -(-number // SLICE_ROWS)
            hour_us = hour_s * 1_000_000
            cuts |= {hour_us + _HOUR_US * piece // pieces for piece in range(pieces + 1)}
        yield from itertools.pairwise(sorted({min(max(cut, start_us), end_us) for cut in cuts}))
