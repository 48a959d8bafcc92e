# SPDX-License-Identifier: Apache-2.0
"""Tests of the loader: what it cannot read it keeps."""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from otel_apinalytics.normalize.batch_rules import BatchRules
from otel_apinalytics.normalize.mapping import NO_MAPPING, Mapping, MappingEntry
from otel_apinalytics.receiver import loader
from otel_apinalytics.receiver.loader import Loader
from otel_apinalytics.receiver.log import (
    SET_ASIDE,
    RequestLog,
    SealedSegment,
    find_segments,
    open_log_directory,
)
from otel_apinalytics.receiver.records import events_record, new_header, spans_record
from otel_apinalytics.receiver.segment import Content, LogIdentity, read_segment
from otel_apinalytics.store.checked_parts import CheckedParts
from otel_apinalytics.store.engine import Engine, EngineError, LoadStatement
from otel_apinalytics.store.loads import Loads
from otel_apinalytics.wire.log_pb2 import PAYLOAD_TRACES, LogRecord
from tests.opened_segments import messages_in
from tests.support.waiting import wait_for

LOADS = Loads(NO_MAPPING)


def hash_key(application: str) -> bytes:
    """Return a key that differs by application."""
    return application.encode().ljust(32, b".")


class Store:
    """A store that keeps nothing, and fails as it is told.

    Args:
        faults: Errors of the first loads, one each.
    """

    def __init__(self, faults: Sequence[EngineError] = ()) -> None:
        self.faults = list(faults)
        self.statements: list[LoadStatement] = []
        self.sources: list[bytes] = []
        self.tokens: list[str] = []
        #: Errors of the first syncs.
        self.sync_faults: list[OSError] = []

    @property
    def tables(self) -> list[str]:
        """The tables that were loaded, in order."""
        return [statement.table for statement in self.statements]

    def file_system(self) -> Store:
        """Return what is synced: this."""
        return self

    def sync(self) -> None:
        """Make durable what there is, or fail."""
        if self.sync_faults:
            raise self.sync_faults.pop()

    def load(self, statement: LoadStatement, source: Path, token: str) -> None:
        """Take a load, or fail."""
        if self.faults:
            raise self.faults.pop(0)
        self.statements.append(statement)
        self.tokens.append(token)
        self.sources.append(source.read_bytes())


def seal_damaged(directory: Path, identity: LogIdentity) -> SealedSegment:
    """Write one segment, as one process would, and damage its header."""
    sealed: list[SealedSegment] = []
    log = RequestLog(directory, identity, sealed.append)
    log.start()
    log.append(b"record")
    log.close()
    (segment,) = sealed
    segment.path.write_bytes(b"damaged!" + segment.path.read_bytes()[8:])
    return segment


def test_what_is_set_aside_replaces_nothing(tmp_path: Path) -> None:
    """Two unreadable segments, of two processes, are both kept."""
    identity = open_log_directory(tmp_path, bytes(32))
    engine = cast(Engine, Store())
    for _ in range(2):
        segment = seal_damaged(tmp_path, identity)
        loading = Loader(
            engine, lambda: LOADS, hash_key, identity, tmp_path, lambda *released: None
        )
        loading.start()
        loading.submit(segment)
        loading.close()
        assert not segment.path.exists()
    assert len(list((tmp_path / SET_ASIDE).iterdir())) == 2


def load(
    directory: Path,
    store: Store,
    records: Sequence[bytes],
    loads: Callable[[], Loads] = lambda: LOADS,
    parts: CheckedParts | None = None,
) -> list[float]:
    """Write records as one segment, load it, and return the seconds of each load that ended."""
    identity = open_log_directory(directory, bytes(32))
    sealed: list[SealedSegment] = []
    log = RequestLog(directory, identity, sealed.append)
    log.start()
    for record in records:
        log.append(record)
    log.close()
    seconds: list[float] = []
    loading = Loader(
        cast(Engine, store),
        loads,
        hash_key,
        identity,
        directory,
        lambda _, load_s: seconds.append(load_s),
        parts=parts,
    )
    loading.start()
    for segment in sealed:
        loading.submit(segment)
    wait_for(lambda: len(seconds) == len(sealed))
    wait_for(lambda: not store.sync_faults)
    loading.close()
    return seconds


def records(count: int) -> list[bytes]:
    """Return records of spans."""
    return [spans_record(new_header("app", "key", "grpc", 1), b"") for _ in range(count)]


def test_what_is_loaded_is_deleted(tmp_path: Path) -> None:
    """Nothing is left in the log but its name."""
    store = Store()
    load(tmp_path, store, records(3))
    assert store.tables == ["ledger_records", "normalized"]
    assert [path.name for path in tmp_path.iterdir()] == ["id"]


@pytest.mark.parametrize("code", [76, 243, 210, None])
def test_a_fault_of_the_store_is_waited_out(tmp_path: Path, code: int | None) -> None:
    """Whatever it is, nothing is rejected for it, and the wait is no part of the load's time."""
    store = Store([EngineError("fault", code)] * 2)
    (seconds,) = load(tmp_path, store, records(3))
    assert store.tables == ["ledger_records", "normalized"]
    # Two waits of a quarter and half a second came before.
    assert seconds < 0.5
    assert [path.name for path in tmp_path.iterdir()] == ["id"]


def test_a_segment_with_a_rejected_record_is_kept(tmp_path: Path) -> None:
    """Of what could not be loaded there is still the original."""
    store = Store([EngineError("fault", 32)])
    load(tmp_path, store, records(1))
    # A record without content is taken, so that this one is at fault.
    assert store.tables == ["ledger_records", "normalized", *["ledger_records"] * 2, "rejected"]
    assert len(list((tmp_path / SET_ASIDE).iterdir())) == 1
    assert [path.name for path in tmp_path.glob("*.log")] == []


class _Parts:
    """Parts of which some are lost.

    Args:
        damaged: Tables that are found damaged after each load.
    """

    def __init__(self, *damaged: set[str]) -> None:
        self._damaged = [*damaged]
        self.taken_out: list[set[str]] = []

    def damaged_tables(self) -> set[str]:
        """Return what is damaged now."""
        return self._damaged.pop(0) if self._damaged else set()

    def take_out(self, tables: set[str]) -> None:
        """Take note."""
        self.taken_out.append(tables)


def test_a_load_that_the_disk_lost_is_done_again(tmp_path: Path) -> None:
    """Under another token: the engine may still know the first one."""
    store, parts = Store(), _Parts({"events"}, {"events", "rejected"})
    assert len(load(tmp_path, store, records(1), parts=cast(CheckedParts, parts))) == 1
    assert parts.taken_out == [{"events"}, {"events", "rejected"}]
    assert store.tables == ["ledger_records", "normalized"] * 3
    assert len(set(store.tokens)) == 6
    assert [path.name for path in tmp_path.iterdir()] == ["id"]


def test_after_a_failed_sync_all_that_was_loaded_is_loaded_again(tmp_path: Path) -> None:
    """What the kernel could not write it takes for written: a second sync says nothing of it."""
    store = Store()
    store.sync_faults = [OSError("disk")]
    (seconds,) = load(tmp_path, store, records(1))
    assert seconds >= 0
    first, again = store.tokens[:2], store.tokens[2:]
    assert store.tables[:2] == ["ledger_records", "normalized"]
    # At once, or with the next start.
    left = [path.name for path in tmp_path.iterdir()]
    if again:
        assert not {*first} & {*again}
        assert left == ["id"]
    else:
        assert "0000000000000001.lost" in left
        seconds_again = load_left(tmp_path, store)
        assert seconds_again >= 0
        assert not {*first} & {*store.tokens[2:]}
        assert [path.name for path in tmp_path.iterdir()] == ["id"]


def load_left(directory: Path, store: Store) -> float:
    """Load the segment that is there, as the next start does; return the load's seconds."""
    (segment,) = find_segments(directory)
    seconds: list[float] = []
    loading = Loader(
        cast(Engine, store),
        lambda: LOADS,
        hash_key,
        open_log_directory(directory, bytes(32)),
        directory,
        lambda _, load_s: seconds.append(load_s),
    )
    loading.start()
    loading.submit(segment)
    loading.close()
    return seconds[0]


def messages_of(stream: bytes) -> list[LogRecord]:
    """Return the records of a stream of messages."""
    return [LogRecord.FromString(message) for message in messages_in(stream)]


def test_each_record_is_loaded_with_its_application_s_hash_key(tmp_path: Path) -> None:
    """The key is in what the engine reads, not in what is on disk."""
    store = Store()
    applications = ("shop", "bank", "shop")
    load(
        tmp_path,
        store,
        [spans_record(new_header(name, "key", "grpc", 1), b"") for name in applications],
    )
    for source in store.sources:
        assert [r.application for r in messages_of(source)] == [*applications]
        assert [r.hash_key for r in messages_of(source)] == [*map(hash_key, applications)]


def test_a_hash_key_that_was_sent_counts_for_nothing(tmp_path: Path) -> None:
    """Whoever knows the format cannot choose the key under which others are hashed."""
    store = Store()
    sent = LogRecord(hash_key=b"chosen").SerializeToString()
    load(tmp_path, store, [spans_record(new_header("shop", "key", "grpc", 1), b"") + sent])
    (record,) = messages_of(store.sources[0])
    assert record.hash_key == hash_key("shop")


@pytest.mark.parametrize("needed", BatchRules)
def test_batch_rules_are_paid_for_where_they_are_needed(tmp_path: Path, needed: BatchRules) -> None:
    """One record that needs them is enough to ask them in the segment."""
    store = Store()
    headers = [new_header("app", "key", "grpc", 1) for _ in range(3)]
    headers[1].batch_rules = needed
    load(tmp_path, store, [spans_record(header, b"") for header in headers])
    assert store.tables == ["ledger_records", "normalized"]
    assert [statement.reads_again for statement in store.statements] == [False, needed > 0]
    assert "nested_in_server_span" in store.statements[1].select
    assert store.statements[1] == Loads(NO_MAPPING).for_payloads([PAYLOAD_TRACES], needed)[1]


def test_a_segment_that_the_disk_cannot_read_holds_up_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is tried five times, then set aside; the one behind it is loaded."""
    store, tries = Store(), []

    def read(path: Path, sequence: int, *arguments: Any) -> Content:
        if sequence == 1:
            tries.append(sequence)
            raise OSError(errno.EIO, "disk")
        return read_segment(path, sequence, *arguments)

    monkeypatch.setattr(loader, "read_segment", read)
    monkeypatch.setattr(loader, "_MIN_BACKOFF_S", 0.001)
    for _ in range(2):
        seconds = load(tmp_path, store, records(1))
    assert (len(tries), len(seconds)) == (5, 1)
    assert store.tables == ["ledger_records", "normalized"]
    assert [p.name for p in (tmp_path / SET_ASIDE).iterdir()] == ["0000000000000001.log"]


def test_too_many_open_files_are_waited_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long it takes: the segment is good."""
    store, faults = Store(), iter([OSError(errno.EMFILE, "too many")] * 9)

    def read(*arguments: Any) -> Content:
        if fault := next(faults, None):
            raise fault
        return read_segment(*arguments)

    monkeypatch.setattr(loader, "read_segment", read)
    monkeypatch.setattr(loader, "_MIN_BACKOFF_S", 0.001)
    load(tmp_path, store, records(1))
    assert store.tables == ["ledger_records", "normalized"]
    assert not (tmp_path / SET_ASIDE).exists()


def test_each_kind_of_payload_has_its_statement(tmp_path: Path) -> None:
    """Spans and events of one segment are loaded one after the other."""
    store = Store()
    load(
        tmp_path,
        store,
        [*records(1), events_record(new_header("app", "key", "http", 1), b"")],
    )
    assert store.tables == ["ledger_records", "normalized", "normalized"]
    assert len({statement.select for statement in store.statements}) == 3


def test_each_load_asks_for_the_statements(tmp_path: Path) -> None:
    """A new mapping is used from the next load on."""
    entry = MappingEntry("x.tenant", "organization_id")
    newer = Loads(Mapping((entry,)))
    store, found = Store(), iter([LOADS, newer])
    for directory in ("first", "second"):
        (tmp_path / directory).mkdir()
        load(tmp_path / directory, store, records(1), lambda: next(found))
    old, new = (s.select for s in store.statements if s.table == "normalized")
    assert old != new
    assert "x.tenant" in new
    assert "x.tenant" not in old
