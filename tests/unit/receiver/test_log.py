# SPDX-License-Identifier: Apache-2.0
"""Tests of the request log: an acknowledged record is on disk, and no fault makes that untrue."""

from __future__ import annotations

import errno
import os
import stat
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path

import pytest

from otel_apinalytics.errors import RetryableError
from otel_apinalytics.receiver.log import (
    Limits,
    RequestLog,
    SealedSegment,
    find_segments,
    open_log_directory,
)
from otel_apinalytics.receiver.segment import LogIdentity, segment_path
from tests.opened_segments import open_segment
from tests.support.waiting import wait_for

MASTER_KEY = bytes(range(32))
# So far away that only a defect reaches it.
DEADLINE_S = 60.0


class Sealed:
    """Collects what the log seals, as a loader would."""

    def __init__(self) -> None:
        self.segments: list[SealedSegment] = []
        self._changed = threading.Condition()

    def __call__(self, segment: SealedSegment) -> None:
        """Take a sealed segment."""
        with self._changed:
            self.segments.append(segment)
            self._changed.notify_all()

    def wait_for(self, count: int) -> list[SealedSegment]:
        """Return the segments once there are as many."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.segments) >= count, DEADLINE_S)
            return list(self.segments)


class FaultySync:
    """An `fdatasync` that fails as often as it is told to, and counts its calls."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.failures = 0
        self.calls = 0
        self._real = os.fdatasync
        monkeypatch.setattr(os, "fdatasync", self)

    def __call__(self, descriptor: int) -> None:
        """Fail, or do it."""
        self.calls += 1
        if self.failures > 0:
            self.failures -= 1
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        self._real(descriptor)


@pytest.fixture
def identity(tmp_path: Path) -> LogIdentity:
    """Open the log in `tmp_path`."""
    return open_log_directory(tmp_path, MASTER_KEY)


@pytest.fixture
def sealed() -> Sealed:
    """Collect sealed segments."""
    return Sealed()


OpenLog = Callable[..., RequestLog]


@pytest.fixture
def open_log(tmp_path: Path, identity: LogIdentity, sealed: Sealed) -> Iterator[OpenLog]:
    """Return a function that makes a log; all are closed at the end."""
    logs: list[RequestLog] = []

    def make(*, start: bool = True, **limits: int) -> RequestLog:
        log = RequestLog(tmp_path, identity, sealed, Limits(**limits))
        logs.append(log)
        if start:
            log.start()
        return log

    yield make
    for log in logs:
        log.close()


def done(future: Future[None]) -> None:
    """Wait until a record is acknowledged."""
    future.result(DEADLINE_S)


def a_segment(size: int, opened_at: float = 0.0) -> SealedSegment:
    """Return a segment of which only the size matters."""
    return SealedSegment(1 << 40, Path("none"), size, opened_at)


def on_disk(directory: Path, identity: LogIdentity) -> list[list[bytes]]:
    """Return the records of each segment in the directory."""
    return [
        open_segment(segment.path, segment.sequence, identity)[0]
        for segment in find_segments(directory)
    ]


# ---- writing ----


def test_an_acknowledged_record_is_in_the_file(
    tmp_path: Path, identity: LogIdentity, open_log: OpenLog
) -> None:
    """When the future completes, a reader finds the record."""
    log = open_log()
    done(log.append(b"one"))
    assert on_disk(tmp_path, identity) == [[b"one"]]


def test_concurrent_appends_are_all_written_once(
    tmp_path: Path, identity: LogIdentity, open_log: OpenLog
) -> None:
    """Many threads append; each record is there once, in the order of its thread."""
    log = open_log()

    def append(thread: int) -> None:
        for number in range(25):
            done(log.append(b"%d/%d" % (thread, number)))

    threads = [threading.Thread(target=append, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    written = [record for records in on_disk(tmp_path, identity) for record in records]
    assert len(written) == 200
    for thread_number in range(8):
        prefix = b"%d/" % thread_number
        mine = [record for record in written if record.startswith(prefix)]
        assert mine == [b"%d/%d" % (thread_number, number) for number in range(25)]


def test_what_waits_together_shares_one_sync(
    tmp_path: Path,
    identity: LogIdentity,
    open_log: OpenLog,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Requests that wait are one group: one sync acknowledges all."""
    sync = FaultySync(monkeypatch)
    log = open_log(start=False)
    futures = [log.append(b"%d" % number) for number in range(50)]
    log.start()
    for future in futures:
        done(future)
    assert sync.calls == 1
    assert on_disk(tmp_path, identity) == [[b"%d" % number for number in range(50)]]


# ---- sealing ----


def test_a_large_segment_is_sealed(
    tmp_path: Path, identity: LogIdentity, open_log: OpenLog, sealed: Sealed
) -> None:
    """A segment that reached its size is handed on, in order, and nothing is added to it."""
    log = open_log(segment_bytes=1)
    for number in range(3):
        done(log.append(b"%d" % number))
    segments = sealed.wait_for(3)
    assert [segment.sequence for segment in segments] == [1, 2, 3]
    assert [segment.size for segment in segments] == [s.path.stat().st_size for s in segments]
    assert on_disk(tmp_path, identity) == [[b"0"], [b"1"], [b"2"]]


def test_an_old_segment_is_sealed(open_log: OpenLog, sealed: Sealed) -> None:
    """A record does not wait for others to fill its segment."""
    log = open_log()
    done(log.append(b"alone"))
    (segment,) = sealed.wait_for(1)
    assert segment.size == segment.path.stat().st_size


def test_a_loader_that_is_behind_gets_larger_segments(open_log: OpenLog, sealed: Sealed) -> None:
    """While enough waits, a segment grows until it is full, or the loader has caught up."""
    log = open_log()
    for count in (1, 2, 3):
        done(log.append(b"one"))
        segments = sealed.wait_for(count)
    done(log.append(b"two"))
    first = log.settled_until()
    # Longer than a segment may be open otherwise.
    time.sleep(1.0)
    done(log.append(b"three"))
    assert len(sealed.segments) == 3
    assert log.settled_until() == first
    log.released(segments[0], 0.0)
    (*_, last) = sealed.wait_for(4)
    assert last.size > segments[0].size


def test_closing_seals(
    tmp_path: Path, identity: LogIdentity, open_log: OpenLog, sealed: Sealed
) -> None:
    """What waits at the end is written, acknowledged and handed on."""
    log = open_log(start=False)
    futures = [log.append(b"one"), log.append(b"two")]
    log.start()
    log.close()
    assert all(future.done() and future.exception() is None for future in futures)
    assert [segment.sequence for segment in sealed.segments] == [1]
    assert on_disk(tmp_path, identity) == [[b"one", b"two"]]


# ---- limits ----


def test_too_much_pending_is_refused_until_it_is_released(
    open_log: OpenLog, sealed: Sealed
) -> None:
    """Beyond the limit a request is refused, nothing of it is kept; a load makes room again."""
    log = open_log(segment_bytes=1, pending_bytes=1000)
    done(log.append(bytes(800)))
    (segment,) = sealed.wait_for(1)
    with pytest.raises(RetryableError, match="behind"):
        log.append(bytes(300))
    log.released(segment, 0.0)
    done(log.append(bytes(300)))
    assert len(sealed.wait_for(2)) == 2


def test_pending_bytes_are_what_the_files_hold(open_log: OpenLog, sealed: Sealed) -> None:
    """After everything is released there is exactly as much room as in the beginning."""
    log = open_log(segment_bytes=1, pending_bytes=1000)
    for number in range(1, 6):
        done(log.append(bytes(300)))
        log.released(sealed.wait_for(number)[-1], 0.0)
    with pytest.raises(RetryableError):
        log.append(bytes(1001))
    done(log.append(bytes(1000)))


def test_earlier_segments_count(open_log: OpenLog) -> None:
    """What an earlier process left to load takes its part of the limit."""
    log = open_log(start=False, pending_bytes=1000)
    earlier = a_segment(900)
    log.start([earlier])
    with pytest.raises(RetryableError, match="behind"):
        log.append(bytes(101))
    log.released(earlier, 0.0)
    done(log.append(bytes(101)))


@pytest.mark.parametrize("load_s", [0.0, 1e6])
def test_a_released_segment_larger_than_known_is_harmless(open_log: OpenLog, load_s: float) -> None:
    """The count of pending bytes does not fall below zero."""
    log = open_log(pending_bytes=1000)
    log.released(a_segment(10**9), load_s)
    with pytest.raises(RetryableError):
        log.append(bytes(1001))


def test_a_group_fills_a_segment_and_goes_on_in_the_next(
    tmp_path: Path, identity: LogIdentity, open_log: OpenLog
) -> None:
    """However much waits together, a segment is larger than its limit by one record at most."""
    log = open_log(start=False, segment_bytes=1000)
    futures = [log.append(bytes(400)) for _ in range(10)]
    log.start()
    log.close()
    assert all(future.done() and future.exception() is None for future in futures)
    assert [len(records) for records in on_disk(tmp_path, identity)] == [3, 3, 3, 1]


# ---- what is settled ----


def test_what_was_acknowledged_is_flushed(open_log: OpenLog, sealed: Sealed) -> None:
    """A flush seals at once, and waits for the load; what comes later does not hold it up."""
    log = open_log()
    log.released(a_segment(0), 1e6)  # No segment is sealed for its age.
    done(log.append(b"before"))
    flushed: Future[None] = Future()

    def flush() -> None:
        log.flush(DEADLINE_S)
        flushed.set_result(None)

    thread = threading.Thread(target=flush)
    thread.start()
    (segment,) = sealed.wait_for(1)
    done(log.append(b"after"))
    assert not flushed.done()
    log.released(segment, 1e6)
    done(flushed)
    thread.join()


def test_a_flush_ends(open_log: OpenLog) -> None:
    """A store that does not load is told of, and not waited for for ever."""
    log = open_log()
    log.flush(0.0)
    done(log.append(b"one"))
    with pytest.raises(RetryableError, match="behind"):
        log.flush(0.01)


def test_settled_is_what_is_loaded(open_log: OpenLog, sealed: Sealed) -> None:
    """It stands still while something waits to be loaded, an earlier process's segments too."""
    log = open_log(start=False)
    earlier = a_segment(10, opened_at=1_000_000.0)
    log.start([earlier])
    assert 999_900 < log.settled_until() < 1_000_000
    before = time.time()
    done(log.append(b"one"))
    log.released(earlier, 0.0)
    (segment,) = sealed.wait_for(1)
    assert before - 20 < log.settled_until() < before
    assert log.settled_until() == log.settled_until()
    log.released(segment, 0.0)
    first = log.settled_until()
    assert first < time.time()
    wait_for(lambda: log.settled_until() > first)


def test_a_clock_that_was_set_back_settles_nothing_early(
    open_log: OpenLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was begun at a later time than now is still not loaded."""
    log = open_log()
    done(log.append(b"one"))
    monkeypatch.setattr(time, "time", lambda: 5000.0)
    assert log.settled_until() < 5000.0


# ---- faults ----


def test_a_disk_that_is_nearly_full_refuses_and_recovers(
    tmp_path: Path, identity: LogIdentity, open_log: OpenLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What room there is belongs to the engine; when there is more, requests are taken again."""
    free = os.statvfs(tmp_path).f_bavail * os.statvfs(tmp_path).f_frsize
    log = open_log(min_free_bytes=free // 2)
    assert log.faults() == []
    real = os.statvfs
    monkeypatch.setattr(os, "statvfs", lambda _: _Full)
    with pytest.raises(RetryableError, match="nearly full") as refused:
        done(log.append(b"refused"))
    assert refused.value.retry_after_s >= 1
    assert log.faults() == ["the disk is nearly full"]
    monkeypatch.setattr(os, "statvfs", real)
    assert log.faults() == []
    done(log.append(b"taken"))
    assert on_disk(tmp_path, identity) == [[b"taken"]]
    assert log.pending_bytes == find_segments(tmp_path)[0].size


class _Full:
    """A file system with one free block."""

    f_bavail, f_frsize = 1, 4096


def test_after_a_failed_sync_the_record_is_written_again(
    tmp_path: Path,
    identity: LogIdentity,
    open_log: OpenLog,
    sealed: Sealed,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The record goes to a new segment and is acknowledged; the old one keeps what it had."""
    sync = FaultySync(monkeypatch)
    log = open_log()
    log.released(a_segment(0), 1e6)  # No segment is sealed for its age.
    done(log.append(b"before"))
    sync.failures = 1
    done(log.append(b"again"))
    assert sync.failures == 0
    assert on_disk(tmp_path, identity) == [[b"before"], [b"again"]]
    assert [segment.sequence for segment in sealed.wait_for(1)] == [1]
    log.close()
    assert [segment.sequence for segment in sealed.wait_for(2)] == [1, 2]


def test_a_log_that_cannot_be_written_refuses_and_recovers(
    tmp_path: Path,
    identity: LogIdentity,
    open_log: OpenLog,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Both attempts fail: all that waited is refused, none of it is kept, the next one works."""
    sync = FaultySync(monkeypatch)
    log = open_log(start=False, pending_bytes=1000)
    sync.failures = 2
    futures = [log.append(bytes(400)), log.append(bytes(400))]
    log.start()
    for future in futures:
        with pytest.raises(RetryableError, match="cannot be written"):
            done(future)
    done(log.append(b"later"))
    records = [record for segment in on_disk(tmp_path, identity) for record in segment]
    assert records == [b"later"]


def test_refused_records_do_not_stay_pending(
    open_log: OpenLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that fails for long does not fill the limit."""
    sync = FaultySync(monkeypatch)
    log = open_log(pending_bytes=1000)
    sync.failures = 10
    for _ in range(5):
        with pytest.raises(RetryableError, match="cannot be written"):
            done(log.append(bytes(900)))
    done(log.append(bytes(900)))


def test_a_segment_that_cannot_be_created_is_no_end(
    tmp_path: Path,
    identity: LogIdentity,
    open_log: OpenLog,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No space for a new file: refused; with space, accepted again."""
    real_open = os.open
    full = True

    def open_unless_full(path: str, flags: int, mode: int = 0o777) -> int:
        if full and flags & os.O_CREAT:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real_open(path, flags, mode)

    monkeypatch.setattr(os, "open", open_unless_full)
    log = open_log()
    with pytest.raises(RetryableError):
        done(log.append(b"refused"))
    full = False
    done(log.append(b"taken"))
    assert on_disk(tmp_path, identity) == [[b"taken"]]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_caller_that_gave_up_does_not_stop_the_log(
    tmp_path: Path, identity: LogIdentity, open_log: OpenLog
) -> None:
    """A time-out cancels its future; the records of others are still acknowledged."""
    log = open_log(start=False)
    assert log.append(b"given up").cancel()
    waiting = log.append(b"waits")
    log.start()
    log.close()
    assert waiting.done()
    assert on_disk(tmp_path, identity)[0][-1] == b"waits"


# ---- life ----


def test_closing_is_idempotent(open_log: OpenLog, sealed: Sealed) -> None:
    """A second close does nothing."""
    log = open_log()
    done(log.append(b"one"))
    log.close()
    log.close()
    assert len(sealed.segments) == 1


def test_closing_before_the_start_is_safe(tmp_path: Path, open_log: OpenLog) -> None:
    """A service whose start failed half way can stop."""
    open_log(start=False).close()
    assert find_segments(tmp_path) == []


def test_a_closed_log_refuses(open_log: OpenLog) -> None:
    """The client is told to try again, and finds the next process."""
    log = open_log()
    log.close()
    with pytest.raises(RetryableError, match="stopping"):
        log.append(b"late")


def test_an_unused_log_makes_no_file(tmp_path: Path, open_log: OpenLog, sealed: Sealed) -> None:
    """A start without requests leaves nothing to load."""
    open_log().close()
    assert find_segments(tmp_path) == []
    assert sealed.segments == []


def test_numbers_continue_after_existing_segments(
    tmp_path: Path, identity: LogIdentity, open_log: OpenLog
) -> None:
    """A new process does not write into what an earlier one left."""
    for text in (b"one", b"two", b"three"):
        log = open_log()
        done(log.append(text))
        log.close()
    segment_path(tmp_path, 1).unlink()
    log = open_log()
    done(log.append(b"four"))
    assert [segment.sequence for segment in find_segments(tmp_path)] == [2, 3, 4]
    assert on_disk(tmp_path, identity) == [[b"two"], [b"three"], [b"four"]]


# ---- the directory ----


def test_a_log_keeps_its_identity(tmp_path: Path) -> None:
    """The log's id is made once, at random, in a directory for its owner only."""
    directory = tmp_path / "data" / "log"
    first = open_log_directory(directory, MASTER_KEY)
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert open_log_directory(directory, MASTER_KEY) == first
    assert open_log_directory(tmp_path / "other", MASTER_KEY).log_id != first.log_id
    assert len(first.log_id) == 32


def test_only_segments_are_found(tmp_path: Path) -> None:
    """Other files of the directory are left alone; what is missing is empty."""
    for name in ("id", "0000000000000002.attempts", "notes.log", "x.txt"):
        (tmp_path / name).write_bytes(b"x")
    for number in (10, 9, 100):
        segment_path(tmp_path, number).write_bytes(bytes(number))
    found = find_segments(tmp_path)
    assert [(segment.sequence, segment.size) for segment in found] == [
        (9, 9),
        (10, 10),
        (100, 100),
    ]
    assert find_segments(tmp_path / "missing") == []
