# SPDX-License-Identifier: Apache-2.0
"""Buckets of time: widths and calendar units, the number of an event's bucket, and its start."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, tzinfo

from otel_apinalytics.errors import InvalidRequestError
from otel_apinalytics.query.zones import DAY_S, LocalTime, Moment

GRANULARITIES = {"second": 1, "minute": 60, "hour": 3600, "day": DAY_S, "week": 7 * DAY_S}
MONTH = "month"
# Those whose buckets are the calendar's, in any zone; the others have a width.
_CALENDAR = ("day", "week", MONTH)
_WEEK_S = GRANULARITIES["week"]
_HOUR_S = GRANULARITIES["hour"]
# The epoch began on a Thursday, weeks begin on a Monday.
_MONDAY_OFFSET_S = 3 * DAY_S
_SHORTEST_MONTH_S = 28 * DAY_S
_US = 1_000_000


@dataclass(frozen=True, slots=True)
class Granularity:
    """What a bucket is.

    Args:
        width_s: Its width in seconds, for a day or week the usual one; None for a month.
        unit: `day`, `week` or `month` for those of the calendar; None for buckets of just this
            width, which are multiples of it since the epoch, those of a week since a Monday.
    """

    width_s: int | None
    unit: str | None = None

    @property
    def least_s(self) -> int:
        """The shortest that a bucket is, but for changes of the clock."""
        return self.width_s or _SHORTEST_MONTH_S


class Buckets:
    """The buckets of a range.

    Args:
        granularity: What they are; None for one over the whole range.
        zone: Where days begin.
        start_us: Start of the range, Unix microseconds.
        end_us: End of the range, excluded, Unix microseconds.
    """

    def __init__(
        self, granularity: Granularity | None, zone: tzinfo, start_us: int, end_us: int
    ) -> None:
        self._granularity = granularity
        self._start_us, self._end_us = start_us, end_us
        self.local = LocalTime(zone, start_us, end_us)

    @property
    def is_single(self) -> bool:
        """Whether there is but one, over the whole range."""
        return self._granularity is None

    def sql(self, moment: Moment) -> str:
        """SQL: the number of an event's bucket, where there are several.

        Args:
            moment: What of its time is known to be enough.
        """
        granularity = self._granularity
        assert granularity is not None, "a single bucket has no number"  # noqa: S101
        width_s = granularity.least_s
        if granularity.unit is None:
            return _fixed_number(_column(width_s), width_s)
        seconds = self.local.seconds_of(moment)
        if granularity.unit == MONTH:
            day = f"addDays(toDate32('1969-12-29'), intDiv({seconds}, {DAY_S}))"
            return f"toInt64(toYear({day}) * 12 + toMonth({day}) - 1)"
        return f"intDiv({seconds}, {width_s})"

    @property
    def are_days(self) -> bool:
        """Whether they consist of whole days of UTC."""
        granularity = self._granularity
        return granularity is None or (granularity.unit is not None and self.local.is_utc)

    def divided_hours(self) -> set[int] | None:
        """Return the starts of hours with events of several buckets, Unix seconds; None if any."""
        granularity = self._granularity
        if granularity is None:
            return set()
        if granularity.unit is None:
            return None if granularity.least_s % _HOUR_S else set()
        if self.local.has_full_hours:
            return set()
        starts = (self.start_of(number) for number in self)
        return self.local.divided_hours() | {
            start - start % _HOUR_S
            for start in starts
            if start % _HOUR_S and self._start_us // _US <= start < self._end_us / _US
        }

    def start_of(self, number: int) -> int:
        """Return when the bucket of a number begins, Unix seconds."""
        granularity = self._granularity
        if granularity is None:
            return self._start_us // _US
        if granularity.unit == MONTH:
            year, month = divmod(number, 12)
            return self.local.start_of(date(year, month + 1, 1))
        width_s = granularity.least_s
        if granularity.unit:
            return self.local.start_of(self.local.date_of(number * width_s // DAY_S))
        return number * width_s - _offset_s(width_s)

    def seconds_inside(self, number: int) -> float:
        """Return how much of a bucket is inside of the range, in seconds."""
        if self._granularity is None:
            return (self._end_us - self._start_us) / _US
        first_us = max(self.start_of(number) * _US, self._start_us)
        return (min(self.start_of(number + 1) * _US, self._end_us) - first_us) / _US

    def __iter__(self) -> Iterator[int]:
        """Yield the numbers of all buckets of the range, in order of time."""
        first, last = (
            self._number_at(time_us // _US) for time_us in (self._start_us, self._end_us - 1)
        )
        for number in range(first, last + 1):
            # A zone may skip a whole day.
            if number == last or self.start_of(number) < self.start_of(number + 1):
                yield number

    def _number_at(self, time_s: int) -> int:
        granularity = self._granularity
        if granularity is None:
            return 0
        if granularity.unit == MONTH:
            day = self.local.day_at(time_s)
            return day.year * 12 + day.month - 1
        width_s = granularity.least_s
        if granularity.unit:
            return self.local.seconds_at(time_s) // width_s
        return (time_s + _offset_s(width_s)) // width_s


def bucket_start(time: str, granularity_s: int) -> str:
    """Return the start of the bucket that a time is in, Unix seconds; weeks begin on a Monday.

    Args:
        time: A column with a time.
        granularity_s: Width of a bucket in seconds.
    """
    number = _fixed_number(time, granularity_s)
    return f"{number} * {granularity_s} - {_offset_s(granularity_s)}"


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
    if (width_s := _seconds(text)) and width_s % step_s == 0:
        return width_s
    seconds = "a positive number of seconds" if step_s == 1 else f"a multiple of {step_s} seconds"
    raise _no_width(text, seconds, *words)


def parse_buckets(text: str) -> Granularity | None:
    """Return what a bucket of a timeseries is; None if there is no text.

    Raises:
        InvalidRequestError: There is no such bucket.
    """
    if not text:
        return None
    if text in _CALENDAR:
        return Granularity(GRANULARITIES.get(text), text)
    if width_s := GRANULARITIES.get(text) or _seconds(text):
        return Granularity(width_s)
    raise _no_width(text, "a positive number of seconds", *GRANULARITIES, MONTH)


def _column(width_s: int) -> str:
    # The stored hour is several times faster to group by than the time itself.
    return "events.hour" if width_s % _HOUR_S == 0 else "events.timestamp"


def _fixed_number(time: str, width_s: int) -> str:
    return f"intDiv(toInt64(toUnixTimestamp({time})) + {_offset_s(width_s)}, {width_s})"


def _offset_s(width_s: int) -> int:
    return _MONDAY_OFFSET_S if width_s == _WEEK_S else 0


def _seconds(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 10 else None


def _no_width(text: str, *allowed: str) -> InvalidRequestError:
    return InvalidRequestError(
        "granularity is not a width",
        parameter="granularity",
        value=text,
        allowed=f"{allowed[0]}, or {', '.join(allowed[1:])}",
    )
