# SPDX-License-Identifier: Apache-2.0
"""Tests of the timeseries statement: what an engine in memory answers to it."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from otel_apinalytics.catalogue import DIMENSIONS
from otel_apinalytics.query.parameters import parse_timeseries
from otel_apinalytics.query.timeseries import compile_timeseries

RunSql = Callable[..., list[list[Any]]]
Ask = Callable[..., list[tuple[str, int, float]]]
PHASES = (Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink)

# Seconds with a fraction: around the bounds of hours, days, weeks and years.
TIMES = [
    0.0, 0.5, 3599.999999, 3600.0, 86_399.5, 86_400.0, 345_599.0, 345_600.0, 950_399.0, 950_400.0,
    1_399_999_999.0, 1_400_000_000.0, 1_400_000_000.25, 1_400_001_234.0, 1_400_457_599.0,
    1_400_457_600.0, 1_400_600_000.0, 1_456_704_000.0, 1_483_228_799.0, 1_483_228_800.0,
    4_000_000_000.0,
]  # fmt: skip
END = "4294967295"


@pytest.fixture(scope="module")
def events(run_command: Callable[[str], None]) -> Iterator[None]:
    """Store an event at each of the times, and a few of other kinds."""
    columns = "timestamp, application, event_id, direction, consumer_id, response_us, status_code"
    rows = [
        f"(fromUnixTimestamp64Micro({round(time * 1_000_000)}, 'UTC'), 'times', {number}, "
        "'inbound', '', NULL, NULL)"
        for number, time in enumerate(TIMES)
    ]
    calls = [
        ("inbound", "alice", 10, 200),
        ("inbound", "alice", 20, 500),
        ("inbound", "bob", 30, 200),
        ("inbound", "", "NULL", "NULL"),
        ("outbound", "alice", 1000, 200),
    ]
    rows += [
        f"('2014-05-13 16:53:{number:02}', 'calls', {number}, '{direction}', '{consumer_id}', "
        f"{response_us}, {status_code})"
        for number, (direction, consumer_id, response_us, status_code) in enumerate(calls)
    ]
    run_command(f"INSERT INTO events ({columns}) VALUES {', '.join(rows)}")
    yield
    run_command("TRUNCATE TABLE events")


@pytest.fixture(scope="module")
def ask(events: None, run_sql: RunSql) -> Ask:
    """Return a function from a question to its rows."""

    def answer(
        application: str, *include: str, start: str = "0", end: str = END, **parameters: str
    ) -> list[tuple[str, int, float]]:
        pairs = [*parameters.items(), *(("include", text) for text in include)]
        question = parse_timeseries(start, end, pairs)
        statement = compile_timeseries(question, application, 30.0)
        rows = run_sql(statement.sql, dict(statement.parameters))
        return [(key, bucket, value) for key, bucket, value in rows]

    return answer


@pytest.mark.parametrize("seconds", [86_400, 90_000, 100_000, 604_800, 5_000_000, 9_999_999_999])
def test_buckets_begin_at_multiples_of_their_width(ask: Ask, seconds: int) -> None:
    """A bucket is labeled with its start; weeks begin on Monday."""
    offset = 3 * 86_400 if seconds == 604_800 else 0
    expected = Counter((int(time) + offset) // seconds * seconds - offset for time in TIMES)
    assert ask("times", granularity=str(seconds)) == [
        ("", bucket, count) for bucket, count in sorted(expected.items())
    ]


@pytest.mark.parametrize(
    ("name", "seconds"), [("second", 1), ("minute", 60), ("hour", 3600), ("7", 7)]
)
def test_fine_buckets(ask: Ask, name: str, seconds: int) -> None:
    """Small buckets begin at multiples of their width as well."""
    start, end = 1_399_990_000, 1_400_010_000
    expected = Counter(int(time) // seconds * seconds for time in TIMES if start <= time < end)
    assert ask("times", start=str(start), end=str(end), granularity=name) == [
        ("", bucket, count) for bucket, count in sorted(expected.items())
    ]


def test_weeks_begin_on_monday(ask: Ask) -> None:
    """The calendar says so too, at midnight UTC."""
    for _, bucket, _ in ask("times", granularity="week"):
        begin = datetime.fromtimestamp(bucket, timezone.utc)
        assert (begin.weekday(), begin.hour, begin.minute, begin.second) == (0, 0, 0, 0)


def test_without_granularity_there_is_one_bucket(ask: Ask) -> None:
    """It is labeled with the start of the range, and is there even when nothing is counted."""
    assert ask("times") == [("", 0, len(TIMES))]
    assert ask("times", start="5.75", end="6") == [("", 5, 0)]
    assert ask("nobody") == [("", 0, 0)]
    assert ask("nobody", granularity="week") == []


@settings(deadline=None, max_examples=50, phases=PHASES)
@given(bounds=st.lists(st.sampled_from(TIMES) | st.floats(0, 4e9), min_size=2, max_size=2))
def test_the_range_is_half_open(ask: Ask, bounds: list[float]) -> None:
    """The start belongs to the range, the end does not, to the microsecond."""
    start, end = (f"{bound:.6f}" for bound in sorted(bounds))
    if start == end:
        return
    expected = sum(float(start) <= time < float(end) for time in TIMES)
    assert ask("times", start=start, end=end) == [("", int(float(start)), expected)]


@pytest.mark.parametrize(
    ("aggregation", "expected"),
    [("count", 4), ("mean", 20), ("min", 10), ("max", 30), ("sum", 60), ("percentile_50", 20)],
)
def test_aggregations(ask: Ask, aggregation: str, expected: float) -> None:
    """Calls without the value are counted, and are in no other aggregation."""
    ((_, _, value),) = ask("calls", aggregation=aggregation)
    assert value == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize("aggregation", ["mean", "min", "max", "sum", "percentile_95"])
def test_no_value_is_no_point(ask: Ask, aggregation: str) -> None:
    """Nothing is made up where no call has the value."""
    assert ask("calls", "status_code:", aggregation=aggregation) == []
    assert ask("nobody", aggregation=aggregation) == []


@pytest.mark.parametrize(
    ("group", "expected"),
    [
        ("consumer_id", {"": 1, "alice": 2, "bob": 1}),
        ("status_code", {"": 1, "200": 2, "500": 1}),
        ("is_error", {"false": 4}),
        ("direction", {"inbound": 4, "outbound": 1}),
    ],
)
def test_groups(ask: Ask, group: str, expected: dict[str, int]) -> None:
    """Groups are text, a missing value is empty, and only a question about direction has both."""
    assert {key: value for key, _, value in ask("calls", group=group)} == expected


@pytest.mark.parametrize(
    ("include", "count"),
    [
        ((), 4),
        (("consumer_id:alice",), 2),
        (("consumer_id:alice", "consumer_id:bob"), 3),
        (("consumer_id:alice", "status_code:200"), 1),
        (("consumer_id:",), 1),
        (("status_code:",), 1),
        (("is_error:true",), 0),
        (("is_error:false",), 4),
        (("direction:outbound",), 1),
        (("direction:inbound", "direction:outbound"), 5),
        (("consumer_id:nobody",), 0),
    ],
)
def test_include(ask: Ask, include: tuple[str, ...], count: int) -> None:
    """One field means or, several mean and, nothing means missing."""
    assert ask("calls", *include) == [("", 0, count)]


HOSTILE = [
    "'",
    "\\",
    "x' OR '1'='1",
    "') OR 1=1 --",
    "%(application)s",
    "{a:String}",
    "%s",
    "a\0b",
    "é;",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_no_text_of_a_user_is_in_the_statement(ask: Ask, text: str) -> None:
    """What a user sends is a parameter, and means itself."""
    question = parse_timeseries("0", "1", [("include", f"consumer_id:{text}marker")])
    statement = compile_timeseries(question, f"{text}tenant", 1.0)
    assert "marker" not in statement.sql
    assert "tenant" not in statement.sql
    assert ask("calls", f"consumer_id:{text}") == [("", 0, 0)]
    assert ask(text) == [("", 0, 0)]


def test_every_dimension_can_be_grouped_and_filtered_together(ask: Ask) -> None:
    """The engine accepts each combination of parameters that the parser lets through."""
    values = {"status_code": "200", "is_error": "true"}
    aggregations = itertools.cycle(["count", "mean", "min", "max", "sum", "percentile_99"])
    for group, aggregation in zip(DIMENSIONS, aggregations, strict=False):
        include = [f"{name}:{values.get(name, 'x')}" for name in DIMENSIONS]
        rows = ask("calls", *include, group=group, granularity="week", aggregation=aggregation)
        assert rows == []


def test_the_time_limit_is_in_the_statement() -> None:
    """The engine itself stops a question that takes too long."""
    question = parse_timeseries("0", "1", [])
    assert "max_execution_time = 1.5" in compile_timeseries(question, "app", 1.5).sql
