# SPDX-License-Identifier: Apache-2.0
"""Retention: deletes what is older than its limit, a day of an application at a time.

A day goes when it and the receipt of all that is in it are both older than the limit, so that what
was sent late is kept as long as anything else. Nothing is deleted by TTL: a part that is merged
would be read for it again and again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from typing import TYPE_CHECKING, NamedTuple

from otel_apinalytics.normalize.transforms import sql_list, sql_text
from otel_apinalytics.store.deletions import delete_rows, wait_for_deletions
from otel_apinalytics.store.engine import EngineError
from otel_apinalytics.store.retention_limits import ROWS, Policy

if TYPE_CHECKING:
    from otel_apinalytics.store.engine import Engine
    from otel_apinalytics.telemetry import Telemetry

DAY_S = 86400


class Table(NamedTuple):
    """A table with a partition for each day; `receipt` is when its rows were received."""

    name: str
    receipt: str


REJECTED = Table("rejected", "received_at")
TABLES = (
    Table("events", "received_at"),
    REJECTED,
    Table("ledger_records", "minute"),
    Table("audit", "at"),
)


class _Group(NamedTuple):
    """What there is of an application in some parts, and when the last of it was received."""

    application: str
    rows: int
    received: float


class Retention:
    """Deletes what is too old. One thread calls `run`; several services may, on one store.

    Args:
        engine: The store.
        policy: Returns the limits; they are asked for each time.
        telemetry: Where deletions are counted.
        stopping: Once set, no further deletion is begun, and none is waited for.
    """

    def __init__(
        self,
        engine: Engine,
        policy: Callable[[], Policy],
        telemetry: Telemetry,
        stopping: threading.Event,
    ) -> None:
        self._engine = engine
        self._policy = policy
        self._telemetry = telemetry
        self._stopping = stopping

    def run(self, now: float) -> None:
        """Delete what is too old at a time, Unix seconds.

        Raises:
            EngineError: Something could not be deleted; what does not depend on it was.
        """
        policy = self._policy()
        errors = []
        for table in TABLES:
            try:
                self._delete_days(table, policy, now)
            except EngineError as error:
                errors.append(error)
        if errors:
            raise errors[0]

    # ---- by time ----

    def _delete_days(self, table: Table, policy: Policy, now: float) -> None:
        wait_for_deletions(self._engine, table.name, self._stopping)
        for partition in self._expired_partitions(table, policy, now):
            if self._stopping.is_set():
                return
            self._delete_from(table, partition, policy, now)

    def _expired_partitions(self, table: Table, policy: Policy, now: float) -> list[str]:
        """Return the days, in order, of which some application has only what is too old."""
        found: set[str] = set()
        for days, condition in policy.by_days(table.name).items():
            limit = now - days * DAY_S
            rows = self._engine.query(
                f"SELECT DISTINCT _partition_id FROM {table.name} "
                f"WHERE _partition_id <= {sql_text(_last_day_before(limit))} AND {condition} "
                f"GROUP BY _partition_id, application HAVING {_seconds(table)} < {limit}"
            ).rows
            found.update(str(partition) for (partition,) in rows)
        return sorted(found)

    def _delete_from(self, table: Table, partition: str, policy: Policy, now: float) -> None:
        """Delete the applications of a day that are too old.

        Only what is seen here: what comes meanwhile was received now.
        """
        parts = self._parts(table, partition)
        groups = self._groups(table, parts)
        expired = [
            group
            for group in groups
            if _is_expired(
                partition, group, now - policy.days(group.application, table.name) * DAY_S
            )
        ]
        if not expired:
            return
        if len(expired) == len(groups):
            drops = ", ".join(f"DROP PART {sql_text(part)}" for part in parts)
            self._engine.command(f"ALTER TABLE {table.name} {drops}")
        else:
            names = sql_list(tuple(group.application for group in expired))
            last = max(group.received for group in expired)
            self._delete(
                table,
                f"IN PARTITION ID {sql_text(partition)} "
                f"WHERE application IN {names} AND toFloat64({table.receipt}) <= {last}",
            )
        self._telemetry.deleted_days.labels(table.name).inc(len(expired))
        self._count(table, sum(group.rows for group in expired))

    def _parts(self, table: Table, partition: str) -> list[str]:
        rows = self._engine.query(
            "SELECT name FROM system.parts WHERE database = currentDatabase() AND active "
            f"AND table = {sql_text(table.name)} AND partition_id = {sql_text(partition)} "
            # The engine removes empty ones by itself.
            "AND rows > 0"
        ).rows
        return [str(name) for (name,) in rows]

    def _groups(self, table: Table, parts: Sequence[str]) -> list[_Group]:
        rows = self._engine.query(
            f"SELECT application, count(), {_seconds(table)} FROM {table.name} "
            f"WHERE _part IN {sql_list(tuple(parts))} GROUP BY application"
        ).rows
        return [_Group(*row) for row in rows]

    # ---- by number ----

    def bound_rejected(self) -> None:
        """Delete the oldest dead letters of applications that have too many. It needs no clock.

        Raises:
            EngineError: Some could not be deleted.
        """
        policy = self._policy()
        rows = self._engine.query("SELECT application, count() FROM rejected GROUP BY application")
        for application, count in rows.rows:
            kept = policy.of(str(application))[ROWS].value
            if count > kept and not self._stopping.is_set():
                self._keep_newest(str(application), kept)

    def _keep_newest(self, application: str, kept: int) -> None:
        where = beyond(self._engine, application, kept)
        ((count,),) = self._engine.query(f"SELECT count() FROM rejected WHERE {where}").rows
        if count:
            self._delete(REJECTED, f"WHERE {where}")
            self._count(REJECTED, count)

    def _delete(self, table: Table, what: str) -> None:
        delete_rows(self._engine, table.name, f"DELETE {what}", self._stopping)

    def _count(self, table: Table, rows: int) -> None:
        self._telemetry.deleted_rows.labels(table.name).inc(rows)


def beyond(engine: Engine, application: str, kept: int, settings: str = "") -> str:
    """Return the condition of the dead letters of an application that are too many.

    Those that came at the same time as the last one that is kept are kept too.

    Args:
        engine: The store.
        application: Whose dead letters.
        kept: How many are kept.
        settings: Of the question for it.

    Raises:
        EngineError: The store does not answer.
    """
    of_application = f"application = {sql_text(application)}"
    rows = engine.query(
        "SELECT toUnixTimestamp64Micro(received_at) FROM rejected "
        f"WHERE {of_application} ORDER BY received_at DESC LIMIT 1 OFFSET {kept - 1} {settings}"
    ).rows
    oldest = rows[0][0] if rows else 0
    return f"{of_application} AND toUnixTimestamp64Micro(received_at) < {oldest}"


def _is_expired(partition: str, group: _Group, limit: float) -> bool:
    """Return whether a day ended, and the last of it was received, before a time, Unix seconds."""
    return partition <= _last_day_before(limit) and group.received < limit


def _seconds(table: Table) -> str:
    return f"toFloat64(max({table.receipt}))"


def _last_day_before(limit: float) -> str:
    """Return the partition of the last day that ended before a time, Unix seconds; "" for none."""
    day = limit // DAY_S - 1
    if day < 0:
        return ""
    return datetime.fromtimestamp(day * DAY_S, timezone.utc).strftime("%Y%m%d")
