# SPDX-License-Identifier: Apache-2.0
"""Tests of percentiles: their distance from the exact ones, of any numbers, weights and levels."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from otel_apinalytics.errors import InvalidRequestError
from otel_apinalytics.query import timeseries
from otel_apinalytics.query.percentiles import ERROR, GAMMA
from otel_apinalytics.query.timeseries import run_timeseries
from otel_apinalytics.query.timeseries_parameters import parse_timeseries
from otel_apinalytics.store.engine import Engine
from tests.engine_fixtures import RunSql

# Value and weight in thousandths of a request.
Weighted = tuple[float, int]
Insert = Callable[..., str]
Percentile = Callable[..., float]
LEVELS = ("0.000001", "1", "25", "50", "75", "90", "95", "99", "99.9", "99.999999")
PHASES = (Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink)
_applications = (f"percentiles{n}" for n in itertools.count())


@pytest.fixture(scope="module")
def insert(run_command: Callable[[str], None]) -> Iterator[Insert]:
    """Return a function that stores values of an application of their own, in so many parts."""

    def run(values: Sequence[Weighted], parts: int = 1) -> str:
        application = next(_applications)
        for part in range(parts):
            rows = ", ".join(
                f"('2017-07-19 12:00:00', '{application}', {number}, 'inbound', {weight}, "
                f"{{'x': {value!r}}}, {value if isinstance(value, int) else 'NULL'})"
                for number, (value, weight) in enumerate(values)
                if number % parts == part
            )
            run_command(
                "INSERT INTO events (timestamp, application, event_id, direction, weight, metrics, "
                f"response_us) VALUES {rows}"
            )
        return application

    yield run
    run_command("TRUNCATE TABLE events")


@pytest.fixture(scope="module")
def percentile(memory_store: Engine) -> Percentile:
    """Return a function from an application and a level to the percentile."""

    def ask(application: str, level: str, value: str = "metrics.x", exact: str = "") -> float:
        parameters = [("aggregation", f"p{level}"), ("value", value), ("exact", exact)]
        question = parse_timeseries("0", "4000000000", parameters)
        ((_, found),) = run_timeseries(memory_store, application, question, 30.0).series[()]
        assert found is not None
        return found

    return ask


def exact_percentile(values: Sequence[Weighted], level: str) -> float:
    """Return the least value that the level's part of all weight does not exceed."""
    rank = sum(weight for _, weight in values) * Fraction(level) / 100
    reached = 0
    for value, weight in sorted(values):
        reached += weight
        if reached >= rank:
            return value
    raise AssertionError


def is_near(found: float, exact: float) -> bool:
    """Whether a percentile is as near as is said; floats are rounded on the way."""
    return abs(found - exact) <= ERROR * abs(exact)


NUMBERS = (
    st.integers(0, 10**12)
    | st.floats(-1e300, 1e300)
    | st.sampled_from([0, 0.0, 1, -1, 5e-324, -5e-324, 1.7e308, 1e-300, 100.0])
    | st.integers(-20, 20).map(lambda n: GAMMA**n)
)
WEIGHTS = st.just(1000) | st.integers(1000, 10**12)


@settings(max_examples=100, deadline=None, phases=PHASES)
@given(
    values=st.lists(st.tuples(NUMBERS, WEIGHTS), min_size=1, max_size=30),
    level=st.sampled_from(LEVELS) | st.integers(1, 99_999_999).map(lambda n: f"{n / 1e6:.6f}"),
)
def test_any_numbers(
    insert: Insert, percentile: Percentile, values: list[Weighted], level: str
) -> None:
    """Large, small, negative, nothing; and exactly, if that is asked for."""
    application, expected = insert(values), exact_percentile(values, level)
    assert is_near(percentile(application, level), expected)
    assert percentile(application, level, exact="true") == expected


def log_normal(source: random.Random) -> float:
    """Return a time such as most services have."""
    return source.lognormvariate(9, 2)


def pareto(source: random.Random) -> float:
    """Return a number whose mean is infinite."""
    return source.paretovariate(0.5)


def two_peaks(source: random.Random) -> float:
    """Return one of a cache, or of a timeout."""
    return source.choice([source.gauss(300, 20), source.gauss(3e7, 1e5)])


@pytest.mark.parametrize("size", [1, 2, 10, 1000, 100_000])
@pytest.mark.parametrize("shape", [log_normal, pareto, two_peaks])
def test_any_size_and_shape(
    insert: Insert,
    percentile: Percentile,
    run_sql: RunSql,
    size: int,
    shape: Callable[[random.Random], float],
) -> None:
    """Few values or many, with a heavy tail or a hole in the middle."""
    source = random.Random(f"{shape.__name__} {size}")
    values = [
        (int(shape(source)), source.choice([1000, 1000, source.randrange(1000, 100_000)]))
        for _ in range(size)
    ]
    application = insert(values)
    for level in LEVELS:
        expected = exact_percentile(values, level)
        assert is_near(percentile(application, level, "response_us"), expected)
        assert percentile(application, level, "response_us", "true") == expected


def test_equal_weights_are_as_the_engine_s_own_sketch(
    insert: Insert, percentile: Percentile, run_sql: RunSql
) -> None:
    """Two sketches, each within 1 %, of the same method."""
    source = random.Random(7)
    application = insert([(int(log_normal(source)), 1000) for _ in range(20_000)])
    for level in (0.01, 0.25, 0.5, 0.95, 0.99):
        ((theirs,),) = run_sql(
            f"SELECT quantileDD(0.01, {level})(response_us) FROM events "
            f"WHERE application = '{application}'"
        )
        ours = percentile(application, f"{level * 100:g}", "response_us")
        assert math.isclose(ours, theirs, rel_tol=2 * ERROR + 0.001)


def test_neither_order_nor_parts_matter(insert: Insert, percentile: Percentile) -> None:
    """The same events, the same answer, to the last digit."""
    source = random.Random(11)
    values = [(log_normal(source), source.randrange(1000, 5000)) for _ in range(3000)]
    answers = set()
    for parts in (1, 7, 30):
        source.shuffle(values)
        application = insert(values, parts)
        answers.add(tuple(percentile(application, level) for level in LEVELS))
    assert len(answers) == 1


@pytest.mark.parametrize("value", [0, 1, 7, 49, 5_000_000, 600_000_000_000, -3.5, 0.001])
def test_what_is_always_the_same_is_exact(
    insert: Insert, percentile: Percentile, value: float
) -> None:
    """A service that always takes five seconds has no percentile of five and a bit."""
    application = insert([(value, 1000)] * 3)
    found = percentile(application, "95")
    assert (found, str(found)) == (value, str(value))


def test_a_weight_is_as_many_events(insert: Insert, percentile: Percentile) -> None:
    """One that stands for ninety-nine has ninety-nine of a hundred ranks."""
    application = insert([(10, 99_000), (10_000, 1000)])
    assert percentile(application, "99") == 10
    assert percentile(application, "99.000001") == 10_000


def test_exact_ones_have_a_limit(
    insert: Insert, percentile: Percentile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is said, with the way out; as many are allowed."""
    application = insert([(value, 1000) for value in range(10)])
    monkeypatch.setattr(timeseries, "MAX_EXACT_VALUES", 10)
    assert percentile(application, "50", exact="true") == 4
    monkeypatch.setattr(timeseries, "MAX_EXACT_VALUES", 9)
    with pytest.raises(InvalidRequestError, match="10 values") as caught:
        percentile(application, "50", exact="true")
    assert (caught.value.parameter, caught.value.allowed) == ("exact", "at most 9 values")
    assert percentile(application, "50") == 4
