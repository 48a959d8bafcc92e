# SPDX-License-Identifier: Apache-2.0
"""Deletions: rows are taken out of tables by writing their parts again, and this is waited for."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from otel_apinalytics.normalize.transforms import sql_text
from otel_apinalytics.store.engine import EngineError

if TYPE_CHECKING:
    from otel_apinalytics.store.engine import Engine

_POLL_S = 0.2


def delete_rows(engine: Engine, table: str, what: str, stopping: threading.Event) -> None:
    """Delete or change rows of a table, and wait until that is done.

    Args:
        engine: The store.
        table: The table.
        what: What of ALTER TABLE: `DELETE …` or `UPDATE …`; several between commas.
        stopping: Once set, the store goes on, and is not waited for.

    Raises:
        EngineError: The store refuses it; or it fails, and is tried again by the store itself.
    """
    engine.command(f"ALTER TABLE {table} {what}")
    wait_for_deletions(engine, table, stopping)


def wait_for_deletions(engine: Engine, table: str, stopping: threading.Event) -> None:
    """Wait for deletions that are under way; the store goes on with them after a restart.

    Args:
        engine: The store.
        table: The table.
        stopping: Once set, they are not waited for.

    Raises:
        EngineError: One fails; the store tries it again by itself.
    """
    while not stopping.is_set():
        rows = engine.query(
            "SELECT max(latest_fail_reason) FROM system.mutations WHERE NOT is_done "
            f"AND database = currentDatabase() AND table = {sql_text(table)} "
            "HAVING count() > 0"
        ).rows
        if not rows:
            return
        if rows[0][0]:
            raise EngineError(f"cannot delete from {table}: {rows[0][0]}", None)
        stopping.wait(_POLL_S)
