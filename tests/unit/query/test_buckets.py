# SPDX-License-Identifier: Apache-2.0
"""Tests of buckets: days, weeks and months of any zone, held against the date of each event.

An event every quarter of an hour; what a bucket should be is found by asking Python's calendar for
the date of each of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from datetime import date, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest

from otel_apinalytics.query.timeseries import run_timeseries
from otel_apinalytics.query.timeseries_parameters import Timeseries, parse_timeseries
from otel_apinalytics.store.engine import Engine

ZONES = (
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Asia/Kolkata",
    "Asia/Kathmandu",
    # Clocks change at midnight, by half an hour, and out of season.
    "America/Santiago",
    "Australia/Lord_Howe",
    "Africa/Casablanca",
    "Pacific/Kiritimati",
    "Pacific/Pago_Pago",
)
STEP_S = 900
YEAR = datetime(2025, 1, 1, tzinfo=timezone.utc), datetime(2026, 1, 1, tzinfo=timezone.utc)
# A Friday is missing in Samoa, between 29 and 31 December 2011.
SAMOA = datetime(2011, 12, 20, tzinfo=timezone.utc), datetime(2012, 1, 10, tzinfo=timezone.utc)
Ask = Callable[..., Mapping[int, float | None]]


@pytest.fixture(scope="module")
def ask(memory_store: Engine, run_command: Callable[[str], None]) -> Iterator[Ask]:
    """Store the events, and return a function from a question to its points."""
    for start, end in (YEAR, SAMOA):
        first, last = round(start.timestamp()), round(end.timestamp())
        run_command(
            "INSERT INTO events (timestamp, application, event_id, direction) SELECT "
            f"fromUnixTimestamp64Micro(({first} + number * {STEP_S}) * 1000000, 'UTC'), 'clock', "
            f"number, 'inbound' FROM numbers({(last - first) // STEP_S})"
        )

    def answer(start: datetime, end: datetime, **parameters: str) -> Mapping[int, float | None]:
        question = parse(start, end, **parameters)
        found = run_timeseries(memory_store, "clock", question, 30.0)
        (points,) = found.series.values()
        times = [time for time, _ in points]
        assert times == sorted(set(times))
        return dict(points)

    yield answer
    run_command("TRUNCATE TABLE events")


def parse(start: datetime, end: datetime, **parameters: str) -> Timeseries:
    """Return a question about a range."""
    return parse_timeseries(start.isoformat(), end.isoformat(), [*parameters.items()])


def first_day(day: date, unit: str) -> date:
    """Return the first day of the week or month of a day, or itself."""
    if unit == "week":
        return day - timedelta(days=day.weekday())
    return day.replace(day=1) if unit == "month" else day


def expected(start: datetime, end: datetime, unit: str, zone: str) -> dict[int, int]:
    """Return start and number of events of each bucket, by the dates of all of them."""
    local = ZoneInfo(zone)
    counts: Counter[date] = Counter()
    starts: dict[date, int] = {}
    time = round((start - timedelta(days=40)).timestamp())
    while time < end.timestamp():
        key = first_day(datetime.fromtimestamp(time, local).date(), unit)
        starts.setdefault(key, time)
        counts[key] += time >= start.timestamp()
        time += STEP_S
    return {starts[key]: count for key, count in counts.items() if count}


@pytest.mark.parametrize("unit", ["day", "week", "month"])
@pytest.mark.parametrize("zone", ZONES)
def test_a_year_of_a_zone(ask: Ask, zone: str, unit: str) -> None:
    """Through both changes of the clock; a bucket has what its days have, 23 or 25 hours too."""
    found = ask(*YEAR, granularity=unit, tz=zone)
    assert found == expected(*YEAR, unit, zone)
    assert list(found) == sorted(found)


def test_days_of_a_change_are_shorter_and_longer(ask: Ask) -> None:
    """As the calendar on the wall says: this is what the tests above compare."""
    for zone, numbers in (
        ("Europe/Berlin", {92, 96, 100}),
        ("America/Santiago", {92, 96, 100}),
        ("Australia/Lord_Howe", {94, 96, 98}),
        ("Asia/Kolkata", {96}),
    ):
        start, end = (time.replace(tzinfo=ZoneInfo(zone)) for time in YEAR)
        inside = start + timedelta(days=1), end - timedelta(days=1)
        assert set(ask(*inside, granularity="day", tz=zone).values()) == numbers


@pytest.mark.parametrize("unit", ["day", "week"])
def test_a_day_that_a_zone_skips(ask: Ask, unit: str) -> None:
    """It is no bucket, also where all are asked for."""
    found = ask(*SAMOA, granularity=unit, tz="Pacific/Apia")
    assert found == expected(*SAMOA, unit, "Pacific/Apia")
    assert ask(*SAMOA, granularity=unit, tz="Pacific/Apia", fill="zero") == found


@pytest.mark.parametrize("unit", ["3600", "day", "week", "month"])
@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/Santiago", "Asia/Kathmandu"])
def test_all_buckets_of_a_range(ask: Ask, zone: str, unit: str) -> None:
    """Filled, the buckets are those with data, and those without."""
    sparse = ask(*YEAR, granularity=unit, tz=zone)
    assert ask(*YEAR, granularity=unit, tz=zone, fill="zero") == sparse
    none = ask(*YEAR, granularity=unit, tz=zone, fill="null", include="consumer_id:nobody")
    assert none == dict.fromkeys(sparse)


@pytest.mark.parametrize("zone", ZONES[:6])
def test_edges_within_a_bucket(ask: Ask, zone: str) -> None:
    """A bucket that the range cuts has what is inside, under the start of the whole."""
    start = YEAR[0] + timedelta(days=80, hours=5, minutes=10)
    end = YEAR[0] + timedelta(days=100, hours=11, minutes=50)
    for unit in ("day", "week", "month"):
        found = ask(start, end, granularity=unit, tz=zone)
        assert found == expected(start + timedelta(minutes=5), end, unit, zone)
        assert (
            sum(value or 0 for value in found.values()) == ask(start, end)[int(start.timestamp())]
        )


@pytest.mark.parametrize("zone", ["America/New_York", "America/Santiago", "Asia/Kolkata"])
@pytest.mark.parametrize("unit", ["7200", "day", "week", "month"])
def test_a_rate_is_of_what_is_inside(ask: Ask, zone: str, unit: str) -> None:
    """Requests per second of the part of the bucket that the range has."""
    start, end = YEAR[0] + timedelta(hours=30), YEAR[1] - timedelta(hours=50)
    rates = ask(start, end, granularity=unit, tz=zone, aggregation="rate")
    assert set(rates.values()) == {1 / STEP_S}
    assert ask(start, end, aggregation="rate") == {round(start.timestamp()): 1 / STEP_S}


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/Santiago", "Asia/Kathmandu"])
def test_hours_and_weekdays_are_local(memory_store: Engine, ask: Ask, zone: str) -> None:
    """As group and as filter."""
    moments = [
        datetime.fromtimestamp(time, ZoneInfo(zone))
        for time in range(round(YEAR[0].timestamp()), round(YEAR[1].timestamp()), STEP_S)
    ]
    for group, counts in {
        "hour_of_day": Counter(str(moment.hour) for moment in moments),
        "weekday": Counter(str(moment.isoweekday()) for moment in moments),
    }.items():
        found = run_timeseries(memory_store, "clock", parse(*YEAR, group=group, tz=zone), 30.0)
        assert {key and key[0]: points[0][1] for key, points in found.series.items()} == counts
        assert [*ask(*YEAR, include=f"{group}:5", tz=zone).values()] == [counts["5"]]


def test_seconds_are_not_of_the_calendar(ask: Ask) -> None:
    """A number of seconds is as wide in any zone, and counted from the epoch."""
    by_number = ask(*YEAR, granularity="86400", tz="Europe/Berlin")
    assert by_number == ask(*YEAR, granularity="day")
    assert by_number != ask(*YEAR, granularity="day", tz="Europe/Berlin")
