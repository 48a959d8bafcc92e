# SPDX-License-Identifier: Apache-2.0
"""Tests of what may be asked of the ledger and of the dead letters, and how the rest is refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from otel_apinalytics.errors import InvalidRequestError
from otel_apinalytics.normalize.outcomes import REJECT_REASONS
from otel_apinalytics.query.buckets import GRANULARITIES
from otel_apinalytics.query.ledger_parameters import (
    DEFAULT_LIMIT,
    MAX_LIMIT,
    DeadLettersQuestion,
    LedgerQuestion,
    parse_dead_letters,
    parse_ledger,
)

US = 1_000_000


def refusal(parse: Callable[[], object]) -> InvalidRequestError:
    """Return the error that a question gives; it always says what would be allowed."""
    with pytest.raises(InvalidRequestError) as caught:
        parse()
    assert caught.value.parameter is not None
    assert caught.value.value is not None
    assert caught.value.allowed
    return caught.value


# ---- the ledger ----


@pytest.mark.parametrize("parameters", [(), [("granularity", "")]])
def test_a_ledger_is_by_minute(parameters: list[tuple[str, str]]) -> None:
    """Unless said otherwise; an empty parameter says nothing."""
    assert parse_ledger("60.5", "120", parameters) == LedgerQuestion(60_500_000, 120 * US, 60)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("60", 60),
        ("180", 180),
        *((word, GRANULARITIES[word]) for word in ("minute", "hour", "day", "week")),
    ],
)
def test_minutes_can_be_summed(text: str, seconds: int) -> None:
    """In any number, and by the words of the timeseries."""
    assert parse_ledger("0", "60", [("granularity", text)]).granularity_s == seconds


@pytest.mark.parametrize("text", ["second", "0", "1", "59", "61", "-60", "60.0", "month", "٦٠"])
def test_other_widths_are_refused(text: str) -> None:
    """The ledger knows no seconds."""
    error = refusal(lambda: parse_ledger("0", "60", [("granularity", text)]))
    assert (error.parameter, error.value) == ("granularity", text)
    assert error.allowed == "a multiple of 60 seconds, or minute, hour, day, week"


@pytest.mark.parametrize(
    ("start", "end", "parameters", "at_fault"),
    [
        ("x", "60", [], "start"),
        ("0", "-1", [], "end"),
        ("60", "60", [], "end"),
        ("0", "60", [("group", "key_id")], "group"),
        ("0", "60", [("granularity", "60"), ("granularity", "60")], "granularity"),
    ],
)
def test_a_ledger_question_that_is_wrong_names_its_fault(
    start: str, end: str, parameters: list[tuple[str, str]], at_fault: str
) -> None:
    """Also what is unknown or said twice: it would be answered otherwise than meant."""
    assert refusal(lambda: parse_ledger(start, end, parameters)).parameter == at_fault


# ---- dead letters ----


@pytest.mark.parametrize(
    "parameters", [[], [(name, "") for name in ("start", "end", "reason", "limit")]]
)
def test_dead_letters_of_any_time_and_reason(parameters: list[tuple[str, str]]) -> None:
    """Left out or empty, nothing is bounded but the number."""
    question = parse_dead_letters(parameters)
    assert question == DeadLettersQuestion(None, None, None, DEFAULT_LIMIT)


def test_dead_letters_can_be_chosen() -> None:
    """By receipt, reason and number."""
    parameters = [("start", "1"), ("end", "2.5"), ("reason", "undecodable"), ("limit", "7")]
    question = parse_dead_letters(parameters)
    assert question == DeadLettersQuestion(1 * US, 2_500_000, "undecodable", 7)
    assert parse_dead_letters([("end", "2")]).end_us == 2 * US


@pytest.mark.parametrize("reason", REJECT_REASONS)
def test_every_reason_can_be_asked_for(reason: str) -> None:
    """There are no others in the table."""
    assert parse_dead_letters([("reason", reason)]).reason == reason


@pytest.mark.parametrize("reason", ["placeholder", "Undecodable", "too_large", " "])
def test_what_rejects_nothing_is_refused(reason: str) -> None:
    """Spans are filtered for other reasons, requests refused."""
    error = refusal(lambda: parse_dead_letters([("reason", reason)]))
    assert error.allowed == ", ".join(REJECT_REASONS)


@pytest.mark.parametrize("limit", ["0", "10001", "-1", "1.0", "1e3", "٣", "9" * 5000])
def test_a_limit_has_bounds(limit: str) -> None:
    """They are said."""
    assert refusal(lambda: parse_dead_letters([("limit", limit)])).allowed == f"1 to {MAX_LIMIT}"


@pytest.mark.parametrize("limit", [1, MAX_LIMIT])
def test_the_bounds_of_a_limit_are_allowed(limit: int) -> None:
    """Both of them."""
    assert parse_dead_letters([("limit", str(limit))]).limit == limit


@pytest.mark.parametrize(
    ("parameters", "at_fault"),
    [
        ([("start", "x")], "start"),
        ([("end", "x")], "end"),
        ([("start", "2"), ("end", "2")], "end"),
        ([("application", "other")], "application"),
        ([("limit", "1"), ("limit", "2")], "limit"),
    ],
)
def test_a_question_for_dead_letters_that_is_wrong_names_its_fault(
    parameters: list[tuple[str, str]], at_fault: str
) -> None:
    """Also what is unknown: the application is the key's."""
    assert refusal(lambda: parse_dead_letters(parameters)).parameter == at_fault
