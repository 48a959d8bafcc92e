# SPDX-License-Identifier: Apache-2.0
"""The parameters of a question for a field's values: from text as sent to a valid question."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timezone, tzinfo

from otel_apinalytics.catalogue import BY_NAME, DIMENSIONS
from otel_apinalytics.errors import InvalidRequestError
from otel_apinalytics.query import filters
from otel_apinalytics.query.expressions import Operand, is_map
from otel_apinalytics.query.filters import NO_FILTERS, Filters, parse_filters
from otel_apinalytics.query.parameters import (
    field_names,
    find_operand,
    parse_limit,
    split_parameters,
)
from otel_apinalytics.query.times import parse_range, parse_time, seconds_text
from otel_apinalytics.query.zones import parse_zone

DEFAULT_LIMIT = 100
MAX_LIMIT = 10_000
MAX_PREFIX = 1024
_DAY_US = 86_400 * 1_000_000
_PARAMETERS = ("start", "end", "prefix", "include", "exclude", "tz", "limit")
_MAPS = tuple(name for name, field in BY_NAME.items() if is_map(field))


@dataclass(frozen=True, slots=True)
class ValuesQuestion:
    """A valid question.

    Args:
        operand: A dimension; or a field that is a map, of which the names of entries are asked.
        start_us: Start of the range, included, Unix microseconds.
        end_us: End of the range, excluded, Unix microseconds.
        prefix: What the values begin with.
        filters: Which events.
        zone: Where days begin, for hour_of_day and weekday.
        limit: How many values at most.
    """

    operand: Operand
    start_us: int
    end_us: int
    prefix: str = ""
    filters: Filters = NO_FILTERS
    zone: tzinfo = timezone.utc
    limit: int = DEFAULT_LIMIT


def parse_values(
    field: str, parameters: Sequence[tuple[str, str]], now_us: int | None = None
) -> ValuesQuestion:
    """Return the question that a path and its query parameters ask; an empty one is its default.

    Args:
        field: The field as in the path.
        parameters: Names and values of the query string, in order.
        now_us: What is understood by now, Unix microseconds; the clock by default.

    Raises:
        InvalidRequestError: A parameter is unknown, given twice, or its value is not allowed.
    """
    single, several = split_parameters(parameters, _PARAMETERS, filters.REPEATABLE)
    start_us, end_us = _parse_range(single.get("start", ""), single.get("end", ""), now_us)
    prefix = single.get("prefix", "")
    if len(prefix) > MAX_PREFIX:
        raise InvalidRequestError(
            "prefix is too long",
            parameter="prefix",
            value=prefix,
            allowed=f"at most {MAX_PREFIX} characters",
        )
    return ValuesQuestion(
        operand=_parse_field(field),
        start_us=start_us,
        end_us=end_us,
        prefix=prefix,
        filters=parse_filters(several["include"], several["exclude"]),
        zone=parse_zone(single.get("tz", "")),
        limit=parse_limit(single.get("limit", ""), MAX_LIMIT, "values") or DEFAULT_LIMIT,
    )


def _parse_field(name: str) -> Operand:
    operand = Operand(BY_NAME[name]) if name in _MAPS else find_operand(name, DIMENSIONS)
    if operand is None:
        raise InvalidRequestError(
            "there are no values of such a field",
            parameter="field",
            value=name,
            allowed=f"{field_names(DIMENSIONS)}; {' or '.join(_MAPS)} for the names of entries",
        )
    return operand


def _parse_range(start: str, end: str, now_us: int | None) -> tuple[int, int]:
    """Return the range; by default it ends now, and is a day long."""
    now_us = time.time_ns() // 1000 if now_us is None else now_us
    end = end or "now"
    if not start:
        start = seconds_text(max(parse_time("end", end, now_us) - _DAY_US, 0))
    return parse_range(start, end, now_us)
