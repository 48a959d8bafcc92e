# SPDX-License-Identifier: Apache-2.0
"""Applications and keys over the HTTP API of a real service."""

from __future__ import annotations

import functools
import gzip
import itertools
import json
import time
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta, timezone
from typing import Any

import grpc
import pytest
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status

from otel_apinalytics.errors import AuthenticationError
from otel_apinalytics.receiver.grpc_server import SERVICE
from otel_apinalytics.service import Service
from otel_apinalytics.store import key_watch
from otel_apinalytics.store.key_ring import KeyRing
from otel_apinalytics.store.key_watch import KeyWatch
from otel_apinalytics.store.keys import Scope
from otel_apinalytics.telemetry import Telemetry
from tests.support.clients import (
    ADMIN_HEADERS,
    APPLICATION,
    READ_HEADERS,
    READ_KEY,
    WRITE_HEADERS,
    Client,
)
from tests.support.otlp import make_request, make_span
from tests.support.waiting import wait_for

_NUMBERS = itertools.count()
KEY_FIELDS = {
    "key_id", "application", "scope", "state", "name", "note", "bound_to", "requests_per_minute",
    "rows_per_minute", "created_at", "expires_at", "revoked_at", "last_used_at",
}  # fmt: skip
SECRET = "key"


def ask(
    client: Client,
    method: str,
    path: str,
    body: Any = None,
    headers: Mapping[str, str] = ADMIN_HEADERS,
) -> tuple[int, Any]:
    """Send JSON, by default with the operator's admin key; return status and answer."""
    sent = None if body is None else json.dumps(body).encode()
    status, answer, _ = client.request(method, path, sent, headers)
    return status, answer


def problem(answer: Any) -> dict[str, Any]:
    """Return an error, which has the envelope."""
    error: dict[str, Any] = answer["error"]
    assert set(error) == {"code", "message", "parameter", "value", "allowed"}
    return error


def with_key(secret: str) -> dict[str, str]:
    """Return headers with a key."""
    return {"X-Auth-Key": secret}


def make_key(client: Client, application: str, scope: str = "read", **more: Any) -> dict[str, Any]:
    """Make a key, and return the answer, which has it in clear."""
    status, made = ask(
        client, "POST", "/1/keys/", {"application": application, "scope": scope, **more}
    )
    assert status == 201, made
    answer: dict[str, Any] = made
    return answer


@pytest.fixture
def application(client: Client) -> str:
    """Make an application, and return its id."""
    name = f"app-{next(_NUMBERS)}"
    status, made = ask(client, "PUT", f"/1/applications/{name}/", {"name": "An application"})
    assert status == 201, made
    return name


def status_of(client: Client, secret: str) -> int:
    """Return the status of a question with a key."""
    return ask(client, "GET", "/1/fields/", headers=with_key(secret))[0]


def test_an_application(client: Client) -> None:
    """It is made once, shown, changed, removed; its id is never another's."""
    path = "/1/applications/life-of-one/"
    assert ask(client, "GET", path)[0] == 404
    status, made = ask(client, "PUT", path, {"name": "One", "note": "of many"})
    assert (status, made["name"], made["note"], made["active_keys"]) == (201, "One", "of many", 0)
    assert not made["is_operators"]
    assert ask(client, "PUT", path) == (200, made)
    assert ask(client, "PUT", path.rstrip("/"), {"note": ""})[1] == made | {"note": ""}
    assert ask(client, "PATCH", path, {"name": "Two"})[1] == made | {"name": "Two", "note": ""}
    secret = make_key(client, "life-of-one")[SECRET]
    assert ask(client, "GET", path)[1]["active_keys"] == 1
    assert status_of(client, secret) == 200
    status, removed = ask(client, "DELETE", path)
    assert (status, removed["active_keys"]) == (200, 0)
    assert removed["removed_at"]
    assert ask(client, "DELETE", path) == (200, removed)
    assert status_of(client, secret) == 401
    for method, sent in (("PUT", {}), ("PATCH", {"name": "Three"})):
        status, answer = ask(client, method, path, sent)
        assert (status, problem(answer)["code"]) == (409, "conflict")
    status, answer = ask(
        client, "POST", "/1/keys/", {"application": "life-of-one", "scope": "read"}
    )
    assert status == 409
    assert "removed" in problem(answer)["message"]


def test_the_operators_application_stays(client: Client) -> None:
    """Its admin keys are those of whoever runs the service."""
    status, answer = ask(client, "DELETE", f"/1/applications/{APPLICATION}/")
    assert (status, problem(answer)["code"]) == (409, "conflict")
    status, found = ask(client, "GET", f"/1/applications/{APPLICATION}/")
    assert (status, found["is_operators"], found["removed_at"]) == (200, True, None)


def test_a_key(client: Client, application: str) -> None:
    """It is shown in clear once, and changed but for what it may do and see."""
    made = make_key(
        client, application, name="Embedded", note="for acme", expires_at="+30d",
        bound_to={"plan_id": "gold"}, requests_per_minute=7,
    )  # fmt: skip
    secret = made.pop(SECRET)
    assert secret.startswith("apr_")
    assert len(secret) > 40
    assert set(made) == KEY_FIELDS
    assert (made["application"], made["scope"], made["state"]) == (application, "read", "active")
    assert made["bound_to"] == {"plan_id": "gold"}
    assert (made["requests_per_minute"], made["rows_per_minute"]) == (7, 100_000_000)
    ends_in = datetime.fromisoformat(made["expires_at"]) - datetime.now(timezone.utc)
    assert timedelta(days=29) < ends_in < timedelta(days=30)
    path = f"/1/keys/{made['key_id']}/"
    assert ask(client, "GET", path) == (200, made)
    assert ask(client, "GET", f"/1/keys/?application={application}")[1] == {"keys": [made]}
    changes = {"name": "", "expires_at": None, "requests_per_minute": None, "rows_per_minute": 5}
    status, changed = ask(client, "PATCH", path, changes)
    assert status == 200
    assert changed == made | changes | {"requests_per_minute": 6000}
    status, answer = ask(client, "PATCH", path, {"bound_to": None})
    assert (status, problem(answer)["parameter"]) == (400, "bound_to")


def test_a_key_is_revoked_at_once_and_for_ever(client: Client, application: str) -> None:
    """Whatever else is done to it."""
    made = make_key(client, application)
    path = f"/1/keys/{made['key_id']}/"
    assert status_of(client, made[SECRET]) == 200
    status, revoked = ask(client, "DELETE", path)
    assert (status, revoked["state"]) == (200, "revoked")
    status, answer = ask(client, "GET", "/1/fields/", headers=with_key(made[SECRET]))
    assert status == 401
    assert problem(answer)["message"] == f"the key {made['key_id']} was revoked"
    assert ask(client, "DELETE", path)[1]["revoked_at"] == revoked["revoked_at"]
    for method, where in (("PATCH", path), ("POST", f"{path}rotate/")):
        status, answer = ask(client, method, where, {})
        assert (status, problem(answer)["code"]) == (409, "conflict")
    assert status_of(client, made[SECRET]) == 401


def test_a_key_that_has_expired(client: Client, application: str) -> None:
    """It lets nobody in, and cannot be rotated; it can be given more time."""
    made = make_key(client, application)
    path = f"/1/keys/{made['key_id']}/"
    status, changed = ask(client, "PATCH", path, {"expires_at": "now"})
    assert (status, changed["state"]) == (200, "expired")
    status, answer = ask(client, "GET", "/1/fields/", headers=with_key(made[SECRET]))
    assert (status, problem(answer)["message"]) == (401, f"the key {made['key_id']} has expired")
    assert ask(client, "POST", f"{path}rotate/")[0] == 409
    assert ask(client, "PATCH", path, {"expires_at": "2100-01-01T00:00:00Z"})[0] == 200
    assert status_of(client, made[SECRET]) == 200


def test_a_key_expires_by_itself(service: Service, client: Client, application: str) -> None:
    """Nobody has to do anything; a time has fractions."""
    ends_at = time.time() + 3600.1234567
    made = make_key(client, application, expires_at=ends_at)
    for now, expected in ((ends_at - 1, True), (ends_at + 0.001, False)):
        ring = KeyRing(service.engine, Telemetry(), functools.partial(float, now))
        assert lets_in(ring, made[SECRET]) is expected


def test_rotation_with_overlap(client: Client, application: str) -> None:
    """Both are good for a while; the new one is of the same kind."""
    made = make_key(
        client, application, name="Page", bound_to={"app_id": "a"}, rows_per_minute=9,
        expires_at="+10d",
    )  # fmt: skip
    status, new = ask(client, "POST", f"/1/keys/{made['key_id']}/rotate/")
    assert status == 201
    assert set(new) == KEY_FIELDS | {SECRET, "old"}
    for name in ("application", "scope", "name", "bound_to", "rows_per_minute"):
        assert new[name] == made[name]
    # As long as the old one was made for, and the old one for a day.
    lengths = [
        datetime.fromisoformat(each["expires_at"]) - datetime.now(timezone.utc)
        for each in (new, new["old"])
    ]
    assert timedelta(days=9) < lengths[0] <= timedelta(days=10)
    assert timedelta(hours=23) < lengths[1] <= timedelta(hours=24)
    assert (new["old"]["key_id"], new["old"]["state"]) == (made["key_id"], "active")
    assert status_of(client, made[SECRET]) == status_of(client, new[SECRET]) == 200
    # Once more, and at once.
    status, newer = ask(
        client, "POST", f"/1/keys/{new['key_id']}/rotate/",
        {"old_expires_at": "now", "expires_at": "+1h"},
    )  # fmt: skip
    assert status == 201
    assert status_of(client, new[SECRET]) == 401
    assert status_of(client, newer[SECRET]) == 200
    # A key never lasts longer because it is rotated.
    status, last = ask(
        client, "POST", f"/1/keys/{newer['key_id']}/rotate/", {"old_expires_at": "+30d"}
    )
    assert last["old"]["expires_at"] == newer["expires_at"]


def test_a_rotation_that_is_repeated(client: Client, application: str) -> None:
    """As after a lost answer: the end that the first one set is not taken for the key's own."""
    for_ever = make_key(client, application)
    for_a_while = make_key(client, application, expires_at="+10d")
    for made, days in ((for_ever, None), (for_a_while, 10)):
        for _ in range(3):
            status, new = ask(client, "POST", f"/1/keys/{made['key_id']}/rotate/")
            assert status == 201
            assert days_of(new) == days
        # And what follows from it.
        assert days_of(ask(client, "POST", f"/1/keys/{new['key_id']}/rotate/")[1]) == days
        assert days_of(new["old"]) == 1
    # An end that was set later is not inherited either.
    ask(client, "PATCH", f"/1/keys/{new['key_id']}/", {"expires_at": "+2d"})
    assert days_of(ask(client, "POST", f"/1/keys/{new['key_id']}/rotate/")[1]) == 10


def days_of(key: Mapping[str, Any]) -> int | None:
    """Return for how many days a key is good yet."""
    if key["expires_at"] is None:
        return None
    return round((datetime.fromisoformat(key["expires_at"]) - now()) / timedelta(days=1))


def now() -> datetime:
    """Return the time, UTC."""
    return datetime.now(timezone.utc)


def test_a_key_of_an_earlier_version(service: Service, client: Client, application: str) -> None:
    """It was made for as long as its end says."""
    for key_id, end in (("early-1", "NULL"), ("early-2", "now64(6) + INTERVAL 10 DAY")):
        service.engine.command(
            "INSERT INTO keys (application, key_id, scope, key_sha256, created_at, expires_at) "
            f"SELECT '{application}', '{key_id}', 'read', unhex(hex(SHA256('{key_id}'))), "
            f"now64(6), {end}"
        )
    # Any change has all of them read.
    make_key(client, application)
    assert days_of(ask(client, "POST", "/1/keys/early-1/rotate/")[1]) is None
    assert days_of(ask(client, "POST", "/1/keys/early-2/rotate/")[1]) == 10


def test_last_use(service: Service, client: Client, application: str) -> None:
    """It is known at once, and written once in a while."""
    made = make_key(client, application)
    path = f"/1/keys/{made['key_id']}/"
    assert made["last_used_at"] is None
    assert status_of(client, made[SECRET]) == 200
    first = ask(client, "GET", path)[1]["last_used_at"]
    assert datetime.fromisoformat(first) <= datetime.now(timezone.utc)
    keys = service._key_watch._ring
    keys.write_uses()
    assert ask(client, "GET", path)[1]["last_used_at"] == first
    (written,) = service.engine.query(
        "SELECT count() FROM key_uses WHERE key_id = %(key_id)s", {"key_id": made["key_id"]}
    ).rows
    assert written == (1,)
    # What is refused is no use.
    assert ask(client, "GET", "/1/keys/", headers=with_key(made[SECRET]))[0] == 403
    assert ask(client, "GET", path)[1]["last_used_at"] == first


def test_an_admin_key_is_for_its_application(client: Client, application: str) -> None:
    """Of others it learns nothing; nor of the service."""
    own = with_key(make_key(client, application, "admin")[SECRET])
    foreign = make_key(client, APPLICATION, name="foreign")
    status, found = ask(client, "GET", "/1/applications/", headers=own)
    assert [each["application"] for each in found["applications"]] == [application]
    status, found = ask(client, "GET", "/1/keys/", headers=own)
    assert {each["application"] for each in found["keys"]} == {application}
    status, made = ask(client, "POST", "/1/keys/", {"scope": "write"}, own)
    assert (status, made["application"]) == (201, application)
    assert ask(client, "PATCH", f"/1/applications/{application}/", {"name": "x"}, own)[0] == 200
    for method, path, body in (
        ("GET", f"/1/applications/{APPLICATION}/", None),
        ("GET", "/1/applications/no-such/", None),
        ("GET", f"/1/applications/{APPLICATION}/hash-key/", None),
        ("PUT", "/1/applications/another/", {}),
        ("PATCH", f"/1/applications/{APPLICATION}/", {"name": "mine"}),
        ("DELETE", f"/1/applications/{application}/", None),
        ("GET", f"/1/keys/?application={APPLICATION}", None),
        ("POST", "/1/keys/", {"application": APPLICATION, "scope": "read"}),
        ("GET", "/1/backup/", None),
    ):
        status, answer = ask(client, method, path, body, own)
        assert (status, problem(answer)["code"]) == (403, "forbidden"), path
    path = f"/1/keys/{foreign['key_id']}/"
    for method, where in (
        ("GET", path),
        ("PATCH", path),
        ("DELETE", path),
        ("POST", f"{path}rotate/"),
    ):
        status, answer = ask(client, method, where, {} if method == "PATCH" else None, own)
        assert status == 404, where
        assert "foreign" not in json.dumps(answer)
    assert status_of(client, foreign[SECRET]) == 200
    # The ledger of its own; of all, for the operator.
    status, ledger = ask(client, "GET", "/1/ledger/-1h/now/", headers=own)
    assert {row["application"] for row in ledger["rows"]} <= {application}


def test_data_of_applications_are_apart(client: Client, application: str) -> None:
    """A key gets what came with a key of the same application."""
    write = with_key(make_key(client, application, "write")[SECRET])
    read = with_key(make_key(client, application)[SECRET])
    event = {"timestamp": time.time(), "consumer_id": f"of {application}"}
    assert ask(client, "POST", "/1/event/", [event], write) == (200, {"received": 1})
    path = "/1/values/consumer_id/"
    found = wait_for(lambda: ask(client, "GET", path, headers=read)[1]["values"])
    assert found == [{"value": f"of {application}", "count": 1}]
    assert f"of {application}" not in json.dumps(ask(client, "GET", path, headers=READ_HEADERS)[1])


def test_the_hash_key(client: Client, application: str) -> None:
    """One for each application, as exporters take it; nothing on the way keeps it."""
    path = f"/1/applications/{application}/hash-key/"
    status, found, headers = client.request("GET", path, None, ADMIN_HEADERS)
    assert (status, headers["Cache-Control"]) == (200, "no-store")
    assert found["hash_key"].startswith("aph_")
    of_another = ask(client, "GET", f"/1/applications/{APPLICATION}/hash-key/")[1]
    assert of_another["hash_key"] != found["hash_key"]


@pytest.mark.parametrize(
    ("body", "parameter"),
    [
        (b"", "scope"),
        (b"[]", None),
        (b"{", None),
        (b'"\xff"', None),
        (b'{"scope": "\\ud800"}', None),
        (b"[" * 50_000, None),
        ({"scope": "root"}, "scope"),
        ({"scope": "read", "nmae": "x"}, "nmae"),
        ({"scope": "read", "name": 7}, "name"),
        ({"scope": "read", "name": "x" * 101}, "name"),
        ({"scope": "read", "name": "two\nlines"}, "name"),
        ({"scope": "read", "expires_at": "soon"}, "expires_at"),
        ({"scope": "read", "expires_at": "-1h"}, "expires_at"),
        ({"scope": "read", "expires_at": "+999999999w"}, "expires_at"),
        ({"scope": "read", "expires_at": 12}, "expires_at"),
        ({"scope": "read", "expires_at": 1e99}, "expires_at"),
        ({"scope": "read", "bound_to": {}}, "bound_to"),
        ({"scope": "read", "bound_to": {"consumer_id": ""}}, "bound_to"),
        ({"scope": "read", "bound_to": {"url": "/"}}, "bound_to"),
        ({"scope": "read", "bound_to": {"consumer_id": "a\x1b[31m"}}, "bound_to"),
        ({"scope": "read", "note": "a\x1b[31m"}, "note"),
        ({"scope": "read", "bound_to": {"consumer_id": "a", "plan_id": "b"}}, "bound_to"),
        ({"scope": "write", "bound_to": {"consumer_id": "a"}}, "bound_to"),
        ({"scope": "read", "requests_per_minute": 0}, "requests_per_minute"),
        ({"scope": "read", "rows_per_minute": True}, "rows_per_minute"),
        ({"scope": "read", "application": "no such"}, "application"),
    ],
)
def test_a_wrong_body(client: Client, body: Any, parameter: str | None) -> None:
    """It is refused, with what is wrong and what is allowed."""
    sent = body if isinstance(body, bytes) else json.dumps(body).encode()
    status, answer, _ = client.request("POST", "/1/keys/", sent, ADMIN_HEADERS)
    error = problem(answer)
    assert status == (404 if parameter == "application" else 400), error
    assert error["parameter"] == parameter
    assert error["allowed"] or status == 404


def test_what_is_no_json_is_said(client: Client) -> None:
    """A body that is compressed, half of a surrogate pair, anything else than an object."""
    compressed = gzip.compress(b'{"scope": "read"}')
    sent = {**ADMIN_HEADERS, "Content-Encoding": "gzip"}
    status, answer, _ = client.request("POST", "/1/keys/", compressed, sent)
    assert (status, problem(answer)["parameter"]) == (415, "Content-Encoding")
    for body, words in (
        (b'{"scope": "read", "name": "\\ud800"}', "hex escape"),
        (b'{"scope": ', "EOF while parsing"),
        (b"[]", "it is something else"),
    ):
        status, answer, _ = client.request("POST", "/1/keys/", body, ADMIN_HEADERS)
        assert status == 400
        assert words in problem(answer)["message"]
    wanted = json.dumps({"scope": "read", "note": "two\n\tlines"}).encode()
    status, made, _ = client.request("POST", "/1/keys/", wanted, ADMIN_HEADERS)
    assert (status, made["note"]) == (201, "two\n\tlines")


@pytest.mark.parametrize("name", ["a b", "-a", "é", "x" * 65, "%00", "a%2Fb"])
def test_a_wrong_id(client: Client, name: str) -> None:
    """Ids are sent in headers, and typed in."""
    status, answer = ask(client, "PUT", f"/1/applications/{name}/".replace(" ", "%20"), {})
    assert status in (400, 404, 405)
    assert problem(answer)


def test_a_large_body(client: Client) -> None:
    """It is not read, and before the key is known, nothing is."""
    body = b'{"note": "' + b"x" * 100_000 + b'"}'
    assert client.request("POST", "/1/keys/", body, ADMIN_HEADERS)[0] == 413
    assert client.request("POST", "/1/keys/", body)[0] == 401
    assert client.request("POST", "/1/keys/", body, READ_HEADERS)[0] == 403


def test_limits_of_questions(client: Client, application: str) -> None:
    """Requests and rows; with a delay, and other keys go on."""
    headers = with_key(make_key(client, application, requests_per_minute=2)[SECRET])
    answers = [client.request("GET", "/1/fields/", None, headers) for _ in range(3)]
    assert [status for status, _, _ in answers] == [200, 200, 429]
    _, answer, answered = answers[-1]
    assert 1 <= int(answered["Retry-After"]) <= 31
    assert problem(answer)["code"] == "too_many_requests"
    assert "more than 2 requests a minute" in problem(answer)["message"]
    of_rows = with_key(make_key(client, application, rows_per_minute=10)[SECRET])
    path = "/1/timeseries/-1h/now/?granularity=minute&fill=zero"
    assert ask(client, "GET", path, headers=of_rows)[0] == 200
    status, answer, answered = client.request("GET", path, None, of_rows)
    assert (status, int(answered["Retry-After"]) > 60) == (429, True)
    assert "more than 10 rows a minute" in problem(answer)["message"]


def test_rows_of_streams(client: Client, application: str) -> None:
    """They are counted as they are sent."""
    write = with_key(make_key(client, application, "write")[SECRET])
    read = with_key(make_key(client, application, rows_per_minute=100)[SECRET])
    events = [{"timestamp": time.time(), "consumer_id": str(n)} for n in range(150)]
    assert ask(client, "POST", "/1/event/", events, write)[0] == 200
    other = with_key(make_key(client, application)[SECRET])
    count = "/1/timeseries/-1h/now/"
    wait_for(
        lambda: ask(client, "GET", count, headers=other)[1]["groups"][application],
        until=lambda points: bool(points) and points[0][1] == 150,
    )
    status, lines, _ = client.request("GET", "/1/events/-1h/now/", None, read)
    assert (status, lines.count(b"\n")) == (200, 150)
    assert ask(client, "GET", "/1/fields/", headers=read)[0] == 429


def test_limits_of_writing(client: Client, application: str) -> None:
    """They are there only if they are set; OTLP clients are told when to try again."""
    key = make_key(client, application, "write", rows_per_minute=3)
    assert key["requests_per_minute"] is None
    headers = with_key(key[SECRET])
    events = [{"timestamp": time.time(), "consumer_id": str(n)} for n in range(4)]
    assert ask(client, "POST", "/1/event/", events, headers)[0] == 200
    status, answer, answered = client.request("POST", "/1/event/", b"[]", headers)
    assert (status, problem(answer)["code"]) == (429, "too_many_requests")
    assert int(answered["Retry-After"]) > 0
    body = make_request(make_span({}))
    traces = {**headers, "Content-Type": "application/x-protobuf"}
    status, raw, answered = client.request("POST", "/v1/traces", body, traces)
    assert status == 429
    assert Status.FromString(raw).code == grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]
    assert int(answered["Retry-After"]) > 0
    with client.exporter() as export, pytest.raises(grpc.RpcError) as caught:
        export(body, metadata=(("x-auth-key", key[SECRET]),), timeout=30)
    error: Any = caught.value
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    trailers = dict(error.trailing_metadata())
    delay = RetryInfo.FromString(trailers["google.rpc.retryinfo-bin"]).retry_delay
    assert delay.ToMilliseconds() > 0
    # It is in the ledger, for whoever wonders.
    read = with_key(make_key(client, application)[SECRET])
    wait_for(
        lambda: ask(client, "GET", "/1/status/", headers=read)[1]["outcomes"].get("refused", {}),
        until=lambda refused: refused.get("rate_limited") == 3,
    )


def test_failed_authentications_are_counted(client: Client, application: str) -> None:
    """By their reason."""
    made = make_key(client, application)
    ask(client, "DELETE", f"/1/keys/{made['key_id']}/")
    before = failures(client)
    for headers in ({}, with_key("unknown"), with_key(made[SECRET]), {"X-Auth-User": "nobody"}):
        assert client.request("GET", "/1/fields/", None, headers)[0] == 401
    mixed = {"X-Auth-User": application, "X-Auth-Key": READ_KEY}
    assert client.request("GET", "/1/fields/", None, mixed)[0] == 401
    # Keys that are known, and are for something else, or have done what they may.
    bound = make_key(client, application, bound_to={"plan_id": "x"}, requests_per_minute=2)
    for path, status in (("status", 403), ("keys", 403), ("fields", 429), ("keys", 429)):
        assert ask(client, "GET", f"/1/{path}/", headers=with_key(bound[SECRET]))[0] == status
    after = failures(client)
    counted = {reason: after[reason] - before[reason] for reason in after}
    assert counted == {
        "missing": 2, "unknown": 2, "revoked": 1, "expired": 0, "slowed": 0, "forbidden": 2,
        "rate_limited": 2,
    }  # fmt: skip


def failures(client: Client) -> dict[str, float]:
    """Return failed authentications by reason."""
    lines = client.request("GET", "/metrics")[1].decode().splitlines()
    name = 'apinalytics_failed_authentications_total{reason="'
    found = (line.removeprefix(name).split('"} ') for line in lines if line.startswith(name))
    return {reason: float(value) for reason, value in found}


@pytest.fixture
def other_ring(service: Service, monkeypatch: pytest.MonkeyPatch) -> Iterator[KeyRing]:
    """Follow the keys of the store as another receiver does."""
    monkeypatch.setattr(key_watch, "_USES_S", 0.0)
    ring = KeyRing(service.engine, Telemetry())
    watch = KeyWatch(ring, is_shared=True)
    watch.start()
    yield ring
    watch.close()
    assert watch.faults()


def lets_in(ring: KeyRing, secret: str) -> bool:
    """Return whether a key ring knows a read key."""
    try:
        ring.authenticate(None, secret, Scope.READ)
    except AuthenticationError:
        return False
    return True


def test_another_receiver(client: Client, application: str, other_ring: KeyRing) -> None:
    """It follows what is made and revoked, and tells when keys were used there."""
    made = make_key(client, application)
    wait_for(lambda: lets_in(other_ring, made[SECRET]))
    path = f"/1/keys/{made['key_id']}/"
    wait_for(lambda: ask(client, "GET", path)[1]["last_used_at"])
    assert ask(client, "DELETE", path)[0] == 200
    wait_for(lambda: lets_in(other_ring, made[SECRET]), until=lambda is_in: not is_in)


def test_a_receiver_that_is_behind_revives_no_key(
    service: Service, client: Client, application: str
) -> None:
    """What it writes of a key that was revoked elsewhere does not undo that."""
    made = make_key(client, application)
    behind = KeyRing(service.engine, Telemetry())
    with behind.changes() as (contents, tables):
        stale = contents.keys[application, made["key_id"]]
        assert ask(client, "DELETE", f"/1/keys/{made['key_id']}/")[0] == 200
        tables.write_key(stale)
    assert not lets_in(behind, made[SECRET])
    with service._key_watch._ring.changes():
        pass
    assert status_of(client, made[SECRET]) == 401


def test_write_headers_are_no_admin(client: Client) -> None:
    """Nor are read keys."""
    for headers in (READ_HEADERS, WRITE_HEADERS):
        status, answer = ask(client, "GET", "/1/keys/", headers=headers)
        assert (status, problem(answer)["code"]) == (403, "forbidden")


def test_grpc_with_a_revoked_key(client: Client, application: str) -> None:
    """The caller is told which key it is."""
    made = make_key(client, application, "write")
    ask(client, "DELETE", f"/1/keys/{made['key_id']}/")
    with grpc.insecure_channel(client.grpc) as channel:
        call = channel.unary_unary(f"/{SERVICE}/Export")
        with pytest.raises(grpc.RpcError) as caught:
            call(b"", metadata=(("x-auth-key", made[SECRET]),), timeout=30)
    error: Any = caught.value
    assert error.code() is grpc.StatusCode.UNAUTHENTICATED
    assert made["key_id"] in error.details()
