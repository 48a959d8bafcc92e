# SPDX-License-Identifier: Apache-2.0
"""Local time: a zone's offsets within a range, in SQL and in Python from the same source.

The engine is given the offsets: whatever it knows of zones itself, both sides agree on what day it
is.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from datetime import date, datetime, timedelta, timezone, tzinfo
from datetime import time as time_of_day
from enum import Enum
from zoneinfo import ZoneInfo, available_timezones

from otel_apinalytics.errors import InvalidRequestError

UTC = "UTC"
DAY_S = 86_400
_HOUR_S = 3600
# Local time is counted from a Monday so early that it is never negative.
_FIRST_MONDAY = date(1969, 12, 29)
_ORIGIN_S = 3 * DAY_S


class Moment(str, Enum):
    """What is asked of an event's time, in SQL."""

    DAY = "toDate(events.hour)"
    HOUR = "events.hour"
    TIME = "events.timestamp"


class LocalTime:
    """Local time in a range of time.

    Args:
        zone: The zone.
        start_us: Start of the range, Unix microseconds.
        end_us: End of the range, Unix microseconds.
    """

    def __init__(self, zone: tzinfo, start_us: int, end_us: int) -> None:
        self._zone = zone
        # From the full hour before, for hours are stored with their start.
        first_s = start_us // 1_000_000 // _HOUR_S * _HOUR_S
        self._changes = _changes(zone, first_s, max(end_us - 1, 0) // 1_000_000)

    @property
    def seconds(self) -> str:
        """SQL: local time of an event, in seconds since Monday 1969-12-29, never negative.

        It is exact where only the day or the hour of it matters: the stored hour is several times
        faster to group by than the time itself.
        """
        return self.seconds_of(Moment.HOUR if self.has_full_hours else Moment.TIME)

    def seconds_of(self, moment: Moment) -> str:
        """SQL: local time of an event, in the same seconds, from what is enough for it."""
        time = f"toUInt32({moment.value})"
        if moment is Moment.DAY:
            time = f"{time} * {DAY_S}"
        shifts = [offset_s + _ORIGIN_S for _, offset_s in self._changes]
        if len(shifts) == 1:
            return f"(toInt64({time}) + {shifts[0]})"
        since = [since_s for since_s, _ in self._changes]
        shift = f"transform(roundDown({time}, {since}), {since}, {shifts}, 0)"
        return f"(toInt64({time}) + {shift})"

    def seconds_at(self, time_s: int) -> int:
        """Return the same for a time in Unix seconds that lies in the range."""
        offset_s = next(offset for since, offset in reversed(self._changes) if since <= time_s)
        return time_s + offset_s + _ORIGIN_S

    def day_at(self, time_s: int) -> date:
        """Return the date at a time in Unix seconds that lies in the range."""
        return self.date_of(self.seconds_at(time_s) // DAY_S)

    def start_of(self, day: date) -> int:
        """Return when a day begins, Unix seconds; where clocks skip midnight, when they do."""
        return int(datetime.combine(day, time_of_day(), self._zone).timestamp())

    @staticmethod
    def date_of(number: int) -> date:
        """Return a day by its number, counted from that Monday."""
        return _FIRST_MONDAY + timedelta(days=number)

    @property
    def is_utc(self) -> bool:
        """Whether local time is that of UTC."""
        return all(offset_s == 0 for _, offset_s in self._changes)

    @property
    def has_full_hours(self) -> bool:
        """Whether local hours are hours of UTC."""
        return all(second % _HOUR_S == 0 for change in self._changes for second in change)

    def divided_hours(self) -> set[int]:
        """Return the starts of hours of UTC, Unix seconds, within which the clock changes."""
        return {since_s // _HOUR_S * _HOUR_S for since_s, _ in self._changes if since_s % _HOUR_S}


def parse_zone(text: str) -> tzinfo:
    """Return the zone of that name; that of an empty one is UTC.

    Raises:
        InvalidRequestError: There is none.
    """
    if text in ("", UTC):
        return timezone.utc
    # Other names may be those of files.
    if text not in _names():
        raise InvalidRequestError(
            "unknown time zone",
            parameter="tz",
            value=text,
            allowed="a name of the IANA time zone database, such as UTC or Europe/Berlin",
        )
    return ZoneInfo(text)


@functools.cache
def _names() -> frozenset[str]:
    return frozenset(available_timezones())


# A question asks several times.
@functools.lru_cache(maxsize=64)
def _changes(zone: tzinfo, first_s: int, last_s: int) -> Sequence[tuple[int, int]]:
    """Return pairs of Unix seconds and the offset from then on; the first is that of `first_s`."""
    found = [(first_s, _offset_at(zone, first_s))]
    if zone is timezone.utc:
        return tuple(found)
    before_s = first_s
    while before_s < last_s:
        after_s = min(before_s + DAY_S, last_s)
        if _offset_at(zone, after_s) != found[-1][1]:
            change_s = _first_change(zone, before_s, after_s)
            found.append((change_s, _offset_at(zone, change_s)))
        before_s = after_s
    return tuple(found)


def _first_change(zone: tzinfo, before_s: int, after_s: int) -> int:
    """Return the second from which the offset is another, between two that differ in it."""
    offset_s = _offset_at(zone, before_s)
    while after_s - before_s > 1:
        middle_s = (before_s + after_s) // 2
        if _offset_at(zone, middle_s) == offset_s:
            before_s = middle_s
        else:
            after_s = middle_s
    return after_s


def _offset_at(zone: tzinfo, time_s: int) -> int:
    offset = datetime.fromtimestamp(time_s, zone).utcoffset()
    return offset.days * DAY_S + offset.seconds if offset is not None else 0
