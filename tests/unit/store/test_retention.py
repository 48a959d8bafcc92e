# SPDX-License-Identifier: Apache-2.0
"""Tests of retention, with a real engine: what goes, what stays, and that answers agree."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Any

import pytest

from otel_apinalytics.settings import RetentionSetting, Settings
from otel_apinalytics.store.engine import EngineError
from otel_apinalytics.store.retention import Retention
from otel_apinalytics.store.retention_limits import Policy
from otel_apinalytics.telemetry import Telemetry
from tests.support.store import Store, refuse

DAY_S = 86400


def at(text: str) -> float:
    """Return Unix seconds of a time in UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=timezone.utc).timestamp()


def retain(store: Store, now: str, telemetry: Telemetry | None = None, **settings: Any) -> None:
    """Delete what is too old at a time, under these settings."""
    policy = Policy(Settings(**settings))
    stopping = threading.Event()
    retention = Retention(store.engine, lambda: policy, telemetry or Telemetry(), stopping)
    retention.run(at(now))
    retention.bound_rejected()


# ---- what goes ----


def test_a_day_goes_once_its_end_is_older_than_the_limit(store: Store) -> None:
    """Not an hour of it before, and no other day with it."""
    store.add_events("2026-01-05", [1], received="2026-01-05 23:59:59")
    store.add_events("2026-01-06", [1])
    retain(store, "2026-01-15T23:59:59", retention_events_days=10)
    assert set(store.counts()) == {("20260105", "shop"), ("20260106", "shop")}
    retain(store, "2026-01-16T00:00:00", retention_events_days=10)
    assert set(store.counts()) == {("20260106", "shop")}


def test_a_day_stays_until_its_last_receipt_is_old(store: Store) -> None:
    """What was sent late is kept as long as what was not, with the rest of its day."""
    store.add_events("2026-01-05", [1, 2])
    store.add_events("2026-01-05", [3], received="2026-02-01 10:00:00")
    retain(store, "2026-02-11T10:00:00", retention_events_days=10)
    assert store.counts() == {("20260105", "shop"): 3}
    retain(store, "2026-02-11T10:00:01", retention_events_days=10)
    assert store.counts() == {}


def test_a_day_that_is_all_too_old_is_dropped_without_reading_it(store: Store) -> None:
    """No row is written again: parts are dropped."""
    store.add_events("2026-01-05", [1, 2])
    store.add_events("2026-01-05", [2, 3])
    store.add_events("2026-01-05", [1], application="other")
    retain(store, "2026-05-01")
    assert store.parts() == []
    assert [sql.split("DROP PART")[0] for sql in store.commands] == ["ALTER TABLE events "]


def test_an_application_may_have_its_own_limit(store: Store) -> None:
    """Its day goes, that of the others stays; and the other way round."""
    for application in ("short", "usual", "long"):
        store.add_events("2026-01-05", range(5), application=application)
        store.add_events("2026-03-20", range(7), application=application)
    limits = (
        RetentionSetting(application="short", events_days=1),
        RetentionSetting(application="long", events_days=365),
    )
    retain(store, "2026-03-22", retention=limits, retention_events_days=60)
    assert store.counts() == {
        ("20260105", "long"): 5,
        ("20260320", "long"): 7,
        ("20260320", "usual"): 7,
    }


def test_an_entry_changes_only_what_it_names(store: Store) -> None:
    """Other limits of that application are those of all."""
    store.add_events("2026-01-05", range(5), application="shop")
    store.add_ledger("2026-01-05", 5)
    limits = (RetentionSetting(application="shop", ledger_days=1),)
    retain(store, "2026-01-20", retention=limits)
    assert store.counts() == {("20260105", "shop"): 5}
    assert store.counts("ledger_records") == {}


def test_names_are_data(store: Store) -> None:
    """An application whose name looks like SQL is deleted by its name."""
    odd = "o'brien\\' OR 1 --"
    store.add_events("2026-01-05", range(5), application=odd)
    store.add_events("2026-01-05", range(5), application="shop")
    limits = (RetentionSetting(application=odd, events_days=1),)
    retain(store, "2026-01-20", retention=limits)
    assert store.counts() == {("20260105", "shop"): 5}


def test_nothing_is_done_where_nothing_is_too_old(store: Store) -> None:
    """Neither to an empty store, nor long after."""
    retain(store, "2026-01-20")
    store.add_events("2026-01-05", range(5))
    for _ in range(2):
        retain(store, "2026-01-20")
    assert store.commands == []
    # Nor by a clock of 1970.
    retain(store, "1970-01-01")
    assert store.commands == []


def test_the_ledger_and_dead_letters_have_their_own_limits(store: Store) -> None:
    """The ledger by its minutes, dead letters by their receipt."""
    for day in ("2026-01-05", "2026-01-20"):
        store.add_ledger(day, 20)
        store.add_rejected(day, 20)
        store.add_events(day, range(20))
    store.add_ledger("2026-01-05", 20, application="other")
    limits = (RetentionSetting(application="other", ledger_days=365),)
    retain(
        store, "2026-01-25", retention=limits, retention_rejected_days=10, retention_ledger_days=15
    )
    assert store.counts("ledger_records") == {("20260105", "other"): 20, ("20260120", "shop"): 20}
    assert store.counts("rejected") == {("20260120", "shop"): 20}
    assert len(store.counts("events")) == 2


def test_only_the_newest_dead_letters_are_kept(store: Store) -> None:
    """So many of each application, whatever their days."""
    for day in ("2026-01-18", "2026-01-19", "2026-01-20"):
        store.add_rejected(day, 100)
        store.add_rejected(day, 10, application="other")
        store.add_rejected(day, 10, application="few")
    limits = (RetentionSetting(application="few", rejected_rows=3),)
    retain(store, "2026-01-21", retention=limits, retention_rejected_rows=120)
    assert store.counts("rejected") == {
        ("20260118", "other"): 10,
        ("20260119", "other"): 10,
        ("20260119", "shop"): 20,
        ("20260120", "few"): 3,
        ("20260120", "other"): 10,
        ("20260120", "shop"): 100,
    }
    (oldest,) = store.ask(
        "SELECT min(toUnixTimestamp(received_at)) FROM rejected WHERE application = 'shop'"
    )
    assert oldest == (at("2026-01-19T00:01:20"),)


def test_dead_letters_of_one_moment_stay_together(store: Store) -> None:
    """The number is a least one where several were received at once; and this comes to rest."""
    for number in range(3):
        store.run(
            "INSERT INTO rejected (application, record_id, received_at) "
            f"VALUES ('shop', '{number}', '2026-01-20 00:00:00')"
        )
    for _ in range(2):
        retain(store, "2026-01-21", retention_rejected_rows=2)
    assert store.counts("rejected") == {("20260120", "shop"): 3}
    assert store.commands == []


# ---- with others at work ----


@pytest.mark.parametrize("others", [(), ("other",)], ids=["a whole day", "an application"])
def test_what_arrives_during_the_deletion_stays(store: Store, others: tuple[str, ...]) -> None:
    """It was acknowledged now, and is as old as anything else in the store's answer."""
    store.add_events("2026-01-05", [1, 2])
    for application in others:
        store.add_events("2026-01-05", [1], application=application)
    arrivals = iter([[7]])

    def arrive(sql: str) -> None:
        for events in arrivals:
            store.add_events("2026-01-05", events, received="2026-05-01 00:00:00")

    store.before_command = arrive
    limits = tuple(RetentionSetting(application=name, events_days=999) for name in others)
    retain(store, "2026-05-01", retention=limits)
    assert len(store.commands) == 1
    assert store.counts().get(("20260105", "shop")) == 1


def test_a_table_that_fails_does_not_keep_the_others(store: Store) -> None:
    """Its fault is reported when the rest is done."""
    store.add_events("2026-01-05", [1])
    store.add_ledger("2026-01-05", 1)

    def refuse_events(sql: str) -> None:
        if "events" in sql:
            refuse(sql)

    store.before_command = refuse_events
    with pytest.raises(EngineError, match="not now"):
        retain(store, "2030-01-01")
    assert (len(store.counts()), store.counts("ledger_records")) == (1, {})


def test_a_stopped_retention_begins_nothing(store: Store) -> None:
    """The rest is for the next start."""
    store.add_events("2026-01-05", [1])
    stopping = threading.Event()
    stopping.set()
    retention = Retention(store.engine, lambda: Policy(Settings()), Telemetry(), stopping)
    retention.run(at("2030-01-01"))
    assert store.commands == []


def test_deletions_are_counted(store: Store) -> None:
    """Days of applications, and rows, by table."""
    telemetry = Telemetry()
    for application in ("one", "two"):
        store.add_events("2026-01-05", range(5), application=application)
    store.add_events("2026-01-06", range(5), application="one")
    store.add_rejected("2026-01-06", 9)
    retain(store, "2026-01-15", telemetry, retention_events_days=5, retention_rejected_rows=4)

    def value(name: str, table: str) -> float | None:
        return telemetry.registry.get_sample_value(f"apinalytics_{name}_total", {"table": table})

    assert value("deleted_days", "events") == 3
    assert value("deleted_rows", "events") == 15
    assert value("deleted_days", "rejected") == 0
    assert value("deleted_rows", "rejected") == 5
    assert value("deleted_rows", "ledger_records") == 0


# ---- projections ----

_ANSWERS = (
    "SELECT application, hour, status_code, count(), sum(response_us) FROM events "
    "GROUP BY application, hour, status_code ORDER BY ALL",
    "SELECT application, count(), sum(response_us) FROM events GROUP BY application ORDER BY ALL",
)


@pytest.fixture
def with_projection(store: Store) -> Iterator[Store]:
    """Return a store with a projection as the dashboard's questions need it."""
    store.run(
        "ALTER TABLE events ADD PROJECTION by_status (SELECT application, hour, status_code, "
        "count(), sum(response_us) GROUP BY application, hour, status_code)"
    )
    yield store
    store.run("ALTER TABLE events DROP PROJECTION by_status SETTINGS mutations_sync = 1")


def answers(store: Store, settings: str) -> list[list[tuple[Any, ...]]]:
    """Return what the questions say under settings."""
    return [store.ask(f"{question} SETTINGS {settings}") for question in _ANSWERS]


def assert_answers_agree(store: Store) -> None:
    """By the projection and nothing else, and by the rows."""
    by_projection = answers(store, "optimize_use_projections = 1, force_optimize_projection = 1")
    assert by_projection == answers(store, "optimize_use_projections = 0")
    assert all(by_projection)


def test_deletion_of_a_day_with_projections(with_projection: Store) -> None:
    """Answers from a projection follow a deletion, with copies across parts, merged or not."""
    store = with_projection
    for day in ("2026-01-05", "2026-01-06", "2026-01-07"):
        # As in a load, several applications in a part; copies across parts, and within one.
        store.add_events(day, range(200), application=("gone", "kept", "other"))
        events = [*range(100, 300), *range(250, 300)]
        store.add_events(day, events, application=("gone", "kept", "other"))
    assert_answers_agree(store)
    limits = (RetentionSetting(application="gone", events_days=1),)
    retain(store, "2026-01-07T00:00:00", retention=limits)
    days = {key for key in store.counts() if key[1] == "gone"}
    assert days == {("20260106", "gone"), ("20260107", "gone")}
    assert_answers_agree(store)
    store.run("OPTIMIZE TABLE events FINAL SETTINGS optimize_throw_if_noop = 1")
    assert_answers_agree(store)
    assert set(store.counts().values()) == {300}
    retain(store, "2026-01-08T00:00:00", retention=limits)
    assert_answers_agree(store)
    assert {key for key in store.counts() if key[1] == "gone"} == {("20260107", "gone")}
    assert set(store.counts().values()) == {300}
