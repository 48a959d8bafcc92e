# SPDX-License-Identifier: Apache-2.0
"""Checkpoints: what was loaded is made durable, and only then its segments are deleted."""

from __future__ import annotations

import logging
import os
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from otel_apinalytics.errors import RetryableError
from otel_apinalytics.receiver.attempts import forget_notes
from otel_apinalytics.receiver.files import sync_directory
from otel_apinalytics.receiver.log import SET_ASIDE, SealedSegment
from otel_apinalytics.receiver.segment import SUFFIX, destroy_segment, segment_path
from otel_apinalytics.store.engine import Engine
from otel_apinalytics.telemetry import Telemetry

_logger = logging.getLogger(__name__)

_INTERVAL_S = 1.0
_POLL_S = 0.05
# A sync failed: the disk has a fault, or is gone.
_PAUSE_S = 10.0


@dataclass(frozen=True, slots=True)
class _Loaded:
    segment: SealedSegment
    keep: bool


class Checkpoints:
    """Makes loads durable, with a thread of its own.

    Args:
        engine: The store.
        directory: Where the log lives.
        telemetry: Where segments that are set aside are counted.
        load_again: Called with segments whose load may be lost.
    """

    def __init__(
        self,
        engine: Engine,
        directory: Path,
        telemetry: Telemetry,
        load_again: Callable[[Sequence[SealedSegment]], None],
    ) -> None:
        self._directory = directory
        self._telemetry = telemetry
        self._load_again = load_again
        # From before the first load on.
        self._file_system = engine.file_system()
        self._loaded: queue.SimpleQueue[_Loaded | None] = queue.SimpleQueue()
        self._stopping = threading.Event()
        self.thread = threading.Thread(target=self._run, name="checkpoints", daemon=True)

    def loaded(self, segment: SealedSegment, *, keep: bool) -> None:
        """Take note that a segment is loaded.

        Args:
            segment: The segment.
            keep: Whether to set it aside instead of deleting it: some of it could not be loaded.
        """
        self._loaded.put(_Loaded(segment, keep))

    def set_aside(self, segment: SealedSegment) -> None:
        """Move a segment to where it is kept, and never loaded.

        Raises:
            OSError: It cannot be moved.
        """
        target = self._directory / SET_ASIDE
        target.mkdir(mode=0o700, exist_ok=True)
        os.replace(segment.path, target / segment.path.name)
        # Where it is, before where it is no more.
        sync_directory(target)
        sync_directory(self._directory)
        forget_notes(segment.path)
        self._telemetry.segments_set_aside.inc()

    def wait_until_gone(self, sequence: int, timeout_s: float) -> None:
        """Wait until no segment is left before a number: none of them is ever loaded again.

        Raises:
            RetryableError: One is, after so many seconds.
        """
        deadline = time.monotonic() + timeout_s
        first = segment_path(self._directory, sequence)
        # Names only: segments are deleted meanwhile.
        while left := [path for path in self._directory.glob(f"*{SUFFIX}") if path < first]:
            if time.monotonic() > deadline or self._stopping.is_set():
                raise RetryableError(f"{min(left).name} of the request log is still there")
            time.sleep(_POLL_S)

    def close(self) -> None:
        """Make durable what was loaded, and stop. Safe before the thread is started."""
        self._stopping.set()
        self._loaded.put(None)
        if self.thread.is_alive():
            self.thread.join()

    def _run(self) -> None:
        ended = False
        while not ended:
            # Blocks while nothing was loaded: an idle service does nothing.
            batch = [self._loaded.get()]
            self._stopping.wait(_INTERVAL_S)
            while not self._loaded.empty():
                batch.append(self._loaded.get())
            ended = None in batch
            loaded = [item for item in batch if item is not None]
            if loaded:
                self._checkpoint(loaded)

    def _checkpoint(self, loaded: Sequence[_Loaded]) -> None:
        """Make loads durable and delete their segments; or have them loaded again."""
        try:
            if self._file_system is not None:
                self._file_system.sync()
        except OSError as error:
            # The kernel reports a write that failed once, and takes what it lost for written.
            _logger.error("what was loaded is not durable, it is loaded again: %s", error)
            self._load_again([item.segment for item in loaded])
            self._stopping.wait(_PAUSE_S)
            return
        for item in loaded:
            try:
                self._let_go(item)
            except OSError as error:
                # It is loaded once more after the next start.
                _logger.error("%s cannot be deleted: %s", item.segment.path, error)

    def _let_go(self, item: _Loaded) -> None:
        if not item.segment.path.exists():
            return
        if item.keep:
            # What could not be loaded is kept as it came.
            self.set_aside(item.segment)
        else:
            destroy_segment(item.segment.path)
            forget_notes(item.segment.path)
