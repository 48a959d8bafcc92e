# SPDX-License-Identifier: Apache-2.0
"""A store in a process of its own, with what keeps it in order asking it as it asks any other."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from otel_apinalytics.store.engine import Engine, EngineError, Rows
from tests.engine_fixtures import MemoryEngine

TABLES = ("events", "rejected", "ledger_records", "audit", "retention_limits")


class Store:
    """Passes statements on to a real engine, and remembers those that change something.

    Args:
        engine: The engine.
    """

    embedded = True

    def __init__(self, engine: MemoryEngine) -> None:
        self._engine = engine
        self._lock = threading.Lock()
        self.commands: list[str] = []
        #: Called before each command; may run others, or raise EngineError.
        self.before_command: Callable[[str], None] = lambda sql: None
        #: Called at each sync; may raise OSError.
        self.sync: Callable[[], None] = lambda: None
        #: Called before each query.
        self.before_query: Callable[[str], None] = lambda sql: None

    @property
    def engine(self) -> Engine:
        """What takes an engine can be given this one."""
        return cast(Engine, self)

    def query(self, sql: str, parameters: Mapping[str, Any] | None = None) -> Rows:
        """Return the rows of a SELECT."""
        self.before_query(sql)
        return Rows((), self.ask(sql, parameters))

    def command(self, sql: str) -> None:
        """Run a statement of the code under test."""
        self.before_command(sql)
        self.commands.append(sql)
        self.run(sql)

    def run(self, sql: str) -> None:
        """Run a statement of the test's own."""
        with self._lock:
            self._engine.ask(command=sql)

    def insert(self, table: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Insert rows of texts and numbers of the code under test."""
        values = ", ".join(f"({', '.join(map(_literal, row))})" for row in rows)
        self.command(f"INSERT INTO {table} ({', '.join(columns)}) VALUES {values}")

    def ask(self, sql: str, parameters: Mapping[str, Any] | None = None) -> list[tuple[Any, ...]]:
        """Return the rows of a question of the test's own."""
        with self._lock:
            rows = self._engine.ask(query=sql, parameters=dict(parameters or {}))
            return [tuple(row) for row in rows]

    def clear(self) -> None:
        """Empty the tables, and forget what was done."""
        for table in TABLES:
            self.run(f"TRUNCATE TABLE {table}")
        self.commands.clear()
        self.before_command = self.before_query = lambda sql: None

    def add_events(
        self,
        day: str,
        events: Sequence[int],
        *,
        application: str | Sequence[str] = "shop",
        received: str | float | None = None,
    ) -> None:
        """Insert events as one part, as a load does: equal ones stay until they meet in a merge.

        Args:
            day: The day of the events.
            events: Their numbers; equal numbers of a day and an application are one event.
            application: Whose they are; of several applications, each has them all.
            received: When they were received; on the day itself by default. Text, or Unix seconds.
        """
        at = _quoted(f"{day} 12:00:00" if received is None else received)
        names = [application] if isinstance(application, str) else application
        rows = ", ".join(
            f"(toDateTime64('{day} 00:00:00', 6, 'UTC') + {e % 86400}, {_quoted(name)}, {e}, "
            f"{e % 3}, {200 + e % 2}, {e}, toDateTime64({at}, 6, 'UTC'))"
            for e in events
            for name in names
        )
        self.run(
            "INSERT INTO events (timestamp, application, event_id, locality, status_code, "
            "response_us, received_at) "
            f"SETTINGS optimize_on_insert = 0, deduplicate_insert = 'disable' VALUES {rows}"
        )

    def add_rejected(self, day: str, count: int, application: str = "shop") -> None:
        """Insert dead letters, a second apart from the day's first on."""
        self.run(
            "INSERT INTO rejected (application, record_id, received_at) "
            f"SELECT {_quoted(application)}, toString(number), "
            f"toDateTime64('{day} 00:00:00', 6, 'UTC') + number FROM numbers({count})"
        )

    def add_ledger(self, day: str, count: int, application: str = "shop") -> None:
        """Insert records of the ledger, a minute apart from the day's first on."""
        self.run(
            "INSERT INTO ledger_records (minute, application, record_id, source) "
            f"SELECT toDateTime('{day} 00:00:00', 'UTC') + 60 * number, {_quoted(application)}, "
            f"toString(number), 'door' FROM numbers({count})"
        )

    def counts(self, table: str = "events") -> dict[tuple[str, str], int]:
        """Return the number of rows by day and application."""
        rows = self.ask(
            f"SELECT _partition_id, application, count() FROM {table} GROUP BY 1, 2 ORDER BY 1, 2"
        )
        return {(day, application): count for day, application, count in rows}

    def parts(self, table: str = "events") -> list[tuple[str, int, int]]:
        """Return (partition, level, rows) of each part."""
        return [
            (partition, level, rows)
            for partition, level, rows in self.ask(
                "SELECT partition_id, level, rows FROM system.parts WHERE active AND rows > 0 "
                f"AND database = currentDatabase() AND table = '{table}' "
                "ORDER BY partition_id, min_block_number"
            )
        ]


def refuse(sql: str) -> None:
    """Fail a statement as a store does that is not well."""
    raise EngineError(f"not now: {sql[:20]}", None)


def _literal(value: str | int | None) -> str:
    return "NULL" if value is None else _quoted(value) if isinstance(value, str) else str(value)


def _quoted(value: str | float) -> str:
    if isinstance(value, float):
        return str(value)
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
