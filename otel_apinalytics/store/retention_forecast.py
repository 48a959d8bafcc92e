# SPDX-License-Identifier: Apache-2.0
"""What retention will remove of an application: each day's rows, and when they go."""

from __future__ import annotations

import time
from datetime import datetime, timezone
from typing import TYPE_CHECKING, NamedTuple

from otel_apinalytics.store.retention import DAY_S, REJECTED, TABLES, beyond
from otel_apinalytics.store.retention_limits import ROWS, Policy

if TYPE_CHECKING:
    from otel_apinalytics.store.engine import Engine

# The ledger, as questions call it.
_NAMES = {"ledger_records": "ledger"}


class Day(NamedTuple):
    """Rows of a day of a table that go together.

    Args:
        table: `events`, `rejected`, `ledger` or `audit`.
        day: The day, in UTC: `2026-01-31`.
        rows: How many rows.
        removed_after: They are removed by the first deletion after that, Unix seconds.
    """

    table: str
    day: str
    rows: int
    removed_after: float


def forecast(engine: Engine, policy: Policy, application: str, timeout_s: float) -> list[Day]:
    """Return the days of an application, by table, the oldest first.

    A day of dead letters is there twice where some of it are too many: these go now.

    Args:
        engine: The store.
        policy: The limits.
        application: Whose days.
        timeout_s: Longest time that the engine may take, of each table.

    Raises:
        EngineError: The store does not answer, or not in time.
    """
    days = []
    settings = f"SETTINGS max_execution_time = {timeout_s}"
    for table in TABLES:
        rows = engine.query(
            f"SELECT _partition_id, count(), toFloat64(max({table.receipt})) FROM {table.name} "
            "WHERE application = %(application)s GROUP BY _partition_id ORDER BY _partition_id "
            f"{settings}",
            {"application": application},
        ).rows
        surplus = _surplus(engine, policy, application, settings) if table is REJECTED else {}
        kept_s = policy.days(application, table.name) * DAY_S
        for partition, count, received in rows:
            day = datetime.strptime(str(partition), "%Y%m%d").replace(tzinfo=timezone.utc)
            # Once the day ended, and the last of it was received.
            begins = max(day.timestamp() + DAY_S, float(received))
            name, date = _NAMES.get(table.name, table.name), day.date().isoformat()
            too_many = min(surplus.get(str(partition), 0), int(count))
            if too_many:
                days.append(Day(name, date, too_many, time.time()))
            if count > too_many:
                days.append(Day(name, date, int(count) - too_many, begins + kept_s))
    return days


def _surplus(engine: Engine, policy: Policy, application: str, settings: str) -> dict[str, int]:
    """Return how many dead letters are too many, by partition."""
    condition = beyond(engine, application, policy.of(application)[ROWS].value, settings)
    rows = engine.query(
        f"SELECT _partition_id, count() FROM rejected WHERE {condition} "
        f"GROUP BY _partition_id {settings}"
    ).rows
    return {str(partition): int(count) for partition, count in rows}
