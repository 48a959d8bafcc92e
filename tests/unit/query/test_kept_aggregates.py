# SPDX-License-Identifier: Apache-2.0
"""Tests of what the engine keeps summed up: it is used, and answers as the events do."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pytest

from otel_apinalytics.query.timeseries import Answer, run_timeseries
from otel_apinalytics.query.timeseries_parameters import parse_timeseries
from otel_apinalytics.query.values import run_values
from otel_apinalytics.query.values_parameters import parse_values
from otel_apinalytics.store.engine import Engine, Rows

APPLICATION = "kept"
# Four days from a midnight, and a range that begins and ends within an hour.
MIDNIGHT, DAY_S = 1_490_486_400, 86_400
START, END = MIDNIGHT + 5000, MIDNIGHT + 4 * DAY_S - 5000
ONE = (
    ("consumer_id", "consumer-0"),
    ("route", "/0/{id}"),
    ("service", "service-0"),
)
# What dashboards ask, and what answers it: the largest groups, then the points; days and hours.
QUESTIONS: Sequence[tuple[str, str]] = [
    ("", "surface surface_days"),
    ("granularity=hour", "surface"),
    ("granularity=day", "surface surface_days"),
    ("granularity=week tz=Europe/Berlin", "surface"),
    ("granularity=day tz=Asia/Kathmandu", "surface"),
    ("granularity=hour aggregation=error_rate", "surface"),
    ("granularity=hour aggregation=rate", "surface"),
    ("granularity=hour aggregation=mean", "surface"),
    ("granularity=hour aggregation=sum", "surface"),
    ("granularity=hour aggregation=min", "surface"),
    ("granularity=hour aggregation=max", "surface"),
    ("granularity=hour group=method", "surface"),
    ("granularity=hour group=status_class", "surface"),
    ("granularity=hour group=weekday", "surface"),
    ("granularity=hour group=route limit=3", "surface surface_days"),
    ("granularity=hour group=service limit=1 aggregation=error_rate", "surface surface_days"),
    ("granularity=hour group=consumer_id limit=3", "consumer_days consumers surface"),
    (
        "granularity=day group=consumer_id limit=3 aggregation=error_rate",
        "consumer_days consumers surface surface_days",
    ),
    ("granularity=day aggregation=unique", "consumer_days consumers"),
    ("granularity=hour include=consumer_id:consumer-0", "consumers"),
    ("granularity=hour include=consumer_id:consumer-0 group=route", "consumer_routes"),
    ("granularity=hour include=consumer_id:consumer-0 group=method", "consumer_statuses"),
    ("granularity=hour include=consumer_id:consumer-0 group=status_class", "consumer_statuses"),
    (
        "granularity=day include=consumer_id:consumer-0 include=method:GET aggregation=error_rate",
        "consumer_statuses",
    ),
    (
        "granularity=hour include=consumer_id:consumer-0 group=route group=method",
        "consumer_events",
    ),
    ("granularity=hour include=consumer_id:consumer-0 aggregation=p95", "consumer_events"),
    ("granularity=hour include=route:/0/{id}", "surface"),
    ("granularity=hour include=route:/0/{id} group=status_class", "surface"),
    (
        "granularity=hour include=route:/0/{id} group=consumer_id limit=2",
        "consumer_routes route_consumer_days surface",
    ),
    ("granularity=hour include=service:service-0 group=route limit=2", "surface surface_days"),
    (
        "granularity=hour include=service:service-0 group=consumer_id limit=2",
        "consumer_routes route_consumer_days surface",
    ),
    ("granularity=hour aggregation=p50", "bins"),
    ("granularity=hour aggregation=p95 group=route", "bins"),
    ("granularity=hour aggregation=p99 group=route limit=2", "bin_days bins"),
    ("aggregation=p99", "bin_days bins"),
]


class Asked(Engine):
    """Answers from the engine in memory, and remembers what it kept that was read.

    Args:
        store: The engine.
        use: Whether anything but events may be read.
    """

    def __init__(self, store: Engine, *, use: bool) -> None:
        self._store, self._use = store, use
        self.read: set[str] = set()

    def query(self, sql: str, parameters: Mapping[str, Any] | None = None) -> Rows:
        """Return the rows of a SELECT."""
        sql += f", optimize_use_projections = {int(self._use)}"
        plan = self._store.query(f"EXPLAIN {sql}", parameters).rows
        names = re.findall(r"ReadFromMergeTree \(([^)]*)\)", "\n".join(row[0] for row in plan))
        self.read |= {name for name in names if not name.endswith(".events")}
        return self._store.query(sql, parameters)


@pytest.fixture(scope="module")
def events(run_command: Callable[[str], None]) -> Iterator[Callable[[], None]]:
    """Store events, some of them twice; return what merges them."""
    random.seed(1)
    rows = [_row(number) for number in range(3000)]
    columns = (
        "timestamp, application, event_id, version, direction, consumer_id, service, route, "
        "method, status_code, is_error, is_stream, response_us, weight"
    )
    run_command("SYSTEM STOP MERGES events")
    for part in (rows, rows[::7], [_row(number, "outbound") for number in range(4000, 4100)]):
        run_command(
            f"INSERT INTO events ({columns}) SETTINGS optimize_on_insert = 0 "
            f"VALUES {', '.join(part)}"
        )
    # So many that it matters in which order they are read.
    run_command(
        f"INSERT INTO events (timestamp, application, event_id, direction, consumer_id, service, "
        "route, method, status_code, response_us, weight) SELECT "
        f"{MIDNIGHT} + number, '{APPLICATION}', 10000 + number, 'inbound', "
        "concat('consumer-', toString(number % 30)), 'service-0', '/0/{id}', 'GET', 200, number, "
        f"1000 FROM numbers({DAY_S})"
    )

    def merge() -> None:
        run_command("SYSTEM START MERGES events")
        run_command("OPTIMIZE TABLE events FINAL")

    yield merge
    merge()
    run_command("TRUNCATE TABLE events")


def _row(number: int, direction: str = "inbound") -> str:
    route = min(random.randrange(8), random.randrange(8))
    status = random.choice([200, 200, 201, 404, 500, 503, None])
    response = random.choice(["NULL", "0", str(round(random.lognormvariate(10, 2)))])
    return (
        f"({MIDNIGHT + random.random() * 4 * DAY_S:.6f}, '{APPLICATION}', {number}, 1, "
        f"'{direction}', 'consumer-{min(random.randrange(30), random.randrange(30))}', "
        f"'service-{route % 3}', '/{route}/{{id}}', '{random.choice(['GET', 'PUT'])}', "
        f"{status or 'NULL'}, {status is not None and status >= 500}, {random.random() < 0.1}, "
        f"{response}, {random.choice([1000, 1000, 2500])})"
    )


def ask(store: Engine, text: str) -> Answer:
    """Return the answer to a question in words of the API."""
    pairs = [(name, value) for name, _, value in (each.partition("=") for each in text.split())]
    return run_timeseries(store, APPLICATION, parse_timeseries(str(START), str(END), pairs), 30.0)


def test_dashboards_are_answered_from_aggregates(
    events: Callable[[], None], memory_store: Engine
) -> None:
    """Each by what it should be, and as from the events: with copies, and after a merge."""
    first = {}
    for text, names in QUESTIONS:
        first[text] = _asked_both_ways(memory_store, text, names)
    events()
    for text, names in QUESTIONS:
        merged = _asked_both_ways(memory_store, text, names)
        if "aggregation=" not in text:
            assert merged.series != first[text].series, "copies have gone, and counts with them"


def _asked_both_ways(store: Engine, text: str, names: str) -> Answer:
    by_aggregates, by_events = Asked(store, use=True), Asked(store, use=False)
    found, expected = ask(by_aggregates, text), ask(by_events, text)
    assert by_aggregates.read == set(names.split()), text
    assert not by_events.read
    assert (found.series, found.folded, found.is_sampled) == (
        expected.series,
        expected.folded,
        expected.is_sampled,
    ), text
    assert found.series
    return found


@pytest.mark.parametrize("group", ["method", "status_class", "is_error"])
@pytest.mark.parametrize("aggregation", ["count", "rate", "error_rate", "mean", "sum"])
@pytest.mark.usefixtures("events")
def test_groups_are_ranked_alike_by_their_points(
    memory_store: Engine, group: str, aggregation: str
) -> None:
    """As by a statement of its own, which those with more groups need."""
    text = f"granularity=hour group={group} aggregation={aggregation}"
    every = ask(memory_store, f"{text} limit=20")
    assert not every.folded
    for limit in range(1, len(every.series) + 1):
        some = ask(memory_store, f"{text} limit={limit}")
        named = [key for key in some.series if key is not None]
        assert named == [*every.series][:limit]
        assert some.folded == len(every.series) - limit
        assert [some.series[key] for key in named] == [every.series[key] for key in named]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("consumer_id", "consumer_days consumers"),
        (
            "consumer_id prefix=consumer-1 include=route:/0/{id}",
            "consumer_routes route_consumer_days",
        ),
        ("route", "surface surface_days"),
        ("status_class tz=Asia/Kathmandu", "surface surface_days"),
        ("weekday tz=Asia/Kathmandu", ""),
        ("environment", ""),
    ],
)
@pytest.mark.usefixtures("events")
def test_menus_are_filled_from_aggregates(memory_store: Engine, text: str, name: str) -> None:
    """As from the events; where an hour has two weekdays, only from these."""
    field, *others = text.split()
    pairs = [(name, value) for name, _, value in (each.partition("=") for each in others)]
    bounds = [("start", str(START)), ("end", str(END))]
    question = parse_values(field, [*bounds, *pairs])
    by_aggregates, by_events = Asked(memory_store, use=True), Asked(memory_store, use=False)
    found = run_values(by_aggregates, APPLICATION, question, 30.0)
    assert by_aggregates.read == set(name.split())
    assert found == run_values(by_events, APPLICATION, question, 30.0)
    assert not by_events.read
    assert found.counts


@pytest.mark.parametrize(
    "text",
    [
        "granularity=hour group=organization_id",
        "granularity=hour group=attributes.plan",
        "granularity=hour include=environment:production",
        "granularity=minute",
        "granularity=hour value=request_bytes aggregation=sum",
        "granularity=hour aggregation=unique value=url",
    ],
)
def test_other_questions_are_answered_from_events(memory_store: Engine, text: str) -> None:
    """As the documentation says."""
    store = Asked(memory_store, use=True)
    ask(store, text)
    assert not store.read
