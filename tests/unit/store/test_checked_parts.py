# SPDX-License-Identifier: Apache-2.0
"""Tests of checked parts, with a real engine: what the disk lost is found, and the rest stays."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from otel_apinalytics.store.checked_parts import CheckedParts
from otel_apinalytics.telemetry import Telemetry
from tests.support.store import Store
from tests.support.waiting import wait_for

DAY = "2026-01-05"


@pytest.fixture
def parts(store: Store) -> CheckedParts:
    """Return what checks an empty store that merges only what it is told to."""
    store.run("ALTER TABLE events MODIFY SETTING max_bytes_to_merge_at_max_space_in_pool = 1")
    return CheckedParts(store.engine, Telemetry())


def lose_half(store: Store, events: int) -> None:
    """Cut the part with so many events, as a write that failed leaves it."""
    ((path,),) = store.ask(
        "SELECT path FROM system.parts WHERE database = currentDatabase() AND table = 'events' "
        f"AND active AND rows = {events}"
    )
    data = Path(path, "data.bin")
    os.truncate(data, data.stat().st_size // 2)


def lose_projection(store: Store, name: str, events: int) -> None:
    """Cut a projection of the part with so many events."""
    ((path,),) = store.ask(
        "SELECT path FROM system.parts WHERE database = currentDatabase() AND table = 'events' "
        f"AND active AND rows = {events}"
    )
    os.truncate(Path(path, f"{name}.proj", "columns.txt"), 1)


def broken_projections(store: Store) -> int:
    """Return how many the engine knows."""
    ((count,),) = store.ask("SELECT countIf(active AND is_broken) FROM system.projection_parts")
    return int(count)


def merge(store: Store, day: str) -> None:
    """Merge all parts of a day that no other test had parts of: empty ones stay for a time."""
    how = "FINAL SETTINGS optimize_throw_if_noop = 1"
    store.run(f"OPTIMIZE TABLE events PARTITION ID '{day}' {how}")


def stored(store: Store) -> set[int]:
    """Return the events that there are."""
    return {event_id for (event_id,) in store.ask("SELECT event_id FROM events")}


def test_what_is_whole_is_no_damage(store: Store, parts: CheckedParts) -> None:
    """Loads and merges alike."""
    store.add_events(DAY, [1, 2])
    store.add_events(DAY, [3])
    assert parts.damaged_tables() == set()
    store.run("OPTIMIZE TABLE events FINAL")
    assert parts.damaged_tables() == set()
    assert stored(store) == {1, 2, 3}


def test_a_load_that_the_disk_lost_is_taken_out(store: Store, parts: CheckedParts) -> None:
    """What was loaded before stays, and what is loaded afterwards counts."""
    store.add_events(DAY, [1, 2])
    store.add_events(DAY, [3, 4, 5])
    lose_half(store, 3)
    assert parts.damaged_tables() == {"events"}
    # It is found until it is mended.
    assert parts.damaged_tables() == {"events"}
    parts.take_out({"events"})
    assert stored(store) == {1, 2}
    assert parts.damaged_tables() == set()
    store.add_events(DAY, [3, 4, 5])
    assert parts.damaged_tables() == set()
    assert stored(store) == {1, 2, 3, 4, 5}


def test_a_merge_that_the_disk_lost_is_undone(store: Store, parts: CheckedParts) -> None:
    """What it was made of takes its place."""
    store.add_events(DAY, [1, 2])
    store.add_events(DAY, [2, 3])
    store.run("OPTIMIZE TABLE events FINAL")
    lose_half(store, 3)
    assert parts.damaged_tables() == {"events"}
    parts.take_out({"events"})
    assert stored(store) == {1, 2, 3}
    assert store.ask("SELECT count() FROM events") == [(4,)]


def test_a_projection_that_the_disk_lost_is_made_anew(store: Store, parts: CheckedParts) -> None:
    """Its part stays, is reported once, and can be merged with what is loaded again."""
    store.add_events("2026-01-06", [1, 2])
    store.add_events("2026-01-06", [3, 4, 5])
    lose_projection(store, "surface", 3)
    lose_projection(store, "consumers", 3)
    assert parts.damaged_tables() == {"events"}
    parts.take_out({"events"})
    assert stored(store) == {1, 2, 3, 4, 5}
    assert parts.damaged_tables() == set()
    store.add_events("2026-01-06", [3, 4, 5])
    wait_for(lambda: broken_projections(store) == 0)
    merge(store, "20260106")
    assert store.ask("SELECT count() FROM events") == [(5,)]
    assert parts.damaged_tables() == set()


def test_a_projection_that_was_lost_earlier_is_made_anew_at_the_start(
    store: Store, parts: CheckedParts
) -> None:
    """Nothing is checked again then, but what the engine finds."""
    store.add_events("2026-01-07", [1, 2])
    store.add_events("2026-01-07", [3, 4, 5])
    lose_projection(store, "bins", 3)
    store.run("DETACH TABLE events")
    store.run("ATTACH TABLE events")
    assert broken_projections(store) == 1
    assert CheckedParts(store.engine, Telemetry()).damaged_tables() == set()
    wait_for(lambda: broken_projections(store) == 0)
    merge(store, "20260107")
    assert stored(store) == {1, 2, 3, 4, 5}


def test_what_is_made_anew_is_not_waited_for(store: Store, parts: CheckedParts) -> None:
    """The engine may be told to merge no more, or have much to do."""
    store.add_events("2026-01-08", [1, 2])
    lose_projection(store, "bins", 2)
    store.run("DETACH TABLE events")
    store.run("ATTACH TABLE events")
    store.run("SYSTEM STOP MERGES events")
    try:
        start = threading.Thread(target=CheckedParts, args=(store.engine, Telemetry()), daemon=True)
        start.start()
        wait_for(lambda: not start.is_alive())
        assert broken_projections(store) == 1
    finally:
        store.run("SYSTEM START MERGES events")
    wait_for(lambda: broken_projections(store) == 0)


def test_each_part_is_checked_once(store: Store, parts: CheckedParts) -> None:
    """A store of any size costs no more than what is new."""
    asked = []
    store.before_query = lambda sql: asked.append(sql) if sql.startswith("CHECK") else None
    for _ in range(3):
        store.add_events(DAY, [1])
        parts.damaged_tables()
        parts.damaged_tables()
    assert len(asked) == 3
