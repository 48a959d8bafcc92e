# SPDX-License-Identifier: Apache-2.0
"""Dead letters: what was rejected, normalized as far as it could be, and why; newest first."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from otel_apinalytics.catalogue import FIELDS
from otel_apinalytics.query.expressions import public_column
from otel_apinalytics.query.ledger_parameters import DeadLettersQuestion
from otel_apinalytics.query.statement import Statement, engine_faults
from otel_apinalytics.store.engine import Engine

# What is known of a record that could not be decoded.
_OF_RECORD = ("application", "received_at")


def run_dead_letters(
    engine: Engine, application: str | None, question: DeadLettersQuestion, timeout_s: float
) -> tuple[list[dict[str, Any]], bool]:
    """Return dead letters as JSON, and whether there are more than asked for.

    Args:
        engine: The store.
        application: Whose; None for all.
        question: Which ones.
        timeout_s: Longest time that the engine may take.

    Raises:
        InvalidRequestError: It takes too long or too much memory.
        RetryableError: The store is not available.
    """
    statement = compile_dead_letters(application, question, timeout_s)
    with engine_faults(timeout_s, "ask for a shorter range or fewer at once"):
        rows = engine.query(statement.sql, statement.parameters).rows
    return [_as_json(row) for row in rows[: question.limit]], len(rows) > question.limit


def compile_dead_letters(
    application: str | None, question: DeadLettersQuestion, timeout_s: float
) -> Statement:
    """Return the statement for one dead letter more than asked for.

    Its rows are key, transport, record, reason, whether nothing but the record is known, and the
    fields as a line of JSON.
    """
    conditions = {
        "application = %(application)s": application,
        "events.received_at >= fromUnixTimestamp64Micro(%(start_us)s, 'UTC')": question.start_us,
        "events.received_at < fromUnixTimestamp64Micro(%(end_us)s, 'UTC')": question.end_us,
        "events.reason = %(reason)s": question.reason,
    }
    given = [condition for condition, value in conditions.items() if value is not None]
    columns = ", ".join(public_column(field) for field in FIELDS)
    return Statement(
        "SELECT key_id, transport, lower(hex(record_id)), reason, version = 0, "
        f"formatRow('JSONEachRow', {columns}) "
        # The table has the columns of events, under the name that their expressions have for it.
        f"FROM rejected AS events FINAL WHERE {' AND '.join(['true', *given])} "
        "ORDER BY events.received_at DESC, events.record_id, events.reason, events.timestamp, "
        "events.locality, events.event_id "
        f"LIMIT {question.limit + 1} "
        f"SETTINGS max_execution_time = {timeout_s}, output_format_json_validate_utf8 = 1",
        {
            "application": application,
            "start_us": question.start_us,
            "end_us": question.end_us,
            "reason": question.reason,
        },
    )


def _as_json(row: Sequence[Any]) -> dict[str, Any]:
    key_id, transport, record_id, reason, is_record_only, line = row
    fields: dict[str, Any] = json.loads(line)
    if is_record_only:
        fields = {name: fields[name] if name in _OF_RECORD else None for name in fields}
    return {
        "key_id": key_id,
        "transport": transport,
        "record_id": record_id,
        "reason": reason,
        "received_at": fields["received_at"],
        **fields,
    }
