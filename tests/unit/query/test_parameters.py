# SPDX-License-Identifier: Apache-2.0
"""Tests of the parameters of raw events: what is allowed, and how the rest is refused."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_apinalytics.errors import InvalidRequestError
from otel_apinalytics.query.parameters import parse_raw_events


@pytest.mark.parametrize("parameters", [[], [("format", "")], [("format", "ndjson")]])
def test_the_range_of_raw_events(parameters: list[tuple[str, str]]) -> None:
    """Read as that of a timeseries; the format may be left out."""
    assert parse_raw_events("1.5", "2", parameters) == (1_500_000, 2_000_000)


@pytest.mark.parametrize(
    ("start", "end", "parameters", "named", "allowed"),
    [
        ("x", "2", [], ("start", "x"), "Unix time"),
        ("2", "2", [], ("end", "2"), "after start"),
        ("1", "2", [("format", "json")], ("format", "json"), "ndjson"),
        ("1", "2", [("format", "NDJSON")], ("format", "NDJSON"), "ndjson"),
        ("1", "2", [("format", ""), ("format", "ndjson")], ("format", "ndjson"), "one value"),
        ("1", "2", [("group", "")], ("group", ""), "format"),
        ("1", "2", [("include", "method:GET")], ("include", "method:GET"), "format"),
    ],
)
def test_what_cannot_be_asked_of_raw_events(
    start: str, end: str, parameters: list[tuple[str, str]], named: tuple[str, str], allowed: str
) -> None:
    """The error names the parameter and its value, and says what is allowed."""
    with pytest.raises(InvalidRequestError) as caught:
        parse_raw_events(start, end, parameters)
    assert (caught.value.parameter, caught.value.value) == named
    assert allowed in (caught.value.allowed or "")


@given(
    start=st.text(max_size=12),
    end=st.text(max_size=12),
    parameters=st.lists(st.tuples(st.just("format") | st.text(), st.text()), max_size=4),
)
def test_any_text_is_taken_or_refused(
    start: str, end: str, parameters: list[tuple[str, str]]
) -> None:
    """Nothing but an invalid request is ever raised."""
    for range_start, range_end in ((start, end), ("0", "86400")):
        with contextlib.suppress(InvalidRequestError):
            parse_raw_events(range_start, range_end, parameters)
