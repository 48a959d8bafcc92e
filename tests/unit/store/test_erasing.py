# SPDX-License-Identifier: Apache-2.0
"""Tests of erasing, with a real engine: what of a consumer goes, and that nothing else changes."""

from __future__ import annotations

import random
import re
import threading
from collections.abc import Sequence
from typing import Any

import pytest

from otel_apinalytics.store.erasing import ERASED, Counts, Subject, bound_keys, erase_found
from tests.support.store import Store

ACME = Subject("shop", "acme")
DAY_S = 86_400
MIDNIGHT = 1_790_000_000 // DAY_S * DAY_S
CONSUMERS = ("acme", "globex", "initech", "")
# What tells an event, and what it says.
EVENTS = (
    "SELECT application, event_id, consumer_id, route, toUnixTimestamp64Micro(timestamp) "
    "FROM events FINAL ORDER BY ALL"
)
# Each is answered by a projection, or by the events.
QUESTIONS = (
    "SELECT application, hour, route, sum(weight) FROM events GROUP BY ALL ORDER BY ALL",
    "SELECT consumer_id, hour, sum(weight) FROM events WHERE application = 'shop' "
    "AND direction = 'inbound' GROUP BY ALL ORDER BY ALL",
    "SELECT consumer_id, toDate(hour), sum(weight) FROM events WHERE application = 'shop' "
    "AND direction = 'inbound' GROUP BY ALL ORDER BY ALL",
    "SELECT service, route, consumer_id, sum(weight) FROM events WHERE application = 'shop' "
    "AND direction = 'inbound' GROUP BY ALL ORDER BY ALL",
)


def erase(store: Store, subject: Subject = ACME, before: float | None = None) -> Counts:
    """Erase a consumer."""
    return erase_found(store.engine, subject, before, threading.Event())


def add(
    store: Store,
    events: Sequence[tuple[int, str]],
    *,
    application: str = "shop",
    version: int = 1,
    received: float = MIDNIGHT,
) -> None:
    """Insert events as one part: numbers, which tell them, and their consumers."""
    rows = ", ".join(
        f"(toDateTime64({MIDNIGHT + number % 3 * DAY_S + number}, 6, 'UTC'), '{application}', "
        f"{number}, '{consumer}', '/r{number % 4}', 's', 'inbound', {number}, {version}, "
        f"toDateTime64({received}, 6, 'UTC'))"
        for number, consumer in events
    )
    store.run(
        "INSERT INTO events (timestamp, application, event_id, consumer_id, route, service, "
        "direction, response_us, version, received_at) "
        f"SETTINGS optimize_on_insert = 0, deduplicate_insert = 'disable' VALUES {rows}"
    )


def answers(store: Store, *, by_projections: bool) -> list[list[tuple[Any, ...]]]:
    """Return what the questions say."""
    setting = f"optimize_use_projections = {int(by_projections)}"
    return [store.ask(f"{question} SETTINGS {setting}") for question in QUESTIONS]


# ---- events ----


@pytest.mark.parametrize("seed", range(3))
def test_a_consumer_goes_and_nothing_else(store: Store, seed: int) -> None:
    """Events with copies, under another consumer too, of two applications and several days."""
    choice = random.Random(seed)
    for part in range(6):
        numbers = choice.sample(range(60), 25)
        application = choice.choice(["shop", "shop", "other"])
        found = [(number, choice.choice(CONSUMERS)) for number in numbers]
        add(store, found, application=application, version=part)
    before = store.ask(EVENTS)
    kept = [row for row in before if (row[0], row[2]) != ("shop", "acme")]
    counts = erase(store)
    assert store.ask(EVENTS) == kept
    assert counts == Counts(events=len(before) - len(kept))
    # Not one that stood behind a newer version of the same event.
    gone = {row[1] for row in before} - {row[1] for row in kept if row[0] == "shop"}
    left = store.ask("SELECT DISTINCT event_id FROM events WHERE application = 'shop'")
    assert not gone & {event for (event,) in left}
    assert answers(store, by_projections=True) == answers(store, by_projections=False)
    assert erase(store) == Counts()


def test_answers_from_projections_follow(store: Store) -> None:
    """They are as if the consumer had never been there; those of others stay as they were."""
    others = [(number, consumer) for number in range(200) for consumer in CONSUMERS[1:2]]
    add(store, others)
    expected = answers(store, by_projections=False)
    add(store, [(number, "acme") for number in range(1000, 1300)])
    assert answers(store, by_projections=True) != expected
    assert erase(store) == Counts(events=300)
    assert answers(store, by_projections=True) == expected
    used = [
        re.findall(r"ReadFromMergeTree \(([^)]*)\)", str(store.ask(f"EXPLAIN {question}")))
        for question in QUESTIONS
    ]
    assert all(len(names) == 1 and not names[0].endswith(".events") for names in used), used
    # Those that keep events in another order have as many.
    kept = store.ask(
        "SELECT name, sum(rows) FROM system.projection_parts WHERE active AND table = 'events' "
        "AND name IN (SELECT name FROM system.projections WHERE type = 'Normal') GROUP BY name"
    )
    assert kept
    assert {rows for _, rows in kept} == {len(others)}


def test_days_without_the_consumer_are_not_written_again(store: Store) -> None:
    """The others may be large."""
    add(store, [(number, "globex") for number in (0, 1, 3, 4)])
    add(store, [(2, "acme")])
    store.run("OPTIMIZE TABLE events FINAL")
    names = "SELECT name FROM system.parts WHERE table = 'events' AND active AND rows > 0"
    erase(store)
    (deletion,) = [sql for sql in store.commands if "DELETE" in sql]
    assert deletion.count("IN PARTITION ID") == 1
    assert len(store.ask(names)) == 2


def test_nobody_is_named_in_what_the_engine_keeps(store: Store) -> None:
    """It has the text of deletions on disk, for long after."""
    subject = Subject("shop", "alice o'brien \\ %s")
    add(store, [(1, "acme")])
    store.run("ALTER TABLE events UPDATE consumer_id = 'alice o\\'brien \\\\ %s' WHERE 1 "
              "SETTINGS mutations_sync = 1")  # fmt: skip
    add_audit(store, [("include", "consumer_id:alice o'brien \\ %s")])
    store.commands.clear()
    assert erase(store, subject) == Counts(events=1, audit=1)
    assert len(store.commands) >= 2
    assert not any("alice" in sql for sql in store.commands)


def test_nothing_is_done_where_there_is_nothing(store: Store) -> None:
    """Neither of a consumer, nor of one that another application has."""
    add(store, [(1, "acme")], application="other")
    add(store, [(2, "globex")])
    assert erase(store) == Counts()
    assert store.commands == []
    assert len(store.ask(EVENTS)) == 2


def test_only_what_was_received_before_is_a_reason(store: Store) -> None:
    """What comes after an erasure began is new."""
    add(store, [(1, "acme")], received=MIDNIGHT + 10)
    assert erase(store, before=MIDNIGHT + 10) == Counts()
    assert erase(store, before=MIDNIGHT + 11) == Counts(events=1)


def test_a_stopped_erasure_begins_nothing(store: Store) -> None:
    """It is begun again after the next start."""
    add(store, [(1, "acme")])
    stopping = threading.Event()
    stopping.set()
    assert erase_found(store.engine, ACME, None, stopping) == Counts()
    assert store.commands == []


# ---- dead letters ----


def test_dead_letters_of_a_consumer_go(store: Store) -> None:
    """And those of others stay."""
    for application, consumer in (("shop", "acme"), ("shop", "globex"), ("other", "acme")):
        store.run(
            "INSERT INTO rejected (application, consumer_id, record_id, received_at) "
            f"VALUES ('{application}', '{consumer}', '{consumer}', '2026-01-20 00:00:00')"
        )
    assert erase(store) == Counts(rejected=1)
    left = "SELECT application, consumer_id FROM rejected ORDER BY ALL"
    assert store.ask(left) == [("other", "acme"), ("shop", "globex")]


# ---- the audit ----


def add_audit(
    store: Store, parameters: Sequence[tuple[str, str]], application: str = "shop"
) -> None:
    """Insert an entry of the audit."""
    pairs = ", ".join(f"({_text(name)}, {_text(value)})" for name, value in parameters)
    store.run(
        "INSERT INTO audit (at, application, action, parameters, record_id) "
        f"VALUES (now64(6), '{application}', 'read', [{pairs}], toString(rand()))"
    )


def _text(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def audited(store: Store) -> list[list[tuple[str, str]]]:
    """Return the parameters of all entries."""
    rows = store.ask("SELECT arrayMap(p -> [p.name, p.value], parameters) FROM audit FINAL")
    return sorted([(name, value) for name, value in pairs] for (pairs,) in rows)


@pytest.mark.parametrize(
    ("name", "value", "consumer"),
    [
        ("include", "consumer_id:acme", "acme"),
        ("exclude", "consumer_id:acme", "acme"),
        ("include", "attributes.customer:acme", "acme"),
        ("include", "consumer_id:ac*", "acme"),
        ("include", "consumer_id:*cm*", "acme"),
        ("include", r"consumer_id:a\*b", "a*b"),
        ("include", "consumer_id:a:b", "a:b"),
        ("include", "consumer_id:alice@example.org", "alice@example.org"),
        ("bound", "acme", "acme"),
        ("prefix", "ac", "acme"),
        ("include", "consumer_id:100%_\\", "100%_\\"),
    ],
)
def test_parameters_that_name_a_consumer_go(
    store: Store, name: str, value: str, consumer: str
) -> None:
    """The entry stays, and what else was asked."""
    add_audit(store, [("start", "-1h"), (name, value), ("include", "route:/a")])
    assert erase(store, Subject("shop", consumer)) == Counts(audit=1)
    assert audited(store) == [[("start", "-1h"), (name, ERASED), ("include", "route:/a")]]
    assert erase(store, Subject("shop", consumer)) == Counts()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("include", "consumer_id:acme2"),
        ("include", "consumer_id:bacme"),
        ("include", "consumer_id:b*"),
        ("include", r"consumer_id:ac\*"),
        ("include", "url:*"),
        ("include", "acme:x"),
        ("prefix", ""),
        ("prefix", "b"),
        ("start", "acme"),
        ("application", "acme"),
    ],
)
def test_other_parameters_stay(store: Store, name: str, value: str) -> None:
    """Also those that look a little like it."""
    add_audit(store, [(name, value)])
    assert erase(store) == Counts()
    assert audited(store) == [[(name, value)]]


def test_questions_of_other_applications_stay(store: Store) -> None:
    """The same id is somebody else there; but an administrator may have asked from elsewhere."""
    add_audit(store, [("include", "consumer_id:acme")], "other")
    add_audit(store, [("application", "shop"), ("include", "consumer_id:acme")], "other")
    assert erase(store) == Counts(audit=1)
    assert audited(store) == [
        [("application", "shop"), ("include", ERASED)],
        [("include", "consumer_id:acme")],
    ]


# ---- keys ----


def test_keys_that_are_bound_are_named(store: Store) -> None:
    """They say whom they are for; whoever erases may revoke them."""
    for key, field, value in (
        ("k1", "consumer_id", "acme"), ("k2", "consumer_id", "globex"), ("k3", "plan_id", "acme"),
    ):  # fmt: skip
        store.run(
            "INSERT INTO keys (application, key_id, bound_field, bound_value) "
            f"VALUES ('shop', '{key}', '{field}', '{value}')"
        )
    assert bound_keys(store.engine, ACME) == ("k1",)
    store.run("TRUNCATE TABLE keys")
