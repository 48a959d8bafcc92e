# SPDX-License-Identifier: Apache-2.0
"""The ledger: what was received by minute, application and key, and what became of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from otel_apinalytics.errors import InvalidRequestError
from otel_apinalytics.normalize import outcomes
from otel_apinalytics.query.buckets import bucket_start
from otel_apinalytics.query.ledger_parameters import MINUTE_S, LedgerQuestion
from otel_apinalytics.query.statement import MAX_SECONDS, Statement, engine_faults
from otel_apinalytics.query.times import seconds_of
from otel_apinalytics.store.engine import Engine

# An answer is built in memory.
MAX_ROWS = 50_000
_MINUTE_US = MINUTE_S * 1_000_000
# What became of what was received; each span and event is counted in one of them.
_ENDS = (outcomes.STORED, outcomes.DUPLICATE, outcomes.FILTERED, outcomes.REJECTED)
_ADVICE = "ask for a coarser granularity or a shorter range"


class LedgerRow(NamedTuple):
    """Items of one bucket, application, key, transport, outcome and reason.

    Args:
        time: The bucket's start, Unix seconds.
        application: Whose; empty where no known key came with a request.
        key_id: Public name of the key; empty likewise.
        transport: `grpc` or `http`.
        outcome: A word of `outcomes`.
        reason: Why, where the outcome has a reason, else empty.
        items: Spans and events; of `refused`, requests.
    """

    time: int
    application: str
    key_id: str
    transport: str
    outcome: str
    reason: str
    items: int


@dataclass(frozen=True, slots=True)
class Ledger:
    """What a question found in the ledger.

    Args:
        question: What was asked.
        settled_until: All that was received before is loaded; Unix seconds.
        rows: In the order of their columns.
        difference: Received, and not accounted for, in the minutes that are settled.
    """

    question: LedgerQuestion
    settled_until: float
    rows: Sequence[LedgerRow]
    difference: int

    def total(self, outcome: str) -> int:
        """Return the items of an outcome."""
        return sum(row.items for row in self.rows if row.outcome == outcome)

    def as_json(self) -> Mapping[str, Any]:
        """Return the answer as JSON."""
        totals = {outcome: self.total(outcome) for outcome in (outcomes.RECEIVED, *_ENDS)}
        return {
            "start": seconds_of(self.question.start_us),
            "end": seconds_of(self.question.end_us),
            "granularity": self.question.granularity_s,
            "settled_until": self.settled_until,
            "totals": {**totals, "difference": self.difference},
            "refused_requests": self.total(outcomes.REFUSED),
            "rows": [row._asdict() for row in self.rows],
        }


def run_ledger(
    engine: Engine,
    application: str | None,
    question: LedgerQuestion,
    settled_until: float,
    timeout_s: float,
) -> Ledger:
    """Ask the store.

    Args:
        engine: The store.
        application: Whose rows; None for all.
        question: What to ask.
        settled_until: All that was received before is loaded now; Unix seconds.
        timeout_s: Longest time that the engine may take.

    Raises:
        InvalidRequestError: The answer is too large, or takes too long or too much memory.
        RetryableError: The store is not available.
    """
    statement = compile_ledger(application, question, settled_until, timeout_s)
    with engine_faults(timeout_s, _ADVICE):
        found = engine.query(statement.sql, statement.parameters).rows
    if len(found) > MAX_ROWS:
        raise InvalidRequestError(
            f"the answer has more than {MAX_ROWS} rows: {_ADVICE}",
            parameter="granularity",
            value=str(question.granularity_s),
            allowed=f"at most {MAX_ROWS} rows",
        )
    difference = sum(settled * _sign(row[4]) for *row, settled in found)
    rows = [LedgerRow(*row) for *row, _ in found]
    return Ledger(question, settled_until, rows, difference)


def compile_ledger(
    application: str | None, question: LedgerQuestion, settled_until: float, timeout_s: float
) -> Statement:
    """Return the statement whose rows are those of `LedgerRow`, and their items that are settled.

    A minute is settled once the whole of it is.
    """
    of_whom = "" if application is None else "application = %(application)s AND "
    if question.record_id is not None:
        of_whom += "record_id = unhex(%(record_id)s) AND "
    keys = "time, application, key_id, transport, outcome, reason"
    return Statement(
        f"SELECT {bucket_start('minute', question.granularity_s)} AS time, application, key_id, "
        "transport, outcome, reason, toInt64(sum(items)), "
        "toInt64(sumIf(items, minute < toDateTime(%(settled)s, 'UTC'))) "
        f"FROM ledger WHERE {of_whom}minute >= toDateTime(%(first)s, 'UTC') "
        f"AND minute < toDateTime(%(end)s, 'UTC') GROUP BY {keys} ORDER BY {keys} "
        f"LIMIT {MAX_ROWS + 1} SETTINGS max_execution_time = {timeout_s}",
        {
            "application": application,
            "record_id": (question.record_id or b"").hex(),
            "first": _next_minute(question.start_us),
            "end": _next_minute(question.end_us),
            "settled": min(max(int(settled_until), 0), MAX_SECONDS) // MINUTE_S * MINUTE_S,
        },
    )


def _next_minute(microseconds: int) -> int:
    """Return the first minute that does not begin before, Unix seconds, as far as there are any."""
    return min(-(-microseconds // _MINUTE_US) * MINUTE_S, MAX_SECONDS)


def _sign(outcome: str) -> int:
    if outcome == outcomes.RECEIVED:
        return 1
    return -1 if outcome in _ENDS else 0
