# SPDX-License-Identifier: Apache-2.0
"""Raw events: those of a range or of a page of it, streamed in the order of their positions."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass

from otel_apinalytics.query.filters import Filter
from otel_apinalytics.query.positions import Position
from otel_apinalytics.query.raw_events_formats import rendered
from otel_apinalytics.query.raw_events_parameters import RawEvents
from otel_apinalytics.query.raw_events_sql import Compiler, slices
from otel_apinalytics.query.statement import engine_faults, seconds_until
from otel_apinalytics.store.engine import Engine

# Wall clock. It includes the time that the client takes, so that it is far longer than that of a
# question, whose answer is small.
MAX_SECONDS = 3600.0
_ADVICE = "ask for a shorter range, or for less at once (limit)"


@dataclass(frozen=True, slots=True)
class Page:
    """Events of a question.

    Args:
        blocks: The answer. It must be read to its end or closed; its steps may be taken by
            different threads.
        last: With a limit, the position behind which the next page begins; None if this is the
            last one.
    """

    blocks: Generator[bytes, None, None]
    last: Position | None


def run_raw_events(
    engine: Engine,
    application: str,
    question: RawEvents,
    timeout_s: float,
    mandatory: Sequence[Filter] = (),
    count: Callable[[int], None] = lambda lines: None,
) -> Page:
    """Find the events; faults that come before the first block are raised here.

    A page is all that is between two positions, and so are pages that follow each other: an event
    that is there from the first to the last of them is in one of them, and no event is in two. What
    is loaded meanwhile may be there or not; a page may then have more events than asked for.

    Args:
        engine: The store.
        application: Whose events.
        question: Which events, and what of them.
        timeout_s: Longest time that the engine may take to find out where they are.
        mandatory: What events must match beyond what is asked.
        count: Called with numbers of lines, as the answer is read.

    Raises:
        InvalidRequestError: It takes too long or too much memory.
        RetryableError: The store is not available.
    """
    compiler = Compiler(question, application, mandatory)
    deadline = time.monotonic() + timeout_s
    with engine_faults(timeout_s, _ADVICE):
        statement = compiler.days(timeout_s)
        days = engine.query(statement.sql, statement.parameters).rows
        last = None
        if question.limit is not None:
            ranges = slices(compiler.start_us, question.end_us, days)
            last = _last(engine, compiler, ranges, question.limit, deadline)
    end_us = question.end_us if last is None else last.time_us + 1
    lines = _lines(engine, compiler, slices(compiler.start_us, end_us, days), last)
    first = next(lines, b"")
    counted = _counted(_chain(first, lines), count)
    return Page(rendered(question.form, question.columns, counted), last)


def _last(
    engine: Engine,
    compiler: Compiler,
    ranges: Iterable[tuple[int, int]],
    limit: int,
    deadline: float,
) -> Position | None:
    """Return the position of the last event of a page; None if there are not as many."""
    for start_us, end_us in ranges:
        statement = compiler.last(start_us, end_us, limit, seconds_until(deadline))
        number, position = engine.query(statement.sql, statement.parameters).rows[0]
        if number == limit:
            return Position(*position)
        limit -= number
    return None


def _lines(
    engine: Engine, compiler: Compiler, ranges: Iterable[tuple[int, int]], last: Position | None
) -> Iterator[bytes]:
    deadline = time.monotonic() + MAX_SECONDS
    statements = (compiler.lines(*each, last, seconds_until(deadline)) for each in ranges)
    with engine_faults(MAX_SECONDS, _ADVICE):
        yield from engine.stream((each.sql, each.parameters) for each in statements)


def _chain(first: bytes, rest: Iterator[bytes]) -> Generator[bytes, None, None]:
    if first:
        yield first
    yield from rest


def _counted(
    blocks: Generator[bytes, None, None], count: Callable[[int], None]
) -> Generator[bytes, None, None]:
    """Yield blocks of lines, and count these; of CSV, text of several lines counts as several."""
    with contextlib.closing(blocks):
        for block in blocks:
            count(block.count(b"\n"))
            yield block
