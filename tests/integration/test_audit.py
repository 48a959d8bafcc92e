# SPDX-License-Identifier: Apache-2.0
"""The audit of a service: who asked and who changed what, by way of the log, for administrators."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from pydantic import TypeAdapter

from otel_apinalytics.api import audit_answers
from otel_apinalytics.receiver.records import audit_record
from otel_apinalytics.service import Service
from otel_apinalytics.wire.log_pb2 import AuditEntry, AuditParameter
from tests.support.clients import (
    ADMIN_HEADERS,
    ADMIN_KEY,
    APPLICATION,
    READ_HEADERS,
    READ_KEY,
    WRITE_HEADERS,
    Client,
)
from tests.support.pipeline import Pipeline
from tests.support.waiting import wait_for

_ANSWER = TypeAdapter(audit_answers.Audit)


def audited(client: Client, start: str = "-1h", **parameters: str) -> list[dict[str, Any]]:
    """Return entries, as an administrator gets them."""
    path = f"/1/audit/{start}/now/?{urlencode(parameters)}"
    status, body, _ = client.request("GET", path, None, ADMIN_HEADERS)
    assert status == 200, body
    _ANSWER.validate_python(body)
    entries: list[dict[str, Any]] = body["entries"]
    return entries


def named(entry: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return an entry's parameters."""
    return [(each["name"], each["value"]) for each in entry["parameters"]]


def find(client: Client, name: str, value: str, **parameters: str) -> list[dict[str, Any]]:
    """Return the entries with a parameter, once there is one."""
    return wait_for(
        lambda: [each for each in audited(client, **parameters) if (name, value) in named(each)]
    )


def test_a_question_is_in_the_audit(client: Client) -> None:
    """Who asked what from where, and how much the answer was."""
    query = "group=method&include=consumer_id%3Aaudited&fill=zero"
    path = f"/1/timeseries/-1h/now/?{query}"
    status, _, headers = client.request("GET", path, None, READ_HEADERS)
    assert status == 200
    (entry,) = find(client, "include", "consumer_id:audited")
    assert (entry["application"], entry["action"], entry["method"]) == (APPLICATION, "read", "GET")
    assert (entry["route"], entry["status"]) == ("/1/timeseries/{start}/{end}/", 200)
    assert entry["client_address"] in ("127.0.0.1", "::1")
    assert entry["bytes"] == int(headers["content-length"])
    assert entry["rows"] is not None
    assert named(entry)[:2] == [("start", "-1h"), ("end", "now")]
    assert entry["key_id"]


def test_a_refused_question_is_too(client: Client) -> None:
    """With what it was answered; the key of the caller is not in it, wherever it was put."""
    for query in (f"include=consumer_id:{READ_KEY}", f"refused_7={READ_KEY}"):
        client.request("GET", f"/1/timeseries/-1h/now/?{query}", None, READ_HEADERS)
    (entry,) = find(client, "refused_7", "REDACTED")
    assert entry["status"] == 400
    assert READ_KEY not in json.dumps(audited(client))
    assert ADMIN_KEY not in json.dumps(audited(client))


def test_a_known_key_that_may_not_is_too(client: Client) -> None:
    """Another scope, another's things, too many requests: of these the first."""
    wanted = json.dumps({"scope": "read", "requests_per_minute": 2}).encode()
    _, made, _ = client.request("POST", "/1/keys/", wanted, ADMIN_HEADERS)
    own = {"X-Auth-Key": made["key"]}
    for path, status in (("keys", 403), ("fields", 200), ("fields", 429), ("fields", 429)):
        assert client.request("GET", f"/1/{path}/", None, own)[0] == status
    path = "/1/timeseries/-1h/now/?x=of-a-sender"
    assert client.request("GET", path, None, WRITE_HEADERS)[0] == 403
    (sender,) = find(client, "x", "of-a-sender")
    assert (sender["status"], sender["action"]) == (403, "read")
    found = audited(client, key=made["key_id"])
    assert [(entry["route"], entry["status"]) for entry in reversed(found)] == [
        ("/1/keys/", 403), ("/1/fields/", 200), ("/1/fields/", 429),
    ]  # fmt: skip


def test_a_change_is_on_disk_before_it_is_answered(service: Service, client: Client) -> None:
    """It is loaded with what was acknowledged before."""
    body = json.dumps({"events_days": 91}).encode()
    assert client.request("PUT", "/1/retention/", body, ADMIN_HEADERS)[0] == 200
    service._log.flush(60)
    entry = audited(client, action="retention")[0]
    assert (entry["action"], entry["status"]) == ("retention.change", 200)
    assert named(entry) == [("application", APPLICATION), ("events_days", "91")]
    body = json.dumps({"events_days": None}).encode()
    assert client.request("PUT", "/1/retention/", body, ADMIN_HEADERS)[0] == 200


def test_keys_and_applications_are_in_the_audit(service: Service, client: Client) -> None:
    """What was made and revoked, by whom; never the key itself."""
    assert client.request("PUT", "/1/applications/audited/", b"{}", ADMIN_HEADERS)[0] in (200, 201)
    wanted = json.dumps({"scope": "read", "application": "audited", "name": "for a page"}).encode()
    status, made, _ = client.request("POST", "/1/keys/", wanted, ADMIN_HEADERS)
    assert status == 201
    assert client.request("DELETE", f"/1/keys/{made['key_id']}/", None, ADMIN_HEADERS)[0] == 200
    service._log.flush(60)
    entries = [*audited(client, action="key"), *audited(client, action="application")]
    actions = {each["action"]: each for each in entries if "audited" in json.dumps(each)}
    assert len(actions) >= 2, entries
    assert made["key"] not in json.dumps(audited(client))


def test_what_a_key_was_made_and_changed_to(client: Client) -> None:
    """The values; also of a change that was refused for its body, or for a parameter."""
    wanted = {
        "scope": "read", "name": "page of acme", "bound_to": {"consumer_id": "audited-acme"},
        "expires_at": "+30d", "rows_per_minute": 7,
    }  # fmt: skip
    _, made, _ = client.request("POST", "/1/keys/", json.dumps(wanted).encode(), ADMIN_HEADERS)
    path = f"/1/keys/{made['key_id']}/"
    for body in ({"name": "changed", "rows_per_minute": None}, {"name": 7}):
        client.request("PATCH", path, json.dumps(body).encode(), ADMIN_HEADERS)
    client.request("DELETE", f"{path}?dry_run=true", None, ADMIN_HEADERS)
    client.request("POST", f"{path}rotate/", b'{"old_expires_at": "+1h"}', ADMIN_HEADERS)
    client.request("POST", "/1/keys/", b'{"scope": "none", "a": 1}', ADMIN_HEADERS)
    (entry,) = find(client, "made", made["key_id"])
    assert (entry["action"], named(entry)) == (
        "key.make",
        [
            ("application", APPLICATION), ("scope", "read"), ("name", "page of acme"),
            ("expires_at", "+30d"), ("bound_to", "consumer_id:audited-acme"),
            ("rows_per_minute", "7"), ("made", made["key_id"]),
        ],
    )  # fmt: skip
    wait_for(
        lambda: [each["status"] for each in audited(client, action="key.revoke")],
        until=lambda found: 400 in found,
    )
    found = {
        (each["action"], each["status"]): named(each)
        for each in audited(client, action="key")
        if ("key_id", made["key_id"]) in named(each)
    }
    assert set(found) == {
        ("key.change", 200), ("key.change", 400), ("key.revoke", 400), ("key.rotate", 201)
    }  # fmt: skip
    assert {("name", "changed"), ("rows_per_minute", "null")} < set(found["key.change", 200])
    assert ("dry_run", "true") in found["key.revoke", 400]
    assert ("old_expires_at", "+1h") in found["key.rotate", 201]
    wait_for(
        lambda: [each["status"] for each in audited(client, action="key.make")],
        until=lambda found: 400 in found,
    )


def test_filters_and_formats(client: Client) -> None:
    """Of a key, of an action; as lines and as a table."""
    client.request("GET", "/1/fields/?x=formats", None, READ_HEADERS)
    (entry,) = find(client, "x", "formats")
    key = entry["key_id"]
    assert find(client, "x", "formats", key=key, action="read", application=APPLICATION)
    assert {each["key_id"] for each in audited(client, key=key)} == {key}
    assert audited(client, key="nobody") == audited(client, application="nobody") == []
    assert not [each for each in audited(client, action="rea") if each["action"] == "read"]
    newest = [each["at"] for each in audited(client)]
    assert newest == sorted(newest, reverse=True)
    path = "/1/audit/-1h/now/?limit=1"
    _, page, _ = client.request("GET", path, None, ADMIN_HEADERS)
    assert (len(page["entries"]), page["more"]) == (1, True)
    _, lines, headers = client.request("GET", f"{path}&format=ndjson", None, ADMIN_HEADERS)
    assert headers["content-type"] == "application/x-ndjson"
    assert len([json.loads(line) for line in lines.splitlines()]) == 1
    _, text, headers = client.request("GET", f"{path}&format=csv", None, ADMIN_HEADERS)
    assert headers["content-type"].startswith("text/csv")
    (row,) = csv.DictReader(io.StringIO(text.decode("utf-8-sig"), newline=""))
    assert set(row) == set(entry)
    assert json.loads(row["parameters"])


@pytest.mark.parametrize(
    ("query", "parameter"),
    [("limit=0", "limit"), ("limit=10001", "limit"), ("format=xml", "format"), ("x=1", "x")],
)
def test_wrong_parameters_are_named(client: Client, query: str, parameter: str) -> None:
    """With what is allowed."""
    path = f"/1/audit/-1h/now/?{query}"
    status, body, _ = client.request("GET", path, None, ADMIN_HEADERS)
    assert (status, body["error"]["parameter"]) == (400, parameter)
    assert body["error"]["allowed"]


@pytest.mark.parametrize("headers", [READ_HEADERS, WRITE_HEADERS])
def test_the_audit_is_for_administrators(client: Client, headers: Mapping[str, str]) -> None:
    """It says who asks what."""
    assert client.request("GET", "/1/audit/-1h/now/", None, headers)[0] == 403


def test_an_administrator_of_one_application_sees_its_own(client: Client) -> None:
    """Whatever application is asked for."""
    client.request("PUT", "/1/applications/apart/", b"{}", ADMIN_HEADERS)
    wanted = json.dumps({"scope": "admin", "application": "apart"}).encode()
    _, made, _ = client.request("POST", "/1/keys/", wanted, ADMIN_HEADERS)
    own = {"X-Auth-Key": made["key"]}
    path = "/1/audit/-1h/now/"
    assert client.request("GET", path, None, own)[0] == 200

    def seen(query: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = client.request("GET", f"{path}{query}", None, own)[1][
            "entries"
        ]
        return found

    wait_for(lambda: seen(""))
    assert {each["application"] for each in seen("")} == {"apart"}
    assert seen(f"?application={APPLICATION}") == []


def test_a_repeated_load_changes_nothing(service: Service, tmp_path: Path) -> None:
    """Whatever its token: an entry is told by its record and its place there."""
    entries = [
        AuditEntry(
            at_us=1_790_000_000_000_000, application="again", key_id="k", action="read", rows=n,
            parameters=[AuditParameter(name="include", value=f"consumer_id:c{n}")],
        )
        for n in range(3)
    ]  # fmt: skip
    record = audit_record(entries)
    for log in ("a", "b"):
        with Pipeline(service.engine, tmp_path / log) as pipeline:
            pipeline.load([record])
            pipeline.load([record, audit_record(entries[:1])] if log == "b" else [record])
    rows = service.engine.query(
        "SELECT rows, count() FROM audit FINAL WHERE application = 'again' "
        "GROUP BY rows ORDER BY rows"
    ).rows
    # The last record is another one, of the same content.
    assert list(rows) == [(0, 2), (1, 1), (2, 1)]


def test_the_audit_is_not_in_the_ledger(service: Service, client: Client) -> None:
    """Nothing was received."""
    client.request("GET", "/1/fields/?x=ledger", None, READ_HEADERS)
    find(client, "x", "ledger")
    # Other tests write rows of their own into the shared store, with ids that they make up.
    own = "SELECT record_id FROM audit WHERE has(parameters, ('x', 'ledger'))"
    rows = service.engine.query(
        f"SELECT ({own}) != '', count() FROM ledger_records WHERE record_id IN ({own})"
    ).rows
    assert list(rows) == [(1, 0)]
