# SPDX-License-Identifier: Apache-2.0
"""Tests of the rules: what becomes of a span, field by field, in Python and in the engine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from otel_apinalytics.catalogue import MAX_RESPONSE_US
from otel_apinalytics.normalize.python import Normalized, SpanView, normalize_span

RECEIVED_NS = 1_700_000_000_123_456_789
DAY_NS = 86_400_000_000_000

BASE = SpanView(
    trace_id=b"\1" * 16,
    span_id=b"\2" * 8,
    parent_span_id=b"",
    name="GET /users/{id}",
    kind=2,
    start_ns=RECEIVED_NS,
    end_ns=RECEIVED_NS + 5_000,
    status=0,
    attributes={"http.request.method": "GET"},
    resource={},
)

NormalizeSpan = Callable[[SpanView], Normalized]


@pytest.fixture
def normalize(
    normalize_spans: Callable[[Sequence[SpanView], int], list[dict[str, Any]]],
) -> NormalizeSpan:
    """Return a function that asks both renderings, which must agree."""

    def ask_both(span: SpanView) -> Normalized:
        made = normalize_span(span, RECEIVED_NS)
        (row,) = normalize_spans([span], RECEIVED_NS)
        fields = {name: row[name] for name in made.fields}
        assert made == Normalized(row["outcome"], row["reason"], fields)
        return made

    return ask_both


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        pytest.param(
            {
                "http.request.method": "GET",
                "url.path": "/users/7",
                "url.query": "page=2",
                "http.route": "/users/{id}",
                "http.response.status_code": 200,
                "server.address": "api.example.com",
                "server.port": 443,
                "enduser.id": "alice",
            },
            {
                "consumer_id": "alice",
                "consumer_source": "enduser.id",
                "method": "GET",
                "url": "/users/7?page=2",
                "function": "GET /users/{id}",
                "route": "/users/{id}",
                "status_code": 200,
                "is_error": False,
                "host": "api.example.com",
            },
            id="stable conventions, server",
        ),
        pytest.param(
            {
                "http.method": "post",
                "http.target": "/users/7?page=2#top",
                "http.route": "/users/{id}",
                "http.status_code": "503",
                "http.host": "api.example.com:8080",
                "net.host.name": "10.0.0.1",
            },
            {
                "method": "POST",
                "url": "/users/7?page=2",
                "function": "POST /users/{id}",
                "status_code": 503,
                "is_error": True,
                "host": "api.example.com",
            },
            id="old conventions, server",
        ),
        pytest.param(
            {"http.request.method": "GET", "url.full": "https://u:p@api.example.com:443/a?b=1#c"},
            {"url": "/a?b=1", "host": "api.example.com", "function": "unknown"},
            id="stable conventions, client",
        ),
        pytest.param(
            {"http.method": "GET", "http.url": "https://api.example.com"},
            {"url": "/", "host": "api.example.com"},
            id="old conventions, client",
        ),
        pytest.param(
            {
                "http.request.method": "PUT",
                "http.method": "GET",
                "http.response.status_code": 201,
                "http.status_code": 500,
                "url.path": "/new",
                "http.target": "/old",
            },
            {"method": "PUT", "status_code": 201, "url": "/new"},
            id="both at once: the stable names win",
        ),
        pytest.param(
            {"http.request.method": "-", "http.method": "GET", "url.path": "", "http.target": "/a"},
            {"method": "GET", "url": "/a"},
            id="a word for none falls through to the next name",
        ),
        pytest.param(
            {"http.response.status_code": 0, "http.status_code": 200, "url.path": "/"},
            {"status_code": None},
            id="an unusable value does not fall through within a source",
        ),
        pytest.param(
            {"url.path": "/", "server.address": ":80", "url.full": "https://h/"},
            {"host": "h"},
            id="an unusable value falls through to the next source",
        ),
        pytest.param(
            {"url.path": "/a?b=1"}, {"url": "/a?b=1"}, id="a query inside the path is kept"
        ),
        pytest.param(
            {"url.path": "/a", "url.query": "?b=1"},
            {"url": "/a?b=1"},
            id="a question mark in front of the query is one",
        ),
        pytest.param(
            {"url.path": "/a", "url.query": "token=x&b=1&API_KEY=y"},
            {"url": "/a?token=REDACTED&b=1&API_KEY=REDACTED"},
            id="secrets are redacted",
        ),
        pytest.param(
            {"url.path": "/" + "a" * 2040, "url.query": "b=123456789"},
            {"url": "/" + "a" * 2040 + "?b=1234"},
            id="a URL is bounded",
        ),
        pytest.param(
            {"url.path": "/a", "url.query": "b" * 2041 + "&token=secret"},
            {"url": "/a?" + "b" * 2041 + "&tok"},
            id="a URL is bounded after it is redacted",
        ),
        pytest.param(
            {"http.route": "/r", "url.query": "a=1"},
            {"url": "?a=1", "function": "/r", "method": ""},
            id="a query without a path, a route without a method",
        ),
        pytest.param(
            {"http.request.method": "GET", "http.route": "/r", "code.function.name": "get_r"},
            {"function": "get_r"},
            id="a function's name wins over method and route",
        ),
        pytest.param(
            {"http.route": "/r", "code.function.name": "f", "apinalytics.function": "users.get"},
            {"function": "users.get"},
            id="our own function attribute wins",
        ),
        pytest.param(
            {"http.request.method": "GET", "url.path": "/a"},
            {"function": "unknown", "route": ""},
            id="without a route the function is unknown",
        ),
        pytest.param(
            {"http.request.method": "BREW", "url.path": "/"},
            {"method": "_OTHER"},
            id="an unknown method is bounded",
        ),
        pytest.param(
            {"http.route": "é" * 2000},
            {"route": "é" * 1024, "function": "é" * 1024},
            id="labels are bounded",
        ),
        pytest.param(
            {"http.request.method": ["GET", "PUT"], "http.response.status_code": [404]},
            {"method": "GET", "status_code": 404},
            id="of an array, the first element",
        ),
        pytest.param(
            {"http.request.method": [], "http.method": "GET"},
            {"method": "GET"},
            id="an empty array is absent",
        ),
        pytest.param(
            {"http.route": True, "http.response.status_code": 200.0},
            {"route": "true", "status_code": 200},
            id="values of other types are read as text",
        ),
        pytest.param(
            {"http.route": "/r"},
            {
                "consumer_id": "",
                "consumer_source": "",
                "method": "",
                "url": "",
                "response_us": 5,
                "status_code": None,
                "is_error": False,
                "direction": "inbound",
                "service": "",
                "host": "",
            },
            id="what is missing is empty or null",
        ),
    ],
)
def test_fields(
    normalize: NormalizeSpan, attributes: dict[str, Any], expected: dict[str, object]
) -> None:
    """Attributes become fields as the table says, and the span is stored."""
    made = normalize(replace(BASE, attributes=attributes))
    assert {name: made.fields[name] for name in expected} == expected
    assert (made.outcome, made.reason) == ("stored", "")


@pytest.mark.parametrize(
    ("attributes", "consumer_id", "consumer_source"),
    [
        ({"user.id": "u"}, "u", "user.id"),
        ({"user.id": "u", "enduser.id": "e"}, "e", "enduser.id"),
        (
            {"user.id": "u", "enduser.id": "e", "apinalytics.consumer.id": "a"},
            "a",
            "apinalytics.consumer.id",
        ),
        ({"user.id": "u", "enduser.id": "unknown", "apinalytics.consumer.id": ""}, "u", "user.id"),
        ({"user.id": 7}, "7", "user.id"),
        ({"user.id": "Null"}, "", ""),
        ({"enduser.id": "x" * 5000}, "x" * 5000, "enduser.id"),
    ],
)
def test_consumer(
    normalize: NormalizeSpan, attributes: dict[str, Any], consumer_id: str, consumer_source: str
) -> None:
    """The most specific attribute that says who called wins, is named, and is never cut."""
    made = normalize(replace(BASE, attributes={"url.path": "/", **attributes}))
    assert made.fields["consumer_id"] == consumer_id
    assert made.fields["consumer_source"] == consumer_source


@pytest.mark.parametrize(
    ("resource", "service"),
    [({"service.name": "shop"}, "shop"), ({"service.name": "-"}, ""), ({}, "")],
)
def test_service(normalize: NormalizeSpan, resource: dict[str, str], service: str) -> None:
    """The service is the resource's name, never the span's."""
    attributes = {"url.path": "/", "service.name": "of the span"}
    made = normalize(replace(BASE, attributes=attributes, resource=resource))
    assert made.fields["service"] == service


START = RECEIVED_NS - 8 * DAY_NS
LIMIT_NS = MAX_RESPONSE_US * 1000


@pytest.mark.parametrize(
    ("start_ns", "end_ns", "response_us"),
    [
        (START, START + 1_999, 1),
        (START, START + 999, 0),
        (START, START, 0),
        (START, START - 1_000_000, 0),
        (START, START + LIMIT_NS, MAX_RESPONSE_US),
        (START, START + LIMIT_NS + 999, MAX_RESPONSE_US),
        (START, START + LIMIT_NS + 1_000, None),
        (0, START, None),
        (START, 0, None),
        (0, 0, None),
    ],
)
def test_response_time(
    normalize: NormalizeSpan, start_ns: int, end_ns: int, response_us: int | None
) -> None:
    """Response time is from 0 to 7 days, and null where it is unknown or beyond."""
    made = normalize(replace(BASE, start_ns=start_ns, end_ns=end_ns))
    assert made.fields["response_us"] == response_us
    assert made.outcome == "stored"


@pytest.mark.parametrize(
    ("start_ns", "end_ns", "timestamp_us"),
    [
        (START, RECEIVED_NS, START // 1000),
        (0, START, START // 1000),
        (0, 0, RECEIVED_NS // 1000),
        (1, 0, 0),
    ],
)
def test_event_time(
    normalize: NormalizeSpan, start_ns: int, end_ns: int, timestamp_us: int
) -> None:
    """Event time is the start, else the end, else the time of receipt."""
    made = normalize(replace(BASE, start_ns=start_ns, end_ns=end_ns))
    assert made.fields["timestamp"] == timestamp_us


@pytest.mark.parametrize(
    ("status_code", "status", "is_error"),
    [
        (None, 0, False),
        (499, 0, False),
        (500, 0, True),
        (599, 1, True),
        (200, 1, False),
        (200, 2, True),
        (None, 2, True),
    ],
)
def test_is_error(
    normalize: NormalizeSpan, status_code: int | None, status: int, is_error: bool
) -> None:
    """A call failed if its status is 500 or more, or if the span says so."""
    attributes = {"url.path": "/"} | (
        {"http.response.status_code": status_code} if status_code else {}
    )
    made = normalize(replace(BASE, attributes=attributes, status=status))
    assert made.fields["is_error"] is is_error


@pytest.mark.parametrize(("kind", "direction"), [(2, "inbound"), (3, "outbound")])
def test_direction(normalize: NormalizeSpan, kind: int, direction: str) -> None:
    """A SERVER span is a call of our API, a CLIENT span one that we make."""
    made = normalize(replace(BASE, kind=kind))
    assert made.fields["direction"] == direction
    assert made.outcome == "stored"


LATEST = RECEIVED_NS // 1000 * 1000 + DAY_NS


@pytest.mark.parametrize(
    ("changes", "outcome", "reason"),
    [
        ({}, "stored", ""),
        ({"trace_id": b""}, "rejected", "invalid_trace_id"),
        ({"trace_id": bytes(16)}, "rejected", "invalid_trace_id"),
        ({"trace_id": b"\1" * 15}, "rejected", "invalid_trace_id"),
        ({"trace_id": b"\1" * 17}, "rejected", "invalid_trace_id"),
        ({"span_id": b""}, "rejected", "invalid_span_id"),
        ({"span_id": bytes(8)}, "rejected", "invalid_span_id"),
        ({"span_id": b"\1" * 9}, "rejected", "invalid_span_id"),
        ({"trace_id": b"", "span_id": b"", "kind": 1}, "rejected", "invalid_trace_id"),
        ({"parent_span_id": b"\1"}, "stored", ""),
        ({"kind": 0}, "filtered", "kind_not_server_or_client"),
        ({"kind": 1}, "filtered", "kind_not_server_or_client"),
        ({"kind": 4}, "filtered", "kind_not_server_or_client"),
        ({"kind": 5}, "filtered", "kind_not_server_or_client"),
        ({"kind": -1}, "filtered", "kind_not_server_or_client"),
        ({"kind": 1, "attributes": {}}, "filtered", "kind_not_server_or_client"),
        ({"attributes": {}}, "filtered", "without_http"),
        ({"attributes": {"http.response.status_code": 200}}, "filtered", "without_http"),
        ({"attributes": {"http.request.method": "-"}}, "filtered", "without_http"),
        ({"attributes": {"url.path": "?only=query"}}, "filtered", "without_http"),
        ({"attributes": {}, "start_ns": LATEST + DAY_NS}, "filtered", "without_http"),
        ({"start_ns": LATEST}, "stored", ""),
        ({"start_ns": LATEST + 999}, "stored", ""),
        ({"start_ns": LATEST + 1_000}, "rejected", "time_out_of_range"),
        ({"start_ns": 0, "end_ns": LATEST + 1_000}, "rejected", "time_out_of_range"),
        ({"start_ns": 1}, "stored", ""),
    ],
)
def test_outcome(
    normalize: NormalizeSpan, changes: dict[str, Any], outcome: str, reason: str
) -> None:
    """Each span is stored, filtered or rejected, for the first reason that holds."""
    made = normalize(replace(BASE, **changes))
    assert (made.outcome, made.reason) == (outcome, reason)
