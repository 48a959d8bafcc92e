# SPDX-License-Identifier: Apache-2.0
"""The parameters of a timeseries question: from text as sent to values that are valid."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from otel_apinalytics.catalogue import BY_NAME, DIMENSIONS, MEASURES, Field, FieldType
from otel_apinalytics.errors import InvalidRequestError

DEFAULT_VALUE = "response_us"
GRANULARITIES = {"second": 1, "minute": 60, "hour": 3600, "day": 86400, "week": 7 * 86400}
# A chart has a few hundred points; what is far beyond is a mistake that would cost everybody.
MAX_POINTS = 50_000
# Where the store's time type ends.
_MAX_SECONDS = 4_294_967_295
_PARAMETERS = ("value", "granularity", "aggregation", "group", "include")
_AGGREGATIONS = ("count", "mean", "min", "max", "sum")
_PERCENTILE = re.compile(r"percentile_([1-9][0-9]?)")
_SECONDS = re.compile(r"[0-9]{1,10}(\.[0-9]{1,6})?")


@dataclass(frozen=True, slots=True)
class Aggregation:
    """What to compute in each bucket.

    Args:
        name: count, mean, min, max, sum or percentile.
        level: For a percentile, the level between 0 and 1; else None.
    """

    name: str
    level: float | None = None


@dataclass(frozen=True, slots=True)
class Filter:
    """A condition on a dimension: one of these values; missing is the empty text."""

    field: Field
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Timeseries:
    """A valid question.

    Args:
        start_us: Start of the range, included, Unix microseconds.
        end_us: End of the range, excluded, Unix microseconds.
        value: The measure.
        aggregation: What to compute of it.
        granularity_s: Width of a bucket in seconds; None for one bucket over the whole range.
        group: The dimension that splits the result, or None.
        filters: Conditions, joined by "and".
    """

    start_us: int
    end_us: int
    value: Field
    aggregation: Aggregation
    granularity_s: int | None
    group: Field | None
    filters: tuple[Filter, ...]


def parse_timeseries(start: str, end: str, parameters: Sequence[tuple[str, str]]) -> Timeseries:
    """Return the question that a path and its query parameters ask.

    An empty parameter means its default: the dashboard of 2014 sends those that are unset.

    Args:
        start: Start of the range as in the path.
        end: End of the range as in the path.
        parameters: Names and values of the query string, in order.

    Raises:
        InvalidRequestError: A parameter is unknown, given twice, or its value is not allowed.
    """
    single, include = _split(parameters)
    start_us, end_us = _time("start", start), _time("end", end)
    if end_us <= start_us:
        raise InvalidRequestError(
            "the range is empty: end must be after start",
            parameter="end",
            value=end,
            allowed="a time after start",
        )
    granularity_s = _granularity(single.get("granularity", ""))
    if granularity_s and (end_us - start_us) // (granularity_s * 1_000_000) > MAX_POINTS:
        raise InvalidRequestError(
            f"more than {MAX_POINTS} points in each group: "
            "ask for a coarser granularity or a shorter range",
            parameter="granularity",
            value=single["granularity"],
            allowed=f"at most {MAX_POINTS} points",
        )
    group = single.get("group", "")
    return Timeseries(
        start_us=start_us,
        end_us=end_us,
        value=_field("value", single.get("value", "") or DEFAULT_VALUE, MEASURES),
        aggregation=_aggregation(single.get("aggregation", "") or "count"),
        granularity_s=granularity_s,
        group=_field("group", group, DIMENSIONS) if group else None,
        filters=_filters(include),
    )


def _split(parameters: Sequence[tuple[str, str]]) -> tuple[Mapping[str, str], list[str]]:
    single: dict[str, str] = {}
    include = []
    for name, value in parameters:
        if name not in _PARAMETERS:
            raise InvalidRequestError(
                f"unknown parameter {name!r}",
                parameter=name,
                value=value,
                allowed=", ".join(_PARAMETERS),
            )
        if name == "include":
            include += [value] if value else []
        elif name in single:
            raise InvalidRequestError(
                f"parameter {name!r} is given twice",
                parameter=name,
                value=value,
                allowed="one value; only include may be repeated",
            )
        else:
            single[name] = value
    return single, include


def _time(parameter: str, text: str) -> int:
    if not _SECONDS.fullmatch(text) or Decimal(text) > _MAX_SECONDS:
        raise InvalidRequestError(
            f"{parameter} is not a time",
            parameter=parameter,
            value=text,
            allowed=f"Unix time in seconds, from 0 to {_MAX_SECONDS}",
        )
    return int(Decimal(text) * 1_000_000)


def _granularity(text: str) -> int | None:
    if not text:
        return None
    if text in GRANULARITIES:
        return GRANULARITIES[text]
    if text.isascii() and text.isdigit() and len(text) <= 10 and int(text) > 0:
        return int(text)
    raise InvalidRequestError(
        "granularity is not a width",
        parameter="granularity",
        value=text,
        allowed="a positive number of seconds, or " + ", ".join(GRANULARITIES),
    )


def _aggregation(text: str) -> Aggregation:
    if text in _AGGREGATIONS:
        return Aggregation(text)
    if match := _PERCENTILE.fullmatch(text):
        return Aggregation("percentile", int(match[1]) / 100)
    raise InvalidRequestError(
        "unknown aggregation",
        parameter="aggregation",
        value=text,
        allowed=", ".join(_AGGREGATIONS) + ", percentile_1 to percentile_99",
    )


def _field(parameter: str, name: str, allowed: Sequence[str]) -> Field:
    if name not in allowed:
        raise InvalidRequestError(
            f"{parameter} is not a field that can be used so",
            parameter=parameter,
            value=name,
            allowed=", ".join(allowed),
        )
    return BY_NAME[name]


def _filters(include: Sequence[str]) -> tuple[Filter, ...]:
    """Same field means "or", different fields mean "and"."""
    values: dict[str, list[str]] = {}
    for text in include:
        name, colon, value = text.partition(":")
        if not colon or name not in DIMENSIONS:
            raise InvalidRequestError(
                "include is not field:value",
                parameter="include",
                value=text,
                allowed="field:value with a field of " + ", ".join(DIMENSIONS),
            )
        field = BY_NAME[name]
        values.setdefault(name, []).append(_filter_value(field, text, value))
    return tuple(Filter(BY_NAME[name], tuple(found)) for name, found in values.items())


def _filter_value(field: Field, text: str, value: str) -> str:
    if field.type is FieldType.INTEGER and value and not re.fullmatch("[0-9]{1,20}", value):
        allowed = "an integer, or nothing for a missing one"
    elif field.type is FieldType.BOOLEAN and value not in ("true", "false"):
        allowed = "true or false"
    elif field.type is FieldType.INTEGER and value:
        return str(int(value))
    else:
        return value
    raise InvalidRequestError(
        f"include: {field.name} cannot have this value",
        parameter="include",
        value=text,
        allowed=allowed,
    )
