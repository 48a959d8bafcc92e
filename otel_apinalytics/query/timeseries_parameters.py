# SPDX-License-Identifier: Apache-2.0
"""The parameters of a timeseries: from text as sent to a valid question."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timezone, tzinfo

from otel_apinalytics.catalogue import DIMENSIONS
from otel_apinalytics.errors import InvalidRequestError
from otel_apinalytics.query import filters
from otel_apinalytics.query.aggregations import Aggregation, parse_aggregation
from otel_apinalytics.query.buckets import Buckets, Granularity, parse_buckets
from otel_apinalytics.query.expressions import Operand
from otel_apinalytics.query.filters import NO_FILTERS, Filters, parse_filters
from otel_apinalytics.query.parameters import (
    parse_choice,
    parse_limit,
    parse_operand,
    split_parameters,
)
from otel_apinalytics.query.times import parse_range
from otel_apinalytics.query.zones import parse_zone

# A chart has a few hundred points; what is far beyond is a mistake that would cost everybody.
MAX_POINTS = 50_000
MAX_GROUPS = 1000
MAX_GROUP_FIELDS = 8
FILLS = ("none", "zero", "null")
FORMATS = ("json", "series", "csv")
PARAMETERS = (
    "value", "granularity", "aggregation", "group", "include", "exclude", "tz", "limit", "fill",
    "format", "exact",
)  # fmt: skip
_REPEATABLE = ("group", *filters.REPEATABLE)
_FLAG = ("false", "true")


@dataclass(frozen=True, slots=True)
class Timeseries:
    """A valid question.

    Args:
        start_us: Start of the range, included, Unix microseconds.
        end_us: End of the range, excluded, Unix microseconds.
        value: The measure; of `unique`, a dimension.
        aggregation: What to compute of it.
        granularity: What a bucket is; None for one over the whole range.
        zone: Where days begin.
        groups: The dimensions that split the result.
        filters: Which events.
        limit: How many groups to name, the others being folded; None for all.
        fill: What stands in buckets without a value: one of `FILLS`.
        form: One of `FORMATS`.
        exact: Whether a percentile is to be exact.
    """

    start_us: int
    end_us: int
    value: Operand
    aggregation: Aggregation
    granularity: Granularity | None = None
    zone: tzinfo = timezone.utc
    groups: tuple[Operand, ...] = ()
    filters: Filters = NO_FILTERS
    limit: int | None = None
    fill: str = FILLS[0]
    form: str = FORMATS[0]
    exact: bool = False

    @property
    def buckets(self) -> Buckets:
        """The buckets of the range."""
        return Buckets(self.granularity, self.zone, self.start_us, self.end_us)


def parse_timeseries(
    start: str, end: str, parameters: Sequence[tuple[str, str]], now_us: int | None = None
) -> Timeseries:
    """Return the question that a path and its query parameters ask.

    An empty parameter means its default: the dashboard of 2014 sends those that are unset.

    Args:
        start: Start of the range as in the path.
        end: End of the range as in the path.
        parameters: Names and values of the query string, in order.
        now_us: What is understood by now, Unix microseconds; the clock by default.

    Raises:
        InvalidRequestError: A parameter is unknown, given twice, or its value is not allowed.
    """
    single, several = split_parameters(parameters, PARAMETERS, _REPEATABLE)
    start_us, end_us = parse_range(start, end, now_us)
    aggregation = parse_aggregation(single.get("aggregation", ""))
    value = single.get("value", "") or aggregation.default_field
    return Timeseries(
        start_us=start_us,
        end_us=end_us,
        value=parse_operand("value", value, aggregation.fields),
        aggregation=aggregation,
        granularity=_granularity(single.get("granularity", ""), end_us - start_us),
        zone=parse_zone(single.get("tz", "")),
        groups=_groups(several["group"]),
        filters=parse_filters(several["include"], several["exclude"]),
        limit=parse_limit(single.get("limit", ""), MAX_GROUPS, "groups"),
        fill=parse_choice("fill", single.get("fill", ""), FILLS),
        form=parse_choice("format", single.get("format", ""), FORMATS),
        exact=parse_choice("exact", single.get("exact", ""), _FLAG) == "true",
    )


def _granularity(text: str, range_us: int) -> Granularity | None:
    granularity = parse_buckets(text)
    if granularity and range_us // (granularity.least_s * 1_000_000) > MAX_POINTS:
        raise InvalidRequestError(
            f"more than {MAX_POINTS} points in each group: "
            "ask for a coarser granularity or a shorter range",
            parameter="granularity",
            value=text,
            allowed=f"at most {MAX_POINTS} points",
        )
    return granularity


def _groups(names: Sequence[str]) -> tuple[Operand, ...]:
    groups = tuple(parse_operand("group", name, DIMENSIONS) for name in names)
    for number, operand in enumerate(groups):
        if operand in groups[:number] or number >= MAX_GROUP_FIELDS:
            raise InvalidRequestError(
                "group has a field twice, or too many",
                parameter="group",
                value=operand.name,
                allowed=f"at most {MAX_GROUP_FIELDS} different fields",
            )
    return groups
