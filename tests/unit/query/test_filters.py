# SPDX-License-Identifier: Apache-2.0
"""Tests of include and exclude: what they mean, and what is refused."""

from __future__ import annotations

import re

import pytest

from otel_apinalytics.errors import InvalidRequestError
from otel_apinalytics.query.filters import (
    MAX_CHARACTERS,
    MAX_FILTERS,
    MAX_NAMES,
    Filter,
    Filters,
    parse_filters,
)


def refusal(*include: str) -> InvalidRequestError:
    """Return the error of values; `exclude` gives the same one under its own name."""
    with pytest.raises(InvalidRequestError) as caught:
        parse_filters(include)
    with pytest.raises(InvalidRequestError) as excluded:
        parse_filters((), include)
    assert caught.value.parameter == "include"
    assert excluded.value.parameter == "exclude"
    assert (excluded.value.value, excluded.value.allowed) == (
        caught.value.value,
        caught.value.allowed,
    )
    return caught.value


def only(text: str) -> Filter:
    """Return the filter of a single value."""
    (found,) = parse_filters([text]).include
    assert parse_filters((), [text]).exclude == (found,)
    return found


def test_the_same_field_means_or_and_another_means_and() -> None:
    """Conditions are put together by field, in the order of their first mention."""
    filters = parse_filters(["method:GET", "consumer_id:alice", "method:PUT", "method:P*"])
    assert [(each.operand.name, each.texts, each.patterns) for each in filters.include] == [
        ("method", ("GET", "PUT"), ("P%",)),
        ("consumer_id", ("alice",), ()),
    ]
    assert filters.exclude == ()


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("consumer_id:a:b", "a:b"),
        ("consumer_id:", ""),
        ("consumer_id: a", " a"),
        (r"consumer_id:\*", "*"),
        (r"consumer_id:a\*b\c%_", r"a*b\c%_"),
        ("url:/a?b=c&d", "/a?b=c&d"),
        ("status_code:200", "200"),
        ("status_code:0200", "200"),
        ("status_code:", ""),
        ("is_error:true", "true"),
        ("is_error:false", "false"),
        ("is_edge:true", "true"),
        ("status_class:5xx", "5xx"),
        ("attributes.plan:gold:1", "gold:1"),
        ("attributes.plan:", ""),
    ],
)
def test_values(text: str, value: str) -> None:
    """The value begins after the first colon; nothing stands for what is missing."""
    found = only(text)
    assert (found.texts, found.patterns) == ((value,), ())


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        ("consumer_id:*", "%"),
        ("url:/users/*", "/users/%"),
        ("url:*a*", "%a%"),
        (r"url:a_b%c\d*", r"a\_b\%c\\d%"),
        (r"url:\**", "*%"),
        (r"url:a\\*b*", r"a\\*b%"),
        ("status_code:5xx", "5__"),
        ("status_code:4*", "4%"),
        ("status_class:*", "%"),
        ("attributes.plan:g*", "g%"),
    ],
)
def test_patterns(text: str, pattern: str) -> None:
    """A star stands for any text, an escaped one for itself, and nothing else for anything."""
    found = only(text)
    assert (found.texts, found.patterns) == ((), (pattern,))


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
        ("status_code:5x", "an integer"),
        ("status_code:5XX", "an integer"),
        ("status_code:0xx", "an integer"),
        ("status_code:-1", "an integer"),
        ("status_code:²", "an integer"),
        (r"status_code:\*", "an integer"),
        ("is_error:1", "true or false"),
        ("is_error:", "true or false"),
        ("is_error:True", "true or false"),
        ("is_error:t*", "true or false"),
        ("is_edge:1", "true or false"),
        ("attributes:x", "attributes.NAME"),
        ("attributes.:x", "attributes.NAME"),
        ("metrics.x:1", "field:value"),
        ("direction:inbond", "inbound, outbound"),
        (r"direction:in\*", "inbound, outbound"),
        ("route_source:x", "attribute, name, derived, unmatched"),
    ],
)
def test_what_cannot_be_a_filter_is_refused(text: str, allowed: str) -> None:
    """An unknown field, or a value that the field cannot have."""
    error = refusal("method:GET", text)
    assert error.value == text
    assert allowed in (error.allowed or "")


@pytest.mark.parametrize(
    "texts",
    [["url:a"] * (MAX_FILTERS + 1), ["url:" + "a" * MAX_CHARACTERS]],
)
def test_filters_are_bounded(texts: list[str]) -> None:
    """The engine reads no statement of any length; the limit is said."""
    error = refusal(*texts)
    assert str(MAX_FILTERS) in (error.allowed or "")
    assert str(MAX_CHARACTERS) in (error.allowed or "")


def test_names_in_filters_are_bounded() -> None:
    """Each is read for itself; values of one may be more."""
    names = [f"attributes.name-{number}:x" for number in range(MAX_NAMES)]
    several = [*names, "attributes.name-0:y", "direction:*bound", "direction:"]
    assert len(parse_filters(several, several).include) == MAX_NAMES + 1
    error = refusal(*names, "attributes.more:x")
    assert (error.value, error.allowed) == (
        "attributes.more:x",
        f"at most {MAX_NAMES} different names",
    )


def test_entries_of_a_map_are_different_fields() -> None:
    """Values of one entry are joined by or, of two by and."""
    filters = parse_filters(["attributes.plan:gold", "attributes.team:a", "attributes.plan:free"])
    assert [(each.operand.entry, each.texts) for each in filters.include] == [
        ("plan", ("gold", "free")),
        ("team", ("a",)),
    ]


def test_each_parameter_of_a_condition_is_there() -> None:
    """Names are of one statement: no two filters share one."""
    filters = parse_filters(["method:GET", "method:P*", "url:/a"], ["method:PUT", "url:*b"])
    names = re.findall(r"%\((\w+)\)s", " ".join(filters.conditions()))
    assert set(names) == {
        "include_0", "include_0_like_0", "include_1", "exclude_0", "exclude_1_like_0",
    }  # fmt: skip
    assert set(names) <= set(filters.parameters())


def test_more_can_be_demanded() -> None:
    """A condition that is not asked for is joined by and, also to one of the same field."""
    asked = parse_filters(["consumer_id:a", "consumer_id:b"], ["url:c"])
    (bound,) = parse_filters(["consumer_id:b"]).include
    assert asked.and_also([bound]) == Filters((*asked.include, bound), asked.exclude)
    assert len(asked.and_also([bound]).conditions()) == 3
