# SPDX-License-Identifier: Apache-2.0
"""Ledger totals: spans and events since the start by outcome, without reading the whole ledger.

Minutes behind which everything is loaded are settled: their sums are kept in memory, and only newer
minutes are asked for.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TypeAlias

from otel_apinalytics.normalize import outcomes
from otel_apinalytics.store.engine import Engine, EngineError
from otel_apinalytics.telemetry import LedgerReading

_logger = logging.getLogger(__name__)

# Longer than any request takes from its time stamp to its place in the log.
_SETTLED_AFTER_S = 300
_INTERVAL_S = 5.0
# A scrape waits so long, then it is told what is known; Prometheus gives up after ten seconds.
_PATIENCE_S = 2.0
_TIMEOUT_S = 5.0

_Key: TypeAlias = tuple[str, str]
_Rows: TypeAlias = Sequence[tuple[int, str, str, int]]
_KNOWN = (
    (outcomes.RECEIVED, ""),
    (outcomes.STORED, ""),
    (outcomes.DUPLICATE, ""),
    *((outcomes.REJECTED, reason) for reason in outcomes.REJECT_REASONS),
)


class LedgerTotals:
    """Counts what the ledger gets from now on. Safe to use from many threads.

    Rows that a repeated load writes again are counted once. Receivers that share a store see the
    same ledger, each all of it. Rows whose minute is settled already are not seen: of another
    receiver that was cut off from the store, or of a clock that was set back.

    Args:
        engine: The store.
        loaded_until: Returns the time up to which everything received is loaded, Unix seconds.
        since: When the oldest of what is still to be loaded was received, Unix seconds; now, if
            nothing is.
        interval_s: The store is asked at most once in so many seconds.

    Raises:
        EngineError: The store cannot say what is in the ledger already.
    """

    def __init__(
        self,
        engine: Engine,
        loaded_until: Callable[[], float],
        since: float,
        interval_s: float = _INTERVAL_S,
    ) -> None:
        self._engine = engine
        self._loaded_until = loaded_until
        self._interval_s = interval_s
        # First second that is not settled; earlier than `since`, which need not be exact.
        self._open_from = _minute(since - _SETTLED_AFTER_S)
        self._settled: Counter[_Key] = Counter()
        # What is there counts for the process that loaded it.
        for _, outcome, reason, items in self._rows():
            self._settled[outcome, reason] -= items
        self._reading = LedgerReading(dict.fromkeys(_KNOWN, 0), is_store_up=True)
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._asked_at = time.monotonic() - interval_s

    def read(self) -> LedgerReading:
        """Return the totals. Asks the store if the last time is long enough ago; never raises."""
        with self._lock:
            if self._thread is None or not self._thread.is_alive():
                self._ask_again()
            thread = self._thread
        if thread is not None:
            thread.join(_PATIENCE_S)
            if thread.is_alive():
                return LedgerReading(self._reading.totals, is_store_up=False)
        return self._reading

    def close(self) -> None:
        """Wait for a question that is under way, within its time limit."""
        with self._lock:
            thread = self._thread
        if thread is not None:
            thread.join(2 * _TIMEOUT_S)

    def _ask_again(self) -> None:
        now = time.monotonic()
        if now - self._asked_at >= self._interval_s:
            self._asked_at = now
            # A store that hangs must not hang the scrape.
            self._thread = threading.Thread(target=self._ask, name="ledger-totals", daemon=True)
            self._thread.start()

    def _ask(self) -> None:
        # Before the question, so that all of what is settled is in the answer.
        settled_until = _minute(self._loaded_until() - _SETTLED_AFTER_S)
        try:
            rows = self._rows()
        except EngineError as error:
            _logger.warning("the ledger's totals cannot be read now: %s", error)
            self._reading = LedgerReading(self._reading.totals, is_store_up=False)
            return
        totals = Counter(self._settled)
        for minute, outcome, reason, items in rows:
            totals[outcome, reason] += items
            if minute < settled_until:
                self._settled[outcome, reason] += items
        self._open_from = max(self._open_from, settled_until)
        last = self._reading.totals
        # A row that was replaced by a smaller one must not look like a restart.
        grown = {key: max(totals[key], last.get(key, 0)) for key in last.keys() | totals.keys()}
        self._reading = LedgerReading(grown, is_store_up=True)

    def _rows(self) -> _Rows:
        """Return (minute in Unix seconds, outcome, reason, items) of what is not settled.

        Refusals count requests, not spans and events: the door's own counter shows them.
        """
        return self._engine.query(
            "SELECT toUnixTimestamp(minute), outcome, reason, sum(items) FROM ledger "
            "WHERE minute >= toDateTime(%(open_from)s, 'UTC') AND outcome != %(refused)s "
            "GROUP BY minute, outcome, reason "
            f"SETTINGS max_execution_time = {_TIMEOUT_S}",
            {"open_from": self._open_from, "refused": outcomes.REFUSED},
        ).rows


def _minute(seconds: float) -> int:
    """Return the start of the minute; 0 for what is before 1970."""
    return max(0, int(seconds) // 60 * 60)
