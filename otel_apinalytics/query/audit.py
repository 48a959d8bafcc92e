# SPDX-License-Identifier: Apache-2.0
"""The audit, as it is read: who asked through which key, and who changed what; newest first."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from datetime import timezone
from typing import Any

from otel_apinalytics.query.audit_parameters import AuditQuestion
from otel_apinalytics.query.csv_cells import BYTE_ORDER_MARK, guarded
from otel_apinalytics.query.statement import Statement, engine_faults
from otel_apinalytics.store.engine import Engine

#: What an entry consists of, in order.
COLUMNS = (
    "at", "application", "key_id", "key_name", "action", "method", "route", "parameters", "status",
    "rows", "bytes", "client_address",
)  # fmt: skip
Entry = dict[str, Any]


def run_audit(
    engine: Engine, application: str | None, question: AuditQuestion, timeout_s: float
) -> tuple[list[Entry], bool]:
    """Return entries as JSON, and whether there are more than asked for.

    Args:
        engine: The store.
        application: Of whose keys; None for all.
        question: Which ones.
        timeout_s: Longest time that the engine may take.

    Raises:
        InvalidRequestError: It takes too long or too much memory.
        RetryableError: The store is not available.
    """
    statement = compile_audit(application, question, timeout_s)
    with engine_faults(timeout_s, "ask for a shorter range or fewer at once"):
        rows = engine.query(statement.sql, statement.parameters).rows
    return [_as_json(row) for row in rows[: question.limit]], len(rows) > question.limit


def compile_audit(application: str | None, question: AuditQuestion, timeout_s: float) -> Statement:
    """Return the statement for one entry more than asked for."""
    conditions = {
        "application = %(application)s": application,
        "application = %(asked_application)s": question.application,
        "key_id = %(key_id)s": question.key_id,
        "(action = %(action)s OR startsWith(action, concat(%(action)s, '.')))": question.action,
    }
    given = [
        "at >= fromUnixTimestamp64Micro(%(start_us)s, 'UTC')",
        "at < fromUnixTimestamp64Micro(%(end_us)s, 'UTC')",
        *(condition for condition, value in conditions.items() if value),
    ]
    return Statement(
        f"SELECT {', '.join(COLUMNS)} FROM audit FINAL WHERE {' AND '.join(given)} "
        "ORDER BY at DESC, record_id DESC, number DESC "
        f"LIMIT {question.limit + 1} SETTINGS max_execution_time = {timeout_s}",
        {
            "application": application,
            "asked_application": question.application,
            "key_id": question.key_id,
            "action": question.action,
            "start_us": question.start_us,
            "end_us": question.end_us,
        },
    )


def as_lines(entries: Sequence[Entry]) -> bytes:
    """Return entries as lines of JSON."""
    return b"".join(_json(entry).encode() + b"\n" for entry in entries)


def as_csv(entries: Sequence[Entry]) -> bytes:
    """Return entries as CSV, with their parameters in JSON."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    for entry in entries:
        writer.writerow(_cell(entry[name]) for name in COLUMNS)
    return f"{BYTE_ORDER_MARK}{text.getvalue()}".encode()


def _cell(value: Any) -> Any:
    if isinstance(value, list):
        value = _json(value)
    return guarded(value) if isinstance(value, str) else value


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _as_json(row: Sequence[Any]) -> Entry:
    entry = dict(zip(COLUMNS, row, strict=True))
    entry["at"] = entry["at"].replace(tzinfo=timezone.utc).isoformat(timespec="microseconds")
    entry["parameters"] = [dict(parameter) for parameter in entry["parameters"]]
    return entry
