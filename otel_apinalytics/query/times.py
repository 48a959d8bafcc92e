# SPDX-License-Identifier: Apache-2.0
"""Times of a question: from the text in a path or parameter to Unix microseconds."""

from __future__ import annotations

import math
import re
import time
from datetime import datetime, timezone
from decimal import Decimal

from otel_apinalytics.errors import InvalidRequestError
from otel_apinalytics.query.statement import MAX_SECONDS

ALLOWED = (
    f"Unix time in seconds, from 0 to {MAX_SECONDS}, RFC 3339 such as 2026-01-31T12:00:00Z, "
    "now, or a time before now such as -24h (s, m, h, d, w)"
)
_US = 1_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
# Python's own clock gives up to seven decimals.
_SECONDS = re.compile(r"[0-9]{1,10}(\.[0-9]{1,9})?")
_BEFORE_NOW = re.compile(r"-([0-9]{1,10})([smhdw])")
_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}
# RFC 3339, section 5.6; a plus sign that was not escaped has become a space on the way.
_RFC_3339 = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt ]([0-9]{2}:[0-9]{2}:[0-9]{2})(?:\.([0-9]{1,9}))?"
    r"([Zz]|[+ -][0-9]{2}:[0-9]{2})"
)


def parse_range(start: str, end: str, now_us: int | None = None) -> tuple[int, int]:
    """Return start and end of a range in Unix microseconds.

    Args:
        start: Start of the range, included.
        end: End of the range, excluded.
        now_us: What both understand by now; the clock by default.

    Raises:
        InvalidRequestError: One is not a time, or the range is empty.
    """
    now_us = _now_us() if now_us is None else now_us
    start_us, end_us = parse_time("start", start, now_us), parse_time("end", end, now_us)
    if end_us <= start_us:
        raise InvalidRequestError(
            "the range is empty: end must be after start",
            parameter="end",
            value=end,
            allowed="a time after start",
        )
    return start_us, end_us


def parse_time(parameter: str, text: str, now_us: int | None = None) -> int:
    """Return a time in Unix microseconds; what is between two is the later one.

    Args:
        parameter: Its name, for the error.
        text: Unix seconds, RFC 3339, `now`, or a time before now.
        now_us: What is understood by now; the clock by default.

    Raises:
        InvalidRequestError: It is no time, or not one that the store can have.
    """
    found = _read(text, _now_us() if now_us is None else now_us)
    if found is None or not 0 <= found <= MAX_SECONDS * _US:
        raise InvalidRequestError(
            f"{parameter} is not a time" if found is None else f"{parameter} is out of range",
            parameter=parameter,
            value=text,
            allowed=ALLOWED,
        )
    return found


def seconds_of(microseconds: int) -> float:
    """Return microseconds as seconds; whole ones as an integer, as they are asked for."""
    whole, rest = divmod(microseconds, _US)
    return microseconds / _US if rest else whole


def seconds_text(microseconds: int) -> str:
    """Return microseconds as the text of seconds that `parse_time` reads."""
    whole, rest = divmod(microseconds, _US)
    return f"{whole}.{rest:06}" if rest else str(whole)


def _read(text: str, now_us: int) -> int | None:
    if _SECONDS.fullmatch(text):
        return math.ceil(Decimal(text) * _US)
    if text == "now":
        return now_us
    if match := _BEFORE_NOW.fullmatch(text):
        return now_us - int(match[1]) * _UNITS_S[match[2]] * _US
    if match := _RFC_3339.fullmatch(text):
        return _read_rfc_3339(*match.groups())
    return None


def _read_rfc_3339(day: str, clock: str, fraction: str | None, offset: str) -> int | None:
    offset = "+00:00" if offset in "Zz" else offset.replace(" ", "+")
    try:
        # Years that the calendar has and the range has not overflow on the way to UTC.
        whole = datetime.fromisoformat(f"{day}T{clock}{offset}") - _EPOCH
    except (ValueError, OverflowError):
        return None
    nanoseconds = int((fraction or "0").ljust(9, "0"))
    return (whole.days * 86_400 + whole.seconds) * _US - (-nanoseconds // 1000)


def _now_us() -> int:
    return time.time_ns() // 1000
