# SPDX-License-Identifier: Apache-2.0
"""Retention over HTTP: limits hold without a restart, and it is said what they will remove."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from typing import Any
from urllib.parse import urlencode

import pytest
from pydantic import TypeAdapter

from otel_apinalytics.api import audit_answers
from otel_apinalytics.service import Service
from otel_apinalytics.settings import MAX_DAYS, Settings
from otel_apinalytics.store.retention import Retention
from otel_apinalytics.store.retention_limits import DAYS, NAMES, RetentionLimits
from otel_apinalytics.telemetry import Telemetry
from tests.support.clients import ADMIN_HEADERS, READ_HEADERS, WRITE_HEADERS, Client

_ANSWER = TypeAdapter(audit_answers.Retention)
DAY_S = 86_400
KEPT = "kept-short"


@pytest.fixture(autouse=True)
def _application(client: Client) -> Iterator[None]:
    """Make an application, and take back what is set of it."""
    client.request("PUT", f"/1/applications/{KEPT}/", b"{}", ADMIN_HEADERS)
    yield
    put(client, {"application": KEPT, **dict.fromkeys(NAMES)})


def show(client: Client, **parameters: str) -> dict[str, Any]:
    """Return the limits of the application, and its days."""
    path = f"/1/retention/?{urlencode({'application': KEPT, **parameters})}"
    status, body, _ = client.request("GET", path, None, ADMIN_HEADERS)
    assert status == 200, body
    _ANSWER.validate_python(body)
    found: dict[str, Any] = body
    return found


def put(
    client: Client, body: Any, headers: Mapping[str, str] = ADMIN_HEADERS
) -> tuple[int, dict[str, Any]]:
    """Change limits."""
    sent = body if isinstance(body, bytes) else json.dumps(body).encode()
    status, answer, _ = client.request("PUT", "/1/retention/", sent, headers)
    return status, answer


def add(service: Service, day_s: float) -> None:
    """Insert events and entries of the audit of a day, received then."""
    at = f"fromUnixTimestamp64Micro({int(day_s * 1e6)}, 'UTC')"
    for table, columns, values in (
        ("events", "timestamp, received_at, event_id", f"{at}, {at}, number"),
        ("audit", "at, number", f"{at}, number"),
    ):
        service.engine.command(
            f"INSERT INTO {table} (application, {columns}) "
            f"SELECT '{KEPT}', {values} FROM numbers(3)"
        )


def removed_after(answer: Mapping[str, Any], table: str, day_s: float) -> datetime:
    """Return when a day goes."""
    day = f"{datetime.fromtimestamp(day_s, timezone.utc):%Y-%m-%d}"
    (found,) = (x for x in answer["days"] if (x["table"], x["day"]) == (table, day))
    assert found["rows"] == 3
    return datetime.fromisoformat(found["removed_after"])


def test_limits_that_are_set_hold_at_once(service: Service, client: Client) -> None:
    """The next deletion goes by them; what they say will go is what goes."""
    now = time.time()
    day = (now // DAY_S - 20) * DAY_S
    add(service, day)
    status, answer = put(client, {"application": KEPT, "events_days": 7, "audit_days": 30})
    assert status == 200
    assert answer["limits"] == show(client)["limits"]
    assert answer["limits"]["events_days"] == {"value": 7, "source": "api"}
    assert answer["limits"]["ledger_days"] == {"value": 400, "source": "default"}
    assert removed_after(answer, "events", day).timestamp() == day + 8 * DAY_S
    assert removed_after(answer, "audit", day).timestamp() == day + 31 * DAY_S
    # Nothing of others, whatever other tests have.
    forever = {f"retention_{name}": MAX_DAYS for name in DAYS.values()}
    settings = Settings.model_validate(forever)
    limits = RetentionLimits(service.engine, settings)
    Retention(service.engine, limits.policy, Telemetry(), threading.Event()).run(now)
    after = show(client)
    with pytest.raises(ValueError, match="not enough"):
        removed_after(after, "events", day)
    assert removed_after(after, "audit", day).timestamp() > now


def test_what_would_go_can_be_seen_before(service: Service, client: Client) -> None:
    """Nothing is changed by it."""
    day = (time.time() // DAY_S - 3) * DAY_S
    add(service, day)
    before = show(client)
    supposed = show(client, events_days="1")
    assert supposed["limits"]["events_days"] == {"value": 1, "source": "api"}
    assert removed_after(supposed, "events", day).timestamp() == day + 2 * DAY_S
    assert removed_after(before, "events", day).timestamp() == day + 91 * DAY_S
    assert show(client)["limits"] == before["limits"]


def test_dead_letters_that_would_be_too_many_are_seen_before(
    service: Service, client: Client
) -> None:
    """They go within a minute, not with their day."""
    day = (time.time() // DAY_S - 3) * DAY_S
    service.engine.command(
        "INSERT INTO rejected (application, record_id, received_at) "
        f"SELECT '{KEPT}', toString(number), fromUnixTimestamp64Micro({int(day * 1e6)}, 'UTC') "
        "+ number FROM numbers(9)"
    )

    def found(**parameters: str) -> list[tuple[int, bool]]:
        return [
            (each["rows"], datetime.fromisoformat(each["removed_after"]).timestamp() > time.time())
            for each in show(client, **parameters)["days"]
            if each["table"] == "rejected"
        ]

    assert found() == [(9, True)]
    assert found(rejected_rows="2") == [(7, False), (2, True)]


def test_limits_are_taken_back_and_others_stay(client: Client) -> None:
    """Null is for that of the settings."""
    put(client, {"application": KEPT, "events_days": 7, "rejected_rows": 10})
    _, answer = put(client, {"application": KEPT, "events_days": None})
    assert answer["limits"]["events_days"] == {"value": 90, "source": "default"}
    assert answer["limits"]["rejected_rows"] == {"value": 10, "source": "api"}
    assert show(client, rejected_rows="null")["limits"]["rejected_rows"]["source"] == "default"


@pytest.mark.parametrize(
    ("body", "parameter"),
    [
        ({"events_days": 0}, "events_days"),
        ({"events_days": -1}, "events_days"),
        ({"events_days": 36_501}, "events_days"),
        ({"events_days": 1.5}, "events_days"),
        ({"events_days": "7"}, "events_days"),
        ({"events_days": True}, "events_days"),
        ({"rejected_rows": 10**13}, "rejected_rows"),
        ({"event_days": 7}, "event_days"),
        ({"application": 7, "events_days": 7}, "application"),
        ({}, None),
        ([], None),
        (b"{", None),
        (b"\xff", None),
    ],
)
def test_wrong_bodies_are_refused(client: Client, body: Any, parameter: str | None) -> None:
    """By name, with what is allowed."""
    status, answer = put(client, body)
    assert (status, answer["error"]["parameter"]) == (400, parameter), answer
    assert answer["error"]["allowed"]


@pytest.mark.parametrize(
    ("query", "status", "parameter"),
    [
        ("events_days=0", 400, "events_days"),
        ("events_days=x", 400, "events_days"),
        ("events_days=36501", 400, "events_days"),
        ("days=1", 400, "days"),
        ("application=nobody", 404, "application"),
    ],
)
def test_wrong_parameters_are_refused(
    client: Client, query: str, status: int, parameter: str
) -> None:
    """Likewise."""
    found, body, _ = client.request("GET", f"/1/retention/?{query}", None, ADMIN_HEADERS)
    assert (found, body["error"]["parameter"]) == (status, parameter)


def test_retention_is_for_administrators_of_the_application(client: Client) -> None:
    """Not for readers, and not for those of others."""
    for headers in (READ_HEADERS, WRITE_HEADERS):
        assert client.request("GET", "/1/retention/", None, headers)[0] == 403
        assert put(client, {"events_days": 1}, headers)[0] == 403
    wanted = json.dumps({"scope": "admin", "application": KEPT}).encode()
    _, made, _ = client.request("POST", "/1/keys/", wanted, ADMIN_HEADERS)
    own = {"X-Auth-Key": made["key"]}
    assert put(client, {"events_days": 9}, own)[1]["application"] == KEPT
    assert put(client, {"events_days": 9, "application": "shop"}, own)[0] == 403
    assert client.request("GET", "/1/retention/?application=shop", None, own)[0] == 403
