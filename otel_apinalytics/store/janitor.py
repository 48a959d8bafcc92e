# SPDX-License-Identifier: Apache-2.0
"""The janitor: does again and again what keeps the store in order, on threads of its own.

Merges and retention take turns on one thread. Syncs have another, for a merge may last longer than
what it read outlives it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from otel_apinalytics.store.merges import Merges
from otel_apinalytics.store.retention import Retention
from otel_apinalytics.store.steady_clock import SteadyClock
from otel_apinalytics.threads import ended

if TYPE_CHECKING:
    from otel_apinalytics.store.engine import Engine
    from otel_apinalytics.store.retention_limits import Policy
    from otel_apinalytics.telemetry import Telemetry

_logger = logging.getLogger(__name__)

_CLOCK_INTERVAL_S = 60.0
_DELETION_INTERVAL_S = 3600.0
# A fault that lasts is reported once in so long.
_SILENCE_S = 600.0
# A server goes on with its merge when nobody waits for it any more.
_PATIENCE_S = 5.0


@dataclass(frozen=True, slots=True)
class Pace:
    """How often things are done, in seconds.

    Args:
        look_s: Between two looks for what is to be merged.
        wait_s: From the arrival of events to their first merge. Copies come within seconds to
            minutes of each other.
        rest_s: From a merge of a day to its next one, at least.
        sync_s: Between two syncs. What a merge read outlives it by 120 s (migration 0006): there is
            time for further tries.
    """

    look_s: float = 10.0
    wait_s: float = 60.0
    rest_s: float = 120.0
    sync_s: float = 30.0


@dataclass(slots=True)
class _Task:
    name: str
    interval_s: float
    run: Callable[[], None]
    next_at: float = field(default_factory=time.monotonic)
    silent_until: float = 0.0


class Janitor:
    """Merges, deletes what is too old, and makes durable what the engine does by itself.

    Several services may do this on one store.

    Args:
        engine: The store.
        policy: Returns what is kept for how long.
        telemetry: Where all of this is counted.
        pace: How often.
        mend: Checks what the engine wrote by itself, and mends it.
    """

    def __init__(
        self,
        engine: Engine,
        policy: Callable[[], Policy],
        telemetry: Telemetry,
        pace: Pace | None = None,
        mend: Callable[[], object] = lambda: None,
    ) -> None:
        pace = pace or Pace()
        self._engine = engine
        self._mend = mend
        self._telemetry = telemetry
        self._stopping = threading.Event()
        #: Says up to when events are unique.
        self.merges = Merges(engine, telemetry, self._stopping, pace.wait_s, pace.rest_s)
        self._retention = Retention(engine, policy, telemetry, self._stopping)
        self._clock = SteadyClock()
        self._deletes_at = 0.0
        self._synced: object = None
        tasks = (
            _Task("merges", pace.look_s, self.merges.run),
            _Task("retention", _CLOCK_INTERVAL_S, self._delete),
            _Task("dead_letters", _CLOCK_INTERVAL_S, self._retention.bound_rejected),
        )
        sync = _Task("sync", pace.sync_s, self._sync)
        self._threads = [
            threading.Thread(target=self._repeat, args=(tasks,), name="janitor", daemon=True),
            threading.Thread(target=self._repeat, args=((sync,),), name="syncs", daemon=True),
        ]

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def faults(self) -> list[str]:
        """Return which thread of a started janitor has ended, in words."""
        return ended(*self._threads)

    def close(self) -> None:
        """Stop, with what is under way. Safe before `start`. The embedded engine merges no more."""
        self._stopping.set()
        if self._engine.embedded:
            # Ends merges and deletions at once. Killing their statements would not.
            self._attempt(_Task("merges", 0, lambda: self._engine.command("SYSTEM STOP MERGES")))
        for thread in self._threads:
            if thread.is_alive():
                thread.join(None if self._engine.embedded else _PATIENCE_S)
        # After a restart, the engine deletes at once what merges have read.
        self._attempt(_Task("sync", 0, self._sync))

    def _repeat(self, tasks: Sequence[_Task]) -> None:
        while not self._stopping.is_set():
            task = min(tasks, key=lambda task: task.next_at)
            if not self._stopping.wait(task.next_at - time.monotonic()):
                self._attempt(task)
                task.next_at = time.monotonic() + task.interval_s

    def _attempt(self, task: _Task) -> None:
        try:
            task.run()
        except Exception:
            # A merge that was stopped says so.
            if self._stopping.is_set() and task.name != "sync":
                return
            self._telemetry.janitor_failures.labels(task.name).inc()
            if time.monotonic() >= task.silent_until:
                task.silent_until = time.monotonic() + _SILENCE_S
                _logger.exception("the janitor's %s failed, and will be tried again", task.name)

    def _delete(self) -> None:
        now = self._clock.read()
        if now is not None and time.monotonic() >= self._deletes_at:
            self._deletes_at = time.monotonic() + _DELETION_INTERVAL_S
            self._retention.run(now)

    def _sync(self) -> None:
        """Make durable what changed since the last time: the engine syncs no merge by itself."""
        if not self._engine.embedded:
            return
        # Before the sync, which is for what was there before it.
        rows = self._engine.query(
            "SELECT count(), groupBitXor(cityHash64(table, name)) FROM system.parts "
            "WHERE database = currentDatabase() AND active"
        ).rows
        if rows != self._synced:
            self._engine.sync()
            self._synced = rows
            self._mend()
