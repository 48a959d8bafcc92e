# SPDX-License-Identifier: Apache-2.0
"""Tests of the audit as it is written: soon or at once, and whatever becomes of the log."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from otel_apinalytics.receiver.audit_log import LOST, AuditLog, erased_entry, made_entries
from otel_apinalytics.receiver.log import RequestLog, SealedSegment, open_log_directory
from otel_apinalytics.store.erasing import Counts
from otel_apinalytics.store.erasures import Receipt
from otel_apinalytics.store.keys import FirstKeys, Scope
from otel_apinalytics.telemetry import Telemetry
from otel_apinalytics.wire import log_pb2
from otel_apinalytics.wire.log_pb2 import AuditEntry, LogRecord
from tests.opened_segments import open_segment
from tests.support.waiting import wait_for

MASTER_KEY = bytes(range(32))


class Written:
    """A real log, and the entries that are in it."""

    def __init__(self, directory: Path) -> None:
        self._identity = open_log_directory(directory, MASTER_KEY)
        self._segments: list[SealedSegment] = []
        self.telemetry = Telemetry()
        self.log = RequestLog(directory, self._identity, self._segments.append)

    def records(self) -> list[list[AuditEntry]]:
        """Return the entries in each record, of segments that are sealed."""
        found = []
        for segment in list(self._segments):
            for data in open_segment(segment.path, segment.sequence, self._identity)[0]:
                record = LogRecord.FromString(data)
                assert (record.payload, record.received_count) == (log_pb2.PAYLOAD_AUDIT, 0)
                found.append(list(record.audit.entries))
        return found

    def actions(self) -> list[str]:
        """Return the actions of all entries."""
        return [entry.action for record in self.records() for entry in record]

    def lost(self) -> float | None:
        """Return how many entries the metrics say are lost."""
        name = "apinalytics_lost_audit_entries_total"
        return self.telemetry.registry.get_sample_value(name)


@pytest.fixture
def written(tmp_path: Path) -> Iterator[Written]:
    """Give a log that is not started."""
    written = Written(tmp_path)
    yield written
    written.log.close()


@pytest.fixture
def audit(written: Written) -> Iterator[AuditLog]:
    """Give an audit that keeps three entries while they wait."""
    audit = AuditLog(written.log, written.telemetry, max_waiting=3)
    yield audit
    audit.close()


@pytest.fixture
def break_disk(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """Return what makes every sync fail, or mends it."""
    real, broken = os.fdatasync, False

    def sync(descriptor: int) -> None:
        if broken:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        real(descriptor)

    def set_broken(wanted: bool) -> None:
        nonlocal broken
        broken = wanted

    monkeypatch.setattr(os, "fdatasync", sync)
    return set_broken


def entry(action: str) -> AuditEntry:
    """Return an entry."""
    return AuditEntry(at_us=1, application="shop", key_id="k", action=action)


def test_what_is_noted_is_written_soon_and_together(written: Written, audit: AuditLog) -> None:
    """Nobody waits for it."""
    written.log.start()
    audit.start()
    for number in range(3):
        audit.note(entry(f"read {number}"))
    assert written.records() == []
    wait_for(written.actions)
    (record,) = written.records()
    assert [each.action for each in record] == ["read 0", "read 1", "read 2"]


def test_a_change_is_on_disk_when_it_is_told(written: Written, audit: AuditLog) -> None:
    """It is in the log by then, without a thread."""
    written.log.start()
    audit.keep(entry("key.make"))
    written.log.close()
    assert written.actions() == ["key.make"]


def test_what_waits_can_be_written_at_once(written: Written, audit: AuditLog) -> None:
    """As the erasure of a consumer needs it."""
    written.log.start()
    audit.note(entry("read"))
    audit.flush()
    written.log.close()
    assert written.actions() == ["read"]


def test_what_waits_is_written_at_the_end(written: Written, audit: AuditLog) -> None:
    """A stop costs nothing."""
    written.log.start()
    audit.start()
    audit.note(entry("read"))
    audit.close()
    written.log.close()
    assert written.actions() == ["read"]


def test_a_log_that_cannot_be_written_loses_nothing_for_a_while(
    written: Written, audit: AuditLog, break_disk: Callable[[bool], None]
) -> None:
    """Reads and changes go on; their entries are written when the disk is mended."""
    written.log.start()
    break_disk(True)
    audit.start()
    audit.note(entry("read"))
    audit.keep(entry("key.make"))
    assert audit.faults() == []
    break_disk(False)
    wait_for(written.actions, until=lambda found: len(found) == 2)
    assert sorted(written.actions()) == ["key.make", "read"]
    assert written.lost() == 0


def test_what_is_lost_is_counted_and_said(
    written: Written, audit: AuditLog, break_disk: Callable[[bool], None]
) -> None:
    """The oldest ones go; the audit itself says that it has a gap."""
    written.log.start()
    break_disk(True)
    for number in range(5):
        audit.note(entry(f"read {number}"))
    audit.flush()
    assert written.lost() == 3
    break_disk(False)
    wait_for(lambda: written.log.is_writable)
    audit.flush()
    written.log.close()
    entries = [each for record in written.records() for each in record]
    assert [each.action for each in entries if each.action != LOST] == ["read 3", "read 4"]
    assert sum(each.rows for each in entries if each.action == LOST) == 3


def test_a_closed_log_fails_nothing(written: Written, audit: AuditLog) -> None:
    """What is answered while the service stops."""
    written.log.start()
    written.log.close()
    audit.note(entry("read"))
    audit.keep(entry("key.make"))
    assert written.actions() == []


def test_a_first_start_is_in_the_audit() -> None:
    """What it made, without the keys."""
    found = list(made_entries(FirstKeys("shop", {Scope.READ: "apr_secret", Scope.WRITE: "w"})))
    assert [(each.action, each.parameters[0].value) for each in found] == [
        ("key.make", "read"), ("key.make", "write"),
    ]  # fmt: skip
    assert "secret" not in str(found)


def test_an_erasure_does_not_say_whom_it_was_of() -> None:
    """The receipt does, and is not kept here."""
    receipt = Receipt("e1", "shop", "acme", 1.0, 2.0, 3.0, Counts(4, 5, 6), 0, ())
    found = erased_entry(receipt)
    assert "acme" not in str(found)
    parameters = {each.name: each.value for each in found.parameters}
    assert parameters == {
        "application": "shop", "erasure": "e1", "events": "4", "rejected": "5", "audit": "6",
    }  # fmt: skip
    assert "acme" not in repr(receipt)
