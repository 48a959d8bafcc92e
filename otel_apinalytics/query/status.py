# SPDX-License-Identifier: Apache-2.0
"""Why there is data, or none: what the ledger and the events say of an application."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone

from otel_apinalytics.catalogue import INBOUND, OUTBOUND, WEIGHT_SCALE
from otel_apinalytics.normalize.outcomes import RECEIVED, REFUSED
from otel_apinalytics.query.statement import engine_faults, range_condition, tenant_condition
from otel_apinalytics.store.engine import Engine

Outcomes = Mapping[str, Mapping[str, int]]
_ADVICE = "ask for a shorter range, or allow more (APINALYTICS_QUERY_TIMEOUT_S)"
# Half-open, Unix microseconds.
Range = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Refused:
    """The last requests that were not let in.

    Args:
        at: Minute in which they were counted, UTC.
        kind: Why, in a word.
        transport: How they came.
        key_id: The key that they came with; empty if none was known.
    """

    at: datetime
    kind: str
    transport: str
    key_id: str


@dataclass(frozen=True, slots=True)
class Sender:
    """What came with one key by one transport within the last 24 hours.

    Args:
        key_id: Public name of the key; empty where no known one came.
        transport: `grpc` or `http`.
        last_received: Minute in which something was let in last, UTC; None for nothing.
        last_refused: What was refused last, or None.
        outcomes: As for `Status`.
    """

    key_id: str
    transport: str
    last_received: datetime | None
    last_refused: Refused | None
    outcomes: Outcomes


@dataclass(frozen=True, slots=True)
class Stored:
    """The events that there are.

    Args:
        first: Start of the hour of the first one, by event time, UTC; None if there is none.
        last: Time of the last one; None if there is none.
        inbound: How many requests the inbound ones stand for.
        outbound: The outbound ones.
        in_range: Whether there are any in the range that is asked about; None without one.
    """

    first: datetime | None
    last: datetime | None
    inbound: float
    outbound: float
    in_range: bool | None = None


@dataclass(frozen=True, slots=True)
class Status:
    """What arrived within the last 24 hours, and what there is.

    Args:
        last_received: Minute in which something arrived last, UTC, however long ago; None for
            never.
        outcomes: Outcome → reason → spans and events; of `refused`, requests, which are beside the
            equation.
        senders: The same by key and transport.
        last_refused: What was refused last, or None.
        stored: The events.
    """

    last_received: datetime | None
    outcomes: Outcomes
    senders: Sequence[Sender]
    last_refused: Refused | None
    stored: Stored


def run_status(
    engine: Engine, application: str, timeout_s: float, asked: Range | None = None
) -> Status:
    """Ask the store; each question takes at most `timeout_s` seconds.

    Args:
        engine: The store.
        application: Whose data.
        timeout_s: Longest time that a question may take.
        asked: Range of event time in which there may be none.

    Raises:
        InvalidRequestError: It takes too long or too much memory.
        RetryableError: The store is not available.
    """
    with engine_faults(timeout_s, _ADVICE):
        rows = _ledger_rows(engine, application, timeout_s)
        senders = list(_senders(rows))
        received = [sender.last_received for sender in senders if sender.last_received]
        last_received = max(received, default=None) or _last_ever(engine, application, timeout_s)
        stored = _stored(engine, application, timeout_s, asked)
    refused = [sender.last_refused for sender in senders if sender.last_refused]
    latest = max(refused, key=lambda refusal: refusal.at, default=None)
    return Status(last_received, _outcomes(rows), senders, latest, stored)


# Key id, transport, outcome, reason, items, last minute.
_Row = tuple[str, str, str, str, int, datetime]


def _ledger_rows(engine: Engine, application: str, timeout_s: float) -> list[_Row]:
    keys = "key_id, transport, outcome, reason"
    found = engine.query(
        f"SELECT {keys}, toInt64(sum(items)), max(minute) FROM ledger "
        "WHERE application = %(application)s AND minute > now() - INTERVAL 1 DAY "
        f"GROUP BY {keys} ORDER BY {keys} SETTINGS max_execution_time = {timeout_s}",
        {"application": application},
    ).rows
    return [
        (str(key_id), str(transport), str(outcome), str(reason), int(items), _utc(last))
        for key_id, transport, outcome, reason, items, last in found
    ]


def _last_ever(engine: Engine, application: str, timeout_s: float) -> datetime | None:
    """Return the minute in which something arrived last, of an application that rests.

    Of each day only the last rows are read, so that it costs as its days do, not as its rows.
    """
    rows = engine.query(
        "SELECT minute FROM ledger_records WHERE application = %(application)s "
        f"AND arrayExists(item -> item.1 = '{RECEIVED}', outcomes) ORDER BY minute DESC LIMIT 1 "
        f"SETTINGS max_execution_time = {timeout_s}",
        {"application": application},
    ).rows
    return _utc(rows[0][0]) if rows else None


def _utc(at: datetime) -> datetime:
    """Return a time of the store, which its client gives without a zone."""
    return at.replace(tzinfo=timezone.utc)


def _outcomes(rows: Sequence[_Row]) -> Outcomes:
    outcomes: dict[str, dict[str, int]] = {}
    for _, _, outcome, reason, items, _ in rows:
        reasons = outcomes.setdefault(outcome, {})
        reasons[reason] = reasons.get(reason, 0) + items
    return outcomes


def _senders(rows: Sequence[_Row]) -> Iterator[Sender]:
    for key_id, transport in dict.fromkeys(row[:2] for row in rows):
        own = [row for row in rows if row[:2] == (key_id, transport)]
        # A request that was refused did not arrive.
        received = (row[5] for row in own if row[2] == RECEIVED)
        refused = [row for row in own if row[2] == REFUSED]
        last = max(refused, key=lambda row: row[5], default=None)
        yield Sender(
            key_id,
            transport,
            max(received, default=None),
            last and Refused(last[5], last[3], transport, key_id),
            _outcomes(own),
        )


def _stored(engine: Engine, application: str, timeout_s: float, asked: Range | None) -> Stored:
    settings = f"SETTINGS max_execution_time = {timeout_s}"
    parameters: dict[str, object] = {"application": application}
    # By hours, of which the store keeps sums.
    by_direction = {
        str(direction): (requests / WEIGHT_SCALE, _utc(first), _utc(last))
        for direction, requests, first, last in engine.query(
            "SELECT direction, sum(weight), min(hour), max(hour) FROM events "
            f"WHERE {tenant_condition()} GROUP BY direction {settings}",
            parameters,
        ).rows
    }
    if not by_direction:
        return Stored(None, None, 0, 0, None if asked is None else False)
    last_hour = max(last for _, _, last in by_direction.values())
    ((last_event,),) = engine.query(
        f"SELECT max(timestamp) FROM events WHERE {tenant_condition()} "
        f"AND events.hour = toDateTime(%(hour)s, 'UTC') {settings}",
        {**parameters, "hour": int(last_hour.timestamp())},
    ).rows
    in_range = None
    if asked is not None:
        bounds = {"start_us": asked[0], "end_us": asked[1]}
        found = engine.query(
            f"SELECT 1 FROM events WHERE {range_condition()} LIMIT 1 {settings}",
            {**parameters, **bounds},
        )
        in_range = bool(found.rows)
    first = min(first for _, first, _ in by_direction.values())
    inbound, outbound = (by_direction.get(name, (0.0,))[0] for name in (INBOUND, OUTBOUND))
    return Stored(first, _utc(last_event), inbound, outbound, in_range)
