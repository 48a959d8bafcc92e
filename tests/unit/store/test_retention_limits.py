# SPDX-License-Identifier: Apache-2.0
"""Tests of the limits of retention: who wins, what holds, and that forecasts come true."""

from __future__ import annotations

import threading
import time
from datetime import datetime, timezone

import pytest

from otel_apinalytics.settings import RetentionSetting, Settings
from otel_apinalytics.store.retention import DAY_S, TABLES, Retention
from otel_apinalytics.store.retention_forecast import forecast
from otel_apinalytics.store.retention_limits import (
    DAYS,
    NAMES,
    Limit,
    Policy,
    RetentionLimits,
    Source,
)
from otel_apinalytics.telemetry import Telemetry
from tests.support.store import Store

ENTRY = RetentionSetting(application="shop", events_days=30, ledger_days=60)
SETTINGS = Settings(retention=(ENTRY,), retention_events_days=90)


def at(text: str) -> float:
    """Return Unix seconds of a time in UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=timezone.utc).timestamp()


def test_each_table_has_its_limit() -> None:
    """And each limit is a setting, for all and for single applications."""
    assert set(DAYS) == {table.name for table in TABLES}
    for name in NAMES:
        assert f"retention_{name}" in Settings.model_fields
        assert name in RetentionSetting.model_fields


def test_the_api_wins_over_an_entry_and_that_over_the_default(store: Store) -> None:
    """And what is taken back is as before."""
    limits = RetentionLimits(store.engine, SETTINGS)
    changed = limits.change("shop", {"events_days": 7, "audit_days": 10})
    for policy in (changed, limits.policy(), RetentionLimits(store.engine, SETTINGS).policy()):
        assert policy.of("shop") == {
            "events_days": Limit(7, Source.API),
            "audit_days": Limit(10, Source.API),
            "ledger_days": Limit(60, Source.SETTINGS),
            "rejected_days": Limit(14, Source.DEFAULT),
            "rejected_rows": Limit(100_000, Source.DEFAULT),
        }
        assert policy.of("other")["events_days"] == Limit(90, Source.DEFAULT)
    limits.change("shop", {"events_days": None})
    assert limits.policy().of("shop")["events_days"] == Limit(30, Source.SETTINGS)
    assert limits.policy().of("shop")["audit_days"] == Limit(10, Source.API)


def test_what_would_be_is_not_kept(store: Store) -> None:
    """A preview changes nothing."""
    limits = RetentionLimits(store.engine, SETTINGS)
    assert limits.policy_with("shop", {"events_days": 1}).days("shop", "events") == 1
    assert store.commands == []
    assert limits.policy().days("shop", "events") == 30


def test_a_change_is_durable(store: Store) -> None:
    """It is on disk when whoever made it is told."""
    steps: list[str] = []
    store.before_command = lambda sql: steps.append("write")
    store.sync = lambda: steps.append("sync")
    RetentionLimits(store.engine, SETTINGS).change("shop", {"events_days": 7})
    store.sync = lambda: None
    assert steps == ["write", "sync"]


def test_a_change_holds_at_the_next_deletion(store: Store) -> None:
    """Without a restart, and for names that look like SQL."""
    odd = "o'brien\\' OR 1 --"
    for application in ("shop", odd):
        store.add_events("2026-01-05", range(5), application=application)
    limits = RetentionLimits(store.engine, Settings())
    retention = Retention(store.engine, limits.policy, Telemetry(), threading.Event())
    retention.run(at("2026-01-20"))
    assert len(store.counts()) == 2
    limits.change(odd, {"events_days": 7})
    retention.run(at("2026-01-20"))
    assert store.counts() == {("20260105", "shop"): 5}


def test_the_audit_goes_by_its_own_limit(store: Store) -> None:
    """By the time of what was done."""
    for day in ("2026-01-05", "2026-01-08"):
        store.run(
            "INSERT INTO audit (at, application, record_id) "
            f"SELECT toDateTime64('{day} 00:00:00', 6, 'UTC') + number, 'shop', toString(number) "
            "FROM numbers(10)"
        )
    policy = Policy(Settings(retention_audit_days=5))
    Retention(store.engine, lambda: policy, Telemetry(), threading.Event()).run(at("2026-01-12"))
    assert store.counts("audit") == {("20260108", "shop"): 10}


@pytest.mark.parametrize("late", [None, "2026-02-01 10:00:00"], ids=["in time", "late"])
def test_a_day_goes_when_the_forecast_says(store: Store, late: str | None) -> None:
    """Not a second earlier; also a day of which something was received late."""
    policy = Policy(Settings(retention_events_days=10, retention_ledger_days=20))
    store.add_events("2026-01-05", range(5))
    if late:
        store.add_events("2026-01-05", [7], received=late)
    store.add_ledger("2026-01-05", 3)
    store.add_events("2026-01-05", range(5), application="other")
    days = forecast(store.engine, policy, "shop", 30.0)
    assert [(day.table, day.day, day.rows) for day in days] == [
        ("events", "2026-01-05", 6 if late else 5),
        ("ledger", "2026-01-05", 3),
    ]
    assert days[0].removed_after == at(late or "2026-01-06 00:00:00") + 10 * DAY_S
    retention = Retention(store.engine, lambda: policy, Telemetry(), threading.Event())
    for day in sorted(days, key=lambda day: day.removed_after):
        table = "ledger_records" if day.table == "ledger" else day.table
        retention.run(day.removed_after - 1)
        assert ("20260105", "shop") in store.counts(table)
        retention.run(day.removed_after + 1)
        assert ("20260105", "shop") not in store.counts(table)


def test_what_is_too_many_goes_now_as_the_forecast_says(store: Store) -> None:
    """The oldest dead letters, apart from the rest of their day, which goes by its limit."""
    for day in ("2026-01-05", "2026-01-06", "2026-01-07"):
        store.add_rejected(day, 10)
    store.add_rejected("2026-01-05", 50, application="other")
    policy = Policy(Settings(retention_rejected_rows=14))
    before = time.time()
    days = forecast(store.engine, policy, "shop", 30.0)
    assert [(day.day, day.rows, before <= day.removed_after <= time.time()) for day in days] == [
        ("2026-01-05", 10, True),
        ("2026-01-06", 6, True),
        ("2026-01-06", 4, False),
        ("2026-01-07", 10, False),
    ]
    Retention(store.engine, lambda: policy, Telemetry(), threading.Event()).bound_rejected()
    assert store.counts("rejected") == {
        ("20260105", "other"): 14, ("20260106", "shop"): 4, ("20260107", "shop"): 10
    }  # fmt: skip
    # Nothing is too many of what is left, or was never there.
    assert [day.rows for day in forecast(store.engine, policy, "shop", 30.0)] == [4, 10]
    assert forecast(store.engine, policy, "nobody", 30.0) == []


def test_a_forecast_is_of_one_application(store: Store) -> None:
    """Of all of its tables."""
    store.add_rejected("2026-01-05", 4)
    store.add_rejected("2026-01-05", 9, application="other")
    days = forecast(store.engine, Policy(Settings()), "shop", 30.0)
    assert [(day.table, day.rows) for day in days] == [("rejected", 4)]
    assert forecast(store.engine, Policy(Settings()), "nobody", 30.0) == []
