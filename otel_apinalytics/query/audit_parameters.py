# SPDX-License-Identifier: Apache-2.0
"""The parameters of questions about the audit: from text to valid values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from otel_apinalytics.query.parameters import parse_choice, parse_limit, split_parameters
from otel_apinalytics.query.times import parse_range

FORMATS = ("json", "ndjson", "csv")
DEFAULT_LIMIT = 1_000
MAX_LIMIT = 10_000
_PARAMETERS = ("application", "key", "action", "limit", "format")


@dataclass(frozen=True, slots=True)
class AuditQuestion:
    """Which entries.

    Args:
        start_us: Start of the range, Unix microseconds; included.
        end_us: End of the range, Unix microseconds; excluded.
        application: Of whose keys; empty for all.
        key_id: Of which key; empty for all.
        action: What was done; or to what, for all that can be done to it; empty for all.
        limit: How many at most.
        form: One of `FORMATS`.
    """

    start_us: int
    end_us: int
    application: str = ""
    key_id: str = ""
    action: str = ""
    limit: int = DEFAULT_LIMIT
    form: str = FORMATS[0]


def parse_audit(start: str, end: str, parameters: Sequence[tuple[str, str]]) -> AuditQuestion:
    """Return the question that a path and its query parameters ask.

    Args:
        start: Start of the range as in the path.
        end: End of the range as in the path.
        parameters: Names and values of the query string, in order.

    Raises:
        InvalidRequestError: A parameter is unknown, given twice, or its value is not allowed.
    """
    given, _ = split_parameters(parameters, _PARAMETERS)
    return AuditQuestion(
        *parse_range(start, end),
        application=given.get("application", ""),
        key_id=given.get("key", ""),
        action=given.get("action", ""),
        limit=parse_limit(given.get("limit", ""), MAX_LIMIT, "entries") or DEFAULT_LIMIT,
        form=parse_choice("format", given.get("format", ""), FORMATS),
    )
