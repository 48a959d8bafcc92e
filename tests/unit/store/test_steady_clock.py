# SPDX-License-Identifier: Apache-2.0
"""Tests of the steady clock: nothing is believed of a clock that was set a moment ago."""

from __future__ import annotations

import logging

import pytest

from otel_apinalytics.store.steady_clock import SteadyClock

YEARS_S = 5 * 365 * 86400.0


class Clocks:
    """A wall clock and one that nobody sets; both run, one can be set."""

    def __init__(self) -> None:
        self.wall, self.elapsed = 1_800_000_000.0, 50.0
        self.steady = SteadyClock(lambda: self.wall, lambda: self.elapsed)

    def run(self, seconds: float, *, rate: float = 1.0) -> float | None:
        """Let time pass, in which the wall clock runs at a rate, and read."""
        self.elapsed += seconds
        self.wall += seconds * rate
        return self.steady.read()


@pytest.fixture
def clocks() -> Clocks:
    """Return clocks that just began."""
    return Clocks()


def test_a_clock_is_believed_after_ten_minutes(clocks: Clocks) -> None:
    """Not at the start: a machine without a battery starts with any time."""
    assert clocks.steady.read() is None
    assert clocks.run(599) is None
    assert clocks.run(1) == clocks.wall
    assert clocks.run(86400) == clocks.wall


@pytest.mark.parametrize("step_s", [YEARS_S, -YEARS_S, 3600.0, -3.0])
def test_a_clock_that_was_set_is_not_believed_for_ten_minutes(
    clocks: Clocks, step_s: float, caplog: pytest.LogCaptureFixture
) -> None:
    """Forward or back; and it says so once."""
    assert clocks.run(600) is not None
    clocks.wall += step_s
    with caplog.at_level(logging.WARNING):
        assert clocks.steady.read() is None
        assert clocks.run(599) is None
    assert len(caplog.records) == 1
    assert clocks.run(1) == clocks.wall


def test_a_clock_that_is_set_back_right_is_never_believed_in_between(clocks: Clocks) -> None:
    """Each step begins ten minutes anew."""
    clocks.run(600)
    clocks.wall += YEARS_S
    assert clocks.run(300) is None
    clocks.wall -= YEARS_S
    assert clocks.run(300) is None
    assert clocks.run(599) is None
    assert clocks.run(1) == clocks.wall


def test_a_step_between_two_readings_far_apart_is_seen(clocks: Clocks) -> None:
    """However long ago the latest reading is."""
    clocks.run(600)
    clocks.wall += YEARS_S
    assert clocks.run(100_000) is None


def test_a_clock_that_is_slewed_is_believed(clocks: Clocks) -> None:
    """NTP makes a clock faster or slower by half a thousandth; that sums up over days."""
    readings = [clocks.run(60, rate=1.0005) for _ in range(1000)]
    assert None not in readings[10:]
