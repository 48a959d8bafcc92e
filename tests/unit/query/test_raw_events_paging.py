# SPDX-License-Identifier: Apache-2.0
"""Tests that raw events are those of a model: any filter, any page, whatever arrives meanwhile."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from otel_apinalytics.query import raw_events_sql
from otel_apinalytics.query.filters import parse_filters
from otel_apinalytics.query.positions import Position
from otel_apinalytics.query.raw_events import run_raw_events
from otel_apinalytics.query.raw_events_parameters import RawEvents, parse_raw_events
from otel_apinalytics.query.times import seconds_text
from otel_apinalytics.store.engine import Engine
from tests.unit.query.model import Call, Question, matches

PHASES = (Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink)
US = 1_000_000
# 2017-03-25 22:00 UTC, over midnight.
START = 1_490_479_200 * US
END = START + 4 * 3600 * US
_applications = (f"raw{number}" for number in itertools.count())

# Few times, ids and localities, so that positions differ in any part of them only.
TIMES = st.sampled_from([START, START + 1, START + 7200 * US - 1, START + 7200 * US, END - 1])
CALLS = st.lists(
    st.builds(
        Call,
        number=st.integers(0, 3) | st.just(2**64 - 1),
        time_us=TIMES | st.integers(START - 10, END + 10),
        consumer_id=st.sampled_from(["", "alice", "bob", "a%b", "é\\"]),
        method=st.sampled_from(["GET", ""]),
        plan=st.sampled_from(["gold", ""]),
        status_code=st.sampled_from([None, 200, 404, 503]),
        response_us=st.just(None),
        units=st.just(None),
        weight=st.just(1000),
        is_error=st.booleans(),
        is_stream=st.just(False),
    ),
    max_size=15,
)
FILTERS = st.lists(
    st.one_of(
        st.tuples(st.just("consumer_id"), st.sampled_from(["", "*", "a*", "a%b", "é\\", "bob"])),
        st.tuples(st.just("status_code"), st.sampled_from(["", "200", "4xx", "*"])),
        st.tuples(st.just("status_class"), st.sampled_from(["", "2xx"])),
        st.tuples(st.just("is_error"), st.sampled_from(["true", "false"])),
        st.tuples(st.just("attributes.plan"), st.sampled_from(["", "gold"])),
        st.tuples(st.just("hour_of_day"), st.sampled_from(["0", "23"])),
        st.tuples(st.just("method"), st.sampled_from(["GET", ""])),
    ),
    max_size=3,
).map(tuple)


def position_of(call: Call) -> Position:
    """Return where a call is in the order; its locality is that of its method."""
    return Position(call.time_us, call.number, len(call.method))


class Table:
    """Events in the store, some with copies in older versions.

    Args:
        command: Runs a statement.
    """

    def __init__(self, command: Callable[[str], None]) -> None:
        self._command = command
        self._version = 0
        self._calls: dict[tuple[int, int, int], Call] = {}
        self.application = ""

    def begin(self) -> None:
        """Use another application, which has no events."""
        self.application = next(_applications)
        self._calls = {}

    def add(self, calls: Sequence[Call]) -> None:
        """Store calls as one part; they replace what has the same key, at the same time."""
        self._version += 1
        latest: dict[tuple[int, int, int], Call] = {}
        for call in calls:
            key = (call.time_us // US // 3600, call.number, len(call.method))
            known = self._calls.get(key) or latest.get(key) or call
            latest[key] = replace(call, time_us=known.time_us)
        if latest:
            rows = ", ".join(map(self._row, latest.values()))
            self._command(
                "INSERT INTO events (timestamp, application, event_id, locality, version, "
                "direction, consumer_id, method, attributes, status_code, is_error) "
                f"SETTINGS optimize_on_insert = 0 VALUES {rows}"
            )
        self._calls |= latest

    def cursors(self, question: Question) -> list[str]:
        """Return the cursors of the events that a question is about, in their order."""
        zone = ZoneInfo(question.tz)
        found = [call for call in self._calls.values() if matches(question, call, zone)]
        return [position.cursor for position in sorted(map(position_of, found))]

    def _row(self, call: Call) -> str:
        plan = f"{{'plan': '{call.plan}'}}" if call.plan else "{}"
        consumer = call.consumer_id.replace("\\", "\\\\")
        return (
            f"({seconds_text(call.time_us)}, '{self.application}', {call.number}, "
            f"{len(call.method)}, {self._version}, 'inbound', '{consumer}', '{call.method}', "
            f"{plan}, {call.status_code or 'NULL'}, {call.is_error})"
        )


@pytest.fixture(scope="module")
def table(run_command: Callable[[str], None]) -> Iterator[Table]:
    """Return the table; nothing is merged while it is used."""
    run_command("SYSTEM STOP MERGES events")
    yield Table(run_command)
    run_command("TRUNCATE TABLE events")
    run_command("SYSTEM START MERGES events")


def parse(question: Question, *more: tuple[str, str]) -> RawEvents:
    """Return the question as the API takes it."""
    return parse_raw_events(
        seconds_text(question.start_us),
        seconds_text(question.end_us),
        [
            *(("include", f"{field}:{value}") for field, value in question.include),
            *(("exclude", f"{field}:{value}") for field, value in question.exclude),
            ("tz", question.tz),
            *more,
        ],
    )


def read(store: Engine, application: str, asked: RawEvents) -> tuple[list[dict[str, Any]], str]:
    """Return the events of a page, and the cursor of the next one, or no text."""
    page = run_raw_events(store, application, asked, 30.0)
    body = b"".join(page.blocks)
    return [json.loads(line) for line in body.splitlines()], page.last.cursor if page.last else ""


questions = st.builds(
    Question,
    st.just(START) | st.integers(START, START + 3600 * US),
    st.just(END) | st.integers(START + 3601 * US, END),
    tz=st.sampled_from(["UTC", "Europe/Berlin"]),
    include=FILTERS,
    exclude=FILTERS,
)


@pytest.fixture(params=[1, 100_000])
def _slice_rows(request: pytest.FixtureRequest) -> Iterator[None]:
    """Cut every hour into as many slices as it has events, or nothing."""
    before, raw_events_sql.SLICE_ROWS = raw_events_sql.SLICE_ROWS, request.param
    yield
    raw_events_sql.SLICE_ROWS = before


@pytest.mark.usefixtures("_slice_rows")
@settings(max_examples=25, deadline=None, phases=PHASES)
@given(
    asked=st.lists(questions, min_size=2, max_size=2),
    parts=st.lists(CALLS, min_size=1, max_size=3),
    late=st.lists(CALLS, max_size=3),
    limit=st.integers(1, 5),
)
def test_any_question(
    memory_store: Engine,
    table: Table,
    asked: list[Question],
    parts: list[list[Call]],
    late: list[list[Call]],
    limit: int,
) -> None:
    """As a whole, in pages, and in pages while others arrive; copies are there once."""
    table.begin()
    for part in parts:
        table.add(part)
    for question in asked:
        whole, cursor = read(memory_store, table.application, parse(question))
        expected = table.cursors(question)
        assert ([event["cursor"] for event in whole], cursor) == (expected, "")
        pages = list(read_pages(memory_store, table, question, limit))
        assert [event for page in pages for event in page] == whole
        assert all(len(page) == limit for page in pages[:-1])
        assert len(pages[-1]) < limit
        resume_anywhere(memory_store, table, question, whole)
    check_late_arrivals(memory_store, table, asked[0], late, limit)


def read_pages(
    store: Engine,
    table: Table,
    question: Question,
    limit: int,
    between: Callable[[str], None] = lambda cursor: None,
) -> Iterator[list[dict[str, Any]]]:
    """Yield page after page; `between` is called with the cursor before each but the first."""
    cursor = ""
    while True:
        asked = parse(question, ("limit", str(limit)), ("cursor", cursor))
        events, cursor = read(store, table.application, asked)
        yield events
        if not cursor:
            return
        between(cursor)


def resume_anywhere(
    store: Engine, table: Table, question: Question, whole: list[dict[str, Any]]
) -> None:
    """Assert that what follows an event is what was behind it."""
    for number, event in enumerate(whole):
        asked = parse(question, ("cursor", event["cursor"]))
        assert read(store, table.application, asked)[0] == whole[number + 1 :]


def check_late_arrivals(
    store: Engine, table: Table, question: Question, late: list[list[Call]], limit: int
) -> None:
    """Assert that pages have all that was there before them, nothing twice, and what came in time.

    Filters are left out: what arrives may change what an event is like.
    """
    question = replace(question, include=(), exclude=())
    before = set(table.cursors(question))
    arrivals = iter(late)
    in_time: set[str] = set()

    def arrive(cursor: str) -> None:
        known = set(table.cursors(question))
        table.add(next(arrivals, []))
        new = set(table.cursors(question)) - known
        in_time.update(each for each in new if order(each) > order(cursor))

    pages = read_pages(store, table, question, limit, arrive)
    cursors = [event["cursor"] for page in pages for event in page]
    assert cursors == sorted(set(cursors), key=order)
    assert set(cursors) == before | in_time


def order(cursor: str) -> tuple[int, ...]:
    """Return what cursors are ordered by."""
    return tuple(map(int, cursor.split("-")))


def test_what_arrives_within_a_page_is_in_it(
    memory_store: Engine, table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page is what lies between two positions: nothing falls between two pages."""
    call = Call(0, START, "alice", "GET", "", 200, None, None, 1000, False, False)
    table.begin()
    table.add([replace(call, number=n) for n in (0, 2, 4)])
    question = Question(START, END)
    stream = type(memory_store).stream

    def arrive_first(*arguments: Any) -> Iterator[bytes]:
        # Between the statement that finds the page and those that read it.
        table.add([replace(call, number=n) for n in (1, 3)])
        return stream(*arguments)

    monkeypatch.setattr(type(memory_store), "stream", arrive_first)
    first, cursor = read(memory_store, table.application, parse(question, ("limit", "2")))
    assert [event["event_id"] for event in first] == ["0", "1", "2"]
    monkeypatch.undo()
    asked = parse(question, ("limit", "2"), ("cursor", cursor))
    assert [e["event_id"] for e in read(memory_store, table.application, asked)[0]] == ["3", "4"]


def test_mandatory_filters_hold_whatever_is_asked(memory_store: Engine, table: Table) -> None:
    """Also against a filter on the same field, which would be an alternative to it."""
    call = Call(0, START, "alice", "GET", "", 200, None, None, 1000, False, False)
    table.begin()
    table.add([call, replace(call, number=1, consumer_id="bob")])
    mandatory = parse_filters(["consumer_id:alice"]).include
    for include, number in ((("consumer_id", "bob"), 0), (("consumer_id", "*"), 1)):
        for limit in ("", "5"):
            asked = parse(Question(START, END, include=(include,)), ("limit", limit))
            page = run_raw_events(memory_store, table.application, asked, 30.0, mandatory)
            assert b"".join(page.blocks).count(b"\n") == number


@pytest.mark.parametrize("cursor", ["0-0-0", "9999999999-0-0", f"{START}-0-0", f"{END + 1}-0-0"])
def test_a_cursor_out_of_the_range_is_only_a_place(
    memory_store: Engine, table: Table, cursor: str
) -> None:
    """Before it there is everything behind, after it nothing."""
    call = Call(1, START, "alice", "GET", "", 200, None, None, 1000, False, False)
    table.begin()
    table.add([call])
    asked = parse(Question(START, END), ("cursor", cursor), ("limit", "1"))
    found, _ = read(memory_store, table.application, asked)
    assert len(found) == (order(cursor) < order(position_of(call).cursor))
