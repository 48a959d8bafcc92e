# SPDX-License-Identifier: Apache-2.0
"""Tests of times: the forms that a question may give them in, and what is none."""

from __future__ import annotations

import contextlib
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_apinalytics.errors import InvalidRequestError
from otel_apinalytics.query.statement import MAX_SECONDS
from otel_apinalytics.query.times import parse_range, parse_time, seconds_of

US = 1_000_000
# 2017-07-14T02:40:00.123456Z
NOW_US = 1_500_000_000_123_456


def refusal(start: str, end: str) -> InvalidRequestError:
    """Return the error that a range gives; it always says what would be allowed."""
    with pytest.raises(InvalidRequestError) as caught:
        parse_range(start, end, NOW_US)
    assert caught.value.allowed
    return caught.value


@pytest.mark.parametrize(
    ("text", "microseconds"),
    [
        ("0", 0),
        ("1400000000", 1_400_000_000_000_000),
        ("1400000000.5", 1_400_000_000_500_000),
        ("1400000000.000001", 1_400_000_000_000_001),
        ("0001", US),
        ("4294967295", MAX_SECONDS * US),
        ("1970-01-01T00:00:00Z", 0),
        ("2014-05-13T16:53:20Z", 1_400_000_000 * US),
        ("2014-05-13t16:53:20z", 1_400_000_000 * US),
        ("2014-05-13 16:53:20Z", 1_400_000_000 * US),
        ("2014-05-13T18:53:20+02:00", 1_400_000_000 * US),
        ("2014-05-13T18:53:20 02:00", 1_400_000_000 * US),
        ("2014-05-13T11:23:20-05:30", 1_400_000_000 * US),
        ("1969-12-31T23:00:00-01:00", 0),
        ("2014-05-13T16:53:20.5Z", 1_400_000_000_500_000),
        ("2014-05-13T16:53:20.000001Z", 1_400_000_000_000_001),
        # What is between two times of the store is the later: the same events are before it.
        ("1400000000.0000001", 1_400_000_000_000_001),
        ("1795321554.1234567", 1_795_321_554_123_457),
        ("2014-05-13T16:53:20.000000001Z", 1_400_000_000_000_001),
        ("2014-05-13T16:53:20.123456789Z", 1_400_000_000_123_457),
        ("now", NOW_US),
        ("-0s", NOW_US),
        ("-90s", NOW_US - 90 * US),
        ("-30m", NOW_US - 1800 * US),
        ("-24h", NOW_US - 86_400 * US),
        ("-7d", NOW_US - 7 * 86_400 * US),
        ("-2w", NOW_US - 14 * 86_400 * US),
    ],
)
def test_times(text: str, microseconds: int) -> None:
    """They are read without loss."""
    assert parse_time("start", text, NOW_US) == microseconds


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "-1", "+1", "1e9", "1.", ".5", "1.0000000001", "NaN", "inf", "\u0661", "1\n",
        "Now", "now-1h", "-1y", "-1M", "1h", "--1h", "-1.5h", "- 1h", "-\u0661h",
        "2014-05-13", "2014-05-13T16:53", "2014-05-13T16:53:20", "2014-05-13T16:53Z",
        "2014-05-13T16:53:20.Z", "2014-05-13T16:53:20.1234567890Z", "2014-05-13T16:53:20+0200",
        "2014-02-30T00:00:00Z", "2014-13-01T00:00:00Z", "2014-05-13T24:00:00Z",
        "2016-12-31T23:59:60Z", "2014-05-13T16:53:20+24:00", "2014-05-13T16:53:20Z ",
        "20140513T165320Z", "0000-01-01T00:00:00Z", "2014-05-13_16:53:20Z",
    ],
)  # fmt: skip
def test_what_is_no_time_is_refused(text: str) -> None:
    """Both ends are checked, and named, with the forms that there are."""
    for parameter, error in (("start", refusal(text, "now")), ("end", refusal("0", text))):
        assert (error.parameter, error.value) == (parameter, text)
        assert str(error) == f"{parameter} is not a time"
        for form in ("from 0 to 4294967295", "RFC 3339", "now", "-24h"):
            assert form in (error.allowed or "")


@pytest.mark.parametrize(
    "text",
    [
        "4294967296", "9999999999", "4294967295.000001", "1969-12-31T23:59:59.999999Z",
        "2106-02-07T06:28:15.000000001Z", "9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+23:59",
        "-2481w", "-9999999999w",
    ],
)  # fmt: skip
def test_what_the_store_cannot_have_is_refused(text: str) -> None:
    """A time, but none of an event."""
    error = refusal(text, "now")
    assert (error.parameter, error.value) == ("start", text)


@pytest.mark.parametrize(
    ("start", "end"), [("5", "5"), ("6", "5"), ("5.000001", "5.000001"), ("now", "-1s")]
)
def test_an_empty_range_is_refused(start: str, end: str) -> None:
    """The end is not included, so it must be after the start."""
    error = refusal(start, end)
    assert (error.parameter, error.value) == ("end", end)


def test_both_ends_mean_the_same_now() -> None:
    """So that a range of a day is one, to the microsecond."""
    start_us, end_us = parse_range("-24h", "now")
    assert end_us - start_us == 86_400 * US


@given(
    time=st.datetimes(datetime(1970, 1, 2), datetime(2106, 1, 1)),  # noqa: DTZ001 - takes no zone
    minutes=st.integers(-23 * 60 - 59, 23 * 60 + 59),
)
def test_any_rfc_3339_time(time: datetime, minutes: int) -> None:
    """Whatever its offset, as the calendar of Python understands it."""
    local = time.replace(tzinfo=timezone.utc).astimezone(timezone(timedelta(minutes=minutes)))
    expected = round(
        (local - datetime(1970, 1, 1, tzinfo=timezone.utc)) / timedelta(microseconds=1)
    )
    for text in (local.isoformat(), local.isoformat().replace("+", " ")):
        assert parse_time("start", text) == expected


@given(st.text(max_size=40) | st.from_regex(r"-?[0-9TZ:. +smhdw-]{0,30}", fullmatch=True))
def test_any_text_is_taken_or_refused(text: str) -> None:
    """Nothing but an invalid request is ever raised, and what is taken is in range."""
    with contextlib.suppress(InvalidRequestError):
        assert 0 <= parse_time("start", text) <= MAX_SECONDS * US


def test_seconds_of_an_answer() -> None:
    """Whole ones are integers, as in 2014."""
    assert str(seconds_of(5 * US)) == "5"
    assert seconds_of(5 * US + 250_000) == 5.25
