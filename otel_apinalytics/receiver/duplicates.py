# SPDX-License-Identifier: Apache-2.0
"""Duplicates: recognizes a request that this receiver has received before.

A client that loses the connection before the answer sends the same body again. Here
the second one gets the first one's outcome: while the first is in flight, and for some minutes
after it became durable, across a restart and a kill. A miss costs little, so the journal is never
synced: what is loaded twice has equal keys, and is one row after a merge.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import hmac
import logging
import math
import os
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path

from otel_apinalytics.errors import ApinalyticsError, RetryableError

_logger = logging.getLogger(__name__)

_DIGEST_BYTES = 16
_LENGTH_BYTES = 8
# What is known goes in so many steps: few enough to look into each, enough to go in small ones.
_SLICES = 64
# Digest, and when it became durable in µs since 1970. No checksum: a damaged digest is one that
# nothing has, a damaged time is too old or, at most, now.
_ENTRY = struct.Struct("<16sq")
_ENTRIES_A_READ = 8192
_FILE_NAME = "duplicates.{:010d}"
_FILE_PATTERN = "duplicates." + "[0-9]" * 10
_COMPLAINT_INTERVAL_S = 60.0


class Duplicates:
    """The requests in flight and those that became durable of late. Safe to use from many threads.

    Args:
        directory: Where the journal lives; made if it is missing. A journal that is damaged, or
            cannot be read or written, costs what it holds; nothing here raises for it.
        key: Keys the digests. With another one nothing of the journal is recognized.
        max_age_s: How long a durable request is known, in seconds, > 0; up to a 64th longer.
        max_entries: How many requests are known, in flight ones included; beyond it the oldest
            durable ones go first, up to a 64th of all at once.
        clock: Seconds since 1970. Where it is set back, ages go on from where they were last seen.
    """

    def __init__(
        self,
        directory: Path,
        key: bytes,
        *,
        max_age_s: float = 600.0,
        max_entries: int = 2_000_000,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._mac = hmac.new(key, digestmod="sha256")
        self._clock = clock
        self._last_read = -math.inf
        self._set_back_s = 0.0
        self._lock = threading.Lock()
        # Each with those that wait for its outcome.
        self._in_flight: dict[bytes, list[Future[None]]] = {}
        self._durable = _Recent(max_age_s, max_entries)
        self._journal = _Journal(directory, max_age_s, max_entries)
        for digest, at in self._journal.load(self._now()):
            self._durable.add(digest, at)
            self._durable.make_room(0)

    def digest(self, application: str, *parts: bytes) -> bytes:
        """Return what a request is recognized by: 16 bytes, a keyed hash of all arguments.

        Args:
            application: Whose request: equal bodies of two applications are not equal requests.
            parts: Its body, and whatever else tells it from others.
        """
        mac = self._mac.copy()
        for part in (application.encode(), *parts):
            # With its length, so that no two sequences of parts are the same bytes.
            mac.update(len(part).to_bytes(_LENGTH_BYTES, "big"))
            mac.update(part)
        return mac.digest()[:_DIGEST_BYTES]

    def claim(self, digest: bytes) -> Future[None] | None:
        """Claim a request, or say what became of the one received before.

        Returns:
            None if the request is new: it is in flight from now on, and the caller must call
            `settle` or `abandon` once. Otherwise a future, the caller's own, that completes when
            the first one is durable. It fails with an `ApinalyticsError` if that one was not kept.
        """
        # What is forgotten is freed after the lock: thousands of objects at once.
        with self._lock:
            now = self._now()
            forgotten = self._durable.forget(now)
            if digest not in self._durable:
                waiters = self._in_flight.get(digest)
                if waiters is not None:
                    waiter: Future[None] = Future()
                    waiters.append(waiter)
                    return waiter
                self._in_flight[digest] = []
                forgotten += self._durable.make_room(len(self._in_flight))
                return None
        durable: Future[None] = Future()
        durable.set_result(None)
        return durable

    def settle(self, digest: bytes, outcome: Future[None]) -> None:
        """Tie a claim to its outcome.

        Args:
            digest: What was claimed.
            outcome: Succeeds when the request is durable: from then on it is known. If it fails or
                is cancelled the request is forgotten, and whoever waits for it is refused.
        """
        outcome.add_done_callback(functools.partial(self._settled, digest))

    def abandon(self, digest: bytes, error: BaseException) -> None:
        """Forget a claim whose request was not kept.

        Args:
            digest: What was claimed.
            error: What those who wait get; a `RetryableError` in its place if it is not ours.
        """
        with self._lock:
            waiters = self._in_flight.pop(digest, [])
        refusal = _refusal(error)
        for waiter in _not_cancelled(waiters):
            waiter.set_exception(refusal)

    def remember(self, digests: Iterable[bytes]) -> None:
        """Know requests that became durable in an earlier process, as if they did so now.

        Args:
            digests: Of the log that was found: a process may die between a sync and its note of it.
        """
        for digest in digests:
            with self._lock:
                if digest in self._durable:
                    continue
                now = self._now()
                self._durable.add(digest, now)
                self._durable.make_room(0)
            self._journal.append(digest, now)

    def close(self) -> None:
        """Close the journal. Idempotent; what becomes durable later is known in memory only."""
        self._journal.close()

    def _settled(self, digest: bytes, outcome: Future[None]) -> None:
        """Take note of an outcome, mostly in the log writer's thread, where all requests wait."""
        if outcome.cancelled():
            error: BaseException | None = RetryableError("the same request, sent before, timed out")
        else:
            error = outcome.exception()
        if error is not None:
            self.abandon(digest, error)
            return
        with self._lock:
            now = self._now()
            waiters = self._in_flight.pop(digest, [])
            # There is room: it was made for the claim.
            self._durable.add(digest, now)
        for waiter in _not_cancelled(waiters):
            waiter.set_result(None)
        self._journal.append(digest, now)

    def _now(self) -> float:
        """Return the time, which never goes back. To be called under the lock."""
        read = self._clock()
        self._set_back_s += max(0.0, self._last_read - read)
        self._last_read = read
        return read + self._set_back_s


def _not_cancelled(waiters: Sequence[Future[None]]) -> Iterator[Future[None]]:
    """Yield those whose caller still waits; none can be cancelled from then on."""
    return (waiter for waiter in waiters if waiter.set_running_or_notify_cancel())


def _refusal(error: BaseException) -> ApinalyticsError:
    """Return what to tell a client whose request is the same as one that failed with `error`."""
    if isinstance(error, ApinalyticsError):
        return error
    refusal = RetryableError("the same request, sent before, could not be kept")
    refusal.__cause__ = error
    return refusal


@dataclass(slots=True)
class _Slice:
    """What became durable within a stretch of time.

    Args:
        begin: Time of the first, in seconds.
        end: Time of the last.
        digests: All of them; a dictionary, for it takes half of what a set does.
    """

    begin: float
    end: float
    digests: dict[bytes, None] = field(default_factory=dict)


class _Recent:
    """Digests, oldest first, forgotten by age and by count. Not thread safe.

    They are kept in slices and go by the slice: no entry needs a time or a place in an order of its
    own, and no table is so large that to grow it would stop all requests.
    """

    def __init__(self, max_age_s: float, max_entries: int) -> None:
        self._max_age_s = max_age_s
        self._max_entries = max_entries
        self._slice_s = max_age_s / _SLICES
        self._slice_entries = max(1, max_entries // _SLICES)
        self._slices: deque[_Slice] = deque()
        self._count = 0

    def __contains__(self, digest: bytes) -> bool:
        return any(digest in known.digests for known in self._slices)

    def add(self, digest: bytes, at: float) -> None:
        """Add a digest that is no older than the ones before."""
        last = self._slices[-1] if self._slices else None
        if (
            last is None
            or at - last.begin >= self._slice_s
            or len(last.digests) >= self._slice_entries
        ):
            last = _Slice(at, at)
            self._slices.append(last)
        self._count += digest not in last.digests
        last.digests[digest] = None
        last.end = at

    def forget(self, now: float) -> list[_Slice]:
        """Drop, and return, what is too old."""
        dropped = []
        while self._slices and self._slices[0].end <= now - self._max_age_s:
            dropped.append(self._drop())
        return dropped

    def make_room(self, entries: int) -> list[_Slice]:
        """Drop, and return, the oldest that leave no room for so many more."""
        dropped = []
        while self._slices and self._count + entries > self._max_entries:
            dropped.append(self._drop())
        return dropped

    def _drop(self) -> _Slice:
        oldest = self._slices.popleft()
        self._count -= len(oldest.digests)
        return oldest


class _Journal:
    """What is durable, on disk: entries of one size in numbered files, at most two of them needed.

    Once the last file is as long as what may be known, or the ones before it are all too old, they
    are not needed any more: then the next one begins. `append` and `close` may be called from any
    thread.
    """

    def __init__(self, directory: Path, max_age_s: float, max_entries: int) -> None:
        self._directory = directory
        self._max_age_s = max_age_s
        self._max_entries = max_entries
        self._lock = threading.Lock()
        self._closed = False
        self._number = 0
        # No entry of an earlier file is later.
        self._earlier_end = -math.inf
        self._entries = 0
        self._descriptor: int | None = None
        self._offset = 0
        self._complained_at = -math.inf

    def load(self, now: float) -> Iterator[tuple[bytes, float]]:
        """Yield digests and times of what is not too old; times only rise, and end at `now`."""
        oldest = latest = now - self._max_age_s
        for path in self._files():
            # The last one is gone on with.
            self._number = int(path.suffix[1:])
            self._earlier_end, self._entries = latest, 0
            try:
                for digest, written_at in _read(path):
                    if written_at <= oldest:
                        continue
                    # From the future where the clock was set back.
                    latest = max(latest, min(written_at, now))
                    self._entries += 1
                    yield digest, latest
            except OSError as error:
                _logger.warning("the journal of received requests cannot be read: %s", error)

    def append(self, digest: bytes, at: float) -> None:
        """Write an entry; where that fails the log says so, once a minute at most."""
        with self._lock:
            if self._closed:
                return
            try:
                self._append(digest, at)
            except OSError as error:
                self._release()
                if at - self._complained_at >= _COMPLAINT_INTERVAL_S:
                    self._complained_at = at
                    _logger.warning(
                        "the journal of received requests cannot be written; those of now will not "
                        "be recognized after a restart: %s",
                        error,
                    )

    def close(self) -> None:
        """Close the file; later entries are passed over. Idempotent."""
        with self._lock:
            self._closed = True
            self._release()

    def _append(self, digest: bytes, at: float) -> None:
        if at - self._earlier_end >= self._max_age_s or self._entries >= self._max_entries:
            self._begin_next(at)
        descriptor = self._open() if self._descriptor is None else self._descriptor
        entry = _ENTRY.pack(digest, int(at * 1e6))
        # At its place: whatever a torn write left behind there is written over.
        if os.pwrite(descriptor, entry, self._offset) < len(entry):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._offset += len(entry)
        self._entries += 1

    def _begin_next(self, at: float) -> None:
        self._release()
        self._number += 1
        self._earlier_end, self._entries = at, 0
        for path in self._files()[:-1]:
            path.unlink()

    def _open(self) -> int:
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self._directory / _FILE_NAME.format(self._number)
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
        size = os.fstat(self._descriptor).st_size
        self._offset = size - size % _ENTRY.size
        return self._descriptor

    def _release(self) -> None:
        if self._descriptor is not None:
            with contextlib.suppress(OSError):
                os.close(self._descriptor)
            self._descriptor = None

    def _files(self) -> list[Path]:
        return sorted(self._directory.glob(_FILE_PATTERN))


def _read(path: Path) -> Iterator[tuple[bytes, float]]:
    """Yield the whole entries of a file.

    Raises:
        OSError: It cannot be read, or not to its end.
    """
    with path.open("rb") as file:
        while chunk := file.read(_ENTRY.size * _ENTRIES_A_READ):
            whole = memoryview(chunk)[: len(chunk) - len(chunk) % _ENTRY.size]
            for digest, written_at in _ENTRY.iter_unpack(whole):
                yield digest, written_at / 1e6
