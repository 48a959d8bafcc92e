# SPDX-License-Identifier: Apache-2.0
"""The parameters of a question: from text as sent to values that are valid."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from otel_apinalytics.catalogue import (
    BY_NAME,
    DIMENSIONS,
    MAX_ENTRY_NAME_LENGTH,
    MEASURES,
    FieldType,
)
from otel_apinalytics.errors import InvalidRequestError
from otel_apinalytics.query.expressions import Operand, is_map
from otel_apinalytics.query.statement import MAX_SECONDS

DEFAULT_VALUE = "response_us"
GRANULARITIES = {"second": 1, "minute": 60, "hour": 3600, "day": 86400, "week": 7 * 86400}
# A chart has a few hundred points; what is far beyond is a mistake that would cost everybody.
MAX_POINTS = 50_000
RAW_FORMATS = ("ndjson",)
_PARAMETERS = ("value", "granularity", "aggregation", "group", "include")
_RAW_PARAMETERS = ("format",)
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

    operand: Operand
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
    value: Operand
    aggregation: Aggregation
    granularity_s: int | None
    group: Operand | None
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
    single, include = split_parameters(parameters, _PARAMETERS)
    start_us, end_us = parse_range(start, end)
    granularity_s = parse_granularity(single.get("granularity", ""))
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
        value=_operand("value", single.get("value", "") or DEFAULT_VALUE, MEASURES),
        aggregation=_aggregation(single.get("aggregation", "") or "count"),
        granularity_s=granularity_s,
        group=_operand("group", group, DIMENSIONS) if group else None,
        filters=_filters(include),
    )


def parse_raw_events(
    start: str, end: str, parameters: Sequence[tuple[str, str]]
) -> tuple[int, int]:
    """Return the range of a request for raw events: its start and end, Unix microseconds.

    Args:
        start: Start of the range as in the path; included.
        end: End of the range as in the path; excluded.
        parameters: Names and values of the query string, in order.

    Raises:
        InvalidRequestError: A parameter is unknown, given twice, or its value is not allowed.
    """
    single, _ = split_parameters(parameters, _RAW_PARAMETERS)
    form = single.get("format", "")
    if form and form not in RAW_FORMATS:
        raise InvalidRequestError(
            "unknown format",
            parameter="format",
            value=form,
            allowed=", ".join(RAW_FORMATS),
        )
    return parse_range(start, end)


def field_names(fields: Sequence[str]) -> str:
    """Return in words what can be named: fields, and the entries of those that are maps."""
    return ", ".join(f"{name}.NAME" if is_map(BY_NAME[name]) else name for name in fields)


def split_parameters(
    parameters: Sequence[tuple[str, str]], known: Sequence[str]
) -> tuple[Mapping[str, str], list[str]]:
    """Return the parameters that are given once, by name, and those named `include`.

    Raises:
        InvalidRequestError: One is not known, or given twice.
    """
    single: dict[str, str] = {}
    include = []
    for name, value in parameters:
        if name not in known:
            raise InvalidRequestError(
                f"unknown parameter {name!r}",
                parameter=name,
                value=value,
                allowed=", ".join(known),
            )
        if name == "include":
            include += [value] if value else []
        elif name in single:
            raise InvalidRequestError(
                f"parameter {name!r} is given twice",
                parameter=name,
                value=value,
                allowed="one value",
            )
        else:
            single[name] = value
    return single, include


def parse_range(start: str, end: str) -> tuple[int, int]:
    """Return start and end of a range in Unix microseconds.

    Raises:
        InvalidRequestError: One is not a time, or the range is empty.
    """
    start_us, end_us = parse_time("start", start), parse_time("end", end)
    if end_us <= start_us:
        raise InvalidRequestError(
            "the range is empty: end must be after start",
            parameter="end",
            value=end,
            allowed="a time after start",
        )
    return start_us, end_us


def parse_time(parameter: str, text: str) -> int:
    """Return a time in Unix microseconds.

    Raises:
        InvalidRequestError: It is not one.
    """
    if not _SECONDS.fullmatch(text) or Decimal(text) > MAX_SECONDS:
        raise InvalidRequestError(
            f"{parameter} is not a time",
            parameter=parameter,
            value=text,
            allowed=f"Unix time in seconds, from 0 to {MAX_SECONDS}",
        )
    return int(Decimal(text) * 1_000_000)


def parse_granularity(text: str, step_s: int = 1) -> int | None:
    """Return the width of a bucket in seconds; None if there is no text.

    Args:
        text: A number of seconds, or a word for one.
        step_s: Only its multiples are allowed.

    Raises:
        InvalidRequestError: It is no such width.
    """
    words = {word: width_s for word, width_s in GRANULARITIES.items() if width_s % step_s == 0}
    if not text:
        return None
    if text in words:
        return words[text]
    if text.isascii() and text.isdigit() and len(text) <= 10:
        width_s = int(text)
        if width_s > 0 and width_s % step_s == 0:
            return width_s
    seconds = "a positive number of seconds" if step_s == 1 else f"a multiple of {step_s} seconds"
    raise InvalidRequestError(
        "granularity is not a width",
        parameter="granularity",
        value=text,
        allowed=f"{seconds}, or {', '.join(words)}",
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


def _operand(parameter: str, name: str, allowed: Sequence[str]) -> Operand:
    operand = _find(name, allowed)
    if operand is None:
        raise InvalidRequestError(
            f"{parameter} is not a field that can be used so",
            parameter=parameter,
            value=name,
            allowed=field_names(allowed),
        )
    return operand


def _find(name: str, allowed: Sequence[str]) -> Operand | None:
    """Return the field of that name, or the entry of a map, such as `attributes.plan`."""
    if name in allowed:
        return None if is_map(BY_NAME[name]) else Operand(BY_NAME[name])
    map_name, _, entry = name.partition(".")
    if map_name not in allowed or not is_map(BY_NAME[map_name]):
        return None
    return Operand(BY_NAME[map_name], entry) if 0 < len(entry) <= MAX_ENTRY_NAME_LENGTH else None


def _filters(include: Sequence[str]) -> tuple[Filter, ...]:
    """Same field means "or", different fields mean "and"."""
    values: dict[Operand, list[str]] = {}
    for text in include:
        name, colon, value = text.partition(":")
        operand = _find(name, DIMENSIONS)
        if not colon or operand is None:
            raise InvalidRequestError(
                "include is not field:value",
                parameter="include",
                value=text,
                allowed=f"field:value with a field of {field_names(DIMENSIONS)}",
            )
        values.setdefault(operand, []).append(_filter_value(operand, text, value))
    return tuple(Filter(operand, tuple(found)) for operand, found in values.items())


def _filter_value(operand: Operand, text: str, value: str) -> str:
    kind = operand.type
    if kind is FieldType.INTEGER and value and not re.fullmatch("[0-9]{1,20}", value):
        allowed = "an integer, or nothing for a missing one"
    elif kind is FieldType.BOOLEAN and value not in ("true", "false"):
        allowed = "true or false"
    elif kind is FieldType.INTEGER and value:
        return str(int(value))
    else:
        return value
    raise InvalidRequestError(
        f"include: {operand.name} cannot have this value",
        parameter="include",
        value=text,
        allowed=allowed,
    )
