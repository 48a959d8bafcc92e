# SPDX-License-Identifier: Apache-2.0
"""Which of what the engine keeps a part of a question is to be taken from.

The engine would find out itself, by what each would cost in each part of the store; that takes it
longer than to answer. A name that does not fit is as good as none: the engine then looks itself.
The aggregates are those of the migrations.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from enum import Enum, auto

from otel_apinalytics.query.filters import Filters
from otel_apinalytics.query.zones import Moment

_CONSUMER = "consumer_id"
_PLACES = frozenset({"service", "route"})
_STATUSES = frozenset({"method", "status_code", "is_error"})
_SURFACE = _PLACES | _STATUSES
_OF_CONSUMER_EVENTS = _SURFACE | {_CONSUMER, "is_stream"}
# Of these, the column that it is computed of, or none beside those that all have.
_COMPUTED = {"status_class": "status_code", "direction": "", "hour_of_day": "", "weekday": ""}


class Measure(Enum):
    """What is aggregated."""

    REQUESTS = auto()
    RESPONSE_TIMES = auto()
    PERCENTILES = auto()
    OTHER = auto()


def settings(
    moment: Moment, dimensions: Iterable[str], measure: Measure, *, few_consumers: bool
) -> str:
    """Return the settings of a SELECT, in SQL with a space before it; empty for none.

    Args:
        moment: What it asks of an event's time.
        dimensions: Names of the fields that it groups or filters by.
        measure: What it aggregates.
        few_consumers: Whether it names the consumers that it is about.
    """
    if moment is Moment.TIME:
        # Nothing that is kept knows more than the hour.
        return " SETTINGS optimize_use_projections = 0"
    columns = {_COMPUTED.get(name, name) for name in dimensions} - {""}
    name = _aggregate(columns, measure, by_day=moment is Moment.DAY, few_consumers=few_consumers)
    return f" SETTINGS preferred_optimize_projection_name = '{name}'" if name else ""


def names_few_consumers(filters: Filters) -> bool:
    """Return whether filters say of which consumers the events are."""
    return any(
        each.operand.name == _CONSUMER and each.texts and not each.patterns
        for each in filters.include
    )


def _aggregate(
    columns: AbstractSet[str], measure: Measure, *, by_day: bool, few_consumers: bool
) -> str | None:
    others = columns - {_CONSUMER}
    if measure is Measure.PERCENTILES and columns <= {"route"}:
        return "bin_days" if by_day else "bins"
    if measure in (Measure.REQUESTS, Measure.RESPONSE_TIMES) and columns <= _SURFACE:
        return "surface_days" if by_day else "surface"
    # The hours are in the order of consumers, the days are not.
    by_order_of_days = by_day and not few_consumers
    if measure is Measure.REQUESTS and not others:
        return "consumer_days" if by_order_of_days else "consumers"
    if measure is Measure.REQUESTS and others <= _PLACES:
        return "route_consumer_days" if by_order_of_days else "consumer_routes"
    if measure is Measure.REQUESTS and few_consumers and others <= _STATUSES:
        return "consumer_statuses"
    if measure is not Measure.OTHER and few_consumers and columns <= _OF_CONSUMER_EVENTS:
        return "consumer_events"
    return None
