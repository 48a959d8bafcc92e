# SPDX-License-Identifier: Apache-2.0
"""Tests that answers are right: any question about any events is as a model has it.

Events are weighted, and some are stored twice, as a span that came with two requests is: until a
merge it counts twice, and all answers agree on that; afterwards it counts once.
"""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from otel_apinalytics.query.timeseries import Answer, run_timeseries
from otel_apinalytics.query.timeseries_parameters import parse_timeseries
from otel_apinalytics.store.engine import Engine
from tests.unit.query.model import AGGREGATIONS, Call, Question, Series, answer

PHASES = (Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink)
# Half a day before the clocks of Berlin went forward, and two days after.
START, END = 1_490_447_000_000_000, 1_490_706_200_000_000
US = 1_000_000
# Groups that are named like the one of all that are folded, and text that patterns are made of.
CONSUMERS = ("", "alice", "bob", "other", "(other)", "a%b", "a_b", "a*b", "é\\", "a'b", "a\nb")
DIMENSIONS = ("consumer_id", "method", "attributes.plan", "status_code", "status_class",
              "is_error", "hour_of_day", "weekday")  # fmt: skip
ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe")
_applications = (f"exact{number}" for number in itertools.count())

TIMES = st.integers(START, END - 1) | st.sampled_from(
    [
        START,
        START + 1,
        END - 1,
        1_490_486_400 * US,
        1_490_486_400 * US - 1,
        1_490_490_000 * US,
        1_490_572_800 * US,
        1_490_659_200 * US - 1,
        1_490_659_200 * US,
    ]
)
CALLS = st.lists(
    st.builds(
        Call,
        number=st.just(0),
        time_us=TIMES,
        consumer_id=st.sampled_from(CONSUMERS),
        method=st.sampled_from(["GET", "PUT", ""]),
        plan=st.sampled_from(["gold", "free", ""]),
        status_code=st.sampled_from([None, 200, 204, 404, 500, 503]),
        response_us=st.none() | st.integers(0, 604_800_000_000),
        units=st.none() | st.integers(-(2**53), 2**53).map(lambda n: n / 1024),
        weight=st.just(1000) | st.integers(1000, 10**12),
        is_error=st.booleans(),
        is_stream=st.booleans(),
    ),
    max_size=25,
).map(lambda calls: [replace(call, number=n) for n, call in enumerate(calls)])

FILTERS = st.lists(
    st.one_of(
        st.tuples(st.just("consumer_id"), st.sampled_from([
            "", "*", "a*", "*b", r"a\*b", "a%b", "a_b", "other", "é\\", "nobody", "a*b"])),
        st.tuples(st.just("status_code"), st.sampled_from(["", "200", "5xx", "20*", "*"])),
        st.tuples(st.just("status_class"), st.sampled_from(["", "2xx", "5*"])),
        st.tuples(st.just("is_error"), st.sampled_from(["true", "false"])),
        st.tuples(st.just("attributes.plan"), st.sampled_from(["", "gold", "*e"])),
        st.tuples(st.just("hour_of_day"), st.sampled_from(["0", "23", "1*"])),
    ),
    max_size=3,
).map(tuple)  # fmt: skip
BOUNDS = st.lists(TIMES | st.just(END), min_size=2, max_size=2, unique=True).map(sorted)


@st.composite
def questions(draw: st.DrawFn) -> Question:
    """Return any question."""
    start_us, end_us = draw(st.just((START, END)) | BOUNDS.map(tuple))
    aggregation = draw(st.sampled_from(AGGREGATIONS))
    measures = ("consumer_id", "status_code") if aggregation == "unique" else (
        "response_us", "metrics.units")  # fmt: skip
    groups = draw(st.lists(st.sampled_from(DIMENSIONS), max_size=3, unique=True).map(tuple))
    return Question(
        start_us,
        end_us,
        aggregation,
        draw(st.sampled_from(measures)),
        draw(st.sampled_from(["", "3600", "7200", "977", "day", "week", "month"])),
        draw(st.sampled_from(ZONES)),
        groups,
        draw(FILTERS),
        draw(FILTERS),
        draw(st.none() | st.integers(1, 4)) if groups else None,
    )


class Events:
    """The table of events, of which the tests decide when parts are merged.

    Args:
        command: Runs a statement.
    """

    def __init__(self, command: Callable[[str], None]) -> None:
        self._command = command
        self.application = ""

    def store(self, calls: Sequence[Call], again: Sequence[Call]) -> None:
        """Store calls, and some of them once more, under another application than before."""
        self.application = next(_applications)
        self._command("SYSTEM STOP MERGES events")
        for version, part in enumerate((calls, again)):
            if part:
                rows = ", ".join(self._row(call, version) for call in part)
                self._command(
                    "INSERT INTO events (timestamp, application, event_id, version, direction, "
                    "consumer_id, method, attributes, status_code, response_us, metrics, weight, "
                    f"is_error, is_stream) SETTINGS optimize_on_insert = 0 VALUES {rows}"
                )

    def merge(self) -> None:
        """Merge all that is stored."""
        self._command("SYSTEM START MERGES events")
        self._command("OPTIMIZE TABLE events FINAL")

    def clear(self) -> None:
        """Empty the table, and leave merges to the engine."""
        self._command("SYSTEM START MERGES events")
        self._command("TRUNCATE TABLE events")

    def _row(self, call: Call, version: int) -> str:
        plan = f"{{'plan': '{call.plan}'}}" if call.plan else "{}"
        units = "{}" if call.units is None else f"{{'units': {call.units!r}}}"
        consumer = call.consumer_id.replace("\\", "\\\\").replace("'", "\\'")
        return (
            f"({call.time_us / US:.6f}, '{self.application}', {call.number}, {version}, 'inbound', "
            f"'{consumer}', '{call.method}', {plan}, {call.status_code or 'NULL'}, "
            f"{'NULL' if call.response_us is None else call.response_us}, {units}, {call.weight}, "
            f"{call.is_error}, {call.is_stream})"
        )


@pytest.fixture(scope="module")
def events(run_command: Callable[[str], None]) -> Iterator[Events]:
    """Return the table."""
    table = Events(run_command)
    yield table
    table.clear()


def ask(store: Engine, events: Events, question: Question) -> Answer:
    """Return what the engine answers."""
    bounds = [f"{us // US}.{us % US:06}" for us in (question.start_us, question.end_us)]
    parsed = parse_timeseries(bounds[0], bounds[1], question.parameters())
    return run_timeseries(store, events.application, parsed, 30.0)


def assert_equal(found: Answer, expected: Series) -> None:
    """Assert that an answer is that of the model; fractions are the nearest float."""
    series = {key: dict(points) for key, points in found.series.items() if points}
    assert series.keys() == expected.keys()
    for key, points in expected.items():
        assert series[key].keys() == points.keys()
        for time, value in points.items():
            number = series[key][time]
            assert number is not None
            if isinstance(number, int):
                assert number == value
            else:
                assert math.isclose(number, value, rel_tol=1e-15, abs_tol=1e-300)


@settings(max_examples=60, deadline=None, phases=PHASES)
@given(data=st.data(), calls=CALLS)
def test_any_question(
    memory_store: Engine, events: Events, data: st.DataObject, calls: list[Call]
) -> None:
    """Before a merge and after it; groups and the rest are the whole, and so are buckets."""
    again = [call for call in calls if data.draw(st.booleans())]
    asked = data.draw(st.lists(questions(), min_size=3, max_size=3))
    events.store(calls, again)
    for question in asked:
        check(memory_store, events, question, [*calls, *again])
    events.merge()
    for question in asked:
        check(memory_store, events, question, calls)


def check(store: Engine, events: Events, question: Question, calls: Sequence[Call]) -> None:
    """Check an answer against the model, and against other answers."""
    # Of calls that are stored twice the model needs to know which is which.
    found, expected = ask(store, events, question), answer(question, calls)
    assert_equal(found, expected)
    assert list(found.series)[-1:] == [None] or None not in found.series
    if question.aggregation not in ("count", "sum"):
        return
    undivided = replace(question, groups=(), granularity="", limit=None)
    total = points_of(ask(store, events, undivided)).values()
    buckets = points_of(ask(store, events, replace(question, groups=(), limit=None)))
    sums: dict[int, Fraction] = defaultdict(Fraction)
    for points in found.series.values():
        for time, value in points:
            sums[time] += Fraction(value or 0)
    for time, whole in buckets.items():
        assert math.isclose(sums.pop(time, 0), whole, rel_tol=1e-12, abs_tol=1e-9)
    assert not sums
    assert math.isclose(sum(buckets.values()), sum(total), rel_tol=1e-12, abs_tol=1e-9)


def points_of(found: Answer) -> dict[int, Fraction]:
    """Return the points of an answer that has but one group."""
    (points,) = found.series.values()
    return {time: Fraction(value) for time, value in points if value is not None}


@settings(max_examples=40, deadline=None, phases=PHASES)
@given(calls=CALLS, question=questions())
def test_whole_numbers_add_up_exactly(
    memory_store: Engine, events: Events, calls: list[Call], question: Question
) -> None:
    """In integers of any size: no float is in between."""
    whole = [replace(call, weight=call.weight // 1000 * 1000) for call in calls]
    events.store(whole, [])
    for aggregation in ("count", "sum"):
        asked = replace(question, aggregation=aggregation, value="response_us")
        found = ask(memory_store, events, asked)
        values = [value for points in found.series.values() for _, value in points]
        assert all(isinstance(value, int) for value in values)
        total = ask(memory_store, events, replace(asked, groups=(), granularity="", limit=None))
        assert [sum(filter(None, values))] == [v for _, v in total.series[()]] or not values


def test_sampled_data_is_marked(memory_store: Engine, events: Events) -> None:
    """Only where an event that stands for several is counted."""
    call = Call(0, START, "alice", "GET", "", 200, 5, None, 1000, False, False)
    events.store([call, replace(call, number=1, time_us=START + 10, weight=1001)], [])
    for aggregation in AGGREGATIONS:
        question = Question(START, START + 5, aggregation)
        question = replace(question, value="method") if aggregation == "unique" else question
        assert ask(memory_store, events, question).is_sampled is False
        assert ask(memory_store, events, replace(question, end_us=END)).is_sampled is True


def test_groups_of_equal_size_are_in_order_of_their_names(
    memory_store: Engine, events: Events
) -> None:
    """The same question has the same answer; what is folded is said, and comes last."""
    call = Call(0, START, "", "GET", "", 200, 5, None, 1000, False, False)
    names = ["d", "b", "a", "c", "other"]
    calls = [replace(call, number=n, consumer_id=name) for n, name in enumerate([*names, "d"])]
    events.store(calls, [])
    limited = ask(memory_store, events, Question(START, END, groups=("consumer_id",), limit=3))
    assert [*limited.series] == [("d",), ("a",), ("b",), None]
    assert limited.folded == 2
    every = ask(memory_store, events, Question(START, END, groups=("consumer_id",), limit=5))
    assert None not in every.series
    assert every.folded == 0
