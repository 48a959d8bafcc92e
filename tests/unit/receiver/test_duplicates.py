# SPDX-License-Identifier: Apache-2.0
"""Tests of duplicates: what was received before is recognized, and nothing else is."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import logging
import os
import resource
import signal
import stat
import subprocess
import sys
import tempfile
import textwrap
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future
from pathlib import Path
from queue import SimpleQueue

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from otel_apinalytics.errors import InvalidRequestError, RetryableError
from otel_apinalytics.receiver.duplicates import Duplicates

KEY = bytes(range(32))
START = 1_700_000_000.0
MAX_AGE_S = 600.0
# A request is known for at most so much longer than its age allows.
SLICE_S = MAX_AGE_S / 64
ENTRY_BYTES = 24
# So far away that only a defect reaches it.
DEADLINE_S = 60.0


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> float:
        """Return the time in seconds."""
        return self.now


@pytest.fixture
def clock() -> Clock:
    """Stand still."""
    return Clock()


Open = Callable[..., Duplicates]


@pytest.fixture
def open_duplicates(tmp_path: Path, clock: Clock) -> Iterator[Open]:
    """Return a function that opens those in a directory, as a start does; all are closed."""
    opened: list[Duplicates] = []

    def make(directory: Path = tmp_path, *, max_entries: int = 2_000_000) -> Duplicates:
        duplicates = Duplicates(
            directory, KEY, max_age_s=MAX_AGE_S, max_entries=max_entries, clock=clock
        )
        opened.append(duplicates)
        return duplicates

    yield make
    for duplicates in opened:
        duplicates.close()


def digest_of(number: int) -> bytes:
    """Return a digest, the same for the same number."""
    return hashlib.sha256(b"%d" % number).digest()[:16]


def claim_new(duplicates: Duplicates, number: int) -> Future[None]:
    """Claim what must be new; return the future that its outcome is tied to."""
    assert duplicates.claim(digest_of(number)) is None
    outcome: Future[None] = Future()
    duplicates.settle(digest_of(number), outcome)
    return outcome


def keep(duplicates: Duplicates, *numbers: int) -> None:
    """Receive requests that must be new, and make them durable."""
    for number in numbers:
        outcome = claim_new(duplicates, number)
        assert outcome.set_running_or_notify_cancel()
        outcome.set_result(None)


def wait_on(duplicates: Duplicates, number: int) -> Future[None]:
    """Claim what must have been received before."""
    waiter = duplicates.claim(digest_of(number))
    assert waiter is not None
    return waiter


def is_known(duplicates: Duplicates, number: int) -> bool:
    """Whether a request is known to be durable; it is in no other state afterwards."""
    known = duplicates.claim(digest_of(number))
    if known is None:
        duplicates.abandon(digest_of(number), RetryableError("only asked"))
        return False
    assert known.result(0) is None
    return True


def files(directory: Path) -> list[Path]:
    """Return the journal's files, oldest first."""
    return sorted(directory.iterdir())


# ---- digests ----


def test_a_digest_depends_on_all_it_is_made_of(tmp_path: Path, open_duplicates: Open) -> None:
    """Application, body, how parts are cut, and the key: each makes another digest."""
    duplicates = open_duplicates()
    digests = [
        duplicates.digest("app", b"body"),
        duplicates.digest("app", b"bodz"),
        duplicates.digest("ap", b"pbody"),
        duplicates.digest("app2", b"body"),
        duplicates.digest("app", b"bo", b"dy"),
        duplicates.digest("app", b"body", b""),
        duplicates.digest("app", b"", b"body"),
        duplicates.digest("app"),
        duplicates.digest("", b"app", b"body"),
        duplicates.digest("ä", b"body"),
        Duplicates(tmp_path, bytes(32)).digest("app", b"body"),
    ]
    assert len(set(digests)) == len(digests)
    assert {len(digest) for digest in digests} == {16}


def test_a_digest_is_the_same_in_the_next_process(open_duplicates: Open) -> None:
    """Nothing but the arguments and the key goes into it."""
    body = os.urandom(100_000)
    assert open_duplicates().digest("app", body) == open_duplicates().digest("app", body)


@given(
    one=st.lists(st.binary(max_size=12), max_size=4),
    other=st.lists(st.binary(max_size=12), max_size=4),
)
def test_digests_are_equal_exactly_if_the_parts_are(one: list[bytes], other: list[bytes]) -> None:
    """No sequence of parts can be written as another."""
    duplicates = Duplicates(Path("/nonexistent"), KEY)
    assert (duplicates.digest("a", *one) == duplicates.digest("a", *other)) == (one == other)


# ---- states ----


def test_a_second_one_waits_for_the_first(open_duplicates: Open) -> None:
    """It is answered when the first is durable, not before; a third is answered at once."""
    duplicates = open_duplicates()
    outcome = claim_new(duplicates, 1)
    waiters = [wait_on(duplicates, 1) for _ in range(3)]
    assert len({id(waiter) for waiter in waiters}) == 3
    assert not any(waiter.done() for waiter in waiters)
    outcome.set_result(None)
    assert [waiter.result(0) for waiter in waiters] == [None] * 3
    assert wait_on(duplicates, 1).result(0) is None


def test_claims_before_the_append_wait_too(open_duplicates: Open) -> None:
    """Between claim and settle the request is in flight already."""
    duplicates = open_duplicates()
    assert duplicates.claim(digest_of(1)) is None
    waiter = wait_on(duplicates, 1)
    outcome: Future[None] = Future()
    outcome.set_result(None)
    duplicates.settle(digest_of(1), outcome)
    assert waiter.result(0) is None


def test_others_are_not_concerned(open_duplicates: Open) -> None:
    """A request that is not the same is new, whatever else is in flight or durable."""
    duplicates = open_duplicates()
    claim_new(duplicates, 1)
    keep(duplicates, 2)
    assert duplicates.claim(digest_of(3)) is None


def test_a_failed_one_is_forgotten(open_duplicates: Open) -> None:
    """Whoever waits gets the error; the next is new, and may succeed."""
    duplicates = open_duplicates()
    outcome = claim_new(duplicates, 1)
    waiters = [wait_on(duplicates, 1) for _ in range(2)]
    error = RetryableError("the disk is full", retry_after_s=2.0)
    outcome.set_exception(error)
    assert [waiter.exception(0) for waiter in waiters] == [error, error]
    keep(duplicates, 1)
    assert is_known(duplicates, 1)


def test_an_unexpected_failure_can_be_retried(open_duplicates: Open) -> None:
    """What is not our error does not reach a client as it is; its cause is kept."""
    duplicates = open_duplicates()
    outcome = claim_new(duplicates, 1)
    waiter = wait_on(duplicates, 1)
    error = OSError(errno.EIO, "broken")
    outcome.set_exception(error)
    refusal = waiter.exception(0)
    assert isinstance(refusal, RetryableError)
    assert refusal.__cause__ is error
    assert not is_known(duplicates, 1)


def test_a_cancelled_one_is_forgotten(open_duplicates: Open) -> None:
    """The first caller gave up: whoever waits may try again, and is not cancelled."""
    duplicates = open_duplicates()
    outcome = claim_new(duplicates, 1)
    waiter = wait_on(duplicates, 1)
    assert outcome.cancel()
    assert not waiter.cancelled()
    assert isinstance(waiter.exception(0), RetryableError)
    assert not is_known(duplicates, 1)


def test_one_that_is_being_written_stays_in_flight(open_duplicates: Open) -> None:
    """A caller that gives up too late to stop the write forgets nothing."""
    duplicates = open_duplicates()
    outcome = claim_new(duplicates, 1)
    assert outcome.set_running_or_notify_cancel()
    assert not outcome.cancel()
    waiter = wait_on(duplicates, 1)
    outcome.set_result(None)
    assert waiter.result(0) is None


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (RetryableError("too much waits"), RetryableError),
        (InvalidRequestError("no event"), InvalidRequestError),
        (ValueError("a bug"), RetryableError),
        (KeyboardInterrupt(), RetryableError),
        (CancelledError(), RetryableError),
        (asyncio.CancelledError(), RetryableError),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_abandoned_one_is_forgotten(
    open_duplicates: Open, error: BaseException, told: type[Exception]
) -> None:
    """The append was refused: whoever waits is, too, with an error that transports know."""
    duplicates = open_duplicates()
    assert duplicates.claim(digest_of(1)) is None
    waiter = wait_on(duplicates, 1)
    duplicates.abandon(digest_of(1), error)
    assert type(waiter.exception(0)) is told
    assert not is_known(duplicates, 1)


def test_a_waiter_that_gives_up_harms_nobody(open_duplicates: Open) -> None:
    """Neither the first one nor other waiters notice."""
    duplicates = open_duplicates()
    outcome = claim_new(duplicates, 1)
    given_up, waiter = wait_on(duplicates, 1), wait_on(duplicates, 1)
    assert given_up.cancel()
    assert not outcome.done()
    outcome.set_result(None)
    assert given_up.cancelled()
    assert waiter.result(0) is None
    assert is_known(duplicates, 1)


def test_a_waiter_that_gives_up_is_not_in_the_way_of_a_failure(open_duplicates: Open) -> None:
    """The others get the error."""
    duplicates = open_duplicates()
    outcome = claim_new(duplicates, 1)
    given_up, waiter = wait_on(duplicates, 1), wait_on(duplicates, 1)
    assert given_up.cancel()
    outcome.set_exception(RetryableError("full"))
    assert isinstance(waiter.exception(0), RetryableError)


def test_a_future_of_a_known_one_is_the_callers_own(open_duplicates: Open) -> None:
    """Each may be awaited or cancelled without an effect on another."""
    duplicates = open_duplicates()
    keep(duplicates, 1)
    one, other = wait_on(duplicates, 1), wait_on(duplicates, 1)
    assert one is not other
    assert not one.cancel()


@pytest.mark.parametrize("fails", [False, True])
def test_a_waiter_may_claim_at_once(open_duplicates: Open, fails: bool) -> None:
    """Waiters run without the lock: what they call in turn does not block."""
    duplicates = open_duplicates()
    outcome = claim_new(duplicates, 1)
    seen: list[bool] = []
    waiter = wait_on(duplicates, 1)
    waiter.add_done_callback(lambda _: seen.append(duplicates.claim(digest_of(1)) is None))
    if fails:
        outcome.set_exception(RetryableError("full"))
    else:
        outcome.set_result(None)
    assert seen == [fails]


def test_a_waiter_can_be_awaited(open_duplicates: Open) -> None:
    """From an event loop, while the outcome comes from another thread; so can a time-out."""
    duplicates = open_duplicates()
    outcome = claim_new(duplicates, 1)

    async def wait() -> None:
        given_up = asyncio.wrap_future(wait_on(duplicates, 1))
        waiter = asyncio.wrap_future(wait_on(duplicates, 1))
        given_up.cancel()
        await asyncio.sleep(0)
        writer = threading.Thread(target=outcome.set_result, args=(None,))
        writer.start()
        await waiter
        writer.join()

    asyncio.run(wait())
    assert is_known(duplicates, 1)


# ---- threads ----


def test_one_of_many_threads_wins(open_duplicates: Open) -> None:
    """All claim the same at the same time: one is the first, all others get its outcome."""
    duplicates = open_duplicates()
    threads, rounds = 16, 100
    barrier = threading.Barrier(threads)
    waiters: list[list[Future[None]]] = [[] for _ in range(rounds)]
    wins: list[int] = []
    appended: SimpleQueue[Future[None] | None] = SimpleQueue()

    def write() -> None:
        while outcome := appended.get():
            outcome.set_result(None)

    def receive() -> None:
        for number in range(rounds):
            barrier.wait(DEADLINE_S)
            waiter = duplicates.claim(digest_of(number))
            if waiter is not None:
                waiters[number].append(waiter)
                continue
            wins.append(number)
            outcome: Future[None] = Future()
            appended.put(outcome)
            duplicates.settle(digest_of(number), outcome)

    writer = threading.Thread(target=write)
    receivers = [threading.Thread(target=receive) for _ in range(threads)]
    for thread in (writer, *receivers):
        thread.start()
    for thread in receivers:
        thread.join()
    appended.put(None)
    writer.join()
    assert wins == list(range(rounds))
    for others in waiters:
        assert [waiter.result(DEADLINE_S) for waiter in others] == [None] * (threads - 1)
    restarted = open_duplicates()
    assert all(is_known(restarted, number) for number in range(rounds))


def test_threads_that_retry_a_failing_one_end_with_one_durable(open_duplicates: Open) -> None:
    """Whoever is refused tries again, as clients do; in the end it was kept exactly once."""
    duplicates = open_duplicates()
    failures = [RetryableError("full") for _ in range(50)]
    kept: list[int] = []

    def receive(thread: int) -> None:
        while True:
            waiter = duplicates.claim(digest_of(1))
            if waiter is None:
                outcome: Future[None] = Future()
                duplicates.settle(digest_of(1), outcome)
                if failures:
                    outcome.set_exception(failures.pop())
                    continue
                kept.append(thread)
                outcome.set_result(None)
                return
            if waiter.exception(DEADLINE_S) is None:
                return

    threads = [threading.Thread(target=receive, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(kept) == 1


# ---- age and count ----


def test_a_durable_one_is_known_for_a_while(open_duplicates: Open, clock: Clock) -> None:
    """Just before its age it is known, at its age it is new, and then known as long again."""
    duplicates = open_duplicates()
    keep(duplicates, 1)
    clock.now += MAX_AGE_S - 1
    assert is_known(duplicates, 1)
    clock.now += 1
    keep(duplicates, 1)
    clock.now += MAX_AGE_S - 1
    assert is_known(duplicates, 1)
    clock.now += 1
    assert not is_known(duplicates, 1)


def test_age_counts_from_when_it_became_durable(open_duplicates: Open, clock: Clock) -> None:
    """One in flight does not age."""
    duplicates = open_duplicates()
    outcome = claim_new(duplicates, 1)
    clock.now += 10 * MAX_AGE_S
    waiter = wait_on(duplicates, 1)
    outcome.set_result(None)
    assert waiter.result(0) is None
    clock.now += MAX_AGE_S - 1
    assert is_known(duplicates, 1)


@given(gaps=st.lists(st.floats(0, 60), min_size=1, max_size=80))
def test_each_is_forgotten_at_its_own_age(gaps: list[float]) -> None:
    """Whatever the traffic: known before its age, new a 64th of it later."""
    clock = Clock()
    duplicates = Duplicates(Path("/dev/null/none"), KEY, max_age_s=MAX_AGE_S, clock=clock)
    kept_at = []
    for number, gap in enumerate(gaps):
        clock.now += gap
        kept_at.append(clock.now)
        keep(duplicates, number)
    for number, at in enumerate(kept_at):
        clock.now = max(clock.now, at + MAX_AGE_S - 0.001)
        if clock.now < at + MAX_AGE_S:
            assert is_known(duplicates, number)
        clock.now = max(clock.now, at + MAX_AGE_S + SLICE_S)
        assert not is_known(duplicates, number)


def test_a_clock_that_is_set_back_does_not_stop_ageing(open_duplicates: Open, clock: Clock) -> None:
    """What was known has the time left that it had before; so has what comes later."""
    duplicates = open_duplicates()
    keep(duplicates, 1)
    clock.now += 400
    assert is_known(duplicates, 1)
    clock.now -= 3600
    keep(duplicates, 2)
    clock.now += 199
    assert is_known(duplicates, 1)
    clock.now += 1 + SLICE_S
    assert not is_known(duplicates, 1)
    assert is_known(duplicates, 2)
    clock.now += 400
    assert not is_known(duplicates, 2)


def test_the_oldest_go_first(open_duplicates: Open) -> None:
    """With as many as may be known, a new one takes the place of the oldest durable one."""
    duplicates = open_duplicates(max_entries=3)
    keep(duplicates, 1, 2, 3)
    outcome = claim_new(duplicates, 4)
    assert duplicates.claim(digest_of(1)) is None
    outcome.set_result(None)
    assert wait_on(duplicates, 4).result(0) is None
    assert wait_on(duplicates, 3).result(0) is None
    assert duplicates.claim(digest_of(2)) is None


def test_many_are_bounded(open_duplicates: Open) -> None:
    """However many come, the newest are known: as many as may be, less a 64th at most."""
    duplicates = open_duplicates(max_entries=1000)
    keep(duplicates, *range(10_000))
    known = 0
    # The newest first: to ask for one that is new makes room for it.
    while duplicates.claim(digest_of(9_999 - known)) is not None:
        known += 1
    assert 1000 * 63 / 64 <= known <= 1000


def test_those_in_flight_are_never_dropped(open_duplicates: Open) -> None:
    """Even where there are more of them than may be known."""
    duplicates = open_duplicates(max_entries=2)
    keep(duplicates, 0)
    outcomes = [claim_new(duplicates, number) for number in range(1, 6)]
    waiters = [wait_on(duplicates, number) for number in range(1, 6)]
    for outcome in outcomes:
        outcome.set_result(None)
    assert [waiter.result(0) for waiter in waiters] == [None] * 5
    assert not is_known(duplicates, 0)


# ---- restart ----


def test_what_was_durable_is_known_after_a_restart(open_duplicates: Open) -> None:
    """What was in flight or failed is not, whether the end was orderly or not."""
    before = open_duplicates()
    keep(before, 1, 2)
    claim_new(before, 3)
    claim_new(before, 4).set_exception(RetryableError("full"))
    claim_new(before, 5).cancel()
    after = open_duplicates()
    assert [is_known(after, number) for number in range(1, 6)] == [True, True, False, False, False]


def test_another_key_recognizes_nothing(tmp_path: Path, open_duplicates: Open) -> None:
    """A journal that was taken tells nothing without its key."""
    before = open_duplicates()
    keep(before, 1)
    digest = before.digest("app", b"body")
    assert before.claim(digest) is None
    assert Duplicates(tmp_path, bytes(32)).digest("app", b"body") != digest
    assert b"body" not in files(tmp_path)[0].read_bytes()


def test_age_goes_on_across_restarts(open_duplicates: Open, clock: Clock) -> None:
    """A restart makes nothing younger, and what is too old is not loaded."""
    keep(open_duplicates(), 1)
    clock.now += 300
    keep(open_duplicates(), 2)
    clock.now += 299
    assert is_known(open_duplicates(), 1)
    clock.now += 1
    restarted = open_duplicates()
    assert not is_known(restarted, 1)
    assert is_known(restarted, 2)


def test_a_time_from_the_future_is_now(open_duplicates: Open, clock: Clock) -> None:
    """The clock was set back while the service was down: known, for as long as a new one."""
    before = open_duplicates()
    keep(before, 1)
    clock.now += 60
    keep(before, 2)
    clock.now -= 86_400
    after = open_duplicates()
    keep(after, 3)
    clock.now += MAX_AGE_S - 1
    assert [is_known(after, number) for number in (1, 2, 3)] == [True] * 3
    clock.now += 1
    assert [is_known(after, number) for number in (1, 2, 3)] == [False] * 3


def test_times_that_go_back_in_the_journal(open_duplicates: Open, clock: Clock) -> None:
    """What a process with a later clock wrote is known as long as what came after it."""
    keep(open_duplicates(), 1)
    clock.now -= 500
    keep(open_duplicates(), 2)
    clock.now += 300
    after = open_duplicates()
    clock.now += MAX_AGE_S - 1
    assert is_known(after, 1)
    assert is_known(after, 2)
    clock.now += 1
    assert not is_known(after, 1)
    assert not is_known(after, 2)


def test_a_repeated_entry_counts_once(tmp_path: Path, open_duplicates: Open) -> None:
    """What is in the journal more than once takes no room from others."""
    keep(open_duplicates(), 0)
    (path,) = files(tmp_path)
    path.write_bytes(path.read_bytes() * 100)
    duplicates = open_duplicates(max_entries=200)
    keep(duplicates, *range(1, 200))
    assert is_known(duplicates, 0)


def test_the_count_bounds_what_is_loaded(open_duplicates: Open) -> None:
    """The newest are loaded."""
    keep(open_duplicates(), *range(10))
    after = open_duplicates(max_entries=3)
    assert [number for number in reversed(range(10)) if after.claim(digest_of(number))] == [9, 8, 7]


KILLED = """
import os, signal, sys
from concurrent.futures import Future
from pathlib import Path
from otel_apinalytics.receiver.duplicates import Duplicates

duplicates = Duplicates(Path(sys.argv[1]), bytes(range(32)))
for body in (b"one", b"two", b"three"):
    digest = duplicates.digest("app", body)
    assert duplicates.claim(digest) is None
    outcome = Future()
    duplicates.settle(digest, outcome)
    if body != b"three":
        outcome.set_result(None)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_kill_costs_nothing(tmp_path: Path) -> None:
    """What was settled when the process was killed is known to the next one, nothing else is."""
    # A tree without an installation is on this process's path only.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    killed = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(KILLED), str(tmp_path)],
        env=environment,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL
    duplicates = Duplicates(tmp_path, KEY)
    known = [duplicates.claim(duplicates.digest("app", body)) for body in (b"one", b"two")]
    assert [future.result(0) for future in known if future] == [None, None]
    assert duplicates.claim(duplicates.digest("app", b"three")) is None


# ---- the journal's files ----


def test_files_are_their_owners_only(tmp_path: Path, open_duplicates: Open) -> None:
    """Directory and files, and no file before there is something to write."""
    directory = tmp_path / "data" / "duplicates"
    duplicates = open_duplicates(directory)
    assert not directory.exists()
    keep(duplicates, 1)
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert [stat.S_IMODE(path.stat().st_mode) for path in files(directory)] == [0o600]


@pytest.mark.parametrize("restarts", [False, True])
def test_old_files_go(tmp_path: Path, open_duplicates: Open, clock: Clock, restarts: bool) -> None:
    """There are two files at most, with what came within twice the age, however long it runs."""
    duplicates = open_duplicates()
    for number in range(300):
        if restarts:
            duplicates.close()
            duplicates = open_duplicates()
        keep(duplicates, number)
        assert len(files(tmp_path)) <= 2
        entries = sum(path.stat().st_size for path in files(tmp_path)) / ENTRY_BYTES
        assert entries <= 2 * MAX_AGE_S / 50
        clock.now += 50
    clock.now -= 50
    after = open_duplicates()
    assert [number for number in range(300) if is_known(after, number)] == list(range(288, 300))


def test_a_restart_after_long_leaves_nothing_old(
    tmp_path: Path, open_duplicates: Open, clock: Clock
) -> None:
    """What is too old when it is loaded goes with the next two files."""
    keep(open_duplicates(), *range(10))
    clock.now += 10 * MAX_AGE_S
    duplicates = open_duplicates()
    for number in range(10, 14):
        keep(duplicates, number)
        clock.now += MAX_AGE_S
    assert [path.stat().st_size for path in files(tmp_path)] == [ENTRY_BYTES] * 2


def test_the_count_bounds_the_files(tmp_path: Path, open_duplicates: Open) -> None:
    """At any rate of requests; and the newest are known after a restart."""
    duplicates = open_duplicates(max_entries=5)
    for number in range(100):
        keep(duplicates, number)
        assert sum(path.stat().st_size for path in files(tmp_path)) <= 10 * ENTRY_BYTES
        last = range(max(0, number - 4), number + 1)
        restarted = open_duplicates(max_entries=5)
        assert all(restarted.claim(digest_of(each)) for each in last)


def test_other_files_are_left_alone(tmp_path: Path, open_duplicates: Open, clock: Clock) -> None:
    """The journal reads and deletes its own files only."""
    others = ["duplicates.1", "duplicates.txt", "notes", "duplicates.0000000001.bak"]
    for name in others:
        (tmp_path / name).write_bytes(os.urandom(48))
    duplicates = open_duplicates()
    for number in range(5):
        keep(duplicates, number)
        clock.now += MAX_AGE_S
    assert {path.name for path in files(tmp_path)} >= set(others)
    assert len(files(tmp_path)) == len(others) + 2


def test_closing_is_idempotent(tmp_path: Path, open_duplicates: Open) -> None:
    """What becomes durable after it is known in memory; no file is opened again."""
    duplicates = open_duplicates()
    late = claim_new(duplicates, 2)
    keep(duplicates, 1)
    duplicates.close()
    duplicates.close()
    late.set_result(None)
    assert is_known(duplicates, 2)
    assert files(tmp_path)[0].stat().st_size == ENTRY_BYTES
    Duplicates(tmp_path / "unused", KEY).close()


# ---- damage ----


def test_a_torn_tail_costs_one_entry(tmp_path: Path, open_duplicates: Open) -> None:
    """Cut at every byte: whole entries are known, and what comes next is written in its place."""
    keep(open_duplicates(), 0)
    # The second file goes on after a restart, as long as the first is needed.
    keep(open_duplicates(), 1, 2, 3)
    _, path = files(tmp_path)
    content = path.read_bytes()
    assert len(content) == 3 * ENTRY_BYTES
    for length in range(len(content) + 1):
        path.write_bytes(content[:length])
        whole = length // ENTRY_BYTES
        torn = open_duplicates()
        assert [is_known(torn, n) for n in (1, 2, 3)] == [n <= whole for n in (1, 2, 3)]
        keep(torn, 4)
        healed = open_duplicates()
        assert [is_known(healed, n) for n in (1, 2, 3)] == [n <= whole for n in (1, 2, 3)]
        assert is_known(healed, 4)
        assert is_known(healed, 0)
        assert path.stat().st_size == (whole + 1) * ENTRY_BYTES


def test_every_flipped_bit_costs_one_entry_at_most(tmp_path: Path, open_duplicates: Open) -> None:
    """Damage to an entry leaves those before and after it known."""
    keep(open_duplicates(), 1, 2, 3)
    (path,) = files(tmp_path)
    content = path.read_bytes()
    for position in range(ENTRY_BYTES, 2 * ENTRY_BYTES):
        for bit in range(8):
            damaged = bytearray(content)
            damaged[position] ^= 1 << bit
            path.write_bytes(damaged)
            duplicates = open_duplicates()
            assert is_known(duplicates, 1)
            assert is_known(duplicates, 3)


@given(damage=st.binary(max_size=200), is_last=st.booleans())
def test_any_content_costs_its_file_only(damage: bytes, is_last: bool) -> None:
    """Whatever a file holds, the service starts, knows what the other holds, and goes on."""
    with tempfile.TemporaryDirectory() as name:
        directory, clock = Path(name), Clock()
        before = Duplicates(directory, KEY, clock=clock)
        keep(before, 1)
        before.close()
        (path,) = files(directory)
        path.with_suffix(f".{2 if is_last else 0:010d}").write_bytes(damage)
        after = Duplicates(directory, KEY, clock=clock)
        assert is_known(after, 1)
        keep(after, 2)
        after.close()
        restarted = Duplicates(directory, KEY, clock=clock)
        assert is_known(restarted, 1)
        assert is_known(restarted, 2)


# ---- a journal that fails ----


def complaints(caplog: pytest.LogCaptureFixture) -> int:
    """Return how often the log was told of a journal that cannot be written."""
    return sum("cannot be written" in record.getMessage() for record in caplog.records)


def test_without_a_directory_it_works_in_memory(
    tmp_path: Path, open_duplicates: Open, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """No request fails; the log says so once a minute; a directory later is used."""
    (tmp_path / "data").write_bytes(b"a file where the directory should be")
    duplicates = open_duplicates(tmp_path / "data" / "duplicates")
    with caplog.at_level(logging.WARNING):
        for number in range(121):
            keep(duplicates, number)
            assert is_known(duplicates, number)
            clock.now += 1
    assert complaints(caplog) == 3
    (tmp_path / "data").unlink()
    keep(duplicates, 200)
    restarted = open_duplicates(tmp_path / "data" / "duplicates")
    assert is_known(restarted, 200)
    assert not is_known(restarted, 1)


def test_a_file_that_cannot_be_read_is_passed_over(
    tmp_path: Path, open_duplicates: Open, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """The start goes on, with what the other file holds; the next file is in order again."""
    keep(open_duplicates(), 1)
    (tmp_path / "duplicates.0000000002").mkdir()
    with caplog.at_level(logging.WARNING):
        duplicates = open_duplicates()
    assert "cannot be read" in caplog.text
    assert is_known(duplicates, 1)
    keep(duplicates, 2)
    clock.now += MAX_AGE_S
    keep(duplicates, 3)
    assert is_known(open_duplicates(), 3)


def test_a_full_disk_is_no_failure(
    tmp_path: Path, open_duplicates: Open, caplog: pytest.LogCaptureFixture
) -> None:
    """What does not fit is known in memory; once there is space the journal goes on."""
    duplicates = open_duplicates()
    path = tmp_path / "duplicates.0000000001"
    path.symlink_to("/dev/full")
    with caplog.at_level(logging.WARNING):
        keep(duplicates, 1, 2)
    assert complaints(caplog) == 1
    assert "No space left" in caplog.text
    path.unlink()
    keep(duplicates, 3)
    assert [is_known(duplicates, number) for number in (1, 2, 3)] == [True] * 3
    restarted = open_duplicates()
    assert [is_known(restarted, number) for number in (1, 2, 3)] == [False, False, True]


def test_a_short_write_leaves_no_gap(tmp_path: Path, open_duplicates: Open) -> None:
    """Half an entry was written when the space ran out: the next one goes over it."""
    duplicates = open_duplicates()
    keep(duplicates, 1)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (ENTRY_BYTES + 10, hard))
    try:
        keep(duplicates, 2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    (path,) = files(tmp_path)
    assert path.stat().st_size == ENTRY_BYTES + 10
    keep(duplicates, 3)
    assert path.stat().st_size == 2 * ENTRY_BYTES
    restarted = open_duplicates()
    assert [is_known(restarted, number) for number in (1, 2, 3)] == [True, False, True]


def test_a_broken_descriptor_is_replaced(
    tmp_path: Path,
    open_duplicates: Open,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """One entry is lost, no request is, and a waiter is answered all the same."""
    duplicates = open_duplicates()
    keep(duplicates, 1)
    outcome = claim_new(duplicates, 2)
    waiter = wait_on(duplicates, 2)
    opened = [
        int(entry.name)
        for entry in Path("/proc/self/fd").iterdir()
        if entry.exists() and entry.samefile(files(tmp_path)[0])
    ]
    os.close(opened[0])
    with caplog.at_level(logging.WARNING):
        outcome.set_result(None)
    assert waiter.result(0) is None
    assert complaints(caplog) == 1
    keep(duplicates, 3)
    restarted = open_duplicates()
    assert [is_known(restarted, number) for number in (1, 2, 3)] == [True, False, True]


def test_a_callback_never_raises(open_duplicates: Open, caplog: pytest.LogCaptureFixture) -> None:
    """The log writer's thread calls: no outcome makes it stumble."""
    duplicates = open_duplicates()
    with caplog.at_level(logging.DEBUG):
        claim_new(duplicates, 1).set_result(None)
        claim_new(duplicates, 2).set_exception(RetryableError("full"))
        claim_new(duplicates, 3).set_exception(SystemExit())
        claim_new(duplicates, 4).cancel()
    assert caplog.records == []


# ---- all together ----

_NUMBERS = st.integers(0, 7)
_MAX_ENTRIES = 5


class DuplicatesMachine(RuleBasedStateMachine):
    """Any order of calls, time and restarts gives what a plain model gives.

    With so few entries each is a slice of its own, so that age and count are exact.
    """

    def __init__(self) -> None:
        super().__init__()
        self._directory = tempfile.TemporaryDirectory()
        self._clock = Clock()
        self._real = self._open()
        self._durable: dict[int, float] = {}
        self._journal: list[tuple[int, float]] = []
        self._in_flight: dict[int, tuple[Future[None], list[Future[None]]]] = {}

    def teardown(self) -> None:
        """Remove the journal."""
        self._real.close()
        self._directory.cleanup()

    def _open(self) -> Duplicates:
        return Duplicates(
            Path(self._directory.name),
            KEY,
            max_age_s=MAX_AGE_S,
            max_entries=_MAX_ENTRIES,
            clock=self._clock,
        )

    def _is_fresh(self, at: float) -> bool:
        return at > self._clock.now - MAX_AGE_S

    @rule(number=_NUMBERS)
    def claim(self, number: int) -> None:
        """A request comes."""
        self._durable = {n: at for n, at in self._durable.items() if self._is_fresh(at)}
        future = self._real.claim(digest_of(number))
        if number in self._durable:
            assert future is not None
            assert future.result(0) is None
        elif number in self._in_flight:
            assert future is not None
            assert not future.done()
            self._in_flight[number][1].append(future)
        else:
            assert future is None
            outcome: Future[None] = Future()
            self._real.settle(digest_of(number), outcome)
            self._in_flight[number] = outcome, []
            while self._durable and len(self._durable) + len(self._in_flight) > _MAX_ENTRIES:
                del self._durable[next(iter(self._durable))]

    @precondition(lambda self: self._in_flight)
    @rule(data=st.data())
    def succeed(self, data: st.DataObject) -> None:
        """One becomes durable."""
        number, outcome, waiters = self._take(data)
        outcome.set_result(None)
        assert all(waiter.cancelled() or waiter.result(0) is None for waiter in waiters)
        self._durable[number] = self._clock.now
        self._journal.append((number, self._clock.now))

    @precondition(lambda self: self._in_flight)
    @rule(data=st.data(), way=st.sampled_from(["fails", "cancelled", "abandoned"]))
    def fail(self, data: st.DataObject, way: str) -> None:
        """One is not kept."""
        number, outcome, waiters = self._take(data)
        if way == "fails":
            outcome.set_exception(RetryableError("full"))
        elif way == "cancelled":
            outcome.cancel()
        else:
            self._real.abandon(digest_of(number), RetryableError("refused"))
        for waiter in waiters:
            assert waiter.cancelled() or isinstance(waiter.exception(0), RetryableError)

    @precondition(lambda self: any(waiters for _, waiters in self._in_flight.values()))
    @rule(data=st.data())
    def give_up(self, data: st.DataObject) -> None:
        """One that waits is cancelled."""
        waiters = [waiter for _, each in self._in_flight.values() for waiter in each]
        assert data.draw(st.sampled_from(waiters)).cancel()

    @rule(seconds=st.sampled_from([1, 60, 299, 300, 599, 600, 601]))
    def advance(self, seconds: int) -> None:
        """Time passes."""
        self._clock.now += seconds

    @rule(is_orderly=st.booleans())
    def restart(self, is_orderly: bool) -> None:
        """The process ends, one way or the other; what is in flight goes with it."""
        if is_orderly:
            self._real.close()
        self._real, ended = self._open(), self._real
        ended.close()
        self._in_flight = {}
        fresh = [entry for entry in self._journal if self._is_fresh(entry[1])]
        self._durable = dict(fresh[-_MAX_ENTRIES:])

    @invariant()
    def waiters_wait(self) -> None:
        """Whose outcome is not known has no answer."""
        for outcome, waiters in self._in_flight.values():
            assert not outcome.done()
            assert all(waiter.cancelled() or not waiter.done() for waiter in waiters)

    @invariant()
    def files_are_bounded(self) -> None:
        """There is never more on disk than in two files."""
        sizes = [path.stat().st_size for path in files(Path(self._directory.name))]
        assert len(sizes) <= 2
        assert all(size <= _MAX_ENTRIES * ENTRY_BYTES for size in sizes)

    def _take(self, data: st.DataObject) -> tuple[int, Future[None], list[Future[None]]]:
        number = data.draw(st.sampled_from(sorted(self._in_flight)))
        return number, *self._in_flight.pop(number)


TestDuplicatesMachine = DuplicatesMachine.TestCase
