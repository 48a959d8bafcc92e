# SPDX-License-Identifier: Apache-2.0
"""Merges by hand: copies of an event that came in different requests become one row in minutes.

Equal keys are of one day, a partition, and meet when its parts are merged into one. The engine
merges some parts at a time, by their sizes; that the last ones of a day meet is left to us.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

from otel_apinalytics.errors import RetryableError
from otel_apinalytics.normalize.transforms import sql_list, sql_text

if TYPE_CHECKING:
    from otel_apinalytics.store.engine import Engine
    from otel_apinalytics.telemetry import Telemetry

# Merging a partition takes a core for at most one part in so many of the time.
_REST_FACTOR = 20
# Parts that are read vanish when they are merged meanwhile; this often in a row they do not.
_MAX_LOOKS = 10


class _Part(NamedTuple):
    partition: str
    name: str
    level: int
    rows: int
    last_block: int


class _Waiting(NamedTuple):
    """What of a partition waits for a merge: the blocks until this one, since then."""

    last_block: int
    since: float


class Merges:
    """Merges the partitions of `events` that have new parts. One thread calls `run`.

    What is known of earlier merges is kept in memory; without it, after a restart, the next merge
    is only sooner. Several services may do this on one store: the second finds nothing to do.

    Args:
        engine: The store.
        telemetry: Where merges are counted, and `unique_until` is shown.
        stopping: Once set, no further merge is begun.
        wait_s: How long parts wait for others before they are merged.
        rest_s: The least time from a merge of a partition to its next one.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        engine: Engine,
        telemetry: Telemetry,
        stopping: threading.Event,
        wait_s: float,
        rest_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._engine = engine
        self._telemetry = telemetry
        self._stopping = stopping
        self._clock = clock
        self._wait_s = wait_s
        self._rest_s = rest_s
        self._waiting: dict[str, _Waiting] = {}
        self._rests_until: dict[str, float] = {}
        self._lock = threading.Lock()
        # Part → the earliest receipt in it, Unix seconds. A part never changes.
        self._receipts: dict[str, float] = {}

    def run(self) -> None:
        """Merge each partition that is due, the one that waits longest first.

        Raises:
            EngineError: A merge failed; its partition rests as after any other.
        """
        for partition in self._due():
            if not self._stopping.is_set():
                self._merge(partition)
        self._telemetry.unique_until.set(self.unique_until())

    def unique_until(self) -> float:
        """Return the time before which all events received and stored are unique, Unix seconds.

        It is the earliest receipt of what is not merged with the rest of its day, or now. Of an
        event that was received before it there may be a copy that was received later. Safe to call
        from many threads.

        Raises:
            EngineError: The store does not answer.
            RetryableError: It merges faster than it answers.
        """
        now = time.time()
        with self._lock:
            for _ in range(_MAX_LOOKS):
                parts = {
                    part.name
                    for parts in self._partitions()
                    for part in _to_merge(parts)
                    if part.rows
                }
                self._read_receipts(parts - self._receipts.keys())
                if parts <= self._receipts.keys():
                    self._receipts = {name: self._receipts[name] for name in parts}
                    return min([now, *self._receipts.values()])
        raise RetryableError("the store merges faster than it says what is merged")

    def _due(self) -> list[str]:
        """Return the partitions to merge now."""
        now = self._clock()
        waiting: dict[str, _Waiting] = {}
        for parts in self._partitions():
            # A part that a deletion left empty may keep others from being merged. It vanishes soon.
            if not _to_merge(parts) or any(part.rows == 0 for part in parts):
                continue
            partition, last_block = parts[0].partition, parts[-1].last_block
            merged_until = parts[0].last_block if _is_merged(parts[0]) else -1
            seen = self._waiting.get(partition)
            # Parts that came later wait from when those before them are merged, by whomever.
            if seen is None or seen.last_block <= merged_until:
                seen = _Waiting(last_block, now)
            waiting[partition] = seen
        self._waiting = waiting
        self._rests_until = {name: end for name, end in self._rests_until.items() if end > now}
        due = [
            name
            for name, found in waiting.items()
            if now - found.since >= self._wait_s and name not in self._rests_until
        ]
        return sorted(due, key=lambda name: waiting[name].since)

    def _merge(self, partition: str) -> None:
        started = self._clock()
        try:
            # Parts that arrive meanwhile are left for the next time. One part that is merged
            # already, by another service, stays as it is.
            self._engine.command(
                f"OPTIMIZE TABLE events PARTITION ID {sql_text(partition)} FINAL "
                "SETTINGS optimize_skip_merged_partitions = 1, optimize_throw_if_noop = 1"
            )
            self._telemetry.forced_merges.inc()
        finally:
            ended = self._clock()
            rest_s = max(self._rest_s, _REST_FACTOR * (ended - started))
            self._rests_until[partition] = ended + rest_s

    def _partitions(self) -> list[Sequence[_Part]]:
        """Return the parts of each partition, in the order in which their rows were inserted."""
        rows = self._engine.query(
            "SELECT partition_id, name, level, rows, max_block_number FROM system.parts "
            "WHERE database = currentDatabase() AND table = 'events' AND active "
            "ORDER BY partition_id, min_block_number"
        ).rows
        parts = [_Part(*row) for row in rows]
        return [list(found) for _, found in groupby(parts, key=lambda part: part.partition)]

    def _read_receipts(self, parts: Collection[str]) -> None:
        """Read the earliest receipts of parts, of those that are still there."""
        if parts:
            rows = self._engine.query(
                "SELECT _part, toFloat64(min(received_at)) FROM events "
                f"WHERE _part IN {sql_list(tuple(sorted(parts)))} GROUP BY _part"
            ).rows
            self._receipts.update({str(name): float(receipt) for name, receipt in rows})


def _is_merged(part: _Part) -> bool:
    """Return whether no two rows of a part have equal keys: not known of what a load wrote."""
    return part.level > 0


def _to_merge(parts: Sequence[_Part]) -> Sequence[_Part]:
    """Return the parts of a partition that may hold copies: of their own rows, or of others'."""
    return parts[1:] if _is_merged(parts[0]) else parts
