# SPDX-License-Identifier: Apache-2.0
"""Retention: deletes what is older than its limit, a day of an application at a time.

A day goes when it and the receipt of all that is in it are both older than the limit, so that what
was sent late is kept as long as anything else. Nothing is deleted by TTL: a part that is merged
would be read for it again and again.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, NamedTuple

from otel_apinalytics.normalize.transforms import sql_list, sql_text
from otel_apinalytics.settings import Settings
from otel_apinalytics.store.engine import EngineError

if TYPE_CHECKING:
    from otel_apinalytics.store.engine import Engine
    from otel_apinalytics.telemetry import Telemetry

_DAY_S = 86400
_POLL_S = 0.2


@dataclass(frozen=True, slots=True)
class Limits:
    """How long, and how much, is kept of an application.

    Args:
        days: Table → days.
        rejected_rows: Dead letters, the newest ones.
    """

    days: Mapping[str, int]
    rejected_rows: int


class Policy:
    """The limits of each application. Immutable.

    Args:
        settings: Where they are from.
    """

    def __init__(self, settings: Settings) -> None:
        self._default = Limits(
            {
                "events": settings.retention_events_days,
                "rejected": settings.retention_rejected_days,
                "ledger_records": settings.retention_ledger_days,
            },
            settings.retention_rejected_rows,
        )
        default = self._default
        self._special = {
            entry.application: Limits(
                {
                    "events": entry.events_days or default.days["events"],
                    "rejected": entry.rejected_days or default.days["rejected"],
                    "ledger_records": entry.ledger_days or default.days["ledger_records"],
                },
                entry.rejected_rows or default.rejected_rows,
            )
            for entry in settings.retention
        }

    def of(self, application: str) -> Limits:
        """Return the limits of an application."""
        return self._special.get(application, self._default)

    def by_days(self, table: str) -> dict[int, str]:
        """Return the numbers of days for a table, each with a condition for its applications."""
        names: defaultdict[int, list[str]] = defaultdict(list)
        for application, limits in self._special.items():
            names[limits.days[table]].append(application)
        of_others = self._default.days[table]
        special = {
            days: f"application IN {sql_list(tuple(found))}"
            for days, found in names.items()
            if days != of_others
        }
        listed = tuple(name for days in special for name in names[days])
        return {**special, of_others: f"application NOT IN {sql_list(listed)}" if listed else "1"}


class _Table(NamedTuple):
    """A table with a partition for each day; `receipt` is when its rows were received."""

    name: str
    receipt: str


_EVENTS = _Table("events", "received_at")
_REJECTED = _Table("rejected", "received_at")
_LEDGER = _Table("ledger_records", "minute")


class _Group(NamedTuple):
    """What there is of an application in some parts, and when the last of it was received."""

    application: str
    rows: int
    received: float


class Retention:
    """Deletes what is too old. One thread calls `run`; several services may, on one store.

    Args:
        engine: The store.
        policy: The limits.
        telemetry: Where deletions are counted.
        stopping: Once set, no further deletion is begun, and none is waited for.
    """

    def __init__(
        self, engine: Engine, policy: Policy, telemetry: Telemetry, stopping: threading.Event
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
        errors = []
        for table in (_EVENTS, _REJECTED, _LEDGER):
            try:
                self._delete_days(table, now)
            except EngineError as error:
                errors.append(error)
        if errors:
            raise errors[0]

    # ---- by time ----

    def _delete_days(self, table: _Table, now: float) -> None:
        self._wait_deleted(table)
        for partition in self._expired_partitions(table, now):
            if self._stopping.is_set():
                return
            self._delete_from(table, partition, now)

    def _expired_partitions(self, table: _Table, now: float) -> list[str]:
        """Return the days, in order, of which some application has only what is too old."""
        found: set[str] = set()
        for days, condition in self._policy.by_days(table.name).items():
            limit = now - days * _DAY_S
            rows = self._engine.query(
                f"SELECT DISTINCT _partition_id FROM {table.name} "
                f"WHERE _partition_id <= {sql_text(_last_day_before(limit))} AND {condition} "
                f"GROUP BY _partition_id, application HAVING {_seconds(table)} < {limit}"
            ).rows
            found.update(str(partition) for (partition,) in rows)
        return sorted(found)

    def _delete_from(self, table: _Table, partition: str, now: float) -> None:
        """Delete the applications of a day that are too old.

        Only what is seen here: what comes meanwhile was received now.
        """
        parts = self._parts(table, partition)
        groups = self._groups(table, parts)
        expired = [group for group in groups if self._is_expired(table, partition, group, now)]
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

    def _is_expired(self, table: _Table, partition: str, group: _Group, now: float) -> bool:
        limit = now - self._policy.of(group.application).days[table.name] * _DAY_S
        return partition <= _last_day_before(limit) and group.received < limit

    def _parts(self, table: _Table, partition: str) -> list[str]:
        rows = self._engine.query(
            "SELECT name FROM system.parts WHERE database = currentDatabase() AND active "
            f"AND table = {sql_text(table.name)} AND partition_id = {sql_text(partition)} "
            # The engine removes empty ones by itself.
            "AND rows > 0"
        ).rows
        return [str(name) for (name,) in rows]

    def _groups(self, table: _Table, parts: Sequence[str]) -> list[_Group]:
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
        rows = self._engine.query("SELECT application, count() FROM rejected GROUP BY application")
        for application, count in rows.rows:
            kept = self._policy.of(application).rejected_rows
            if count > kept and not self._stopping.is_set():
                self._keep_newest(str(application), kept)

    def _keep_newest(self, application: str, kept: int) -> None:
        of_application = f"application = {sql_text(application)}"
        # Those that came at the same time as the last one that is kept are kept too.
        ((oldest,),) = self._engine.query(
            "SELECT toUnixTimestamp64Micro(received_at) FROM rejected "
            f"WHERE {of_application} ORDER BY received_at DESC LIMIT 1 OFFSET {kept - 1}"
        ).rows
        where = f"{of_application} AND toUnixTimestamp64Micro(received_at) < {oldest}"
        ((count,),) = self._engine.query(f"SELECT count() FROM rejected WHERE {where}").rows
        if count:
            self._delete(_REJECTED, f"WHERE {where}")
            self._count(_REJECTED, count)

    # ---- deletion ----

    def _delete(self, table: _Table, what: str) -> None:
        # Not by a statement that waits: it could not be given up.
        self._engine.command(f"ALTER TABLE {table.name} DELETE {what} SETTINGS mutations_sync = 0")
        self._wait_deleted(table)

    def _wait_deleted(self, table: _Table) -> None:
        """Wait for deletions that are under way; the store goes on with them after a restart.

        Raises:
            EngineError: One fails; the store tries it again by itself.
        """
        while not self._stopping.is_set():
            rows = self._engine.query(
                "SELECT max(latest_fail_reason) FROM system.mutations WHERE NOT is_done "
                f"AND database = currentDatabase() AND table = {sql_text(table.name)} "
                "HAVING count() > 0"
            ).rows
            if not rows:
                return
            if rows[0][0]:
                raise EngineError(f"cannot delete from {table.name}: {rows[0][0]}", None)
            self._stopping.wait(_POLL_S)

    def _count(self, table: _Table, rows: int) -> None:
        self._telemetry.deleted_rows.labels(table.name).inc(rows)


def _seconds(table: _Table) -> str:
    return f"toFloat64(max({table.receipt}))"


def _last_day_before(limit: float) -> str:
    """Return the partition of the last day that ended before a time, Unix seconds; "" for none."""
    day = limit // _DAY_S - 1
    if day < 0:
        return ""
    return datetime.fromtimestamp(day * _DAY_S, timezone.utc).strftime("%Y%m%d")
