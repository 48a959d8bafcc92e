# SPDX-License-Identifier: Apache-2.0
"""Tests of merges by hand, with a real engine and a clock of the test's own."""

from __future__ import annotations

import threading
import time

import pytest

from otel_apinalytics.store.engine import EngineError
from otel_apinalytics.store.merges import Merges
from otel_apinalytics.telemetry import Telemetry
from tests.support.store import Store, refuse

DAY, OTHER_DAY = "2026-01-05", "2026-01-06"
EARLY, LATE, LATER = 1_767_600_000.0, 1_767_600_100.5, 1_767_600_200.25


class Clock:
    """Monotonic seconds that pass when the test says so, and while a statement takes them."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


class Merging:
    """Merges with their surroundings."""

    def __init__(self, store: Store) -> None:
        self.clock, self.telemetry, self.stopping = Clock(), Telemetry(), threading.Event()
        self.merges = Merges(store.engine, self.telemetry, self.stopping, 60, 120, self.clock)

    def after(self, seconds: float) -> None:
        """Let time pass, and do what is due then."""
        self.clock.now += seconds
        self.merges.run()

    def value(self, name: str) -> float | None:
        """Return a metric."""
        return self.telemetry.registry.get_sample_value(f"apinalytics_{name}")


@pytest.fixture
def store(store: Store) -> Store:
    """Return a store that merges only what it is told to."""
    store.run("ALTER TABLE events MODIFY SETTING max_bytes_to_merge_at_max_space_in_pool = 1")
    return store


@pytest.fixture
def merging(store: Store) -> Merging:
    """Return merges of that store."""
    return Merging(store)


# ---- what is merged, and when ----


def test_copies_in_different_parts_become_one_row_after_a_minute(
    store: Store, merging: Merging
) -> None:
    """Not before, for more may come; the newest arrival does not put it off."""
    store.add_events(DAY, range(10))
    merging.after(0)
    merging.after(59)
    store.add_events(DAY, range(5, 15))
    assert store.counts() == {("20260105", "shop"): 20}
    merging.after(1)
    assert store.counts() == {("20260105", "shop"): 15}
    assert store.parts() == [("20260105", 1, 15)]
    assert merging.value("forced_merges_total") == 1


def test_copies_within_one_part_become_one_row(store: Store, merging: Merging) -> None:
    """A load does not compare its own rows; the engine would leave such a part as it is."""
    store.add_events(DAY, [1, 1, 1, 2])
    merging.after(0)
    merging.after(60)
    assert store.parts() == [("20260105", 1, 2)]


def test_nothing_is_done_when_nothing_new_arrived(store: Store, merging: Merging) -> None:
    """What is merged is not written again, also not by a process that just started."""
    store.add_events(DAY, range(10))
    merging.after(0)
    merging.after(60)
    for fresh in (merging, Merging(store)):
        for _ in range(3):
            fresh.after(10_000)
    assert len(store.commands) == 1


def test_a_day_that_gets_events_all_the_time_rests_after_a_merge(
    store: Store, merging: Merging
) -> None:
    """Two minutes where a merge takes no time."""
    merged_at = []
    for step in range(60):
        store.add_events(DAY, [step])
        merging.after(10)
        if store.commands:
            merged_at.append(10 * step)
            store.commands.clear()
    assert merged_at == [60, 180, 300, 420, 540]


def test_a_merge_costs_at_most_a_twentieth_of_the_time(store: Store, merging: Merging) -> None:
    """A day whose merge takes 50 s rests for 1000 s; another one does not wait for it."""

    def take_long(sql: str) -> None:
        if "20260105" in sql:
            merging.clock.now += 50

    store.before_command = take_long
    for number in range(2):
        store.add_events(DAY, [number])
        store.add_events(OTHER_DAY, [number])
        merging.after(0)
    merging.after(60)
    assert [level for _, level, _ in store.parts()] == [1, 1]
    store.add_events(DAY, [9])
    store.add_events(OTHER_DAY, [9])
    merging.after(200)
    merging.after(200)
    assert [part[:2] for part in store.parts()] == [
        ("20260105", 1),
        ("20260105", 0),
        ("20260106", 2),
    ]
    merging.after(500)
    merging.after(100)
    assert [part[:2] for part in store.parts()] == [("20260105", 2), ("20260106", 2)]


def test_the_day_that_waits_longest_is_first(store: Store, merging: Merging) -> None:
    """A day with few events is not kept waiting by one with many."""
    store.add_events(OTHER_DAY, [1, 1])
    merging.after(0)
    store.add_events(DAY, [1, 1])
    merging.after(30)
    merging.after(60)
    assert ["20260106" in sql for sql in store.commands] == [True, False]


def test_what_another_service_merged_is_not_merged_again(store: Store, merging: Merging) -> None:
    """What came since waits from then on."""
    store.add_events(DAY, [1])
    store.add_events(DAY, [2])
    merging.after(0)
    store.run("OPTIMIZE TABLE events FINAL")
    store.add_events(DAY, [3])
    merging.after(60)
    assert store.commands == []
    merging.after(60)
    assert len(store.commands) == 1
    assert store.parts() == [("20260105", 2, 3)]


def test_a_merge_that_fails_is_tried_again_later(store: Store, merging: Merging) -> None:
    """It is not counted as one, and not tried at once."""
    store.add_events(DAY, [1, 1])
    store.before_command = refuse
    merging.after(0)
    with pytest.raises(EngineError, match="not now"):
        merging.after(60)
    merging.after(60)
    assert merging.value("forced_merges_total") == 0
    store.before_command = lambda sql: None
    merging.after(60)
    assert store.parts() == [("20260105", 1, 1)]


def test_a_part_that_is_empty_is_waited_for(store: Store, merging: Merging) -> None:
    """Where there are projections, the engine merges none with it, and removes it only later."""
    store.run(
        "ALTER TABLE events ADD PROJECTION p (SELECT application, count() GROUP BY application)"
    )
    store.add_events(DAY, [1], application="gone")
    store.add_events(DAY, [1, 1], application="kept")
    merging.after(0)
    store.run("ALTER TABLE events DELETE WHERE application = 'gone' SETTINGS mutations_sync = 1")
    merging.after(60)
    assert store.ask("SELECT rows FROM system.parts WHERE active AND rows = 0") == [(0,)]
    assert store.commands == []
    store.run("ALTER TABLE events DROP PROJECTION p SETTINGS mutations_sync = 1")


def test_a_stopped_one_begins_nothing(store: Store, merging: Merging) -> None:
    """The next start does it."""
    store.add_events(DAY, [1, 1])
    merging.after(0)
    merging.stopping.set()
    merging.after(60)
    assert store.commands == []


# ---- up to when events are unique ----


def test_all_are_unique_in_an_empty_store(merging: Merging) -> None:
    """It has no copies: until now."""
    before = time.time()
    assert before <= merging.merges.unique_until() <= time.time()


def test_events_are_unique_until_the_first_receipt_that_is_not_merged(
    store: Store, merging: Merging
) -> None:
    """Of any day; what is merged does not count, nor does the order in which it was loaded."""
    store.add_events(DAY, [1], received=LATE)
    assert merging.merges.unique_until() == LATE
    store.add_events(OTHER_DAY, [1], received=LATER)
    store.add_events(DAY, [1], received=EARLY)
    assert merging.merges.unique_until() == EARLY
    store.run("OPTIMIZE TABLE events PARTITION ID '20260105' FINAL")
    assert merging.merges.unique_until() == LATER
    store.run("OPTIMIZE TABLE events PARTITION ID '20260106' FINAL")
    assert merging.merges.unique_until() > LATER
    store.add_events(DAY, [1], received=LATE)
    assert merging.merges.unique_until() == LATE


def test_an_event_received_before_is_there_once(store: Store, merging: Merging) -> None:
    """What it promises, whatever is merged."""
    for number in range(12):
        # Every third merge comes in between; each part brings copies of the one before.
        store.add_events(DAY, range(number * 5, number * 5 + 10), received=EARLY + number)
        if number % 3 == 2:
            store.run("OPTIMIZE TABLE events FINAL")
        until = merging.merges.unique_until()
        ((rows, unique),) = store.ask(
            "SELECT count(), uniqExact(event_id) FROM events "
            f"WHERE toFloat64(received_at) < {until}"
        )
        assert rows == unique


def test_receipts_are_read_once_for_a_part(store: Store, merging: Merging) -> None:
    """It is cheap to ask again: only parts that came since are read."""
    questions: list[str] = []
    store.add_events(DAY, [1], received=EARLY)
    merging.merges.unique_until()
    store.before_query = questions.append
    assert merging.merges.unique_until() == EARLY
    assert not [sql for sql in questions if "FROM events" in sql]
    store.add_events(DAY, [2], received=LATE)
    merging.merges.unique_until()
    (question,) = [sql for sql in questions if "FROM events" in sql]
    assert question.count("20260105_") == 1


def test_a_part_that_vanishes_while_it_is_read_is_found_in_another(
    store: Store, merging: Merging
) -> None:
    """A merge in the middle of the question makes nothing look settled that is not."""
    store.add_events(DAY, [1], received=LATER)
    store.run("OPTIMIZE TABLE events FINAL")
    store.add_events(DAY, [2], received=EARLY)
    store.add_events(DAY, [1], received=LATE)
    merges = iter([None])

    def merge(sql: str) -> None:
        if "FROM events" in sql:
            for _ in merges:
                # The two that were listed vanish into the first.
                store.run("OPTIMIZE TABLE events FINAL")
                store.add_events(DAY, [2], received=EARLY)

    store.before_query = merge
    assert merging.merges.unique_until() == EARLY


def test_unique_until_is_shown(store: Store, merging: Merging) -> None:
    """As of the latest round."""
    store.add_events(DAY, [1], received=EARLY)
    merging.after(0)
    assert merging.value("unique_until_timestamp_seconds") == EARLY
    merging.after(60)
    assert (merging.value("unique_until_timestamp_seconds") or 0) > LATER
