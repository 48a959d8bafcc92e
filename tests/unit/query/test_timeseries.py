# SPDX-License-Identifier: Apache-2.0
"""Tests of the timeseries statement: what an engine in memory answers to it."""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime, timezone

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from otel_apinalytics.catalogue import BY_NAME, DIMENSIONS, MEASURES, FieldType
from otel_apinalytics.errors import InvalidRequestError
from otel_apinalytics.query.expressions import is_map
from otel_apinalytics.query.statement import Statement
from otel_apinalytics.query.timeseries import run_timeseries
from otel_apinalytics.query.timeseries_parameters import parse_timeseries
from otel_apinalytics.query.timeseries_sql import Compiler
from otel_apinalytics.store.engine import Engine

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
def ask(events: None, memory_store: Engine) -> Ask:
    """Return a function from a question to its points, with the value of the group."""

    def answer(
        application: str, *include: str, start: str = "0", end: str = END, **parameters: str
    ) -> list[tuple[str, int, float]]:
        pairs = [*parameters.items(), *(("include", text) for text in include)]
        question = parse_timeseries(start, end, pairs)
        found = run_timeseries(memory_store, application, question, 30.0)
        return [
            (key[0] if key else "", bucket, value)
            for key, points in found.series.items()
            for bucket, value in points
            if value is not None
        ]

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
    statement = Compiler(question, f"{text}tenant", 1.0).points()
    assert "marker" not in statement.sql
    assert "tenant" not in statement.sql
    assert ask("calls", f"consumer_id:{text}") == [("", 0, 0)]
    assert ask(text) == [("", 0, 0)]


AGGREGATIONS = ("count", "mean", "min", "max", "sum", "percentile_99")
USABLE_DIMENSIONS = [f"{n}.plan" if is_map(BY_NAME[n]) else n for n in DIMENSIONS]
USABLE_MEASURES = [f"{n}.tokens" if is_map(BY_NAME[n]) else n for n in MEASURES]


def test_every_dimension_can_be_grouped_and_filtered_together(ask: Ask) -> None:
    """The engine accepts each combination of parameters that the parser lets through."""
    kinds = {FieldType.INTEGER: "200", FieldType.BOOLEAN: "true"}
    include = [
        f"{name}:{(*field.choices, kinds.get(field.type, 'x'))[0]}"
        for name in USABLE_DIMENSIONS
        for field in [BY_NAME[name.partition(".")[0]]]
    ]
    for group, aggregation in zip(USABLE_DIMENSIONS, itertools.cycle(AGGREGATIONS), strict=False):
        rows = ask("calls", *include, group=group, granularity="week", aggregation=aggregation)
        assert rows == []


@pytest.mark.parametrize("group", USABLE_DIMENSIONS)
def test_every_dimension_adds_up(ask: Ask, group: str) -> None:
    """Whatever the group, each call is in one."""
    rows = ask("calls", "direction:inbound", "direction:outbound", group=group)
    assert sum(value for _, _, value in rows) == 5


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
@pytest.mark.parametrize("measure", USABLE_MEASURES)
def test_every_measure_can_be_aggregated(ask: Ask, measure: str, aggregation: str) -> None:
    """A measure that no call has gives no point, and a count all the same."""
    rows = ask("calls", "consumer_id:alice", value=measure, aggregation=aggregation)
    missing = measure not in ("response_us", "weight") and aggregation != "count"
    assert len(rows) == (0 if missing else 1)


@pytest.mark.parametrize("exact", ["false", "true"])
@pytest.mark.parametrize(
    ("aggregation", "value"),
    [
        *itertools.product([*AGGREGATIONS, "rate", "error_rate"], USABLE_MEASURES),
        *itertools.product(["unique"], USABLE_DIMENSIONS),
    ],
)
def test_the_largest_groups_by_anything(
    computed: None, ask: Ask, value: str, aggregation: str, exact: str
) -> None:
    """The engine can order by each aggregation of each field that there is."""
    rows = ask("kinds", group="status_code", limit="2", value=value, aggregation=aggregation,
               granularity="day", exact=exact)  # fmt: skip
    assert len({key for key, _, _ in rows}) <= 3


# ---- fields that are computed ----

# A Wednesday, 23:59:30 UTC, and two minutes later.
NIGHT = "2017-07-19 23:59:30"
MORNING = "2017-07-20 00:01:30"
DAY_S = 86_400
# Trace, span and parent span, each a letter; and what a question about the calls' time range says.
SPANS = [
    # (application, timestamp, trace, span, parent)
    ("edges", "2017-07-20 12:00:00", "t", "a", ""),
    ("edges", "2017-07-20 12:00:01", "t", "b", "a"),
    # The parent is another's, or of another trace, or was never sent.
    ("edges", "2017-07-20 12:00:02", "t", "c", "x"),
    ("edges", "2017-07-20 12:00:03", "u", "d", "a"),
    ("edges", "2017-07-20 12:00:04", "t", "e", "z"),
    # The parents are outside of the hour that is asked: within a day, and not.
    ("edges", "2017-07-20 12:00:05", "t", "f", "p"),
    ("edges", "2017-07-20 12:00:06", "t", "g", "q"),
    ("edges", "2017-07-20 12:00:07", "t", "h", "r"),
    ("edges", "2017-07-20 12:00:08", "t", "i", "s"),
    ("edges", "2017-07-19 12:00:00", "t", "p", ""),
    ("edges", "2017-07-19 11:59:59", "t", "q", ""),
    ("edges", "2017-07-21 12:59:59", "t", "r", ""),
    ("edges", "2017-07-21 13:00:00", "t", "s", ""),
    ("others", "2017-07-20 12:00:00", "t", "x", ""),
]
EDGES_START = 1_500_552_000
EDGES = {"a", "c", "d", "e", "g", "i"}


@pytest.fixture(scope="module")
def computed(events: None, run_command: Callable[[str], None]) -> None:
    """Store calls that tell the computed fields apart."""
    columns = (
        "timestamp, application, event_id, direction, consumer_id, trace_id, span_id, "
        "parent_span_id"
    )
    rows = [
        f"('{time}', '{application}', {number}, 'inbound', '{span}', '{trace}', '{span}', "
        f"'{parent}')"
        for number, (application, time, trace, span, parent) in enumerate(SPANS)
    ]
    run_command(f"INSERT INTO events ({columns}) VALUES {', '.join(rows)}")
    columns = (
        "timestamp, application, event_id, direction, status_code, response_us, is_stream, weight, "
        "attributes, metrics"
    )
    calls = [
        (NIGHT, 200, 100, False, 1000, "'plan', 'gold'", "'tokens', 1.5"),
        (NIGHT, 201, 100, False, 2000, "'plan', 'gold', 'a.b', 'x'", "'tokens', -3"),
        (MORNING, 404, 100, False, 1000, "'plan', 'free'", "'tokens', 0"),
        (MORNING, 599, 90_000_000, True, 2500, "'plan', ''", ""),
        (MORNING, "NULL", "NULL", False, 1000, "", ""),
    ]
    values = [
        f"('{time}', 'kinds', {number}, 'inbound', {status}, {us}, {stream}, {weight}, "
        f"map({attributes}), map({metrics}))"
        for number, (time, status, us, stream, weight, attributes, metrics) in enumerate(calls)
    ]
    huge = [
        f"('{NIGHT}', 'huge', {number}, 'inbound', 200, 1, false, 1000, map(), map({metrics}))"
        for number, metrics in enumerate(
            ["'up', 1.7e308, 'both', 1.7e308", "'both', -1.7e308", "'down', -1.7e308"]
        )
    ]
    run_command(f"INSERT INTO events ({columns}) VALUES {', '.join([*values, *huge])}")


@pytest.mark.parametrize(
    ("group", "expected"),
    [
        ("status_class", {"2xx": 3, "4xx": 1, "5xx": 2.5, "": 1}),
        ("hour_of_day", {"23": 3, "0": 4.5}),
        ("weekday", {"3": 3, "4": 4.5}),
        ("is_edge", {"true": 7.5}),
        ("is_stream", {"false": 5, "true": 2.5}),
        ("attributes.plan", {"gold": 3, "free": 1, "": 3.5}),
        ("attributes.a.b", {"x": 2, "": 5.5}),
        ("attributes.nothing", {"": 7.5}),
    ],
)
def test_groups_of_computed_fields(
    computed: None, ask: Ask, group: str, expected: dict[str, float]
) -> None:
    """They are grouped and filtered as any other; missing is empty. Calls count by weight."""
    rows = ask("kinds", group=group)
    assert {key: value for key, _, value in rows} == expected
    for key, count in expected.items():
        assert ask("kinds", f"{group}:{key}") == [("", 0, count)]


def test_computed_fields_join_with_others(computed: None, ask: Ask) -> None:
    """Same field is or, different fields are and."""
    assert ask("kinds", "status_class:2xx", "status_class:5xx") == [("", 0, 5.5)]
    assert ask("kinds", "status_class:2xx", "weekday:4") == [("", 0, 0)]
    both = ask("kinds", "attributes.plan:gold", "attributes.a.b:x", group="status_class")
    assert both == [("2xx", 0, 2)]


def test_every_hour_and_weekday_has_its_name(ask: Ask) -> None:
    """Hours count from 0, days from 1 on Monday, in UTC."""
    moments = [datetime.fromtimestamp(time, timezone.utc) for time in TIMES]
    for group, expected in {
        "hour_of_day": Counter(str(moment.hour) for moment in moments),
        "weekday": Counter(str(moment.isoweekday()) for moment in moments),
    }.items():
        assert {key: value for key, _, value in ask("times", group=group)} == expected


def test_an_edge_has_no_parent_among_the_application_s_events(computed: None, ask: Ask) -> None:
    """Parents are looked for in the same trace, in the range and a day around it."""
    bounds = {"start": str(EDGES_START), "end": str(EDGES_START + 3600)}
    found = {key for key, _, _ in ask("edges", "is_edge:true", group="consumer_id", **bounds)}
    assert found == EDGES
    split = ask("edges", group="is_edge", **bounds)
    assert {key: value for key, _, value in split} == {"true": 6, "false": 3}


@pytest.mark.parametrize("end", ["1", END])
def test_edges_at_the_ends_of_time(ask: Ask, end: str) -> None:
    """There is no day before the first, nor one after the last."""
    rows = ask("times", start="0", end=end, group="is_edge")
    assert rows == [("true", 0, sum(time < float(end) for time in TIMES))]


# ---- measures of other kinds ----


@pytest.mark.parametrize(
    ("value", "aggregation", "expected"),
    [
        # Weights are of events, not of requests.
        ("weight", "sum", 7.5),
        ("weight", "mean", 1.5),
        ("weight", "min", 1.0),
        ("weight", "max", 2.5),
        ("weight", "percentile_50", 1.0),
        ("weight", "count", 7.5),
        ("metrics.tokens", "sum", -4.5),
        ("metrics.tokens", "mean", -4.5 / 4),
        ("metrics.tokens", "min", -3.0),
        ("metrics.tokens", "max", 1.5),
        ("metrics.tokens", "count", 7.5),
        # A stream's time is in all aggregations but the percentiles.
        ("response_us", "percentile_99", 100),
        ("response_us", "max", 90_000_000),
        ("response_us", "sum", 225_000_400),
        ("response_us", "mean", 225_000_400 / 6.5),
        ("response_us", "count", 7.5),
    ],
)
def test_values_are_public_ones(
    computed: None, ask: Ask, value: str, aggregation: str, expected: float
) -> None:
    """Events count by weight, which is in requests; an entry that is missing is no zero."""
    ((_, _, found),) = ask("kinds", value=value, aggregation=aggregation)
    assert found == pytest.approx(expected, rel=0.01 if "percentile" in aggregation else 1e-12)


def test_only_streams_have_no_percentile(computed: None, ask: Ask) -> None:
    """Where all are streams there is nothing to rank."""
    assert ask("kinds", "is_stream:true", aggregation="percentile_50") == []
    assert ask("kinds", "is_stream:true") == [("", 0, 2.5)]


@pytest.mark.parametrize("text", HOSTILE)
def test_names_of_entries_are_parameters(computed: None, ask: Ask, text: str) -> None:
    """What a user calls an entry is not in the statement either."""
    parameters = [
        ("group", f"attributes.{text}marker"),
        ("value", f"metrics.{text}marker"),
        ("include", f"attributes.{text}marker:"),
        ("aggregation", "sum"),
    ]
    statement = Compiler(parse_timeseries("0", "1", parameters), "app", 1.0).points()
    assert "marker" not in statement.sql
    assert ask("kinds", group=f"attributes.{text}") == [("", 0, 7.5)]
    assert ask("kinds", value=f"metrics.{text}", aggregation="sum") == []


@pytest.mark.parametrize("metric", ["up", "down", "both"])
def test_a_sum_that_is_no_number_is_said(computed: None, ask: Ask, metric: str) -> None:
    """JSON has no infinity: numbers of the sender's own can be added up to it."""
    with pytest.raises(InvalidRequestError, match="larger than any number"):
        ask("huge", value=f"metrics.{metric}", aggregation="sum")
    assert ask("huge", value=f"metrics.{metric}", aggregation="max")


def test_the_engine_stops_what_takes_too_long(
    memory_store: Engine, run_command: Callable[[str], None]
) -> None:
    """It is not only waited for no longer."""
    run_command(
        "INSERT INTO events (timestamp, application, event_id, direction, response_us, url) "
        "SELECT number, 'long', number, 'inbound', number, toString(number) FROM numbers(300000)"
    )
    parameters = [("aggregation", "unique"), ("value", "url"), ("granularity", "minute")]
    question = parse_timeseries("0", "300000", parameters)
    # In the words of the engine, which is another process here.
    with pytest.raises(AssertionError, match=r"Timeout exceeded: .* maximum: 2\.000 ms"):
        run_timeseries(memory_store, "long", question, 0.002)
    running = "SELECT count() FROM system.processes WHERE query LIKE '%uniqExact%' AND query "
    assert memory_store.query(f"{running} NOT LIKE '%processes%'").rows == [(0,)]


def test_the_statements_of_a_question_share_its_time() -> None:
    """The second has what the first one left."""
    compiler = Compiler(parse_timeseries("0", "1", [("group", "method")]), "app", 1.5)
    first = _limit_of(compiler.ranking(3))
    time.sleep(0.01)
    assert 0 < _limit_of(compiler.points()) < first <= 1.5


def _limit_of(statement: Statement) -> float:
    return float(statement.sql.partition("max_execution_time = ")[2].partition(",")[0])
