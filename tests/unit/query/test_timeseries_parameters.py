# SPDX-License-Identifier: Apache-2.0
"""Tests of a timeseries' parameters: defaults, what is allowed, how the rest is refused."""

from __future__ import annotations

import contextlib
from datetime import timezone
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_apinalytics.catalogue import BY_NAME, DIMENSIONS, MAX_ENTRY_NAME_LENGTH, MEASURES
from otel_apinalytics.errors import InvalidRequestError
from otel_apinalytics.query.aggregations import Aggregation
from otel_apinalytics.query.buckets import Granularity
from otel_apinalytics.query.expressions import Operand, is_map
from otel_apinalytics.query.filters import NO_FILTERS
from otel_apinalytics.query.parameters import field_names
from otel_apinalytics.query.timeseries_parameters import (
    FILLS,
    FORMATS,
    MAX_GROUP_FIELDS,
    MAX_GROUPS,
    MAX_POINTS,
    PARAMETERS,
    Timeseries,
    parse_timeseries,
)

REPEATABLE = ("group", "include", "exclude")
# What a question can name: a field, or an entry of a map.
USABLE_MEASURES = [f"{n}.x" if is_map(BY_NAME[n]) else n for n in MEASURES]
USABLE_DIMENSIONS = [f"{n}.x" if is_map(BY_NAME[n]) else n for n in DIMENSIONS]
LONGEST = "n" * MAX_ENTRY_NAME_LENGTH


def parse(*parameters: tuple[str, str], start: str = "0", end: str = "86400") -> Timeseries:
    """Parse the parameters of a question about a day."""
    return parse_timeseries(start, end, parameters)


def refusal(
    *parameters: tuple[str, str], start: str = "0", end: str = "86400"
) -> InvalidRequestError:
    """Return the error that parameters give; it always says what would be allowed."""
    with pytest.raises(InvalidRequestError) as caught:
        parse(*parameters, start=start, end=end)
    assert caught.value.parameter is not None
    assert caught.value.value is not None
    assert caught.value.allowed
    return caught.value


@pytest.mark.parametrize("parameters", [(), tuple((name, "") for name in PARAMETERS)])
def test_defaults(parameters: tuple[tuple[str, str], ...]) -> None:
    """Left out or empty: the number of calls, in one bucket, ungrouped, unfiltered."""
    question = parse(*parameters)
    assert question.value.name == "response_us"
    assert question.aggregation == Aggregation("count")
    assert question.granularity is None
    assert question.groups == ()
    assert question.filters == NO_FILTERS
    assert (question.zone, question.limit, question.exact) == (timezone.utc, None, False)
    assert (question.fill, question.form) == ("none", "json")


# ---- granularity ----


@pytest.mark.parametrize(
    ("text", "granularity"),
    [
        ("second", Granularity(1)),
        ("minute", Granularity(60)),
        ("hour", Granularity(3600)),
        ("day", Granularity(86_400, "day")),
        ("week", Granularity(604_800, "week")),
        ("month", Granularity(None, "month")),
        ("2", Granularity(2)),
        ("900", Granularity(900)),
        # So many seconds, whatever the clocks do.
        ("86400", Granularity(86_400)),
        ("9999999999", Granularity(9_999_999_999)),
    ],
)
def test_granularities(text: str, granularity: Granularity) -> None:
    """A bucket has a width, or is one of the calendar's."""
    assert parse(("granularity", text), end="40000").granularity == granularity


@pytest.mark.parametrize(
    "text",
    ["0", "-1", "1.5", "year", "Hour", "hours", "1h", "²", "\u0663", " 1", "99999999999"],
)
def test_what_is_no_granularity_is_refused(text: str) -> None:
    """With the names that there are."""
    error = refusal(("granularity", text))
    assert (error.parameter, error.value) == ("granularity", text)
    for name in ("seconds", "minute", "week", "month"):
        assert name in (error.allowed or "")


@pytest.mark.parametrize(("text", "width_s"), [("second", 1), ("day", 86_400), ("7", 7)])
def test_the_number_of_points_is_bounded(text: str, width_s: int) -> None:
    """A range of more points than a chart can show is refused; just as many are not."""
    end = min(MAX_POINTS * width_s, 4_294_967_295)
    assert parse(("granularity", text), end=str(end)).granularity
    if end < 4_294_967_295:
        error = refusal(("granularity", text), end=str(end + width_s))
        assert (error.parameter, error.value) == ("granularity", text)
        assert str(MAX_POINTS) in str(error)


@pytest.mark.parametrize("name", ["UTC", "Europe/Berlin", "Asia/Kathmandu", "America/Santiago"])
def test_zones(name: str) -> None:
    """They are those of the IANA database."""
    assert str(parse(("tz", name)).zone) == name


@pytest.mark.parametrize(
    "text", ["Berlin", "europe/berlin", "+01:00", "Europe", "../UTC", "/etc/localtime", "a\0b", " "]
)
def test_what_is_no_zone_is_refused(text: str) -> None:
    """Nor is a name ever that of another file."""
    error = refusal(("tz", text))
    assert (error.parameter, error.value) == ("tz", text)
    assert "Europe/Berlin" in (error.allowed or "")


# ---- aggregation, value, group ----


@pytest.mark.parametrize(
    ("text", "aggregation"),
    [
        *((name, Aggregation(name)) for name in ("count", "mean", "min", "max", "sum")),
        *((name, Aggregation(name)) for name in ("rate", "error_rate", "unique")),
        *(
            (f"{name}{x}", Aggregation("percentile", Fraction(x) / 100))
            for name in ("percentile_", "p")
            for x in ("1", "5", "50", "99", "99.9", "0.1", "99.999999", "0.000001", "50.0")
        ),
    ],
)
def test_aggregations(text: str, aggregation: Aggregation) -> None:
    """Those of 2014, what was added, and any percentile, read without loss."""
    assert parse(("aggregation", text)).aggregation == aggregation


@pytest.mark.parametrize(
    "text",
    ["median", "COUNT", "percentile", "percentile_", "percentile_0", "percentile_100",
     "percentile_05", "percentile_0.0", "percentile_-1", "percentile_5x", "percentile_\u0665",
     "percentile_1.", "percentile_.5", "p1.1234567", "p100.1", "P50", "p 5", "p1e1", "p5\n"],
)  # fmt: skip
def test_what_is_no_aggregation_is_refused(text: str) -> None:
    """With the aggregations that there are."""
    error = refusal(("aggregation", text))
    assert (error.parameter, error.value) == ("aggregation", text)
    assert "percentile_X or pX with 0 < X < 100 and at most 6 decimals" in (error.allowed or "")


@pytest.mark.parametrize("name", USABLE_MEASURES)
def test_every_measure_can_be_the_value(name: str) -> None:
    """Measures are for aggregation."""
    assert parse(("value", name)).value.name == name


@pytest.mark.parametrize("name", USABLE_DIMENSIONS)
def test_every_dimension_can_be_the_group(name: str) -> None:
    """Dimensions are for grouping."""
    (group,) = parse(("group", name)).groups
    assert group.name == name


def test_several_groups() -> None:
    """In their order; an empty one is none."""
    question = parse(("group", "method"), ("group", ""), ("group", "attributes.x"))
    assert [group.name for group in question.groups] == ["method", "attributes.x"]


@pytest.mark.parametrize(
    "names", [["method", "method"], ["attributes.x", "url", "attributes.x"], USABLE_DIMENSIONS]
)
def test_groups_are_different_and_few(names: list[str]) -> None:
    """The limit is said."""
    error = refusal(*(("group", name) for name in names))
    assert error.parameter == "group"
    assert str(MAX_GROUP_FIELDS) in (error.allowed or "")


@pytest.mark.parametrize("name", USABLE_DIMENSIONS)
def test_every_dimension_can_be_counted(name: str) -> None:
    """Unique is of dimensions, by default of consumers."""
    assert parse(("aggregation", "unique"), ("value", name)).value.name == name
    assert parse(("aggregation", "unique"), ("value", "")).value.name == "consumer_id"
    error = refusal(("aggregation", "unique"), ("value", "response_us"))
    assert error.allowed == field_names(DIMENSIONS)


@pytest.mark.parametrize(
    ("parameter", "name", "allowed"),
    [
        ("value", "consumer_id", MEASURES),
        ("value", "nothing", MEASURES),
        ("group", "response_us", DIMENSIONS),
        ("group", "timestamp", DIMENSIONS),
        ("group", "event_id", DIMENSIONS),
        ("group", "application", DIMENSIONS),
        ("group", "method; DROP TABLE events", DIMENSIONS),
        # A map as such has no value, only its entries have; other fields have no entries.
        ("group", "attributes", DIMENSIONS),
        ("group", "attributes.", DIMENSIONS),
        ("group", f"attributes.{LONGEST}n", DIMENSIONS),
        ("group", "metrics.x", DIMENSIONS),
        ("group", "method.x", DIMENSIONS),
        ("value", "metrics", MEASURES),
        ("value", "metrics.", MEASURES),
        ("value", "attributes.x", MEASURES),
        ("value", "response_us.x", MEASURES),
    ],
)
def test_other_fields_are_refused(parameter: str, name: str, allowed: tuple[str, ...]) -> None:
    """With the fields that can be used so."""
    error = refusal((parameter, name))
    assert (error.parameter, error.value) == (parameter, name)
    assert error.allowed == field_names(allowed)


def test_maps_are_named_by_their_entries() -> None:
    """So say the documentation and the errors."""
    assert "attributes.NAME, status_class" in field_names(DIMENSIONS)
    assert field_names(MEASURES).endswith(", metrics.NAME")


@pytest.mark.parametrize("entry", ["plan", "a.b", "Ä b", ".", LONGEST])
def test_any_name_of_an_entry(entry: str) -> None:
    """The name begins after the first dot."""
    question = parse(("group", f"attributes.{entry}"), ("value", f"metrics.{entry}"))
    assert question.groups == (Operand(BY_NAME["attributes"], entry),)
    assert question.value == Operand(BY_NAME["metrics"], entry)


# ---- limit, fill, format, exact ----


@pytest.mark.parametrize("limit", [1, 20, MAX_GROUPS])
def test_limits(limit: int) -> None:
    """A number of groups."""
    assert parse(("limit", str(limit))).limit == limit


@pytest.mark.parametrize("text", ["0", "-1", "1001", "1.0", "ten", "\u0663", "9" * 5000])
def test_a_limit_has_bounds(text: str) -> None:
    """They are said."""
    error = refusal(("limit", text))
    assert (error.parameter, error.allowed) == ("limit", f"1 to {MAX_GROUPS}")


@pytest.mark.parametrize(
    ("parameter", "choices"), [("fill", FILLS), ("format", FORMATS), ("exact", ("false", "true"))]
)
def test_choices(parameter: str, choices: tuple[str, ...]) -> None:
    """One of some words, and no other."""
    for choice in choices:
        question = parse((parameter, choice))
        found = {"fill": question.fill, "format": question.form, "exact": str(question.exact)}
        assert found[parameter].lower() == choice
    for text in ("x", choices[-1].upper(), f"{choices[0]} ", "1"):
        error = refusal((parameter, text))
        assert (error.parameter, error.value) == (parameter, text)
        assert error.allowed == ", ".join(choices)


# ---- names ----


@pytest.mark.parametrize("name", ["offset", "Group", "", "include[]", "groupby"])
@pytest.mark.parametrize("value", ["x", ""])
def test_an_unknown_parameter_is_refused(name: str, value: str) -> None:
    """A misspelled parameter does not go unnoticed."""
    error = refusal((name, value))
    assert (error.parameter, error.value) == (name, value)
    assert error.allowed == ", ".join(PARAMETERS)


@pytest.mark.parametrize("name", [name for name in PARAMETERS if name not in REPEATABLE])
@pytest.mark.parametrize("values", [("", ""), ("a", ""), ("", "a")])
def test_a_parameter_is_given_once(name: str, values: tuple[str, str]) -> None:
    """No value silently wins over another."""
    error = refusal((name, values[0]), (name, values[1]))
    assert (error.parameter, error.value) == (name, values[1])


@given(
    start=st.text(max_size=12),
    end=st.text(max_size=12),
    parameters=st.lists(st.tuples(st.sampled_from(PARAMETERS) | st.text(), st.text()), max_size=4),
)
def test_any_text_is_taken_or_refused(
    start: str, end: str, parameters: list[tuple[str, str]]
) -> None:
    """Nothing but an invalid request is ever raised."""
    for range_start, range_end in ((start, end), ("0", "86400")):
        with contextlib.suppress(InvalidRequestError):
            parse_timeseries(range_start, range_end, parameters)
