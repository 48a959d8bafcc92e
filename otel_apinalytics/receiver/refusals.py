# SPDX-License-Identifier: Apache-2.0
"""Refusals: requests that were not let in, counted in the ledger and remembered for a while.

They are counted in memory and written once a second, so that a flood of them writes no more than a
few. A crash costs the last second of them: nobody was told that they are kept.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import datetime, timezone

from otel_apinalytics.errors import ApinalyticsError, RetryableError
from otel_apinalytics.receiver.log import RequestLog
from otel_apinalytics.receiver.records import new_header, refused_record
from otel_apinalytics.telemetry import Telemetry, reason_of
from otel_apinalytics.threads import ended

_KEPT = 20
_INTERVAL_S = 1.0


@dataclass(frozen=True, slots=True)
class Refusal:
    """A request that was not let in.

    Args:
        at: When, in UTC.
        transport: `grpc` or `http`.
        kind: Why, in a word, as the ledger has it.
        reason: Why, as the client was told.
        application: Whose request, or None where that is not known.
        key_id: The key that it came with; empty if none was known.
    """

    at: datetime
    transport: str
    kind: str
    reason: str
    application: str | None
    key_id: str


@dataclass(frozen=True, slots=True)
class _Kind:
    """What is counted together; the application and the key are empty where they are not known."""

    application: str
    key_id: str
    transport: str
    reason: str


class Refusals:
    """The refusals of one service. Safe to use from many threads.

    Args:
        log: Where their counts are written.
        telemetry: Where they are counted for the operator.
    """

    def __init__(self, log: RequestLog, telemetry: Telemetry) -> None:
        self._log = log
        self._telemetry = telemetry
        self._wake = threading.Condition()
        self._last: deque[Refusal] = deque(maxlen=_KEPT)
        self._counts: Counter[_Kind] = Counter()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="refusals", daemon=True)

    def start(self) -> None:
        """Start to write counts to the log."""
        self._thread.start()

    def add(
        self, transport: str, error: ApinalyticsError, application: str | None, key_id: str = ""
    ) -> None:
        """Count a refusal, and remember it for whoever wonders why there is no data.

        Args:
            transport: How the request came.
            error: What its sender was told.
            application: Whose request, or None where that is not known.
            key_id: The key that it came with, if it is a known one.
        """
        self._telemetry.refused(transport, error)
        kind = reason_of(error)
        now = datetime.now(timezone.utc)
        refusal = Refusal(now, transport, kind, str(error), application, key_id)
        with self._wake:
            self._last.append(refusal)
            self._counts[_Kind(application or "", key_id, transport, kind)] += 1
            self._wake.notify()

    def last(self, application: str) -> Refusal | None:
        """Return the latest that is this application's since the start, or else may be."""
        with self._wake:
            return next(
                (
                    refusal
                    for whose in (application, None)
                    for refusal in reversed(self._last)
                    if refusal.application == whose
                ),
                None,
            )

    def faults(self) -> list[str]:
        """Return what keeps refusals from being written, in words."""
        return ended(self._thread)

    def close(self) -> None:
        """Write what was counted, and stop. To be called before the log is closed."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        closing = False
        while not closing:
            with self._wake:
                self._wake.wait_for(lambda: self._counts or self._closing)
                # Those that come together are written together.
                self._wake.wait_for(lambda: self._closing, _INTERVAL_S)
                counts, self._counts = self._counts, Counter()
                closing = self._closing
            for kind, requests in counts.items():
                self._write(kind, requests)

    def _write(self, kind: _Kind, requests: int) -> None:
        header = new_header(kind.application, kind.key_id, kind.transport, requests)
        try:
            written = self._log.append(refused_record(header, kind.reason))
        except RetryableError:
            self._count_again(kind, requests)
            return

        def check(done: Future[None]) -> None:
            if done.cancelled() or done.exception() is not None:
                self._count_again(kind, requests)

        written.add_done_callback(check)

    def _count_again(self, kind: _Kind, requests: int) -> None:
        """Keep what could not be written now for the next time."""
        with self._wake:
            self._counts[kind] += requests
            self._wake.notify()
