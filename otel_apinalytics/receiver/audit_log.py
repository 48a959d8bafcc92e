# SPDX-License-Identifier: Apache-2.0
"""The audit, as it is written: entries go to the request log, and from there to the store.

Reads are collected in memory and written once a second, so that a read waits for nothing and a log
that cannot be written fails no read. A change is on disk before whoever made it is told.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import asdict

from otel_apinalytics.errors import RetryableError
from otel_apinalytics.receiver.log import RequestLog
from otel_apinalytics.receiver.records import audit_record
from otel_apinalytics.store.erasures import Receipt
from otel_apinalytics.store.keys import FirstKeys
from otel_apinalytics.telemetry import Telemetry
from otel_apinalytics.threads import ended
from otel_apinalytics.wire.log_pb2 import AuditEntry, AuditParameter

_logger = logging.getLogger(__name__)

_INTERVAL_S = 1.0
# Of a record: an entry has some hundred bytes, and a few thousand at most.
_BATCH = 1000
# While the log cannot be written; beyond, the oldest ones are lost and counted.
MAX_WAITING = 10_000
# Longer than a disk that works takes.
_PATIENCE_S = 5.0
#: The action of an entry that says what an erasure did.
ERASED = "consumer.erased"
#: The action of an entry that says how many were lost.
LOST = "audit.lost"


class AuditLog:
    """The audit of one service. Safe to use from many threads.

    Args:
        log: Where entries are written.
        telemetry: Where those that are lost are counted.
        max_waiting: Entries in memory, at most.
    """

    def __init__(
        self, log: RequestLog, telemetry: Telemetry, max_waiting: int = MAX_WAITING
    ) -> None:
        self._log = log
        self._telemetry = telemetry
        self._max_waiting = max_waiting
        self._wake = threading.Condition()
        self._entries: list[AuditEntry] = []
        # Since the latest entry that says so.
        self._lost = 0
        # Whether the latest attempt failed: it is reported once.
        self._is_behind = False
        self._closing = False
        # Held by whoever writes.
        self._writing = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="audit", daemon=True)

    def start(self) -> None:
        """Start to write entries to the log."""
        self._thread.start()

    def note(self, entry: AuditEntry) -> None:
        """Write an entry soon. Does not block; a crash costs those of the last second."""
        self._queue([entry])

    def keep(self, entry: AuditEntry) -> None:
        """Write an entry, and wait until it is on disk.

        Where the log cannot be written, it is written as soon as that is possible: what it tells of
        has happened.
        """
        self._write([entry])

    def flush(self) -> None:
        """Write what was noted before, and wait until it is on disk, if the log can be written."""
        with self._writing:
            with self._wake:
                entries, self._entries = self._entries, []
                lost, self._lost = self._lost, 0
            if lost:
                entries.append(_loss(lost))
            for begin in range(0, len(entries), _BATCH):
                self._write(entries[begin : begin + _BATCH])

    def faults(self) -> list[str]:
        """Return what keeps entries from being written, in words."""
        return ended(self._thread)

    def close(self) -> None:
        """Write what waits, and stop. To be called before the log is closed."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        if self._thread.is_alive():
            self._thread.join()

    def _queue(self, entries: Sequence[AuditEntry]) -> None:
        with self._wake:
            self._entries += entries
            lost = max(0, len(self._entries) - self._max_waiting)
            del self._entries[:lost]
            self._lost += lost
            self._wake.notify()
        self._telemetry.lost_audit_entries.inc(lost)

    def _run(self) -> None:
        closing = False
        while not closing:
            with self._wake:
                self._wake.wait_for(lambda: self._entries or self._closing)
                # Those that come together are written together.
                self._wake.wait_for(lambda: self._closing, _INTERVAL_S)
                closing = self._closing
            self.flush()

    def _write(self, entries: Sequence[AuditEntry]) -> None:
        try:
            written = self._log.append(audit_record(entries))
            try:
                written.result(_PATIENCE_S)
            except FutureTimeoutError:
                # It may be on its way to the disk.
                if written.cancel():
                    raise RetryableError("the request log does not answer") from None
        except RetryableError as error:
            if not self._is_behind:
                _logger.warning("entries of the audit wait in memory: %s", error)
            self._is_behind = True
            self._queue(entries)
        else:
            self._is_behind = False


def made_entries(first: FirstKeys) -> Iterator[AuditEntry]:
    """Yield the entries of the keys that a first start makes, by nobody's key."""
    for scope in first.created:
        yield AuditEntry(
            at_us=time.time_ns() // 1000,
            application=first.application,
            action="key.make",
            parameters=[AuditParameter(name="scope", value=scope.value)],
        )


def erased_entry(receipt: Receipt) -> AuditEntry:
    """Return the entry of an erasure that is complete. It does not say whom it was of."""
    details = {"application": receipt.application, "erasure": receipt.erasure}
    counts = {name: str(count) for name, count in asdict(receipt.counts).items()}
    return AuditEntry(
        at_us=int(receipt.completed_at * 1e6),
        application=receipt.application,
        action=ERASED,
        parameters=[
            AuditParameter(name=name, value=value) for name, value in {**details, **counts}.items()
        ],
    )


def _loss(entries: int) -> AuditEntry:
    return AuditEntry(at_us=time.time_ns() // 1000, action=LOST, rows=entries)
