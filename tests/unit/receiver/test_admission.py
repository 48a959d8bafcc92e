# SPDX-License-Identifier: Apache-2.0
"""Tests of admission, with a real log: what is let in is kept once, and counted each time."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from pathlib import Path
from typing import Any

import pytest

from otel_apinalytics.errors import (
    AuthenticationError,
    InvalidRequestError,
    PermissionDeniedError,
    RequestTooLargeError,
    RetryableError,
)
from otel_apinalytics.normalize import outcomes
from otel_apinalytics.receiver import waiting
from otel_apinalytics.receiver.admission import Admission, Admitted
from otel_apinalytics.receiver.duplicates import Duplicates
from otel_apinalytics.receiver.gate import Counts
from otel_apinalytics.receiver.log import (
    Limits,
    RequestLog,
    SealedSegment,
    find_segments,
    open_log_directory,
)
from otel_apinalytics.receiver.recovery import digests_of
from otel_apinalytics.receiver.refusals import Refusals
from otel_apinalytics.receiver.segment import LogIdentity
from otel_apinalytics.receiver.waiting import room, wait_for_room
from otel_apinalytics.service import Service
from otel_apinalytics.store.key_ring import KeyRing
from otel_apinalytics.store.keys import Key, Scope
from otel_apinalytics.telemetry import Telemetry
from otel_apinalytics.wire import log_pb2
from otel_apinalytics.wire.log_pb2 import LogHeader, LogRecord
from tests.opened_segments import open_segment
from tests.support.clients import APPLICATION, READ_KEY, WRITE_KEY
from tests.support.otlp import make_request, make_span
from tests.support.waiting import wait_for

MASTER_KEY, DUPLICATES_KEY = bytes(32), bytes(range(32))
KEY, OTHER = Key("shop", "key-1", Scope.WRITE), Key("bank", "key-2", Scope.WRITE)
# So far away that only a defect reaches it.
DEADLINE_S = 60.0
TRACES, EVENTS = log_pb2.PAYLOAD_TRACES, log_pb2.PAYLOAD_EVENTS
REJECTED, DUPLICATE = log_pb2.PAYLOAD_REJECTED, log_pb2.PAYLOAD_DUPLICATE

EVENT = {"timestamp": 1_400_000_000, "method": "GET"}
WITH_IDS = EVENT | {"trace_id": "0123456789abcdef" * 2, "span_id": "0123456789abcdef"}
BAD = {"timestamp": -1}
_LAST = LogHeader(application="last").SerializeToString()


class Door:
    """An admission, and what it writes.

    Args:
        directory: Of the log; kept, so that a second door is a restart.
        keys: The known keys.
    """

    def __init__(self, directory: Path, keys: KeyRing, **limits: int) -> None:
        self.directory = directory
        self.sealed: list[SealedSegment] = []
        self._identity: LogIdentity = open_log_directory(directory, MASTER_KEY)
        self.log = RequestLog(directory, self._identity, self._sealed, Limits(**limits))
        self._duplicates = Duplicates(directory, DUPLICATES_KEY)
        telemetry = Telemetry()
        self.refusals = Refusals(self.log, telemetry)
        self.admission = Admission(keys, self.log, self._duplicates, self.refusals, telemetry)

    def _sealed(self, segment: SealedSegment) -> None:
        """Leave a segment where it is."""
        self.sealed.append(segment)

    def spans(self, body: bytes, key: Key = KEY) -> Admitted:
        """Let a request of spans in."""
        return self.admission.admit_spans(key, body, "grpc")

    def events(self, *events: Any, key: Key = KEY, **options: Any) -> Admitted:
        """Let a request of events in."""
        return self.admission.admit_events(key, json.dumps(events).encode(), "http", **options)

    def recover(self) -> None:
        """Know what an earlier door wrote, as a start does."""
        earlier = [s for s in find_segments(self.directory) if s.size]
        self._duplicates.remember(digests_of(earlier, self._identity))

    def close(self) -> None:
        """Write what waits; afterwards the records are all there."""
        self.log.close()
        self._duplicates.close()

    def records(self) -> list[LogRecord]:
        """Return what the log has, once it is closed."""
        # The writer's thread takes note of what is durable, and then writes on: behind this record
        # is all that it wrote for that reason.
        with contextlib.suppress(RetryableError):
            self.log.append(_LAST).result(DEADLINE_S)
        self.close()
        return [
            LogRecord.FromString(record)
            for segment in find_segments(self.directory)
            for record in open_segment(segment.path, segment.sequence, self._identity)[0]
            if record != _LAST
        ]

    def ledger(self) -> list[tuple[int, int]]:
        """Return of each record in order what it is, and how many it counts."""
        return [(record.payload, record.received_count) for record in self.records()]


OpenDoor = Callable[..., Door]


@pytest.fixture
def keys(service: Service) -> KeyRing:
    """Read the keys that a real store has."""
    return KeyRing(service.engine, Telemetry())


@pytest.fixture
def open_door(tmp_path: Path, keys: KeyRing) -> Iterator[OpenDoor]:
    """Return a function that opens a door, as a start does; all are closed."""
    doors: list[Door] = []

    def make(*, start: bool = True, **limits: int) -> Door:
        door = Door(tmp_path, keys, **limits)
        doors.append(door)
        if start:
            door.log.start()
        return door

    yield make
    for door in doors:
        door.close()


@pytest.fixture
def door(open_door: OpenDoor) -> Door:
    """Open one."""
    return open_door()


def done(admitted: Admitted) -> None:
    """Wait until a request is durable."""
    assert admitted.durable is not None
    admitted.durable.result(DEADLINE_S)


# ---- room ----


@pytest.fixture
def full_door(open_door: OpenDoor) -> Door:
    """Open one whose log takes one segment, and fill it."""
    door: Door = open_door(segment_bytes=1000, pending_bytes=4200)
    door.log.append(bytes(4000)).result(DEADLINE_S)
    wait_for(lambda: len(door.sealed) == 1)
    assert not door.admission.has_room
    return door


def come_in(door: Door, *, is_http: bool, permits: int = 1) -> None:
    """Wait for room, as one of the transports does."""
    if is_http:
        asyncio.run(room(door.admission))
    else:
        wait_for_room(door.admission, threading.Semaphore(permits))


@pytest.mark.parametrize("is_http", [False, True])
def test_a_request_waits_for_room(full_door: Door, is_http: bool) -> None:
    """It is let in as soon as a segment was loaded."""
    with ThreadPoolExecutor(1) as threads:
        coming = threads.submit(come_in, full_door, is_http=is_http)
        with pytest.raises(FutureTimeoutError):
            coming.result(0.1)
        full_door.log.released(full_door.sealed[0], 0.1)
        coming.result(DEADLINE_S)


@pytest.mark.parametrize("is_http", [False, True])
def test_a_request_does_not_wait_for_ever(full_door: Door, is_http: bool) -> None:
    """After a second it is told to come again."""
    with pytest.raises(RetryableError, match="the store is behind"):
        come_in(full_door, is_http=is_http)


def test_only_so_many_threads_wait(full_door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    """Others are refused at once, so that some are left to answer."""
    monkeypatch.setattr(waiting, "_ROOM_S", math.inf)
    with pytest.raises(RetryableError, match="the store is behind"):
        come_in(full_door, is_http=False, permits=0)


# ---- keys ----


def test_a_write_key_gets_in(door: Door) -> None:
    """With the application or without."""
    for application in (APPLICATION, None):
        assert door.admission.authenticate(application, WRITE_KEY, "grpc", "").scope is Scope.WRITE
    assert door.refusals.last(APPLICATION) is None


def test_refusals_are_remembered_for_whom_they_concern(door: Door) -> None:
    """Of an unknown key, whom it names; a known one is its application's."""
    with pytest.raises(AuthenticationError):
        door.admission.authenticate(None, "wrong", "grpc", "")
    for application in (APPLICATION, "bank"):
        refusal = door.refusals.last(application)
        assert refusal is not None
        assert (refusal.transport, refusal.application) == ("grpc", None)
        assert "wrong" not in refusal.reason
    with pytest.raises(PermissionDeniedError):
        door.admission.authenticate(None, READ_KEY, "http", "")
    mine, other = door.refusals.last(APPLICATION), door.refusals.last("bank")
    assert mine is not None
    assert other is not None
    assert (mine.application, other.application) == (APPLICATION, None)
    # What a stranger does afterwards is not taken for it.
    with pytest.raises(AuthenticationError):
        door.admission.authenticate(None, "wrong", "grpc", "")
    assert door.refusals.last(APPLICATION) == mine


def test_refusals_are_in_the_ledger(door: Door) -> None:
    """Counted together by whose they are, as far as that is known, and why."""
    for application in (APPLICATION, APPLICATION, "unheard-of", None):
        with pytest.raises(AuthenticationError):
            door.admission.authenticate(application, "wrong", "grpc", "")
    with pytest.raises(PermissionDeniedError) as denied:
        door.admission.authenticate(None, READ_KEY, "http", "")
    door.admission.refused("http", RequestTooLargeError("large"), KEY)
    door.refusals.start()
    door.refusals.close()
    assert {
        (r.application, r.key_id, r.transport, r.reject_reason): r.received_count
        for r in door.records()
        if r.payload == log_pb2.PAYLOAD_REFUSED
    } == {
        (APPLICATION, "", "grpc", "unauthenticated"): 2,
        ("", "", "grpc", "unauthenticated"): 2,
        (APPLICATION, denied.value.key_id, "http", "forbidden"): 1,
        (KEY.application, KEY.key_id, "http", "too_large"): 1,
    }


def test_refusals_wait_for_a_log_that_can_be_written(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What cannot be counted in the ledger now is counted later."""
    real, failures = os.fdatasync, iter(range(2))

    def fail(descriptor: int) -> None:
        if next(failures, None) is None:
            real(descriptor)
        else:
            raise OSError("disk")

    monkeypatch.setattr(os, "fdatasync", fail)
    door.admission.refused("http", RequestTooLargeError("large"), KEY)
    door.refusals.start()
    wait_for(lambda: [s for s in find_segments(door.directory) if s.size > 100])
    door.refusals.close()
    assert door.ledger() == [(log_pb2.PAYLOAD_REFUSED, 1)]


# ---- spans ----


def test_spans_are_kept_as_they_came(door: Door) -> None:
    """Byte for byte, with whose they are and how they came."""
    body = make_request(make_span(), make_span())
    admitted = door.spans(body)
    assert admitted.counts == Counts(2)
    done(admitted)
    (record,) = door.records()
    assert (record.application, record.key_id, record.transport) == ("shop", "key-1", "grpc")
    assert (record.payload, record.received_count) == (TRACES, 2)
    assert body in record.SerializeToString()


def test_nothing_is_not_kept(door: Door) -> None:
    """And a success at once."""
    for body in (b"", make_request()):
        assert door.spans(body).durable is None
    assert door.events().durable is None
    assert door.events(partial=True).durable is None
    assert door.records() == []


def test_spans_with_bad_ids_are_kept_with_the_others(door: Door) -> None:
    """The engine counts them, as the door does."""
    admitted = door.spans(make_request(make_span(), make_span(trace_id=b"")))
    assert (admitted.counts.spans, admitted.counts.invalid) == (2, 1)
    done(admitted)
    assert door.ledger() == [(TRACES, 2)]


def test_the_same_body_is_kept_once_and_counted_twice(door: Door) -> None:
    """One after the other."""
    body = make_request(make_span(), make_span())
    for _ in range(3):
        done(door.spans(body))
    assert door.ledger() == [(TRACES, 2), (DUPLICATE, 2), (DUPLICATE, 2)]


def test_each_record_counts_for_itself(door: Door) -> None:
    """A duplicate has an id of its own: the ledger is keyed by it."""
    body = make_request(make_span())
    for _ in range(2):
        done(door.spans(body))
    first, second = door.records()
    assert len(first.record_id) == len(second.record_id) == 16
    assert first.record_id != second.record_id
    assert (second.application, second.key_id, second.transport) == ("shop", "key-1", "grpc")


def test_the_same_body_at_once_is_kept_once(open_door: OpenDoor) -> None:
    """The second waits for the first, which waits for the disk."""
    door = open_door(start=False)
    body = make_request(make_span())
    first, second = door.spans(body), door.spans(body)
    for admitted in (first, second):
        assert admitted.durable is not None
        assert not admitted.durable.done()
    door.log.start()
    for admitted in (first, second):
        done(admitted)
    assert door.ledger() == [(TRACES, 1), (DUPLICATE, 1)]


def test_the_same_body_from_many_threads_is_kept_once(door: Door) -> None:
    """Whoever is first."""
    body, threads = make_request(make_span()), 8
    together = threading.Barrier(threads)

    def send() -> None:
        together.wait(DEADLINE_S)
        done(door.spans(body))

    with ThreadPoolExecutor(threads) as pool:
        for sent in [pool.submit(send) for _ in range(threads)]:
            sent.result(DEADLINE_S)
    assert sorted(door.ledger()) == [(TRACES, 1)] + [(DUPLICATE, 1)] * (threads - 1)


@pytest.mark.parametrize("torn", [False, True])
def test_what_was_written_and_not_answered_is_known_after_a_kill(
    open_door: OpenDoor, tmp_path: Path, torn: bool
) -> None:
    """The process died between the sync and its note: the log itself says what it has."""
    first = open_door()
    body = make_request(make_span())
    done(first.spans(body))
    done(first.events(WITH_IDS))
    first.close()
    for journal in tmp_path.glob("duplicates.*"):
        journal.unlink()
    if torn:
        (segment,) = find_segments(tmp_path)
        with segment.path.open("ab") as stream:
            stream.write(b"cut off")
    again = open_door()
    again.recover()
    done(again.spans(body))
    done(again.events(WITH_IDS))
    assert again.ledger() == [(TRACES, 1), (EVENTS, 1), (DUPLICATE, 1), (DUPLICATE, 1)]


def test_a_part_that_was_given_up_is_new_after_a_restart(open_door: OpenDoor) -> None:
    """What was wrong with some events says nothing of whether the others are kept."""
    first = open_door(start=False)
    given_up = first.events(WITH_IDS, BAD, partial=True, idempotency_key="k")
    assert given_up.durable is not None
    assert given_up.durable.cancel()
    first.log.start()
    assert first.records() == []
    again = open_door()
    again.recover()
    done(again.events(WITH_IDS, BAD, partial=True, idempotency_key="k"))
    assert again.ledger() == [(EVENTS, 1), (REJECTED, 1)]


@pytest.mark.parametrize(("key", "same"), [("k", True), (None, False)])
def test_events_of_a_named_request_have_one_identity(
    open_door: OpenDoor, tmp_path: Path, key: str | None, same: bool
) -> None:
    """Should it not be recognized, it still is the same rows; without a name it may be another."""
    door = open_door()
    done(door.events(EVENT, EVENT, idempotency_key=key))
    door.close()
    for journal in tmp_path.glob("duplicates.*"):
        journal.unlink()
    again = open_door()
    done(again.events(EVENT, EVENT, idempotency_key=key))
    ids = [[e.event_id for e in record.events.events] for record in again.records()]
    assert (ids[0] == ids[1]) is same
    assert len(set(ids[0])) == 2


def test_a_log_that_cannot_be_read_is_recovered_as_far_as_it_can(
    open_door: OpenDoor, tmp_path: Path
) -> None:
    """The loader says what is wrong with it; the start goes on."""
    first = open_door()
    done(first.spans(make_request(make_span())))
    first.close()
    (segment,) = find_segments(tmp_path)
    segment.path.write_bytes(b"no segment" * 100)
    open_door(start=False).recover()


def test_the_same_body_of_another_application_is_another(door: Door) -> None:
    """Even if it is the same bytes."""
    body = make_request(make_span())
    for key in (KEY, OTHER):
        done(door.spans(body, key))
    assert door.ledger() == [(TRACES, 1)] * 2


def test_a_duplicate_is_known_after_a_restart(open_door: OpenDoor) -> None:
    """A client that tries again may find another process."""
    body = make_request(make_span())
    before = open_door()
    done(before.spans(body))
    before.close()
    after = open_door()
    done(after.spans(body))
    assert after.ledger() == [(TRACES, 1), (DUPLICATE, 1)]


# ---- what is not kept ----


@pytest.mark.parametrize("body", [b"\xff", b"{}", make_request(make_span())[:-1]])
def test_what_does_not_parse_is_not_kept(door: Door, body: bytes) -> None:
    """It can never be."""
    with pytest.raises(InvalidRequestError):
        door.spans(body)
    assert door.records() == []


def test_what_finds_no_room_is_new_the_next_time(open_door: OpenDoor) -> None:
    """It was refused, so that it comes again."""
    body = make_request(make_span())
    full = open_door(pending_bytes=10)
    for _ in range(2):
        with pytest.raises(RetryableError, match="behind"):
            full.spans(body)
    full.close()
    door = open_door()
    done(door.spans(body))
    assert door.ledger() == [(TRACES, 1)]


def test_what_could_not_be_written_is_new_the_next_time(
    open_door: OpenDoor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All who wait for it are told, and the next one is the first."""
    door = open_door(start=False)
    body = make_request(make_span())

    def fail(descriptor: int) -> None:
        raise OSError("no disk")

    with monkeypatch.context() as broken:
        broken.setattr(os, "fdatasync", fail)
        waiting = [door.spans(body) for _ in range(2)]
        door.log.start()
        for admitted in waiting:
            with pytest.raises(RetryableError):
                done(admitted)
    done(door.spans(body))
    done(door.spans(body))
    assert door.ledger() == [(TRACES, 1), (DUPLICATE, 1)]


def test_what_was_given_up_is_new_the_next_time(open_door: OpenDoor) -> None:
    """A client that was told to come again does so."""
    door = open_door(start=False)
    body = make_request(make_span())
    first = door.spans(body).durable
    assert first is not None
    assert first.cancel()
    second = door.spans(body)
    door.log.start()
    done(second)
    assert door.ledger() == [(TRACES, 1)]


def test_giving_up_a_duplicate_leaves_the_first(open_door: OpenDoor) -> None:
    """Whose client still waits."""
    door = open_door(start=False)
    body = make_request(make_span())
    first, second = door.spans(body), door.spans(body)
    assert second.durable is not None
    assert second.durable.cancel()
    door.log.start()
    done(first)
    assert door.ledger() == [(TRACES, 1)]


# ---- events ----


def test_events_are_kept_encoded(door: Door) -> None:
    """With what they say."""
    admitted = door.events(EVENT, EVENT)
    assert (admitted.counts, admitted.refused) == (Counts(2), ())
    done(admitted)
    (record,) = door.records()
    assert (record.payload, record.received_count, record.transport) == (EVENTS, 2, "http")
    assert [event.method for event in record.events.events] == ["GET", "GET"]


@pytest.mark.parametrize(
    ("event", "options", "ledger"),
    [
        (EVENT, {}, [(EVENTS, 1), (EVENTS, 1)]),
        (EVENT, {"idempotency_key": "a"}, [(EVENTS, 1), (DUPLICATE, 1)]),
        (WITH_IDS, {}, [(EVENTS, 1), (DUPLICATE, 1)]),
        (WITH_IDS, {"idempotency_key": "a"}, [(EVENTS, 1), (DUPLICATE, 1)]),
        (EVENT | {"trace_id": WITH_IDS["trace_id"]}, {}, [(EVENTS, 1), (EVENTS, 1)]),
    ],
)
def test_which_events_are_duplicates(
    door: Door, event: Any, options: dict[str, Any], ledger: list[tuple[int, int]]
) -> None:
    """Two calls may be equal in all that an event says, unless it has ids, or its sender says."""
    for _ in range(2):
        done(door.events(event, **options))
    assert door.ledger() == ledger


@pytest.mark.parametrize("first", ["a", None])
def test_another_key_or_body_is_another_request(door: Door, first: str | None) -> None:
    """The name of a request is the sender's, and belongs to what it sent."""
    done(door.events(WITH_IDS, idempotency_key=first))
    done(door.events(WITH_IDS, idempotency_key="b"))
    done(door.events(WITH_IDS, EVENT, idempotency_key=first or "c"))
    done(door.events(WITH_IDS, idempotency_key="b", key=OTHER))
    assert door.ledger() == [(EVENTS, 1), (EVENTS, 1), (EVENTS, 2), (EVENTS, 1)]


def test_one_bad_event_costs_all(door: Door) -> None:
    """Unless a part is asked for; and the right request is new then."""
    with pytest.raises(InvalidRequestError, match="event 1"):
        door.events(EVENT, BAD, idempotency_key="a")
    done(door.events(EVENT, idempotency_key="a"))
    assert door.ledger() == [(EVENTS, 1)]


def test_of_a_part_the_others_are_counted(door: Door) -> None:
    """Received is what was sent: what is kept, and what is rejected."""
    admitted = door.events(EVENT, BAD, EVENT, BAD, BAD, partial=True)
    assert admitted.counts == Counts(2)
    assert [error.index for error in admitted.refused] == [1, 3, 4]
    done(admitted)
    kept, rejected = door.records()
    assert (kept.payload, kept.received_count) == (EVENTS, 2)
    assert (rejected.payload, rejected.received_count) == (REJECTED, 3)
    assert LogHeader.FromString(rejected.SerializeToString()).reject_reason == (
        outcomes.INVALID_EVENT
    )


def test_a_part_of_none_is_counted(door: Door) -> None:
    """Nothing is kept, and the count is."""
    admitted = door.events(BAD, BAD, partial=True)
    assert (admitted.counts, len(admitted.refused)) == (Counts(0), 2)
    done(admitted)
    assert door.ledger() == [(REJECTED, 2)]


def test_a_part_that_is_whole_is_no_other(door: Door) -> None:
    """There is nothing to count besides."""
    done(door.events(EVENT, EVENT, partial=True))
    assert door.ledger() == [(EVENTS, 2)]


def test_a_part_that_comes_twice_is_counted_in_full(door: Door) -> None:
    """Of the second request, all are duplicates; the answer is the same."""
    for _ in range(2):
        admitted = door.events(EVENT, BAD, partial=True, idempotency_key="a")
        assert (admitted.counts, len(admitted.refused)) == (Counts(1), 1)
        done(admitted)
    assert door.ledger() == [(EVENTS, 1), (REJECTED, 1), (DUPLICATE, 2)]


def test_events_at_once_are_kept_once(open_door: OpenDoor) -> None:
    """As spans are."""
    door = open_door(start=False)
    waiting: list[Future[None] | None] = [
        door.events(EVENT, idempotency_key="a").durable for _ in range(2)
    ]
    door.log.start()
    for future in waiting:
        assert future is not None
        future.result(DEADLINE_S)
    assert door.ledger() == [(EVENTS, 1), (DUPLICATE, 1)]


def test_events_that_find_no_room_are_new_the_next_time(open_door: OpenDoor) -> None:
    """As spans are."""
    full = open_door(pending_bytes=10)
    with pytest.raises(RetryableError):
        full.events(EVENT, idempotency_key="a")
    full.close()
    door = open_door()
    done(door.events(EVENT, idempotency_key="a"))
    assert door.ledger() == [(EVENTS, 1)]
