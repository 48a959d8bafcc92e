# SPDX-License-Identifier: Apache-2.0
"""The parameters of questions about the ledger and the dead letters: from text to valid values."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from otel_apinalytics.errors import InvalidRequestError
from otel_apinalytics.normalize.outcomes import REJECT_REASONS
from otel_apinalytics.query.buckets import parse_granularity
from otel_apinalytics.query.parameters import parse_limit, split_parameters
from otel_apinalytics.query.times import parse_range, parse_time

# The ledger's own buckets.
MINUTE_S = 60
DEFAULT_LIMIT = 100
MAX_LIMIT = 10_000
_LEDGER_PARAMETERS = ("granularity", "record_id")
_RECORD_ID = re.compile(r"[0-9a-fA-F]{32}")
_DEAD_LETTER_PARAMETERS = ("start", "end", "reason", "limit")


@dataclass(frozen=True, slots=True)
class LedgerQuestion:
    """Which minutes of the ledger, and how many of them make a row.

    Args:
        start_us: Start of the range, Unix microseconds; minutes that begin in it are included.
        end_us: End of the range, Unix microseconds; excluded.
        granularity_s: Width of a bucket, a multiple of a minute.
        record_id: Of this record alone; None for all.
    """

    start_us: int
    end_us: int
    granularity_s: int
    record_id: bytes | None = None


@dataclass(frozen=True, slots=True)
class DeadLettersQuestion:
    """Which dead letters.

    Args:
        start_us: Received then or later, Unix microseconds; None for any time.
        end_us: Received before, Unix microseconds; None for any time.
        reason: Why they were rejected; None for any reason.
        limit: How many at most.
    """

    start_us: int | None
    end_us: int | None
    reason: str | None
    limit: int


def parse_ledger(start: str, end: str, parameters: Sequence[tuple[str, str]]) -> LedgerQuestion:
    """Return the question that a path and its query parameters ask.

    Args:
        start: Start of the range as in the path.
        end: End of the range as in the path.
        parameters: Names and values of the query string, in order.

    Raises:
        InvalidRequestError: A parameter is unknown, given twice, or its value is not allowed.
    """
    given, _ = split_parameters(parameters, _LEDGER_PARAMETERS)
    start_us, end_us = parse_range(start, end)
    granularity_s = parse_granularity(given.get("granularity", ""), MINUTE_S) or MINUTE_S
    return LedgerQuestion(start_us, end_us, granularity_s, _record_id(given.get("record_id", "")))


def parse_dead_letters(parameters: Sequence[tuple[str, str]]) -> DeadLettersQuestion:
    """Return the question that query parameters ask.

    Args:
        parameters: Names and values of the query string, in order.

    Raises:
        InvalidRequestError: A parameter is unknown, given twice, or its value is not allowed.
    """
    given, _ = split_parameters(parameters, _DEAD_LETTER_PARAMETERS)
    start, end = given.get("start", ""), given.get("end", "")
    bounds: tuple[int | None, int | None]
    if start and end:
        bounds = parse_range(start, end)
    else:
        bounds = (
            parse_time("start", start) if start else None,
            parse_time("end", end) if end else None,
        )
    return DeadLettersQuestion(
        *bounds,
        reason=_reason(given.get("reason", "")),
        limit=parse_limit(given.get("limit", ""), MAX_LIMIT, "dead letters") or DEFAULT_LIMIT,
    )


def _record_id(text: str) -> bytes | None:
    if text and not _RECORD_ID.fullmatch(text):
        raise InvalidRequestError(
            "no record has such an id",
            parameter="record_id",
            value=text,
            allowed="32 hexadecimal digits, as X-Record-Id has them",
        )
    return bytes.fromhex(text) or None


def _reason(text: str) -> str | None:
    if text and text not in REJECT_REASONS:
        raise InvalidRequestError(
            "nothing is rejected for this reason",
            parameter="reason",
            value=text,
            allowed=", ".join(REJECT_REASONS),
        )
    return text or None
