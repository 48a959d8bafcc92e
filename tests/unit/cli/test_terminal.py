# SPDX-License-Identifier: Apache-2.0
"""Tests of what is shown on a terminal: charts, numbers, and text of strangers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_apinalytics.cli.terminal import number, printable, sparkline

VALUES = st.lists(st.none() | st.floats(0, 1e300) | st.integers(0, 10**30), max_size=300)


@pytest.mark.parametrize(
    ("values", "chart"),
    [
        ([1, 2, 0, 4], "▃▅▁█"),
        ([4], "█"),
        ([0, 0], "▁▁"),
        # What is there is seen beside what is zero.
        ([0, 1, 10_000], "▁▂█"),
        ([None, 5, None], " █ "),
        ([None, None], "  "),
        ([], ""),
    ],
)
def test_a_chart_goes_from_zero_to_the_largest(values: list[float | None], chart: str) -> None:
    """A missing value is a gap."""
    assert sparkline(values, 50, ascii_only=False) == chart


def test_a_chart_in_ascii() -> None:
    """For terminals that have no blocks."""
    chart = sparkline([0, 1, 2, 3, 4, 5, 6, 7, None], 50, ascii_only=True)
    assert chart == "_.-:=+*# "


def test_a_chart_that_is_too_wide_keeps_its_peaks() -> None:
    """One character stands for the largest of several values."""
    assert sparkline([0, 0, 0, 7, 0, 0, None, None], 4, ascii_only=False) == "▁█▁ "


@given(VALUES, st.integers(1, 120))
def test_a_chart_fits(values: list[float | None], width: int) -> None:
    """Whatever the values are."""
    assert len(sparkline(values, width, ascii_only=False)) <= width


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (1234, None, "1,234"),
        (1234.0, None, "1,234"),
        (2.5, None, "2.5"),
        (0.012345, "/s", "0.0123 /s"),
        (1234.56, None, "1,235"),
        (0, "µs", "0 µs"),
        (999, "µs", "999 µs"),
        (2500, "µs", "2.5 ms"),
        (61_000_000, "µs", "61 s"),
        (9_000_000_000, "µs", "9,000 s"),
        (1_500_000, "B", "1.5 MB"),
        (0.0321, "%", "3.21 %"),
        (1, "%", "100 %"),
        (3, "units", "3 units"),
        (None, "µs", "-"),
    ],
)
def test_numbers(value: float | None, unit: str | None, text: str) -> None:
    """With as many digits as people read, and the unit that makes it short."""
    assert number(value, unit) == text


def test_text_of_strangers_does_nothing_to_a_terminal() -> None:
    """Names come from whoever calls the API."""
    assert printable("\x1b[31mred\r\n\x07", "utf-8") == "�[31mred���"
    assert printable("é€", "latin-1") == "é?"
    assert printable("µs", "ascii") == "?s"


@given(st.text(), st.sampled_from(["utf-8", "latin-1", "ascii", "cp1252"]))
def test_any_text_can_be_printed(text: str, encoding: str) -> None:
    """In any encoding, also halves of surrogate pairs."""
    shown = printable(text, encoding)
    assert shown.encode(encoding).decode(encoding) == shown
    assert "\x1b" not in shown
