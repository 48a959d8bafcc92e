# SPDX-License-Identifier: Apache-2.0
"""Tests of the loader: what it cannot read it keeps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import pytest

from otel_apinalytics.receiver.loader import Loader
from otel_apinalytics.receiver.log import (
    SET_ASIDE,
    RequestLog,
    SealedSegment,
    open_log_directory,
)
from otel_apinalytics.receiver.records import new_header, spans_record
from otel_apinalytics.receiver.segment import LogIdentity
from otel_apinalytics.store.engine import Engine, EngineError, LoadStatement
from tests.support.waiting import wait_for


class Store:
    """A store that keeps nothing, and fails as it is told.

    Args:
        faults: Errors of the first loads, one each.
    """

    directory = None

    def __init__(self, faults: Sequence[EngineError] = ()) -> None:
        self.faults = list(faults)
        self.tables: list[str] = []

    def load(self, statement: LoadStatement, source: Path, token: str) -> None:
        """Take a load, or fail."""
        if self.faults:
            raise self.faults.pop(0)
        self.tables.append(statement.table)


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
        loader = Loader(engine, identity, tmp_path, lambda *released: None)
        loader.start()
        loader.submit(segment)
        loader.close()
        assert not segment.path.exists()
    assert len(list((tmp_path / SET_ASIDE).iterdir())) == 2


def load(directory: Path, store: Store, records: Sequence[bytes]) -> list[float]:
    """Write records as one segment, load it, and return the seconds of each load that ended."""
    identity = open_log_directory(directory, bytes(32))
    sealed: list[SealedSegment] = []
    log = RequestLog(directory, identity, sealed.append)
    log.start()
    for record in records:
        log.append(record)
    log.close()
    seconds: list[float] = []
    loader = Loader(
        cast(Engine, store), identity, directory, lambda _, load_s: seconds.append(load_s)
    )
    loader.start()
    for segment in sealed:
        loader.submit(segment)
    wait_for(lambda: len(seconds) == len(sealed))
    loader.close()
    return seconds


def records(count: int) -> list[bytes]:
    """Return records of spans."""
    return [spans_record(new_header("app", "key", "grpc", 1), b"") for _ in range(count)]


def test_what_is_loaded_is_deleted(tmp_path: Path) -> None:
    """Nothing is left in the log but its name."""
    store = Store()
    load(tmp_path, store, records(3))
    assert store.tables == ["ledger", "normalized"]
    assert [path.name for path in tmp_path.iterdir()] == ["id"]


@pytest.mark.parametrize("code", [76, 243, 210, None])
def test_a_fault_of_the_store_is_waited_out(tmp_path: Path, code: int | None) -> None:
    """Whatever it is, nothing is rejected for it, and the wait is no part of the load's time."""
    store = Store([EngineError("fault", code)] * 2)
    (seconds,) = load(tmp_path, store, records(3))
    assert store.tables == ["ledger", "normalized"]
    # Two waits of a quarter and half a second came before.
    assert seconds < 0.5
    assert [path.name for path in tmp_path.iterdir()] == ["id"]


@pytest.mark.parametrize("code", [32, 444, 241])
def test_a_record_at_fault_is_found_and_kept(tmp_path: Path, code: int) -> None:
    """Halving leaves one record, which is rejected; the segment is set aside, not destroyed."""
    store = Store([EngineError("fault", code)] * 3)
    load(tmp_path, store, records(4))
    # Of four records the first is rejected: ledger and dead letter; then one, then two are loaded.
    rejected, loaded = ["ledger", "ledger", "rejected"], ["ledger", "normalized"]
    assert store.tables == rejected + loaded + loaded
    assert len(list((tmp_path / SET_ASIDE).iterdir())) == 1
    assert [path.name for path in tmp_path.glob("*.log")] == []
