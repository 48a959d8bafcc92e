# SPDX-License-Identifier: Apache-2.0
"""The loader: from sealed segments to rows in the store, in order, each exactly once.

A load may be repeated at will: its token makes the engine skip what is already there, and where the
token is lost, rows have keys that make them the same row. A segment is deleted only after what was
loaded from it is on disk.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import logging
import os
import queue
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from otel_apinalytics.normalize.outcomes import UNDECODABLE
from otel_apinalytics.receiver.log import SET_ASIDE, SealedSegment
from otel_apinalytics.receiver.messages import Messages
from otel_apinalytics.receiver.records import header_of, rejected_record
from otel_apinalytics.receiver.sealing import SealError
from otel_apinalytics.receiver.segment import (
    Content,
    LogIdentity,
    destroy_segment,
    read_segment,
)
from otel_apinalytics.store.engine import Engine, EngineError
from otel_apinalytics.store.loads import Loads
from otel_apinalytics.telemetry import Telemetry

_logger = logging.getLogger(__name__)

# A segment during whose load the process died this often is set aside, so that the service starts.
_MAX_ATTEMPTS = 5
_MIN_BACKOFF_S = 0.25
_MAX_BACKOFF_S = 10.0
_CHECKPOINT_INTERVAL_S = 1.0
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class _Loaded:
    segment: SealedSegment
    keep: bool


@dataclass(frozen=True, slots=True)
class _Result:
    rejected: int
    load_s: float


class Loader:
    """Loads sealed segments. One thread loads, one makes loads durable and deletes segments.

    Args:
        engine: The store.
        loads: Returns the statements to load with.
        hash_key: Returns the hash key of an application.
        identity: Opens the segments.
        directory: Where the log lives.
        on_released: Called with a segment's size and its load's seconds once it left the queue.
        telemetry: Where loads are counted and measured.
    """

    def __init__(
        self,
        engine: Engine,
        loads: Callable[[], Loads],
        hash_key: Callable[[str], bytes],
        identity: LogIdentity,
        directory: Path,
        on_released: Callable[[int, float], None],
        telemetry: Telemetry | None = None,
    ) -> None:
        self._engine = engine
        self._loads = loads
        self._hash_key = functools.cache(hash_key)
        self._identity = identity
        self._directory = directory
        self._on_released = on_released
        self._telemetry = telemetry or Telemetry()
        self._loaded_until = 0.0
        self._queue: queue.SimpleQueue[SealedSegment | None] = queue.SimpleQueue()
        self._loaded: queue.SimpleQueue[_Loaded | None] = queue.SimpleQueue()
        self._stopping = threading.Event()
        self._boot_id = _boot_id()
        self._threads = [
            threading.Thread(target=self._run, name="loader", daemon=True),
            threading.Thread(target=self._run_checkpoints, name="checkpoints", daemon=True),
        ]

    def start(self) -> None:
        """Start loading."""
        for thread in self._threads:
            thread.start()

    @property
    def loaded_until(self) -> float:
        """Receipt of the first record of the latest load, Unix seconds; 0 before there is one.

        Loads are in order: what was received before is loaded, but for requests that took long from
        their time stamp to their place in the log.
        """
        return self._loaded_until

    def faults(self) -> list[str]:
        """Return what keeps a started loader from loading, in words; not the store's faults."""
        return [
            f"the thread {thread.name} has ended"
            for thread in self._threads
            if not thread.is_alive()
        ]

    def submit(self, segment: SealedSegment) -> None:
        """Queue a sealed segment. Does not block."""
        self._telemetry.pending_segments.inc()
        self._queue.put(segment)

    def close(self) -> None:
        """Load what is queued, make it durable, and stop. Safe before `start`.

        A store that cannot be reached does not hold this up: the log keeps what is left.
        """
        self._stopping.set()
        self._queue.put(None)
        for thread in self._threads:
            if thread.is_alive():
                thread.join()

    # ---- loading ----

    def _run(self) -> None:
        while (segment := self._queue.get()) is not None:
            try:
                load_s = self._load_segment(segment)
            except Exception:
                self._telemetry.load_failures.inc()
                # Ours to mend; until then the segment stays, and the next ones are loaded.
                _logger.exception("%s could not be loaded", segment.path)
                continue
            if load_s is not None:
                self._telemetry.pending_segments.dec()
                self._on_released(segment.size, load_s)
        self._loaded.put(None)

    def _load_segment(self, segment: SealedSegment) -> float | None:
        """Load a segment; return the load's seconds, or None if it stays for the next start."""
        marks = _Attempts(segment.path)
        if marks.count() >= _MAX_ATTEMPTS:
            _logger.error("%s ended the process %d times", segment.path, marks.count())
            self._set_aside(segment)
            return 0.0
        with contextlib.closing(Messages(self._hash_key)) as messages:
            try:
                content = read_segment(segment.path, segment.sequence, self._identity, messages.add)
            except (OSError, SealError) as error:
                _logger.error("%s cannot be read: %s", segment.path, error)
                self._set_aside(segment)
                return 0.0
            is_damaged = _report_damage(segment, content)
            marks.add()
            result = self._load_patiently(messages, self._token(segment, content))
            marks.clear()
            if result is None:
                return None
            self._observe(messages, result)
        # What could not be loaded is kept as it came.
        self._loaded.put(_Loaded(segment, keep=is_damaged or result.rejected > 0))
        return result.load_s

    def _observe(self, messages: Messages, result: _Result) -> None:
        self._telemetry.load_seconds.observe(result.load_s)
        self._telemetry.rejected_records.inc(result.rejected)
        if len(messages):
            received_s = header_of(messages.record(0)).received_ns / 1e9
            self._loaded_until = received_s
            # A clock that was set back makes no negative time.
            self._telemetry.visible_after_seconds.observe(max(0.0, time.time() - received_s))

    def _token(self, segment: SealedSegment, content: Content) -> str:
        # After a reboot the engine may have lost a part and still know its token.
        return f"{self._identity.log_id}/{segment.sequence}/{content.digest}/{self._boot_id}"

    def _load_patiently(self, messages: Messages, token: str) -> _Result | None:
        """Load messages, as often as it takes; return None if the loader stops before."""
        backoff_s = _MIN_BACKOFF_S
        while True:
            started = time.monotonic()
            try:
                rejected = self._load_or_split(messages, token)
            except EngineError as error:
                _logger.warning("the store is not available, will try again: %s", error)
                self._telemetry.load_failures.inc()
                if self._stopping.wait(backoff_s):
                    return None
                backoff_s = min(2 * backoff_s, _MAX_BACKOFF_S)
            else:
                return _Result(rejected, time.monotonic() - started)

    def _load_or_split(self, messages: Messages, token: str) -> int:
        """Load messages; where it is they that fail, find the ones at fault by halving.

        Returns:
            How many were rejected.

        Raises:
            EngineError: The store's fault, not the messages': everything may be tried again.
        """
        if not len(messages):
            return 0
        try:
            self._load(messages, token)
        except EngineError as error:
            # What wants too much memory or time at once may do in halves.
            if not (error.is_of_data or error.is_limit):
                raise
            refusal = error
        else:
            return 0
        if len(messages) == 1:
            _logger.error("a record cannot be loaded, it is rejected: %s", refusal)
            self._load_rejected(messages.record(0), token)
            return 1
        middle = len(messages) // 2
        rejected = 0
        for half, first, end in ((0, 0, middle), (1, middle, len(messages))):
            with contextlib.closing(messages.part(first, end)) as part:
                rejected += self._load_or_split(part, f"{token}/{half}")
        return rejected

    def _load_rejected(self, record: bytes, token: str) -> None:
        with contextlib.closing(Messages(self._hash_key)) as messages:
            messages.add(rejected_record(record, UNDECODABLE))
            self._load(messages, f"{token}/rejected")

    def _load(self, messages: Messages, token: str) -> None:
        statements = self._loads().for_payloads(messages.payloads, messages.batch_rules)
        for number, statement in enumerate(statements):
            self._engine.load(statement, messages.path, f"{token}/{number}")

    def _set_aside(self, segment: SealedSegment) -> None:
        target = self._directory / SET_ASIDE
        target.mkdir(mode=0o700, exist_ok=True)
        os.replace(segment.path, target / segment.path.name)
        self._telemetry.segments_set_aside.inc()
        _Attempts(segment.path).clear()

    # ---- checkpoints ----

    def _run_checkpoints(self) -> None:
        ended = False
        while not ended:
            # Blocks while nothing was loaded: an idle service does nothing.
            batch = [self._loaded.get()]
            self._stopping.wait(_CHECKPOINT_INTERVAL_S)
            while not self._loaded.empty():
                batch.append(self._loaded.get())
            ended = None in batch
            loaded = [item for item in batch if item is not None]
            while loaded and not self._checkpoint(loaded) and not ended:
                # The segments stay until a sync succeeds; the disk has a fault, or is gone.
                self._stopping.wait(_MAX_BACKOFF_S)

    def _checkpoint(self, loaded: Sequence[_Loaded]) -> bool:
        """Make loads durable and delete their segments; return whether that succeeded."""
        try:
            self._sync_and_delete(loaded)
        except OSError as error:
            _logger.error("what was loaded cannot be made durable now: %s", error)
            return False
        return True

    def _sync_and_delete(self, loaded: Sequence[_Loaded]) -> None:
        """Make the loads durable, then delete their segments.

        The engine syncs no load by itself, so that the whole file system is synced.
        """
        directory = self._engine.directory
        if directory is not None:
            _sync_file_system(directory)
        for item in loaded:
            if item.keep and item.segment.path.exists():
                self._set_aside(item.segment)
            elif item.segment.path.exists():
                destroy_segment(item.segment.path)


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


class _Attempts:
    """Counts the loads of a segment that were begun and did not end, in a file beside it."""

    def __init__(self, segment: Path) -> None:
        self._path = segment.with_suffix(".attempts")

    def count(self) -> int:
        try:
            return len(self._path.read_bytes())
        except FileNotFoundError:
            return 0

    def add(self) -> None:
        with self._path.open("ab") as stream:
            stream.write(b"+")

    def clear(self) -> None:
        self._path.unlink(missing_ok=True)


def _boot_id() -> str:
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        # Unknown: take every start for a boot. Keys keep a repeated load harmless.
        return uuid.uuid4().hex


def _sync_file_system(directory: Path) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        if libc.syncfs(descriptor) != 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), str(directory))
    finally:
        os.close(descriptor)
