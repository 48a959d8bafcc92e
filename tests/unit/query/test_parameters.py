# SPDX-License-Identifier: Apache-2.0
"""Tests of a question's parameters: defaults, what is allowed, and how the rest is refused."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_apinalytics.catalogue import BY_NAME, DIMENSIONS, MAX_ENTRY_NAME_LENGTH, MEASURES
from otel_apinalytics.errors import InvalidRequestError
from otel_apinalytics.query.expressions import Operand, is_map
from otel_apinalytics.query.parameters import (
    MAX_POINTS,
    Aggregation,
    Timeseries,
    field_names,
    parse_raw_events,
    parse_timeseries,
)

NAMES = ("value", "granularity", "aggregation", "group", "include")
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


@pytest.mark.parametrize("parameters", [(), tuple((name, "") for name in NAMES)])
def test_defaults(parameters: tuple[tuple[str, str], ...]) -> None:
    """Left out or empty: the number of calls, in one bucket, ungrouped, unfiltered."""
    question = parse(*parameters)
    assert question.value.name == "response_us"
    assert question.aggregation == Aggregation("count")
    assert question.granularity_s is None
    assert question.group is None
    assert question.filters == ()


# ---- the range ----


@pytest.mark.parametrize(
    ("text", "microseconds"),
    [
        ("0", 0),
        ("1400000000", 1_400_000_000_000_000),
        ("1400000000.5", 1_400_000_000_500_000),
        ("1400000000.000001", 1_400_000_000_000_001),
        ("0001", 1_000_000),
    ],
)
def test_times(text: str, microseconds: int) -> None:
    """Times are seconds with a fraction, read without loss."""
    assert parse(start=text, end="4294967295").start_us == microseconds


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "now",
        "-1",
        "+1",
        "1e9",
        "1.",
        ".5",
        "1.0000001",
        "4294967296",
        "NaN",
        "inf",
        "\u0661",
        "1\n",
    ],
)
def test_what_is_no_time_is_refused(text: str) -> None:
    """Both ends are checked, and named."""
    for error in (refusal(start=text), refusal(end=text)):
        assert error.value == text
        assert "from 0 to 4294967295" in (error.allowed or "")
    assert refusal(start=text).parameter == "start"
    assert refusal(end=text).parameter == "end"


@pytest.mark.parametrize(("start", "end"), [("5", "5"), ("6", "5"), ("5.000001", "5.000001")])
def test_an_empty_range_is_refused(start: str, end: str) -> None:
    """The end is not included, so it must be after the start."""
    error = refusal(start=start, end=end)
    assert (error.parameter, error.value) == ("end", end)


# ---- granularity ----


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("second", 1),
        ("minute", 60),
        ("hour", 3600),
        ("day", 86_400),
        ("week", 604_800),
        ("2", 2),
        ("900", 900),
        ("9999999999", 9_999_999_999),
    ],
)
def test_granularities(text: str, seconds: int) -> None:
    """A width is a number of seconds or a name."""
    assert parse(("granularity", text), end="40000").granularity_s == seconds


@pytest.mark.parametrize(
    "text", ["0", "-1", "1.5", "month", "Hour", "hours", "1h", "²", "\u0663", " 1", "99999999999"]
)
def test_what_is_no_granularity_is_refused(text: str) -> None:
    """With the names that there are."""
    error = refusal(("granularity", text))
    assert (error.parameter, error.value) == ("granularity", text)
    for name in ("seconds", "minute", "week"):
        assert name in (error.allowed or "")


def test_the_number_of_points_is_bounded() -> None:
    """A range of more points than a chart can show is refused; just as many are not."""
    assert parse(("granularity", "1"), end=str(MAX_POINTS)).granularity_s == 1
    error = refusal(("granularity", "second"), end=str(MAX_POINTS + 1))
    assert (error.parameter, error.value) == ("granularity", "second")
    assert str(MAX_POINTS) in str(error)


# ---- aggregation, value, group ----


@pytest.mark.parametrize(
    ("text", "aggregation"),
    [
        *((name, Aggregation(name)) for name in ("count", "mean", "min", "max", "sum")),
        *((f"percentile_{n}", Aggregation("percentile", n / 100)) for n in (1, 5, 50, 95, 99)),
    ],
)
def test_aggregations(text: str, aggregation: Aggregation) -> None:
    """Those of 2014, and any percentile."""
    assert parse(("aggregation", text)).aggregation == aggregation


@pytest.mark.parametrize(
    "text",
    ["median", "COUNT", "percentile", "percentile_", "percentile_0", "percentile_100",
     "percentile_05", "percentile_99.9", "percentile_-1", "percentile_5x", "percentile_\u0665"],
)  # fmt: skip
def test_what_is_no_aggregation_is_refused(text: str) -> None:
    """With the aggregations that there are."""
    error = refusal(("aggregation", text))
    assert (error.parameter, error.value) == ("aggregation", text)
    assert "percentile_1 to percentile_99" in (error.allowed or "")


@pytest.mark.parametrize("name", USABLE_MEASURES)
def test_every_measure_can_be_the_value(name: str) -> None:
    """Measures are for aggregation."""
    assert parse(("value", name)).value.name == name


@pytest.mark.parametrize("name", USABLE_DIMENSIONS)
def test_every_dimension_can_be_the_group(name: str) -> None:
    """Dimensions are for grouping."""
    question = parse(("group", name))
    assert question.group is not None
    assert question.group.name == name


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
    assert question.group == Operand(BY_NAME["attributes"], entry)
    assert question.value == Operand(BY_NAME["metrics"], entry)


# ---- include ----


def test_the_same_field_means_or_and_another_means_and() -> None:
    """Conditions are put together by field, in the order of their first mention."""
    question = parse(
        ("include", "method:GET"),
        ("include", "consumer_id:alice"),
        ("include", "method:PUT"),
    )
    assert [(condition.operand.name, condition.values) for condition in question.filters] == [
        ("method", ("GET", "PUT")),
        ("consumer_id", ("alice",)),
    ]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("consumer_id:a:b", "a:b"),
        ("consumer_id:", ""),
        ("consumer_id: a", " a"),
        ("consumer_id:*", "*"),
        ("url:/a?b=c&d", "/a?b=c&d"),
        ("status_code:200", "200"),
        ("status_code:", ""),
        ("is_error:true", "true"),
        ("is_error:false", "false"),
        ("is_edge:true", "true"),
        ("status_class:5xx", "5xx"),
        ("attributes.plan:gold:1", "gold:1"),
        ("attributes.plan:", ""),
    ],
)
def test_values_to_include(text: str, value: str) -> None:
    """The value begins after the first colon; nothing stands for what is missing."""
    (condition,) = parse(("include", text)).filters
    assert condition.values == (value,)


@pytest.mark.parametrize(
    ("text", "allowed"),
    [
        ("consumer_id", "field:value"),
        (":x", "field:value"),
        ("nothing:x", "field:value"),
        ("response_us:5", "field:value"),
        ("timestamp:5", "field:value"),
        ("application:other", "field:value"),
        ("Method:GET", "field:value"),
        ("status_code:5xx", "an integer"),
        ("status_code:-1", "an integer"),
        ("status_code:²", "an integer"),
        ("is_error:1", "true or false"),
        ("is_error:", "true or false"),
        ("is_error:True", "true or false"),
        ("is_edge:1", "true or false"),
        ("attributes:x", "attributes.NAME"),
        ("attributes.:x", "attributes.NAME"),
        ("metrics.x:1", "field:value"),
    ],
)
def test_what_cannot_be_included_is_refused(text: str, allowed: str) -> None:
    """An unknown field, or a value that the field cannot have."""
    error = refusal(("include", "method:GET"), ("include", text))
    assert (error.parameter, error.value) == ("include", text)
    assert allowed in (error.allowed or "")


def test_entries_of_a_map_are_different_fields() -> None:
    """Values of one entry are joined by or, of two by and."""
    question = parse(
        ("include", "attributes.plan:gold"),
        ("include", "attributes.team:a"),
        ("include", "attributes.plan:free"),
    )
    assert [(condition.operand.entry, condition.values) for condition in question.filters] == [
        ("plan", ("gold", "free")),
        ("team", ("a",)),
    ]


# ---- raw events ----


@pytest.mark.parametrize("parameters", [[], [("format", "")], [("format", "ndjson")]])
def test_the_range_of_raw_events(parameters: list[tuple[str, str]]) -> None:
    """Read as that of a timeseries; the format may be left out."""
    assert parse_raw_events("1.5", "2", parameters) == (1_500_000, 2_000_000)


@pytest.mark.parametrize(
    ("start", "end", "parameters", "named", "allowed"),
    [
        ("x", "2", [], ("start", "x"), "Unix time"),
        ("2", "2", [], ("end", "2"), "after start"),
        ("1", "2", [("format", "json")], ("format", "json"), "ndjson"),
        ("1", "2", [("format", "NDJSON")], ("format", "NDJSON"), "ndjson"),
        ("1", "2", [("format", ""), ("format", "ndjson")], ("format", "ndjson"), "one value"),
        ("1", "2", [("group", "")], ("group", ""), "format"),
        ("1", "2", [("include", "method:GET")], ("include", "method:GET"), "format"),
    ],
)
def test_what_cannot_be_asked_of_raw_events(
    start: str, end: str, parameters: list[tuple[str, str]], named: tuple[str, str], allowed: str
) -> None:
    """The error names the parameter and its value, and says what is allowed."""
    with pytest.raises(InvalidRequestError) as caught:
        parse_raw_events(start, end, parameters)
    assert (caught.value.parameter, caught.value.value) == named
    assert allowed in (caught.value.allowed or "")


# ---- names ----


@pytest.mark.parametrize("name", ["limit", "Group", "", "include[]", "groupby"])
@pytest.mark.parametrize("value", ["x", ""])
def test_an_unknown_parameter_is_refused(name: str, value: str) -> None:
    """A misspelled parameter does not go unnoticed."""
    error = refusal((name, value))
    assert (error.parameter, error.value) == (name, value)
    assert error.allowed == ", ".join(NAMES)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "include"])
@pytest.mark.parametrize("values", [("", ""), ("a", ""), ("", "a")])
def test_a_parameter_is_given_once(name: str, values: tuple[str, str]) -> None:
    """No value silently wins over another."""
    error = refusal((name, values[0]), (name, values[1]))
    assert (error.parameter, error.value) == (name, values[1])


@given(
    start=st.text(max_size=12),
    end=st.text(max_size=12),
    parameters=st.lists(st.tuples(st.sampled_from(NAMES) | st.text(), st.text()), max_size=4),
)
def test_any_text_is_taken_or_refused(
    start: str, end: str, parameters: list[tuple[str, str]]
) -> None:
    """Nothing but an invalid request is ever raised."""
    for range_start, range_end in ((start, end), ("0", "86400")):
        with contextlib.suppress(InvalidRequestError):
            parse_timeseries(range_start, range_end, parameters)
        with contextlib.suppress(InvalidRequestError):
            parse_raw_events(range_start, range_end, parameters)
