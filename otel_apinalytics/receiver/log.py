# SPDX-License-Identifier: Apache-2.0
"""The request log: makes what was received durable before it is acknowledged.

One thread writes. Requests that wait together share one sync (group commit). A segment that is
large or old enough is sealed: handed on to be loaded. Sequence numbers, never clocks, give order.
"""

from __future__ import annotations

import logging
import math
import os
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from otel_apinalytics.errors import RetryableError
from otel_apinalytics.receiver.files import create_file, free_bytes, sync_directory, write_all
from otel_apinalytics.receiver.segment import SUFFIX, LogIdentity, SegmentWriter
from otel_apinalytics.telemetry import Telemetry
from otel_apinalytics.threads import ended

_logger = logging.getLogger(__name__)

_IDENTITY_FILE = "id"
# Where segments go that cannot be loaded, or not whole.
SET_ASIDE = "set-aside"
_MIN_AGE_S = 0.25
# So that what was acknowledged is visible within a second, whatever the last load took.
_MAX_AGE_S = 0.6
# A load costs the engine a fixed amount besides the spans: spend at most a fifth of the time on it.
_AGE_PER_LOAD = 5.0
# Begun segments while the loader keeps up: one is loaded, one waits, one is open.
_LOADING_AND_NEXT = 3
# A log that cannot be written is tried so often, although nobody sends anything.
_PROBE_INTERVAL_S = 1.0
# Of the pending limit: from here on no more requests should be sent here.
_FULL = 0.95
_BEHIND = "the store is behind: too much waits to be loaded"
_DISK_FULL = "the disk is nearly full"
_FULL_RETRY_S = 5.0
# From the time stamp of a request to its place in the log: longer than its sender waits.
_STAMPED_BEFORE_S = 15.0


@dataclass(frozen=True, slots=True)
class Limits:
    """When the log seals and when it refuses.

    Args:
        segment_bytes: A segment of this size is sealed.
        pending_bytes: What may wait to be loaded; beyond it requests are refused.
        min_free_bytes: Below so much free disk space requests are refused, so that the engine can
            load what waits, and merge.
    """

    segment_bytes: int = 32 << 20
    pending_bytes: int = 512 << 20
    min_free_bytes: int = 0


@dataclass(frozen=True, slots=True)
class SealedSegment:
    """A segment that nothing will be appended to.

    Args:
        sequence: Its number.
        path: Its file.
        size: Length of the file in bytes.
        opened_at: When it was begun, Unix seconds; of one that was found, when it was written last,
            which is less than a second later.
        is_whole: Whether it was sealed in order; otherwise its tail may be torn.
    """

    sequence: int
    path: Path
    size: int
    opened_at: float
    is_whole: bool = False


# A record, and what completes when it is on disk.
_Waiting: TypeAlias = tuple[bytes, Future[None]]


@dataclass(frozen=True, slots=True)
class _Work:
    """What the writer does next.

    Args:
        batch: What to write.
        seals: Whether to seal then, however small the segment is.
        is_last: Whether nothing follows.
    """

    batch: list[_Waiting]
    seals: bool
    is_last: bool


class RequestLog:
    """The log's writer. `append` may be called from any thread.

    Args:
        directory: Where the segments live.
        identity: Which log it is.
        on_sealed: Called by the writer's thread with each sealed segment, in order.
        limits: When to seal, when to refuse.
        telemetry: Where pending bytes and commits are shown.
        store_directory: Where the embedded engine writes; None if it is elsewhere.
    """

    def __init__(
        self,
        directory: Path,
        identity: LogIdentity,
        on_sealed: Callable[[SealedSegment], None],
        limits: Limits | None = None,
        telemetry: Telemetry | None = None,
        store_directory: Path | None = None,
    ) -> None:
        self._directory = directory
        self._disks = [directory, *([store_directory] if store_directory else [])]
        self._identity = identity
        self._on_sealed = on_sealed
        self._limits = limits or Limits()
        self._telemetry = telemetry or Telemetry()
        self._telemetry.pending_bytes.set_function(lambda: self.pending_bytes)
        self._telemetry.free_bytes.set_function(self._free_bytes)
        self._telemetry.min_free_bytes.set(self._limits.min_free_bytes)
        self._wake = threading.Condition()
        self._waiting: list[_Waiting] = []
        self._pending_bytes = 0
        # Begun segments that are not loaded, and when each was begun.
        self._unloaded: dict[int, float] = {}
        self._seal_asked = False
        # Size of the commit that failed last; 0 since one succeeded.
        self._unwritten_bytes = 0
        self._probe_at = 0.0
        self._closing = False
        self._max_age_s = _MIN_AGE_S
        # A number is never used again while a file has it.
        existing = [*find_segments(directory), *find_segments(directory / SET_ASIDE)]
        self._next_sequence = 1 + max((s.sequence for s in existing), default=0)
        self._segment: SegmentWriter | None = None
        # Monotonic seconds.
        self._opened_at = 0.0
        self._thread = threading.Thread(target=self._run, name="log-writer", daemon=True)

    def start(self, earlier: Sequence[SealedSegment] = ()) -> None:
        """Start the writer.

        Args:
            earlier: Segments of earlier processes that still have to be loaded.
        """
        self._pending_bytes = sum(segment.size for segment in earlier)
        self._unloaded = {segment.sequence: segment.opened_at for segment in earlier}
        self._thread.start()

    @property
    def pending_bytes(self) -> int:
        """Bytes that wait to be loaded, those included that wait to be written."""
        with self._wake:
            return self._pending_bytes

    @property
    def is_writable(self) -> bool:
        """Whether the latest attempt to write succeeded. Attempts go on without requests."""
        return self._unwritten_bytes == 0

    def faults(self) -> list[str]:
        """Return what keeps a started log from taking requests, in words."""
        faults = ended(self._thread)
        if not self.is_writable:
            faults.append("the request log cannot be written")
        if self._is_disk_full():
            faults.append(_DISK_FULL)
        if not self.has_room:
            faults.append(_BEHIND)
        return faults

    @property
    def has_room(self) -> bool:
        """Whether a request is worth reading: with nearly no room, most do not fit."""
        return self.pending_bytes < _FULL * self._limits.pending_bytes

    def check_room(self) -> None:
        """Refuse early, before a request is read.

        Raises:
            RetryableError: Too much is waiting.
        """
        if not self.has_room:
            raise RetryableError(_BEHIND)

    def append(self, record: bytes) -> Future[None]:
        """Queue a record; the future completes when it is on disk.

        The future fails with `RetryableError` if it could not be written. A caller that gives up
        cancels it; where that succeeds, nothing is kept.

        Raises:
            RetryableError: Too much is waiting, or the log is closing.
        """
        with self._wake:
            if self._closing:
                raise RetryableError("the service is stopping")
            if self._pending_bytes + len(record) > self._limits.pending_bytes:
                raise RetryableError(_BEHIND)
            future: Future[None] = Future()
            self._pending_bytes += len(record)
            self._waiting.append((record, future))
            self._wake.notify_all()
        return future

    def released(self, segment: SealedSegment, load_s: float) -> None:
        """Take note that a segment left the queue.

        Args:
            segment: The segment, loaded or set aside.
            load_s: How long its load took, in seconds.
        """
        with self._wake:
            self._pending_bytes = max(0, self._pending_bytes - segment.size)
            self._unloaded.pop(segment.sequence, None)
            self._max_age_s = min(max(_MIN_AGE_S, _AGE_PER_LOAD * load_s), _MAX_AGE_S)
            self._wake.notify_all()

    def settled_until(self) -> float:
        """Return the time before which everything that was received is loaded, Unix seconds."""
        with self._wake:
            # A clock that was set back is behind what was begun.
            begun = min([time.time(), *self._unloaded.values()])
        return begun - _STAMPED_BEFORE_S

    def flush(self, timeout_s: float) -> int:
        """Wait until everything is loaded that was acknowledged before.

        Returns:
            Number of the first segment that may have something else.

        Raises:
            RetryableError: It is not, in so many seconds.
        """
        with self._wake:
            last = self._next_sequence
            self._seal_asked = True
            self._wake.notify_all()

            def is_loaded() -> bool:
                return all(sequence >= last for sequence in self._unloaded)

            self._wake.wait_for(lambda: is_loaded() or self._closing, timeout_s)
            loaded = is_loaded()
        if not loaded:
            raise RetryableError(_BEHIND)
        return last

    def close(self) -> None:
        """Write what waits, seal, and stop. Idempotent; safe before `start`."""
        with self._wake:
            self._closing = True
            self._wake.notify_all()
        if self._thread.is_alive():
            self._thread.join()
        for _, future in self._waiting:
            future.set_exception(RetryableError("the service is stopping"))
        self._waiting = []

    # ---- the writer's thread ----

    def _run(self) -> None:
        while True:
            work = self._take()
            if work.batch:
                self._commit(work.batch)
            elif not work.is_last and not self.is_writable and self._seconds_to_wait() == 0.0:
                self._probe()
            if self._segment and (work.seals or self._is_due(self._segment)):
                self._seal(self._segment)
            if work.is_last and not work.batch:
                return

    def _take(self) -> _Work:
        """Wait for something to do; no more than a segment at a time."""
        with self._wake:
            if not self._waiting and not self._closing and not self._seal_asked:
                self._wake.wait(self._seconds_to_wait())
            room = self._limits.segment_bytes - (self._segment.size if self._segment else 0)
            count = 0
            while count < len(self._waiting) and room > 0:
                room -= len(self._waiting[count][0])
                count += 1
            batch, self._waiting = self._waiting[:count], self._waiting[count:]
            is_last = self._closing and not self._waiting
            seals, self._seal_asked = self._seal_asked or is_last, False
            return _Work(batch, seals, is_last)

    def _seconds_to_wait(self) -> float | None:
        if self.is_writable:
            return self._seconds_to_seal()
        return max(0.0, self._probe_at - time.monotonic())

    def _seconds_to_seal(self) -> float | None:
        # To seal small segments would put a loader that is behind further behind.
        if self._segment is None or len(self._unloaded) > _LOADING_AND_NEXT:
            return None
        return max(0.0, self._opened_at + self._max_age_s - time.monotonic())

    def _is_due(self, segment: SegmentWriter) -> bool:
        return segment.size >= self._limits.segment_bytes or self._seconds_to_seal() == 0.0

    def _commit(self, batch: list[_Waiting]) -> None:
        # A caller that gave up was told that nothing is kept.
        live = [item for item in batch if item[1].set_running_or_notify_cancel()]
        self._add_pending(sum(len(record) for record, _ in live) - sum(len(r) for r, _ in batch))
        records, futures = [record for record, _ in live], [future for _, future in live]
        if not records:
            return
        refusal = self._write(records)
        if refusal is not None:
            self._add_pending(-sum(map(len, records)))
            for future in futures:
                future.set_exception(refusal)
            return
        self._unwritten_bytes = 0
        for future in futures:
            future.set_result(None)

    def _write(self, records: list[bytes]) -> RetryableError | None:
        """Write records and sync them; return why that cannot be done now, or None."""
        if self._is_disk_full():
            return RetryableError(_DISK_FULL, retry_after_s=_FULL_RETRY_S)
        try:
            try:
                self._append(records)
            except Exception:
                # A new segment.
                self._append(records)
        except Exception as error:
            # Whatever it is, it must not end the writer: all requests would wait for ever.
            if self.is_writable:
                _logger.error("log write failed, requests are refused: %s", error)
            self._telemetry.commit_failures.inc()
            self._not_written(sum(map(len, records)))
            return RetryableError("the request log cannot be written now", retry_after_s=2.0)
        return None

    def _is_disk_full(self) -> bool:
        """Whether a disk has too little room. What cannot be asked is found out by writing."""
        return self._free_bytes() < self._limits.min_free_bytes

    def _free_bytes(self) -> float:
        """Return the room on the fullest disk; NaN where a disk cannot be asked."""
        try:
            return min(map(free_bytes, self._disks))
        except OSError:
            return math.nan

    def _not_written(self, size: int) -> None:
        self._unwritten_bytes = max(1, size)
        self._probe_at = time.monotonic() + _PROBE_INTERVAL_S

    def _probe(self) -> None:
        """Try whether as much as failed could be written now; nothing of it stays."""
        size = min(self._unwritten_bytes, self._limits.segment_bytes)
        try:
            with tempfile.TemporaryFile(dir=self._directory, buffering=0) as scratch:
                write_all(scratch.fileno(), [bytes(size)])
                os.fdatasync(scratch.fileno())
        except Exception:
            # It was reported when the commit failed. Whatever it is, it must not end the writer.
            self._not_written(self._unwritten_bytes)
            return
        _logger.warning("the request log can be written again")
        self._unwritten_bytes = 0

    def _append(self, records: list[bytes]) -> None:
        segment = self._segment or self._open_segment()
        size = segment.size
        try:
            with self._telemetry.commit_seconds.time():
                segment.append(records)
        except Exception:
            if segment.is_empty:
                self._discard(segment)
            else:
                self._seal(segment)
            raise
        # Pending bytes count what the files hold: headers, records and their seals.
        self._add_pending(segment.size - size - sum(map(len, records)))

    def _add_pending(self, size: int) -> None:
        with self._wake:
            self._pending_bytes += size

    def _open_segment(self) -> SegmentWriter:
        sequence = self._next_sequence
        self._next_sequence += 1
        self._segment = SegmentWriter(self._directory, sequence, self._identity)
        self._opened_at = time.monotonic()
        with self._wake:
            self._pending_bytes += self._segment.size
            self._unloaded[sequence] = time.time()
        return self._segment

    def _discard(self, segment: SegmentWriter) -> None:
        segment.close()
        self._segment = None
        with self._wake:
            self._pending_bytes -= segment.size
            self._unloaded.pop(segment.sequence, None)
            self._wake.notify_all()
        segment.path.unlink(missing_ok=True)

    def _seal(self, segment: SegmentWriter) -> None:
        segment.close()
        self._segment = None
        opened_at = self._unloaded[segment.sequence]
        self._on_sealed(
            SealedSegment(segment.sequence, segment.path, segment.size, opened_at, is_whole=True)
        )


def find_segments(directory: Path) -> list[SealedSegment]:
    """Return the segments in `directory` in order; none where it does not exist."""
    return [
        SealedSegment(int(path.stem), path, found.st_size, found.st_mtime)
        for path in sorted(directory.glob(f"*{SUFFIX}"))
        if path.stem.isdigit() and (found := path.stat())
    ]


def open_log_directory(directory: Path, master_key: bytes) -> LogIdentity:
    """Create the log's directory if it is missing, and return which log it is.

    Raises:
        OSError: It cannot be created, read or written.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    sync_directory(directory.parent)
    path = directory / _IDENTITY_FILE
    if not path.exists():
        create_file(path, uuid.uuid4().hex.encode())
    return LogIdentity(path.read_text().strip(), master_key)
