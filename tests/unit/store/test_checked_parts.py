# SPDX-License-Identifier: Apache-2.0
"""Tests of checked parts, with a real engine: what the disk lost is found, and the rest stays."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from otel_apinalytics.store.checked_parts import CheckedParts
from otel_apinalytics.telemetry import Telemetry
from tests.support.store import Store

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


def test_each_part_is_checked_once(store: Store, parts: CheckedParts) -> None:
    """A store of any size costs no more than what is new."""
    asked = []
    store.before_query = lambda sql: asked.append(sql) if sql.startswith("CHECK") else None
    for _ in range(3):
        store.add_events(DAY, [1])
        parts.damaged_tables()
        parts.damaged_tables()
    assert len(asked) == 3
