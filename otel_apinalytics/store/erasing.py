# SPDX-License-Identifier: Apache-2.0
"""What of one consumer is in the tables: it is found there, and deleted."""

from __future__ import annotations

import hashlib
import re
import secrets
import threading
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from otel_apinalytics.normalize.transforms import sql_list, sql_text
from otel_apinalytics.store.deletions import delete_rows, wait_for_deletions
from otel_apinalytics.store.engine import EngineError

if TYPE_CHECKING:
    from otel_apinalytics.store.engine import Engine

_EVENTS, _REJECTED, _AUDIT = "events", "rejected", "audit"
#: What takes the place of a parameter that named a consumer.
ERASED = "ERASED"
# Of audit entries that may have asked for a consumer: through a key of its application, or of it.
_OF_APPLICATION = (
    "(application = %(application)s OR has(parameters, ('application', %(application)s)))"
)
# No text of people.
_NEVER_NAMES = ("start", "end", "cursor", "application", "erasure")
_CANNOT_MERGE_NOW = 388
_MERGED_WITHIN_S = 600.0
_POLL_S = 0.5
_STAR = re.compile(r"\\\*|\*")


@dataclass(frozen=True, slots=True)
class Subject:
    """Who is erased.

    Args:
        application: Whose consumer.
        consumer: Its id, as answers have it.
    """

    application: str
    consumer: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Counts:
    """How much is erased.

    Args:
        events: Events.
        rejected: Dead letters.
        audit: Entries of the audit of which a parameter is taken out.
    """

    events: int = 0
    rejected: int = 0
    audit: int = 0

    def __add__(self, other: Counts) -> Counts:
        """Return the sum."""
        return Counts(
            self.events + other.events, self.rejected + other.rejected, self.audit + other.audit
        )


def erase_found(
    engine: Engine, subject: Subject, before: float | None, stopping: threading.Event
) -> Counts:
    """Delete what there is of a consumer, and return how much it was; nothing of it is left.

    Args:
        engine: The store.
        subject: Who.
        before: Only if something was received before that, Unix seconds; None for any time.
        stopping: Once set, the store goes on, and is not waited for.

    Raises:
        EngineError: The store refuses it, or fails.
    """
    return Counts(
        events=_delete(engine, _EVENTS, subject, before, stopping),
        rejected=_delete(engine, _REJECTED, subject, before, stopping),
        audit=_forget_in_audit(engine, subject, before, stopping),
    )


def bound_keys(engine: Engine, subject: Subject) -> tuple[str, ...]:
    """Return the ids of keys that see nothing but the rows of a consumer, revoked or not.

    Raises:
        EngineError: The store does not answer.
    """
    rows = engine.query(
        "SELECT key_id FROM keys FINAL WHERE application = %(application)s "
        "AND bound_field = 'consumer_id' AND bound_value = %(consumer)s ORDER BY key_id",
        {"application": subject.application, "consumer": subject.consumer},
    ).rows
    return tuple(str(key_id) for (key_id,) in rows)


def _delete(
    engine: Engine, table: str, subject: Subject, before: float | None, stopping: threading.Event
) -> int:
    # One of an erasure that was interrupted.
    wait_for_deletions(engine, table, stopping)
    found = _found(engine, table, subject, before)
    if table == _EVENTS and found and _merge_copies(engine, subject, found, stopping):
        found = _found(engine, table, subject, before)
    if not found or stopping.is_set():
        return 0
    is_subject = (
        f"application = {sql_text(subject.application)} "
        f"AND {_Hashes([subject.consumer]).condition('consumer_id')}"
    )
    deletions = ", ".join(
        f"DELETE IN PARTITION ID {sql_text(partition)} WHERE {is_subject}" for partition in found
    )
    delete_rows(engine, table, deletions, stopping)
    return sum(found.values())


def _found(engine: Engine, table: str, subject: Subject, before: float | None) -> dict[str, int]:
    """Return the days that have rows of a consumer, and how many."""
    is_before = "" if before is None else "AND toFloat64(received_at) < %(before)s"
    rows = engine.query(
        f"SELECT _partition_id, count() FROM {table} WHERE application = %(application)s "
        f"AND consumer_id = %(consumer)s {is_before} GROUP BY _partition_id ORDER BY _partition_id",
        {"application": subject.application, "consumer": subject.consumer, "before": before},
    ).rows
    return {str(partition): int(count) for partition, count in rows}


def _merge_copies(
    engine: Engine, subject: Subject, days: Collection[str], stopping: threading.Event
) -> bool:
    """Make copies of an event one where they are of different consumers; return whether any were.

    Under another mapping, an older copy may have had another consumer. It would be back.
    """
    unmerged = engine.query(
        "SELECT partition_id FROM system.parts WHERE database = currentDatabase() AND active "
        f"AND table = 'events' AND partition_id IN {sql_list(tuple(days))} AND rows > 0 "
        "GROUP BY partition_id HAVING count() > 1 OR min(level) = 0"
    ).rows
    if not unmerged:
        return False
    of_days = (
        "FROM events WHERE application = %(application)s "
        f"AND _partition_id IN {sql_list(tuple(str(day) for (day,) in unmerged))}"
    )
    rows = engine.query(
        f"SELECT DISTINCT _partition_id {of_days} AND consumer_id != %(consumer)s "
        "AND (hour, locality, event_id) IN "
        f"(SELECT hour, locality, event_id {of_days} AND consumer_id = %(consumer)s)",
        {"application": subject.application, "consumer": subject.consumer},
    ).rows
    for (partition,) in rows:
        if not stopping.is_set():
            _merge_partition(engine, str(partition), stopping)
    return bool(rows)


def _merge_partition(engine: Engine, partition: str, stopping: threading.Event) -> None:
    deadline = time.monotonic() + _MERGED_WITHIN_S
    while True:
        try:
            engine.command(
                f"OPTIMIZE TABLE events PARTITION ID {sql_text(partition)} FINAL "
                "SETTINGS optimize_skip_merged_partitions = 1, optimize_throw_if_noop = 1"
            )
            return
        except EngineError as error:
            # Another merge is under way; or a deletion left a part empty, which the engine drops
            # within minutes.
            if error.code != _CANNOT_MERGE_NOW or time.monotonic() > deadline:
                raise
        if stopping.wait(_POLL_S):
            return


# ---- the audit ----


def _forget_in_audit(
    engine: Engine, subject: Subject, before: float | None, stopping: threading.Event
) -> int:
    wait_for_deletions(engine, _AUDIT, stopping)
    values = _values_that_name(engine, subject)
    if not values or stopping.is_set():
        return 0
    is_before = "" if before is None else "AND toFloat64(at) < %(before)s"
    ((count,),) = engine.query(
        f"SELECT count() FROM audit FINAL WHERE {_OF_APPLICATION} {is_before} "
        "AND arrayExists(p -> has(%(values)s, p.value), parameters)",
        {"application": subject.application, "values": list(values), "before": before},
    ).rows
    if not count:
        return 0
    names_it = _Hashes(values).condition("p.value")
    of_application = _OF_APPLICATION.replace("%(application)s", sql_text(subject.application))
    delete_rows(
        engine,
        _AUDIT,
        f"UPDATE parameters = arrayMap(p -> if({names_it}, (p.name, '{ERASED}'), p), parameters) "
        f"WHERE {of_application} AND arrayExists(p -> {names_it}, parameters)",
        stopping,
    )
    return int(count)


def _values_that_name(engine: Engine, subject: Subject) -> Sequence[str]:
    """Return the values of parameters that name a consumer, or a pattern of its id."""
    escaped = subject.consumer.replace("*", r"\*")
    rows = engine.query(
        "SELECT DISTINCT p.name, p.value FROM audit ARRAY JOIN parameters AS p "
        f"WHERE {_OF_APPLICATION} AND p.name NOT IN {sql_list(_NEVER_NAMES)} "
        "AND (endsWith(p.value, %(consumer)s) OR endsWith(p.value, %(escaped)s) "
        "OR position(p.value, '*') > 0 OR p.name = 'prefix')",
        {
            "application": subject.application,
            "consumer": subject.consumer,
            "escaped": escaped,
        },
    ).rows
    return sorted({value for name, value in rows if _is_naming(name, value, subject.consumer)})


def _is_naming(name: str, value: str, consumer: str) -> bool:
    """Return whether a parameter of a question names a consumer, alone or in a filter."""
    _, colon, text = value.partition(":")
    return (
        value == consumer
        or (name == "prefix" and value != "" and consumer.startswith(value))
        or (colon == ":" and _matches(text, consumer))
    )


def _matches(pattern: str, text: str) -> bool:
    """Return whether a filter's value stands for a text, and for more than anything."""
    expression, end = "", 0
    for star in _STAR.finditer(pattern):
        expression += re.escape(pattern[end : star.start()])
        expression += ".*" if star[0] == "*" else r"\*"
        end = star.end()
    expression += re.escape(pattern[end:])
    return pattern.strip("*") != "" and re.fullmatch(expression, text, re.DOTALL) is not None


class _Hashes:
    """Some texts, as a statement can name them without saying them."""

    def __init__(self, texts: Collection[str]) -> None:
        self._salt = secrets.token_hex(16)
        self._digests = [
            hashlib.sha256((self._salt + text).encode()).hexdigest().upper() for text in texts
        ]

    def condition(self, expression: str) -> str:
        """Return the condition that an expression is one of them."""
        digest = f"hex(SHA256(concat({sql_text(self._salt)}, {expression})))"
        return f"{digest} IN {sql_list(tuple(self._digests))}"
