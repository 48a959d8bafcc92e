# SPDX-License-Identifier: Apache-2.0
"""Tests of loading a segment: a record that cannot be loaded costs itself and no other."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import cast

import pytest

from otel_apinalytics.normalize.mapping import NO_MAPPING
from otel_apinalytics.receiver import trial
from otel_apinalytics.receiver.attempts import Attempts
from otel_apinalytics.receiver.loading import Loading
from otel_apinalytics.receiver.messages import Messages
from otel_apinalytics.receiver.records import new_header, spans_record
from otel_apinalytics.store.engine import Engine, EngineError, LoadStatement
from otel_apinalytics.store.loads import Loads
from otel_apinalytics.wire.log_pb2 import LogRecord
from tests.opened_segments import messages_in
from tests.support.otlp import make_request, make_span

LOADS = Loads(NO_MAPPING)
DATA, MEMORY, UNKNOWN, TRANSIENT = 33, 241, 47, 243
# A field that no rule reads: the number is of none, the content is text.
UNKNOWN_FIELD = b"\xaa\xbf\x04\x04odd!"

Fault = Callable[[list[bytes]], EngineError | None]


class Store:
    """A store that keeps nothing but a note of what it took.

    Args:
        fault: Says of the serialized records of a load whether it fails.
    """

    def __init__(self, fault: Fault) -> None:
        self._fault = fault
        self.taken: list[tuple[str, list[str]]] = []
        self.tokens: list[str] = []

    def load(self, statement: LoadStatement, source: Path, token: str) -> None:
        """Take a load, or fail."""
        records = messages_in(source.read_bytes())
        if error := self._fault(records):
            raise error
        names = [LogRecord.FromString(record).key_id for record in records]
        self.tokens.append(token)
        self.taken.append((statement.table, names))

    def names(self, table: str) -> list[str]:
        """Return the records that a table took, in order; those without content have no name."""
        return [name for taken, names in self.taken if taken == table for name in names if name]


def record(name: str) -> bytes:
    """Return a record of a span; its key is its name."""
    return spans_record(new_header("app", name, "grpc", 1), make_request(make_span()))


@contextlib.contextmanager
def messages_of(records: Sequence[bytes]) -> Iterator[Messages]:
    """Give the messages of records."""
    with contextlib.closing(Messages(lambda _: bytes(32))) as messages:
        for one in records:
            messages.add(one)
        yield messages


def load(path: Path, store: Store, records: Sequence[bytes]) -> int:
    """Load records; return how many were rejected."""
    loading = Loading(cast(Engine, store), LOADS, Attempts(path), "t", lambda _: False)
    with messages_of(records) as messages:
        return loading.load(messages)


def fails_with(name: str, code: int) -> Fault:
    """Return a fault of loads in which a record of this name has its payload."""

    def fault(records: list[bytes]) -> EngineError | None:
        parsed = map(LogRecord.FromString, records)
        is_there = any(r.key_id == name and r.HasField("traces") for r in parsed)
        return EngineError("fault", code) if is_there else None

    return fault


@pytest.mark.parametrize("code", [DATA, MEMORY, UNKNOWN])
@pytest.mark.parametrize("bad", [0, 41, 99])
def test_one_record_costs_itself(tmp_path: Path, code: int, bad: int) -> None:
    """All others are loaded once, in order; this one becomes a dead letter."""
    store = Store(fails_with(f"r{bad}", code))
    assert load(tmp_path / "s", store, [record(f"r{n}") for n in range(100)]) == 1
    assert store.names("normalized") == [f"r{n}" for n in range(100) if n != bad]
    assert store.names("rejected") == [f"r{bad}"]


@pytest.mark.parametrize(
    ("code", "reason"), [(DATA, "undecodable"), (MEMORY, "unloadable"), (UNKNOWN, "unloadable")]
)
def test_the_reason_says_whose_fault_it_is(tmp_path: Path, code: int, reason: str) -> None:
    """What does not decode, and what decodes and cannot be stored."""
    reasons: list[str] = []

    def fault(records: list[bytes]) -> EngineError | None:
        reasons.extend(LogRecord.FromString(one).reject_reason for one in records)
        return fails_with("bad", code)(records)

    assert load(tmp_path / "s", Store(fault), [record("bad")]) == 1
    assert set(reasons) - {""} == {reason}


def test_what_passes_is_tried_again(tmp_path: Path) -> None:
    """Memory that others took is there a moment later: nothing is rejected, nor split."""
    faults = [EngineError("memory", MEMORY)] * 2
    store = Store(lambda _: faults.pop() if faults else None)
    assert load(tmp_path / "s", store, [record("a"), record("b")]) == 0
    assert store.taken == [("ledger_records", ["a", "b"]), ("normalized", ["a", "b"])]


def test_a_fault_of_the_store_rejects_nothing(tmp_path: Path) -> None:
    """It is raised at once: whoever loads waits, and does all of it again."""
    store = Store(lambda _: EngineError("no space", TRANSIENT))
    with pytest.raises(EngineError, match="no space"):
        load(tmp_path / "s", store, [record("a"), record("b")])
    assert store.taken == []


def test_a_statement_that_never_works_rejects_nothing(tmp_path: Path) -> None:
    """What fails without any content, too, is a defect of ours: no record pays for it."""
    store = Store(lambda _: EngineError("unknown identifier", UNKNOWN))
    with pytest.raises(EngineError, match="unknown identifier"):
        load(tmp_path / "s", store, [record("a"), record("b")])
    assert store.taken == []


def test_what_no_rule_reads_costs_nothing(tmp_path: Path) -> None:
    """A record that the engine does not decode is tried without its unknown fields."""

    def fault(records: list[bytes]) -> EngineError | None:
        return EngineError("odd", DATA) if any(b"odd!" in one for one in records) else None

    store = Store(fault)
    odd = record("odd") + UNKNOWN_FIELD
    assert load(tmp_path / "s", store, [record("a"), odd, record("b")]) == 0
    assert store.names("normalized") == ["a", "odd", "b"]
    assert store.names("rejected") == []


def test_parts_have_tokens_of_their_own(tmp_path: Path) -> None:
    """Equal in each attempt, so that what is there is skipped; different for each part."""
    seen = []
    for _ in range(2):
        store = Store(fails_with("r3", DATA))
        load(tmp_path / "s", store, [record(f"r{n}") for n in range(10)])
        tokens = [token for token in store.tokens if token]
        assert len(set(tokens)) == len(tokens)
        seen.append(tokens)
    assert seen[0] == seen[1]


def died(segment: Path, place: tuple[int, int], times: int) -> None:
    """Leave the marks of a process that died so often during a load of these records."""
    with segment.with_suffix(".attempts").open("ab") as stream:
        stream.write(b"%d-%d\n" % place * times)


def test_a_record_that_ends_the_process_costs_itself(tmp_path: Path) -> None:
    """It is found in processes that may die, and is not tried in this one."""
    names = [f"r{n}" for n in range(200)]
    names[137] = "bad"
    store = Store(
        lambda records: pytest.fail("tried") if fails_with("bad", DATA)(records) else None
    )
    tried: list[int] = []

    def survives(statements: Sequence[LoadStatement], messages: Messages) -> bool:
        found = [messages.record(n) for n in range(len(messages))]
        # Not those without content, which show that a process can load at all.
        tried.extend([len(found)] * all(map(header_key, found)))
        return all(b"bad" not in one for one in found)

    died(tmp_path / "s", (0, 200), 2)
    loading = Loading(
        cast(Engine, store), LOADS, Attempts(tmp_path / "s"), "t", lambda _: False, survives
    )
    with messages_of([record(name) for name in names]) as messages:
        assert loading.load(messages) == 1
    assert store.names("rejected") == ["bad"]
    assert store.names("normalized") == [name for name in names if name != "bad"]
    # Eight parts of each that dies.
    assert tried == [200, *[25] * 6, *[4] * 4, 1, 1, 1, 1, 4, 4, 1, 25, 25]


def header_key(record: bytes) -> str:
    """Return the name that a record has as its key."""
    return LogRecord.FromString(record).key_id


def test_where_no_process_can_load_nothing_is_rejected(tmp_path: Path) -> None:
    """One that has too little memory for anything says nothing of the records."""
    store = Store(lambda _: None)
    died(tmp_path / "s", (0, 1), 2)
    loading = Loading(
        cast(Engine, store), LOADS, Attempts(tmp_path / "s"), "t", lambda _: False,
        lambda statements, messages: False,
    )  # fmt: skip
    with messages_of([record("a")]) as messages, pytest.raises(OSError, match="no process"):
        loading.load(messages)
    assert store.taken == []


def test_a_trial_that_cannot_be_made_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """It neither lived nor died of the records."""
    monkeypatch.setattr(trial, "_COMMAND", [sys.executable, "-c", "raise SystemExit(1)"])
    with messages_of([record("a")]) as messages, pytest.raises(OSError, match="ended with 1"):
        trial.survives([], messages)


def test_kills_from_outside_cost_nothing(tmp_path: Path) -> None:
    """However many there were: another process says that the records are good."""
    segment, store, tried = tmp_path / "s", Store(lambda _: None), []

    def survives(statements: Sequence[LoadStatement], messages: Messages) -> bool:
        tried.append(len(statements))
        return True

    died(segment, (0, 3), 100)
    died(segment, (0, 1), 1)
    attempts = Attempts(segment)
    loading = Loading(cast(Engine, store), LOADS, attempts, "t", lambda _: False, survives)
    with messages_of([record(name) for name in "abc"]) as messages:
        assert loading.load(messages) == 0
    assert store.taken == [("ledger_records", [*"abc"]), ("normalized", [*"abc"])]
    assert tried == [2]
    # It is not asked again, unless there are more.
    assert (Attempts(segment).unended((0, 3)), Attempts(segment).unended((0, 1))) == (0, 1)


def test_a_trial_loads_what_the_service_loads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In an engine of its own, of which nothing stays; what it refuses does not end it."""
    monkeypatch.setenv("PYTHONPATH", str(Path.cwd()))
    monkeypatch.chdir(tmp_path)
    torn = spans_record(new_header("app", "torn", "grpc", 1), b"\x0a\x05ab")
    with messages_of([record("a"), torn]) as messages:
        statements = LOADS.for_payloads(messages.payloads, messages.batch_rules)
        assert trial._load_elsewhere(statements, messages) == 0
        assert trial.survives(statements, messages)
    assert list(tmp_path.iterdir()) == []


def test_a_trial_that_dies_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """By whatever signal; it is repeated, for something else may have sent it."""
    died = [sys.executable, "-c", "import os; os.kill(os.getpid(), 11)"]
    monkeypatch.setattr(trial, "_COMMAND", died)
    with messages_of([record("a")]) as messages:
        assert not trial.survives([], messages)


def test_marks_of_attempts_that_ended_do_not_count(tmp_path: Path) -> None:
    """However they ended: an outage of the store must not look like a crash."""
    segment = tmp_path / "s"
    attempts = Attempts(segment)
    for _ in range(9):
        with contextlib.suppress(ValueError), attempts.begun((0, 3)):
            assert Attempts(segment).unended((0, 3)) == 1
            raise ValueError
    assert Attempts(segment).unended((0, 3)) == 0
    attempts.clear()
    assert list(tmp_path.iterdir()) == []


def test_marks_are_no_condition(tmp_path: Path) -> None:
    """Where they cannot be written, as on a full disk, a load runs without."""
    store = Store(lambda _: None)
    assert load(tmp_path / "missing" / "s", store, [record("a")]) == 0
    assert store.names("normalized") == ["a"]


def test_marks_that_are_none_are_passed_over(tmp_path: Path) -> None:
    """Of a torn write, or of an earlier version."""
    (tmp_path / "s.attempts").write_bytes(b"+++\n0-2\n0-\n\xff\n0-2\n0-")
    attempts = Attempts(tmp_path / "s")
    assert attempts.unended((0, 2)) == 2
    assert attempts.unended((0, 1)) == 0
