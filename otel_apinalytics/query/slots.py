# SPDX-License-Identifier: Apache-2.0
"""Slots of time: divides a range into days and hours that are whole, and the rest.

What the engine keeps aggregates of is whole hours, of some also whole days. Conditions that name
nothing but these can be answered from aggregates; the ragged ends of a range, and hours in which a
bucket begins, are answered from events themselves. Together they are the range, without overlap.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from otel_apinalytics.query.statement import range_condition, tenant_condition
from otel_apinalytics.query.zones import DAY_S, Moment

#: Settings of statements that ask by slots. Without the first, a condition on days becomes one on
#: hours, which aggregates by day have not. Without the second, threads take turns over parts that
#: take microseconds each.
PLANNING = "optimize_time_filter_with_preimage = 0, max_threads_for_indexes = 1"
HOUR_S = 3600
_US = 1_000_000
# Each is a number in the statement; beyond, events are read, which is as right.
_MAX_DIVIDED = 5_000


class Slots(NamedTuple):
    """Some slots of a range.

    Args:
        condition: The condition that an event is in them, in SQL.
        moment: As much of an event's time as says in which bucket it is.
    """

    condition: str
    moment: Moment


def divide(
    start_us: int, end_us: int, divided: Collection[int] | None, *, by_day: bool = False
) -> list[Slots]:
    """Return the slots of a range; each of its events is in one of them.

    The conditions name the parameters of `range_condition`.

    Args:
        start_us: Start of the range, Unix microseconds.
        end_us: End of the range, excluded, Unix microseconds.
        divided: Starts of hours whose events are not all in one bucket, Unix seconds; None if that
            may be any.
        by_day: Whether whole days may be asked for as days; then no hour is divided.
    """
    first_s = -(-start_us // (HOUR_S * _US)) * HOUR_S
    last_s = end_us // (HOUR_S * _US) * HOUR_S
    if divided is None or len(divided) > _MAX_DIVIDED or first_s >= last_s:
        return [Slots(range_condition(), Moment.TIME)]
    found = []
    hours = [(first_s, last_s)]
    first_day, last_day = -(-first_s // DAY_S), last_s // DAY_S
    if by_day and first_day < last_day:
        day = Moment.DAY.value
        days = f"{day} >= toDate({first_day}) AND {day} < toDate({last_day})"
        found.append(Slots(f"{tenant_condition()} AND {days}", Moment.DAY))
        hours = [(first_s, first_day * DAY_S), (last_day * DAY_S, last_s)]
    if whole := " OR ".join(_hours(*bounds) for bounds in hours if bounds[0] < bounds[1]):
        if divided:
            whole = f"{whole} AND events.hour NOT IN ({_times(divided)})"
        found.append(Slots(f"{tenant_condition()} AND ({whole})", Moment.HOUR))
    ragged = set(divided)
    if first_s * _US > start_us:
        ragged.add(first_s - HOUR_S)
    if last_s * _US < end_us:
        ragged.add(last_s)
    if ragged:
        condition = f"{range_condition()} AND events.hour IN ({_times(ragged)})"
        found.append(Slots(condition, Moment.TIME))
    return found


def _hours(first_s: int, last_s: int) -> str:
    return (
        f"events.hour >= toDateTime({first_s}, 'UTC') AND events.hour < toDateTime({last_s}, 'UTC')"
    )


def _times(hours: Collection[int]) -> str:
    return ", ".join(f"toDateTime({hour}, 'UTC')" for hour in sorted(hours))
