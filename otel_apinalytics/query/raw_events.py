# SPDX-License-Identifier: Apache-2.0
"""Raw events: all that is stored of each event of a range, as lines of JSON, in order of time."""

from __future__ import annotations

import itertools
import time
from collections.abc import Generator, Iterable, Iterator

from otel_apinalytics.catalogue import FIELDS
from otel_apinalytics.query.expressions import public_column
from otel_apinalytics.query.statement import Statement, engine_faults, range_condition
from otel_apinalytics.store.engine import Engine

# Wall clock. It includes the time that the client takes, so that it is far longer than that of a
# question, whose answer is small.
MAX_SECONDS = 3600.0
# Events that the engine sorts at a time; about 1 kB of memory each.
SLICE_ROWS = 200_000
# Events in a block that goes to the client.
_BLOCK_ROWS = 1024
_HOUR_US = 3600 * 1_000_000
_DAY_US = 24 * _HOUR_US
_ADVICE = "ask for a shorter range"


def run_raw_events(
    engine: Engine, application: str, start_us: int, end_us: int, timeout_s: float
) -> Generator[bytes, None, None]:
    """Return blocks of lines; faults that are found before the first one are raised here.

    An event that is stored more than once and not merged yet is there once. What is loaded
    meanwhile may be there or not. The generator must be read to its end or closed; its steps may be
    taken by different threads.

    Args:
        engine: The store.
        application: Whose events.
        start_us: Start of the range, included, Unix microseconds.
        end_us: End of the range, excluded, Unix microseconds.
        timeout_s: Longest time that the engine may take to find out when there are events.

    Raises:
        InvalidRequestError: It takes too long or too much memory.
        RetryableError: The store is not available.
    """
    question = compile_days(application, start_us, end_us, timeout_s)
    with engine_faults(timeout_s, _ADVICE):
        days = engine.query(question.sql, question.parameters).rows
    blocks = _stream(engine, application, slices(start_us, end_us, days))
    first = next(blocks, b"")
    return _chain(first, blocks)


def compile_days(application: str, start_us: int, end_us: int, timeout_s: float) -> Statement:
    """Return the statement that finds the days with events, and in them the hours of many events.

    Its rows are the day's start in Unix seconds, and pairs of an hour's start and number of events.
    """
    return Statement(
        "SELECT toUnixTimestamp(toStartOfDay(hour)) AS day, "
        f"groupArrayIf((toUnixTimestamp(hour), number), number > {SLICE_ROWS}) "
        "FROM (SELECT hour, count() AS number FROM events "
        f"WHERE {range_condition()} GROUP BY hour) "
        f"GROUP BY day ORDER BY day SETTINGS max_execution_time = {timeout_s}",
        {"application": application, "start_us": start_us, "end_us": end_us},
    )


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


def compile_raw_events(application: str, start_us: int, end_us: int, timeout_s: float) -> Statement:
    """Return the statement whose rows are events as lines of JSON, in order of time and id."""
    columns = ", ".join(public_column(field) for field in FIELDS)
    return Statement(
        f"SELECT formatRow('JSONEachRow', {columns}) FROM events FINAL WHERE {range_condition()} "
        # The hour is the key's: with it in front, the engine sorts an hour at a time.
        "ORDER BY events.hour, events.timestamp, events.event_id "
        # One thread: the others are for those who send and ask.
        f"SETTINGS max_execution_time = {timeout_s}, max_threads = 1, optimize_read_in_order = 1, "
        f"max_block_size = {_BLOCK_ROWS}, output_format_json_validate_utf8 = 1, "
        "output_format_json_escape_forward_slashes = 0",
        {"application": application, "start_us": start_us, "end_us": end_us},
    )


def _stream(engine: Engine, application: str, ranges: Iterable[tuple[int, int]]) -> Iterator[bytes]:
    deadline = time.monotonic() + MAX_SECONDS
    statements = (
        compile_raw_events(application, start_us, end_us, _until(deadline))
        for start_us, end_us in ranges
    )
    with engine_faults(MAX_SECONDS, _ADVICE):
        yield from engine.stream((each.sql, each.parameters) for each in statements)


def _until(deadline: float) -> float:
    """Return the seconds that are left; never zero, which would mean no limit."""
    return max(deadline - time.monotonic(), 0.001)


def _chain(first: bytes, rest: Iterator[bytes]) -> Generator[bytes, None, None]:
    yield first
    yield from rest
