# SPDX-License-Identifier: Apache-2.0
"""The parameters of raw events: from text as sent to a valid question."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timezone, tzinfo

from otel_apinalytics.query import filters
from otel_apinalytics.query.filters import NO_FILTERS, Filters, parse_filters
from otel_apinalytics.query.parameters import parse_choice, parse_limit, split_parameters
from otel_apinalytics.query.positions import Position, parse_cursor
from otel_apinalytics.query.raw_events_columns import (
    DEFAULT_COLUMNS,
    FORMATS,
    Column,
    parse_columns,
)
from otel_apinalytics.query.times import parse_range
from otel_apinalytics.query.zones import parse_zone

# The positions of a page are sorted in memory, 32 bytes each.
MAX_LIMIT = 1_000_000
_PARAMETERS = ("format", "fields", "include", "exclude", "tz", "limit", "cursor")


@dataclass(frozen=True, slots=True)
class RawEvents:
    """A valid question.

    Args:
        start_us: Start of the range, included, Unix microseconds.
        end_us: End of the range, excluded, Unix microseconds.
        form: One of `FORMATS`.
        columns: What is shown of each event.
        filters: Which events.
        zone: Where days begin, for hour_of_day and weekday.
        limit: How many events a page has; None for all at once.
        after: The position behind which to begin; None for the start of the range.
    """

    start_us: int
    end_us: int
    form: str = FORMATS[0]
    columns: tuple[Column, ...] = DEFAULT_COLUMNS
    filters: Filters = NO_FILTERS
    zone: tzinfo = timezone.utc
    limit: int | None = None
    after: Position | None = None


def parse_raw_events(
    start: str, end: str, parameters: Sequence[tuple[str, str]], now_us: int | None = None
) -> RawEvents:
    """Return the question that a path and its query parameters ask; an empty one is its default.

    Args:
        start: Start of the range as in the path; included.
        end: End of the range as in the path; excluded.
        parameters: Names and values of the query string, in order.
        now_us: What is understood by now, Unix microseconds; the clock by default.

    Raises:
        InvalidRequestError: A parameter is unknown, given twice, or its value is not allowed.
    """
    single, several = split_parameters(parameters, _PARAMETERS, filters.REPEATABLE)
    start_us, end_us = parse_range(start, end, now_us)
    return RawEvents(
        start_us=start_us,
        end_us=end_us,
        form=parse_choice("format", single.get("format", ""), FORMATS),
        columns=parse_columns(single.get("fields", "")),
        filters=parse_filters(several["include"], several["exclude"]),
        zone=parse_zone(single.get("tz", "")),
        limit=parse_limit(single.get("limit", ""), MAX_LIMIT, "events"),
        after=parse_cursor(single.get("cursor", "")),
    )
