# SPDX-License-Identifier: Apache-2.0
"""Checked parts: what the embedded engine wrote is compared with what is on disk.

The engine takes no note of a write that fails, for want of space or by a fault of the disk: the
statement succeeds, and the part is damaged. A part that is found so is taken out, and what it was
merged from takes its place. One of which only a projection is damaged stays, and that is made anew:
the engine does not merge parts with and without.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, NamedTuple

from otel_apinalytics.normalize.transforms import sql_text
from otel_apinalytics.store.engine import EngineError

if TYPE_CHECKING:
    from otel_apinalytics.store.engine import Engine
    from otel_apinalytics.telemetry import Telemetry

_logger = logging.getLogger(__name__)

_NO_SUCH_PART = 232


class _Part(NamedTuple):
    table: str
    name: str


class CheckedParts:
    """Checks each part once. Safe to use from many threads.

    Args:
        engine: The store; of a server nothing is checked.
        telemetry: Where damaged parts are counted.
    """

    def __init__(self, engine: Engine, telemetry: Telemetry) -> None:
        self._engine = engine
        self._telemetry = telemetry
        self._lock = threading.Lock()
        # The engine compares sizes when it starts.
        self._whole = self._active()
        self._remake_projections()

    def damaged_tables(self) -> set[str]:
        """Return the tables of which a part is not what the engine wrote.

        Raises:
            EngineError: The store does not answer.
        """
        with self._lock:
            damaged = set()
            active = self._active()
            for part in sorted(active - self._whole):
                if self._is_whole(part):
                    self._whole.add(part)
                else:
                    damaged.add(part.table)
            # What is merged meanwhile is checked next time, under its new name.
            self._whole &= active
        return damaged

    def take_out(self, tables: set[str]) -> None:
        """Let the engine start with these tables anew: it takes damaged parts out.

        Nothing may be loaded meanwhile; a question that is asked meanwhile fails. What was loaded
        since the last checkpoint may be gone, and has to be loaded again under new tokens. What is
        left of a damaged part lacks projections only; the engine makes them anew in its own time.

        Raises:
            EngineError: The store does not answer.
        """
        for table in sorted(tables):
            _logger.error("the disk lost a part of what was stored in %s: it is taken out", table)
            self._telemetry.damaged_parts.inc()
            self._engine.command(f"DETACH TABLE {table}")
            self._engine.command(f"ATTACH TABLE {table}")
        with self._lock:
            # What replaces them has another name, and is checked.
            self._whole |= self._remake_projections()

    def _remake_projections(self) -> set[_Part]:
        """Have the projections made that the engine knows to be damaged; return the parts."""
        if not self._engine.embedded:
            return set()
        rows = self._engine.query(
            "SELECT DISTINCT table, parent_name, partition_id, name FROM system.projection_parts "
            "WHERE database = currentDatabase() AND active AND is_broken ORDER BY ALL"
        ).rows
        for table, partition, name in sorted({(row[0], row[2], row[3]) for row in rows}):
            _logger.error("the disk lost a part of %s of %s: it is made anew", name, table)
            self._engine.command(
                f"ALTER TABLE {table} MATERIALIZE PROJECTION {name} "
                f"IN PARTITION ID {sql_text(partition)}"
            )
        return {_Part(*row[:2]) for row in rows}

    def _active(self) -> set[_Part]:
        if not self._engine.embedded:
            return set()
        rows = self._engine.query(
            "SELECT table, name FROM system.parts "
            "WHERE database = currentDatabase() AND active AND rows > 0"
        ).rows
        return {_Part(*row) for row in rows}

    def _is_whole(self, part: _Part) -> bool:
        """Return whether a part is whole, or there no more."""
        try:
            rows = self._engine.query(
                f"CHECK TABLE {part.table} PART {sql_text(part.name)} "
                "SETTINGS check_query_single_value_result = 0"
            ).rows
        except EngineError as error:
            if error.code != _NO_SUCH_PART:
                raise
            return True
        return all(int(is_passed) for _, is_passed, *_ in rows)
