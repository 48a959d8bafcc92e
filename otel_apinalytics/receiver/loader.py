# SPDX-License-Identifier: Apache-2.0
"""The loader: from sealed segments to rows in the store, in order, each exactly once.

A load may be repeated at will: its token makes the engine skip what is already there, and where the
token is lost, rows have keys that make them the same row. A segment is deleted only after what was
loaded from it is on disk.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import logging
import math
import queue
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from otel_apinalytics.errors import RetryableError
from otel_apinalytics.receiver.attempts import Attempts, loads_lost, note_lost_load
from otel_apinalytics.receiver.checkpoints import Checkpoints
from otel_apinalytics.receiver.loading import Loading
from otel_apinalytics.receiver.log import SealedSegment
from otel_apinalytics.receiver.messages import Messages
from otel_apinalytics.receiver.records import header_of
from otel_apinalytics.receiver.sealing import SealError
from otel_apinalytics.receiver.segment import Content, LogIdentity, read_segment
from otel_apinalytics.store.checked_parts import CheckedParts
from otel_apinalytics.store.engine import Engine, EngineError
from otel_apinalytics.store.loads import Loads
from otel_apinalytics.telemetry import Telemetry
from otel_apinalytics.threads import ended

_logger = logging.getLogger(__name__)

# Supervisors wait half a minute for a stop.
_DRAIN_S = 15.0
_MIN_BACKOFF_S = 0.25
_MAX_BACKOFF_S = 10.0
# A disk that cannot read one segment may be able to read the next.
_READS = 5
_READ_FAULTS = (errno.EIO, errno.EUCLEAN)
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Loader:
    """Loads sealed segments. One thread loads, one makes loads durable and deletes segments.

    Args:
        engine: The store.
        loads: Returns the statements to load with.
        hash_key: Returns the hash key of an application.
        identity: Opens the segments.
        directory: Where the log lives.
        on_released: Called with a segment and its load's seconds once it left the queue.
        telemetry: Where loads are counted and measured.
        parts: Checks what the engine wrote; None where nothing can be checked.
    """

    def __init__(
        self,
        engine: Engine,
        loads: Callable[[], Loads],
        hash_key: Callable[[str], bytes],
        identity: LogIdentity,
        directory: Path,
        on_released: Callable[[SealedSegment, float], None],
        telemetry: Telemetry | None = None,
        parts: CheckedParts | None = None,
    ) -> None:
        self._engine = engine
        self._parts = parts
        self._loads = loads
        self._hash_key = functools.cache(hash_key)
        self._identity = identity
        self._on_released = on_released
        self._telemetry = telemetry or Telemetry()
        self._queue: queue.SimpleQueue[SealedSegment | None] = queue.SimpleQueue()
        self._stopping = threading.Event()
        self._ends_at = math.inf
        self._loading = threading.Lock()
        self._boot_id = _boot_id()
        self._checkpoints = Checkpoints(engine, directory, self._telemetry, self._load_again)
        # Numbers of segments that left the queue before.
        self._released: set[int] = set()
        # Number → how often the disk lost the load of a segment.
        self._lost: Counter[int] = Counter()
        self._thread = threading.Thread(target=self._run, name="loader", daemon=True)

    def start(self) -> None:
        """Start loading."""
        self._thread.start()
        self._checkpoints.thread.start()

    def faults(self) -> list[str]:
        """Return what keeps a started loader from loading, in words; not the store's faults."""
        return ended(self._thread, self._checkpoints.thread)

    def submit(self, segment: SealedSegment) -> None:
        """Queue a sealed segment. Does not block."""
        self._telemetry.pending_segments.inc()
        self._queue.put(segment)

    @contextlib.contextmanager
    def paused(self, timeout_s: float) -> Iterator[None]:
        """Give a time in which nothing is loaded: of each segment all is in the store, or nothing.

        Raises:
            RetryableError: A load has not succeeded within so many seconds.
        """
        if not self._loading.acquire(timeout=timeout_s):
            raise RetryableError("the store does not take what is loaded now")
        try:
            yield
        finally:
            self._loading.release()

    def wait_until_gone(self, sequence: int, timeout_s: float) -> None:
        """Wait until no segment is left before a number: none of them is ever loaded again.

        Raises:
            RetryableError: One is, after so many seconds.
        """
        self._checkpoints.wait_until_gone(sequence, timeout_s)

    def close(self) -> None:
        """Load what is queued, make it durable, and stop. Safe before `start`.

        Neither much that waits nor a store that cannot be reached hold this up for long: the log
        keeps what is left.
        """
        self._ends_at = time.monotonic() + _DRAIN_S
        self._stopping.set()
        self._queue.put(None)
        if self._thread.is_alive():
            self._thread.join()
        self._checkpoints.close()

    def _run(self) -> None:
        while (segment := self._queue.get()) is not None:
            if time.monotonic() > self._ends_at:
                continue
            with self._loading:
                load_s = self._take(segment)
            if load_s is None:
                continue
            if segment.sequence in self._released:
                self._released.remove(segment.sequence)
                continue
            self._telemetry.pending_segments.dec()
            self._on_released(segment, load_s)

    def _load_again(self, segments: Sequence[SealedSegment]) -> None:
        for segment in segments:
            self._note_lost(segment)
            self._released.add(segment.sequence)
            self._queue.put(segment)

    def _take(self, segment: SealedSegment) -> float | None:
        """Load a segment, as often as it takes.

        Returns:
            Seconds of the load that succeeded, 0 where there was nothing to load; None if the
            segment stays for the next start.
        """
        backoff_s = _MIN_BACKOFF_S
        failed_reads = 0
        while True:
            try:
                return self._load_segment(segment)
            except (EngineError, MemoryError) as error:
                _logger.warning("%s cannot be loaded now, will try again: %s", segment.path, error)
            except OSError as error:
                # Of files that are too many, and the like, the next try knows more.
                failed_reads += error.errno in _READ_FAULTS
                _logger.warning("%s cannot be read now: %s", segment.path, error)
            except Exception:
                # Ours to mend. It is kept, and those behind it are loaded.
                _logger.exception("%s cannot be loaded", segment.path)
                failed_reads = _READS
            if failed_reads == _READS:
                self._set_aside(segment)
                return 0.0
            self._telemetry.load_failures.inc()
            if self._stopping.wait(backoff_s):
                return None
            backoff_s = min(2 * backoff_s, _MAX_BACKOFF_S)

    def _load_segment(self, segment: SealedSegment) -> float:
        """Load a segment; return the load's seconds.

        Raises:
            EngineError: The store cannot take it now.
            MemoryError: There is no memory for it now.
            OSError: It cannot be read now.
        """
        with contextlib.closing(Messages(self._hash_key)) as messages:
            try:
                content = read_segment(segment.path, segment.sequence, self._identity, messages.add)
            except (FileNotFoundError, SealError) as error:
                _logger.error("%s cannot be read: %s", segment.path, error)
                self._set_aside(segment)
                return 0.0
            is_damaged = _report_damage(segment, content)
            attempts = Attempts(segment.path)
            loading = Loading(
                self._engine,
                self._loads(),
                attempts,
                self._token(segment, content),
                self._stopping.wait,
            )
            started = time.monotonic()
            rejected = loading.load(messages)
            load_s = time.monotonic() - started
            attempts.clear()
            self._check_parts(segment)
            self._observe(messages, rejected, load_s)
        self._checkpoints.loaded(segment, keep=is_damaged or rejected > 0)
        return load_s

    def _check_parts(self, segment: SealedSegment) -> None:
        """Check what was loaded.

        Raises:
            EngineError: The disk lost some of it; it has to be loaded again.
        """
        damaged = self._parts.damaged_tables() if self._parts else None
        if self._parts and damaged:
            self._note_lost(segment)
            self._parts.take_out(damaged)
            raise EngineError("the disk lost what was loaded", None)

    def _note_lost(self, segment: SealedSegment) -> None:
        # Known here, whether the disk takes the note for the next process or not.
        known = max(self._lost[segment.sequence], loads_lost(segment.path))
        self._lost[segment.sequence] = known + 1
        note_lost_load(segment.path)

    def _observe(self, messages: Messages, rejected: int, load_s: float) -> None:
        self._telemetry.load_seconds.observe(load_s)
        self._telemetry.rejected_records.inc(rejected)
        if len(messages):
            received_s = header_of(messages.record(0)).received_ns / 1e9
            # A clock that was set back makes no negative time.
            self._telemetry.visible_after_seconds.observe(max(0.0, time.time() - received_s))

    def _set_aside(self, segment: SealedSegment) -> None:
        try:
            self._checkpoints.set_aside(segment)
        except OSError as error:
            # The next start finds it again, if it is there.
            _logger.error("%s cannot be set aside: %s", segment.path, error)
            self._telemetry.segments_set_aside.inc()

    def _token(self, segment: SealedSegment, content: Content) -> str:
        # After a reboot, or where the disk lost it, the engine may still know a part's token.
        return (
            f"{self._identity.log_id}/{segment.sequence}/{content.digest}/{self._boot_id}/"
            f"{self._lost[segment.sequence] or loads_lost(segment.path)}"
        )


def _report_damage(segment: SealedSegment, content: Content) -> bool:
    """Return whether a segment lost records, and report it."""
    # A tail is torn only where the process died while it wrote.
    is_damaged = content.damaged > 0 or (segment.is_whole and content.torn_bytes > 0)
    if is_damaged:
        _logger.error(
            "%s is damaged: %d records are lost, %d bytes at its end",
            segment.path,
            content.damaged,
            content.torn_bytes,
        )
    return is_damaged


def _boot_id() -> str:
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        # Unknown: take every start for a boot. Keys keep a repeated load harmless.
        return uuid.uuid4().hex
