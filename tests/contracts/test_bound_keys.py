# SPDX-License-Identifier: Apache-2.0
"""Read keys that are bound: nothing that any route answers tells of events that they do not see.

Every operation of the OpenAPI document is asked, so that a new one is held to this as well.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import pytest

from otel_apinalytics.catalogue import DIMENSIONS, FIELDS, MEASURES, FieldType, Role
from otel_apinalytics.query.expressions import is_map
from otel_apinalytics.store.keys import BOUND_FIELDS
from tests.support.clients import ADMIN_HEADERS, APPLICATION, FAR_FUTURE, READ_HEADERS, Client
from tests.support.service_process import service_process
from tests.support.waiting import wait_for

# Of another consumer; nothing else has it.
FOREIGN = "foreign"
OWN_EVENTS, FOREIGN_EVENTS = 5, 40
TRACE = "0123456789abcdef" * 2
_FREE_TEXTS = [
    field.name
    for field in FIELDS
    if field.in_event and field.type is FieldType.TEXT and not field.choices
]
_NAMES = [name for name in DIMENSIONS if name not in ("attributes", "metrics")]
_ENTRIES = ("attributes.plan", f"attributes.{FOREIGN}-attribute")
# Which no key that is bound may ask, with a method and an answer.
_OPEN = ("health",)


@dataclass(frozen=True, slots=True)
class Asked:
    """A service with events of two consumers, and keys.

    Args:
        client: Talks to it.
        bound: By field, headers with a key that sees the events of one of them.
        document: Its OpenAPI document.
    """

    client: Client
    bound: Mapping[str, Mapping[str, str]]
    document: Mapping[str, Any]


def events(now: float) -> list[dict[str, Any]]:
    """Return events of two consumers, which differ in all that is text."""
    own = [
        {
            **{name: f"own-{name}" for name in _FREE_TEXTS},
            "url": "/own", "timestamp": now - n, "status_code": 200, "method": "GET",
            "response_us": 1000, "attributes": {"plan": "own"}, "metrics": {"tokens": 1},
            # The parent of the first is another's.
            "trace_id": TRACE, "span_id": f"{n + 1:016x}",
            **({"parent_span_id": f"{1001:016x}"} if n == 0 else {}),
        }
        for n in range(OWN_EVENTS)
    ]  # fmt: skip
    foreign = [
        {
            **{name: f"{FOREIGN}-{name}-{n}" for name in _FREE_TEXTS},
            "url": f"/{FOREIGN}/{n}", "timestamp": now - n, "status_code": 500, "method": "PUT",
            "response_us": 777_777, "is_error": True, "weight": 3,
            "attributes": {"plan": FOREIGN, f"{FOREIGN}-attribute": FOREIGN},
            "metrics": {f"{FOREIGN}-metric": 777_777},
            "trace_id": TRACE, "span_id": f"{1001 + n:016x}",
        }
        for n in range(FOREIGN_EVENTS)
    ]  # fmt: skip
    return [*own, *foreign]


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asked]:
    """Run a service, with a key bound by each of the fields."""
    with service_process(tmp_path_factory.mktemp("bound") / "data") as service:
        client = service.client
        sent = events(time.time() - 60)
        assert client.post_events(sent)[0] == 200
        refused = [{"timestamp": -1, "consumer_id": FOREIGN}]
        assert client.post_events(refused)[0] == 400
        wait_for(lambda: len(client.raw_events()), until=lambda found: found == len(sent))
        bound = {}
        for field in BOUND_FIELDS:
            wanted = {"scope": "read", "bound_to": {field: f"own-{field}"}, "name": "bound"}
            status, made, _ = client.request(
                "POST", "/1/keys/", json.dumps(wanted).encode(), ADMIN_HEADERS
            )
            assert status == 201, made
            bound[field] = {"X-Auth-User": APPLICATION, "X-Auth-Key": made["key"]}
        yield Asked(client, bound, client.request("GET", "/openapi.json")[1])


@pytest.fixture(params=BOUND_FIELDS)
def headers(request: pytest.FixtureRequest, asked: Asked) -> Mapping[str, str]:
    """Return headers with a bound key; one for each field that there is to be bound to."""
    return asked.bound[request.param]


def get(asked: Asked, path: str, headers: Mapping[str, str]) -> Any:
    """Return an answer of a bound key, in which there is nothing of others."""
    status, body, answered = asked.client.request("GET", path, None, headers)
    assert_own(path, body, answered)
    assert status == 200, (path, body)
    return body


def assert_own(path: str, body: Any, headers: Mapping[str, str]) -> None:
    """Fail if there is something of others in an answer, but for what was asked."""
    shown = body.decode("utf-8", "replace") if isinstance(body, bytes) else json.dumps(body)
    told = f"{shown}\n{dict(headers)}"
    for text in (FOREIGN, "777777", "777_777"):
        # What a question names may come back.
        assert text not in told or text in path, (path, told)


def questions(path: str) -> Iterator[str]:
    """Yield paths and parameters of an operation that gives answers from data."""
    if path.startswith("/1/timeseries/"):
        for name in (*_NAMES, *_ENTRIES):
            yield f"{path}?{urlencode({'group': name, 'limit': 1})}"
            yield f"{path}?{urlencode({'group': name, 'format': 'csv'})}"
            yield f"{path}?{urlencode({'aggregation': 'unique', 'value': name})}"
        for measure in (*(m for m in MEASURES if m != "metrics"), f"metrics.{FOREIGN}-metric"):
            for aggregation in ("sum", "max", "mean", "p99"):
                yield f"{path}?{urlencode({'aggregation': aggregation, 'value': measure})}"
        yield f"{path}?{urlencode({'aggregation': 'p99', 'exact': 'true', 'format': 'series'})}"
        for name in BOUND_FIELDS:
            yield f"{path}?include={name}:{FOREIGN}*&group={name}&format=series"
            yield f"{path}?exclude={name}:own*&aggregation=error_rate&fill=zero"
        yield f"{path}?include=consumer_id:*&include=consumer_id:&group=direction"
    elif path.startswith("/1/events/"):
        computed = ",".join(field.name for field in FIELDS) + ",is_edge,status_class,cursor"
        for form in ("ndjson", "csv", "parquet"):
            yield f"{path}?{urlencode({'format': form, 'fields': computed})}"
            yield f"{path}?format={form}&limit=2"
        yield f"{path}?include=consumer_id:{FOREIGN}*"
        yield f"{path}?exclude=consumer_id:own*"
    elif path.startswith("/1/values/"):
        for name in (*_NAMES, "attributes", "metrics", *_ENTRIES):
            yield f"{path.replace('{field}', name)}?limit=10000"
        yield f"{path.replace('{field}', 'consumer_id')}?prefix={FOREIGN[:3]}"
        yield f"{path.replace('{field}', 'url')}?include=consumer_id:{FOREIGN}*"
    else:
        yield path


def test_every_operation(asked: Asked, headers: Mapping[str, str]) -> None:
    """It shows nothing of others, or nothing at all."""
    shown, refused = set(), set()
    for template, methods in asked.document["paths"].items():
        path = template.replace("{start}", "0").replace("{end}", str(FAR_FUTURE))
        path = path.replace("{field:path}", "{field}")
        for method, described in methods.items():
            if described["tags"][0] in _OPEN:
                continue
            for question in questions(path) if method == "get" else [path]:
                status, body, answered = asked.client.request(
                    method.upper(), question, None if method == "get" else b"{}", headers
                )
                assert_own(question, body, answered)
                assert status in (200, 400, 403), (question, body)
                if status == 200:
                    shown.add(template)
                elif status == 403:
                    refused.add(template)
    assert shown == {
        "/1/timeseries/{start}/{end}/", "/1/events/{start}/{end}/", "/1/values/{field}/",
        "/1/fields/",
    }  # fmt: skip
    assert {"/1/ledger/{start}/{end}/", "/1/rejected/", "/1/status/", "/1/backup/"} <= refused
    assert {"/1/keys/", "/1/applications/", "/v1/traces", "/1/event/"} <= refused


def test_routes_beyond_the_document(asked: Asked, headers: Mapping[str, str]) -> None:
    """The page, the documentation and what needs no key name no consumer to anybody."""
    for path in ("/", "/docs", "/openapi.json", "/metrics", "/health/live", "/health/ready"):
        status, body, answered = asked.client.request("GET", path, None, headers)
        assert status == 200
        assert f"{FOREIGN}-" not in repr(body) + repr(dict(answered))


def test_numbers_are_of_the_own_rows(asked: Asked, headers: Mapping[str, str]) -> None:
    """Totals, groups, what is folded, values, aggregates, and whether it is sampled."""
    whole = f"/1/timeseries/0/{FAR_FUTURE}/"
    answer = get(asked, whole, headers)
    ((_, count),) = answer["groups"][APPLICATION]
    assert count == OWN_EVENTS
    assert "sampled" not in answer
    for aggregation, expected in (("sum", 5000), ("max", 1000), ("unique", 1), ("error_rate", 0)):
        value = "consumer_id" if aggregation == "unique" else "response_us"
        found = get(asked, f"{whole}?aggregation={aggregation}&value={value}", headers)
        ((_, number),) = found["groups"][APPLICATION]
        assert number == expected, aggregation
    folded = get(asked, f"{whole}?group=service&limit=1", headers)
    assert "other" not in folded
    found = get(asked, "/1/values/consumer_id/", headers)
    assert found["values"] == [{"value": "own-consumer_id", "count": OWN_EVENTS}]
    assert found["more"] is False
    lines = get(asked, f"/1/events/0/{FAR_FUTURE}/", headers).splitlines()
    assert len(lines) == OWN_EVENTS
    unbound = asked.client.request("GET", "/1/values/consumer_id/", None, READ_HEADERS)[1]
    assert len(unbound["values"]) == FOREIGN_EVENTS + 1


def test_pages_are_of_the_own_rows(asked: Asked, headers: Mapping[str, str]) -> None:
    """The next page begins behind an own event, and the last one says so."""
    path, pages = f"/1/events/0/{FAR_FUTURE}/?limit=2&fields=consumer_id", []
    while path:
        status, body, answered = asked.client.request("GET", path, None, headers)
        assert status == 200
        assert_own(path, body, answered)
        pages.append(len(body.splitlines()))
        path = answered.get("Link", "").partition(">")[0].removeprefix("<")
    assert pages == [2, 2, 1]


@pytest.mark.parametrize("question", ["timeseries", "values", "events"])
def test_a_foreign_parent_is_none(asked: Asked, headers: Mapping[str, str], question: str) -> None:
    """Whether there is an event above an own one is not told, unless that is an own one."""
    edges = {}
    for name, who in (("bound", headers), ("all", READ_HEADERS)):
        of_own = "include=consumer_id:own*"
        path = {
            "timeseries": f"/1/timeseries/0/{FAR_FUTURE}/?group=is_edge&{of_own}",
            "values": f"/1/values/is_edge/?{of_own}",
            "events": f"/1/events/0/{FAR_FUTURE}/?fields=is_edge&{of_own}",
        }[question]
        _, body, _ = asked.client.request("GET", path, None, who)
        if question == "timeseries":
            edges[name] = {group: points[0][1] for group, points in body["groups"].items()}
        elif question == "values":
            edges[name] = {each["value"]: each["count"] for each in body["values"]}
        else:
            found = [json.loads(line)["is_edge"] for line in body.splitlines()]
            edges[name] = {
                text: found.count(value)
                for text, value in (("true", True), ("false", False))
                if value in found
            }
    assert edges["all"] == {"true": OWN_EVENTS - 1, "false": 1}
    assert edges["bound"] == {"true": OWN_EVENTS}


def test_nothing_is_told_where_there_is_nothing(asked: Asked, headers: Mapping[str, str]) -> None:
    """Neither why, nor what arrived for others."""
    path = f"/1/timeseries/0/{FAR_FUTURE}/?include=method:PUT&format=series"
    status, body, answered = asked.client.request("GET", path, None, headers)
    assert status == 200
    assert not any(points for each in body["series"] for points in each["points"] if points[1])
    assert "hint" not in body
    assert "X-Hint" not in answered


def test_limits_are_the_key_s_own(asked: Asked, headers: Mapping[str, str]) -> None:
    """What others ask takes nothing of it, and what is counted are rows that it sees."""
    wanted = {
        "scope": "read", "bound_to": {"consumer_id": "own-consumer_id"},
        "rows_per_minute": OWN_EVENTS + 1,
    }  # fmt: skip
    body = json.dumps(wanted).encode()
    made = asked.client.request("POST", "/1/keys/", body, ADMIN_HEADERS)[1]
    path = f"/1/events/0/{FAR_FUTURE}/"
    for who in (READ_HEADERS, headers):
        assert asked.client.request("GET", path, None, who)[0] == 200
    limited = {"X-Auth-Key": made["key"]}
    # The first leaves one; of the foreign events, nothing would be left.
    assert [asked.client.request("GET", path, None, limited)[0] for _ in range(3)] == [
        200,
        200,
        429,
    ]


def test_a_value_that_nobody_has_sees_nothing(asked: Asked) -> None:
    """A key may be made before there are events; what looks like a pattern is none."""
    for value in ("*", "own*", "%", "' OR 1=1 --", "nobody", "\\"):
        wanted = {"scope": "read", "bound_to": {"consumer_id": value}}
        status, made, _ = asked.client.request(
            "POST", "/1/keys/", json.dumps(wanted).encode(), ADMIN_HEADERS
        )
        assert status == 201
        who = {"X-Auth-Key": made["key"]}
        assert get(asked, f"/1/events/0/{FAR_FUTURE}/?fields=consumer_id,is_edge", who) == b""
        assert get(asked, "/1/values/is_edge/", who)["values"] == []


def test_all_fields_are_there_to_be_looked_for() -> None:
    """The look is at something: each text that an event may have differs between the two."""
    own, foreign = events(0)[0], events(0)[-1]
    texts = set(_FREE_TEXTS) - {"method"}
    assert len(texts) > 20
    assert all(FOREIGN in foreign[name] and FOREIGN not in own[name] for name in texts)
    assert set(BOUND_FIELDS) < {f.name for f in FIELDS if f.role is Role.DIMENSION}
    assert not any(is_map(f) for f in FIELDS if f.name in BOUND_FIELDS)
