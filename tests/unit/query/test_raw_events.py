# SPDX-License-Identifier: Apache-2.0
"""Tests of raw events: what an engine in memory gives for a range, and how a range is cut."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_apinalytics.catalogue import FIELDS, Field, FieldType
from otel_apinalytics.errors import InvalidRequestError, RetryableError
from otel_apinalytics.query import raw_events, raw_events_sql
from otel_apinalytics.query.raw_events import run_raw_events
from otel_apinalytics.query.raw_events_parameters import RawEvents
from otel_apinalytics.query.raw_events_sql import SLICE_ROWS, Compiler, slices
from otel_apinalytics.store.engine import Engine, EngineError, Rows

RunSql = Callable[..., list[list[Any]]]
Days = list[tuple[int, list[tuple[int, int]]]]
Read = Callable[..., list[dict[str, Any]]]

US = 1_000_000
HOUR_US = 3600 * US
# 2017-07-20 12:00:00 UTC.
START_US = 1_500_552_000 * US
DAY_US = 24 * HOUR_US
MIDNIGHT_US = START_US - 12 * HOUR_US
# Fields whose values are not just any: as they are stored, in SQL, and as they are read.
SPECIAL: Mapping[str, tuple[str, Any]] = {
    "timestamp": ("'2017-07-20 12:00:00.000001'", 1_500_552_000.000001),
    "received_at": ("'2026-01-01 00:00:00.5'", 1_767_225_600.5),
    "application": ("'full'", "full"),
    "event_id": ("18446744073709551615", "18446744073709551615"),
    "status_code": ("404", 404),
    "weight": ("2500", 2.5),
    "url": (r"'/\'é😀\"\\\n\0/'", "/'é😀\"\\\n\0/"),
    "trace_id": ("unhex('00ABCDEF00ABCDEF00ABCDEF00ABCDEF')", "00abcdef00abcdef00abcdef00abcdef"),
    "span_id": ("unhex('0123456789ABCDEF')", "0123456789abcdef"),
    "parent_span_id": ("unhex('00000000000000FF')", "00000000000000ff"),
    "attributes": (r"map('plan', 'gold', 'é/', '\"')", {"plan": "gold", "é/": '"'}),
    "metrics": ("map('tokens', 1.5, 'cost', -1e300)", {"tokens": 1.5, "cost": -1e300}),
}


def full_value(number: int, field: Field) -> tuple[str, Any]:
    """Return a value of a field as it is stored, in SQL, and as it is read."""
    if field.name in SPECIAL:
        return SPECIAL[field.name]
    if field.type is FieldType.BOOLEAN:
        return "true", True
    if field.type is FieldType.INTEGER:
        return str(number), number
    return f"'{field.name}'", field.name


FULL = {field.name: full_value(number, field) for number, field in enumerate(FIELDS)}


@pytest.fixture(scope="module")
def events(run_command: Callable[[str], None]) -> Iterator[None]:
    """Store an event with all fields, one with none, and many that differ in time and version."""
    run_command("SYSTEM STOP MERGES events")
    values = ", ".join(value for value, _ in FULL.values())
    run_command(f"INSERT INTO events ({', '.join(FULL)}) VALUES ({values})")
    run_command(
        "INSERT INTO events (timestamp, application, received_at) VALUES "
        "('2017-07-20 12:00:00', 'empty', '2017-07-20 12:00:00')"
    )
    # Each twice, in other parts; the newer version stays, wherever it is.
    for version, function in ((1, "old"), (2, "new")):
        run_command(
            "INSERT INTO events (timestamp, application, event_id, locality, version, function) "
            f"SELECT fromUnixTimestamp64Micro({START_US} + number % 7 * 1000000000, 'UTC'), "
            f"'many', 5000 - number, number % 3, if(number % 2, {version}, 3 - {version}), "
            f"if(number % 2, '{function}', if('{function}' = 'new', 'old', 'new')) "
            "FROM numbers(5000)"
        )
    run_command("INSERT INTO events (timestamp, application) VALUES (toDateTime(0), 'ends')")
    yield
    run_command("TRUNCATE TABLE events")
    run_command("SYSTEM START MERGES events")


@pytest.fixture(scope="module")
def read(events: None, run_sql: RunSql) -> Read:
    """Return a function from an application and a range to its raw events."""

    def answer(application: str, start_us: int = 0, end_us: int = 4 * 10**15) -> Any:
        compiler = Compiler(RawEvents(start_us, end_us), application)
        statement = compiler.lines(start_us, end_us, None, 30.0)
        rows = run_sql(statement.sql, dict(statement.parameters))
        assert all(line.endswith("}\n") and line.count("\n") == 1 for (line,) in rows)
        return [json.loads(line) for (line,) in rows]

    return answer


def test_all_fields(read: Read) -> None:
    """Each stored field is there, in the catalogue's order, with its public value."""
    (event,) = read("full")
    cursor = "1500552000000001-18446744073709551615-0"
    assert event == {name: public for name, (_, public) in FULL.items()} | {"cursor": cursor}
    assert list(event) == [*(field.name for field in FIELDS), "cursor"]


def test_missing_is_null(read: Read) -> None:
    """But for truth, maps, time, and what is always known."""
    (event,) = read("empty")
    expected: dict[str, Any] = dict.fromkeys(event) | {
        "timestamp": 1_500_552_000,
        "received_at": 1_500_552_000,
        "application": "empty",
        "event_id": "0",
        "is_error": False,
        "is_stream": False,
        "weight": 1,
        "attributes": {},
        "metrics": {},
        "cursor": "1500552000000000-0-0",
    }
    assert event == expected


def test_the_order_is_of_time_then_of_id(read: Read) -> None:
    """Whatever the order on disk; ids are compared as numbers."""
    order = [(event["timestamp"], int(event["event_id"])) for event in read("many")]
    assert order == sorted(order)
    assert len({event_id for _, event_id in order}) == 5000


def test_an_event_that_is_stored_twice_is_there_once(read: Read, run_sql: RunSql) -> None:
    """Its newest version, before the engine has merged anything."""
    assert run_sql("SELECT count() FROM events WHERE application = 'many'") == [[10_000]]
    found = read("many")
    assert len(found) == 5000
    assert {event["function"] for event in found} == {"new"}


@pytest.mark.parametrize(
    ("start_us", "end_us", "count"),
    [
        (START_US, START_US + 1, 1),
        (START_US - 1, START_US, 0),
        (START_US + 1, START_US + HOUR_US, 0),
        (0, START_US, 0),
    ],
)
def test_the_range_is_half_open(read: Read, start_us: int, end_us: int, count: int) -> None:
    """To the microsecond."""
    assert len(read("empty", start_us, end_us)) == count


def test_the_ends_of_time(read: Read) -> None:
    """The first second of the store's time is there."""
    assert [event["timestamp"] for event in read("ends", 0, 1)] == [0]


@pytest.mark.parametrize("text", ["'", "\\", "%(x)s", "{a:String}", "full' OR 1 = 1 --"])
def test_other_applications_are_not_there(read: Read, text: str) -> None:
    """Nor is their name ever SQL."""
    assert read(text) == []
    statement = Compiler(RawEvents(0, 1), f"{text}tenant").lines(0, 1, None, 1.0)
    assert "tenant" not in statement.sql


def test_text_that_is_no_unicode_is_still_json(
    events: None, read: Read, run_command: Callable[[str], None]
) -> None:
    """A reader of JSON can take every line."""
    run_command(
        "INSERT INTO events (timestamp, application, url, attributes) VALUES "
        r"('2017-07-20 12:00:00', 'bytes', 'a\xffb', map('k\xed\xa0\x80', 'v\xc3'))"
    )
    (event,) = read("bytes")
    assert event["url"] == "a�b"
    assert list(event["attributes"].values()) == ["v�"]


# ---- cutting a range ----


def test_days_and_busy_hours_are_found(
    events: None, run_sql: RunSql, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those with more events than are sorted at a time, within the range."""
    monkeypatch.setattr(raw_events_sql, "SLICE_ROWS", 1000)

    def find(application: str, start_us: int, end_us: int) -> list[list[Any]]:
        statement = Compiler(RawEvents(start_us, end_us), application).days(30.0)
        found = run_sql(statement.sql, dict(statement.parameters))
        return [[day, [tuple(hour) for hour in hours]] for day, hours in found]

    # Stored twice each, at 0 and 1000 s; a third would be beyond the half hour.
    busy = [(START_US // US, 2 * 2 * 715)]
    assert find("many", START_US, START_US + HOUR_US // 2) == [[MIDNIGHT_US // US, busy]]
    assert find("many", START_US, START_US + 1) == [[MIDNIGHT_US // US, [(START_US // US, 1430)]]]
    assert find("empty", 0, 4 * 10**15) == [[MIDNIGHT_US // US, []]]
    assert find("ends", 0, 4 * 10**15) == [[0, []]]
    assert find("nobody", 0, 4 * 10**15) == []


def test_a_quiet_day_is_one_slice() -> None:
    """As far as it is within the range; days without events are not asked."""
    days: Days = [(0, []), (2 * 86_400, []), (3 * 86_400, [])]
    assert list(slices(5, 3 * DAY_US + 7, days)) == [
        (5, DAY_US),
        (2 * DAY_US, 3 * DAY_US),
        (3 * DAY_US, 3 * DAY_US + 7),
    ]
    assert list(slices(5, 6, days[:1])) == [(5, 6)]


def test_a_busy_hour_is_cut() -> None:
    """Into as few parts as bring the sort within its bounds; what is around it stays whole."""
    days = [(MIDNIGHT_US // US, [(START_US // US, 2 * SLICE_ROWS + 1)])]
    assert list(slices(0, 2 * START_US, days)) == [
        (MIDNIGHT_US, START_US),
        (START_US, START_US + HOUR_US // 3),
        (START_US + HOUR_US // 3, START_US + 2 * HOUR_US // 3),
        (START_US + 2 * HOUR_US // 3, START_US + HOUR_US),
        (START_US + HOUR_US, MIDNIGHT_US + DAY_US),
    ]


times = st.integers(0, 4 * DAY_US - 1)
hours = st.tuples(st.integers(0, 23), st.integers(1, 10**7))


@given(
    ends=st.tuples(times, times).filter(lambda ends: ends[0] != ends[1]),
    busy=st.lists(st.lists(hours, max_size=3), min_size=4, max_size=4),
    moment=times,
)
def test_every_moment_of_the_range_is_in_one_slice(
    ends: tuple[int, int], busy: list[list[tuple[int, int]]], moment: int
) -> None:
    """Nothing is left out, nothing is there twice, none is empty, all are in order."""
    start_us, end_us = sorted(ends)
    found = list(
        slices(
            start_us,
            end_us,
            [
                (day * 86_400, [(day * 86_400 + hour * 3600, number) for hour, number in hours])
                for day, hours in enumerate(busy)
                if start_us < (day + 1) * DAY_US and day * DAY_US < end_us
            ],
        )
    )
    assert all(start < end for start, end in found)
    assert found == sorted(found)
    inside = sum(start <= moment < end for start, end in found)
    assert inside == (start_us <= moment < end_us)


# ---- running ----


class Scripted(Engine):
    """An engine that gives blocks, then perhaps fails; it knows whether its stream was closed."""

    def __init__(self, blocks: Iterable[bytes], error: EngineError | None = None) -> None:
        self.blocks, self.error = blocks, error
        self.days: Days = [(0, [])]
        self.statements: list[tuple[str, Mapping[str, Any]]] = []
        self.closed = False

    def query(self, sql: str, parameters: Mapping[str, Any] | None = None) -> Rows:
        """Return the days with events."""
        return Rows(("day", "busy"), self.days)

    def stream(self, statements: Iterable[tuple[str, Mapping[str, Any]]]) -> Iterator[bytes]:
        """Yield the blocks, after taking all statements."""
        try:
            self.statements = list(statements)
            yield from self.blocks
            if self.error:
                raise self.error
        finally:
            self.closed = True


def run(engine: Engine) -> Any:
    """Ask for the raw events of six hours."""
    return run_raw_events(engine, "shop", RawEvents(0, 6 * HOUR_US), 5.0).blocks


@pytest.mark.parametrize("blocks", [[], [b"1\n"], [b"1\n", b"2\n3\n"]])
def test_blocks_are_passed_on(blocks: list[bytes]) -> None:
    """All of them, once."""
    assert b"".join(run(Scripted(blocks))) == b"".join(blocks)


def test_a_busy_range_takes_several_statements() -> None:
    """Under one permit, each with the time that is left."""
    engine = Scripted([])
    engine.days = [(0, [(3600, SLICE_ROWS + 1)])]
    run(engine)
    ranges = [(p["start_us"], p["end_us"]) for _, p in engine.statements]
    assert ranges == list(slices(0, 6 * HOUR_US, engine.days))
    assert len(ranges) == 4
    limits = [
        float(sql.split("max_execution_time = ")[1].split(",")[0]) for sql, _ in engine.statements
    ]
    assert all(0 < limit <= raw_events.MAX_SECONDS for limit in limits)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (159, InvalidRequestError),
        (241, InvalidRequestError),
        (243, RetryableError),
        (33, RetryableError),
        # A statement of ours that is wrong.
        (47, EngineError),
    ],
)
def test_a_fault_before_the_first_block_is_an_answer(code: int, expected: type[Exception]) -> None:
    """It is raised at once, so that the client gets a status and not a broken answer."""
    with pytest.raises(expected):
        run(Scripted([], EngineError("fault", code)))


def test_a_fault_after_the_first_block_is_raised_where_it_comes() -> None:
    """Not before, and not swallowed."""
    blocks = run(Scripted([b"1\n"], EngineError("fault", None)))
    assert next(blocks) == b"1\n"
    with pytest.raises(RetryableError):
        next(blocks)


@pytest.mark.parametrize("taken", [0, 1, 2])
def test_closing_early_closes_the_engine_s_stream(taken: int) -> None:
    """Before the first block as well."""
    engine = Scripted([b"1\n", b"2\n", b"3\n"])
    blocks = run(engine)
    for _ in range(taken):
        next(blocks)
    assert not engine.closed
    blocks.close()
    del blocks
    assert engine.closed
