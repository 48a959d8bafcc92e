# SPDX-License-Identifier: Apache-2.0
"""Tests of the rules: what becomes of a span, field by field, in Python and in the engine."""

from __future__ import annotations

from collections.abc import Mapping as Values
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from otel_apinalytics.catalogue import FIELDS, MAX_RESPONSE_US, Role
from otel_apinalytics.normalize.identity import ADDRESS_PREFIX, hashed
from otel_apinalytics.normalize.python import SpanView, normalize_spans
from tests.engine_fixtures import HASH_KEY, NormalizeInEngine, Row
from tests.unit.normalize.agreement import comparable, made_by_python

RECEIVED_NS = 1_700_000_000_123_456_789
DAY_NS = 86_400_000_000_000
START = RECEIVED_NS - 8 * DAY_NS
LIMIT_NS = MAX_RESPONSE_US * 1000
LATEST = RECEIVED_NS // 1000 * 1000 + DAY_NS

BASE = SpanView(
    trace_id=b"\1" * 16,
    span_id=b"\2" * 8,
    parent_span_id=b"",
    name="GET",
    kind=2,
    start_ns=RECEIVED_NS,
    end_ns=RECEIVED_NS + 5_000,
    status=0,
    attributes={"http.request.method": "GET"},
    resource={},
)


@dataclass(frozen=True)
class Case:
    """One span, and what is expected of it.

    Args:
        expected: Fields, by their names.
        changes: What the span has other than the others.
        outcome: What becomes of it.
        reason: Why.
    """

    expected: Values[str, Any] = field(default_factory=dict)
    changes: Values[str, Any] = field(default_factory=dict)
    outcome: str = "stored"
    reason: str = ""


def of(attributes: Values[str, Any], expected: Values[str, Any], **changes: Any) -> Case:
    """Return the case of a span with these attributes, and a path if it needs one to be a call."""
    return Case(expected, {"attributes": attributes, **changes})


def with_path(attributes: Values[str, Any], expected: Values[str, Any], **changes: Any) -> Case:
    """Return the case of a span with these attributes and a path."""
    return of({"url.path": "/", **attributes}, expected, **changes)


def key(text: str) -> str:
    """Return the hash of a secret."""
    return hashed(text, HASH_KEY)


HEADER = "http.request.header."
CALLS = {
    "stable conventions, server": of(
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
            "route_source": "attribute",
            "status_code": 200,
            "is_error": False,
            "host": "api.example.com",
            "weight": 1.0,
        },
    ),
    "old conventions, server": of(
        {
            "http.method": "post",
            "http.target": "/users/7?page=2#top",
            "http.route": "/users/{id}",
            "http.status_code": "503",
            "http.host": "api.example.com:8080",
            "net.host.name": "10.0.0.1",
            "http.flavor": "1.1",
        },
        {
            "method": "POST",
            "url": "/users/7?page=2",
            "function": "POST /users/{id}",
            "status_code": 503,
            "is_error": True,
            "error_type": "503",
            "host": "api.example.com",
            "protocol_version": "1.1",
        },
    ),
    "stable conventions, client": of(
        {"http.request.method": "GET", "url.full": "https://u:p@api.example.com:443/a?b=1#c"},
        {"url": "/a?b=1", "host": "api.example.com", "function": "GET /a", "direction": "outbound"},
        kind=3,
    ),
    "old conventions, client": of(
        {"http.method": "GET", "http.url": "https://api.example.com"},
        {"url": "/", "host": "api.example.com"},
    ),
    "both at once: the stable names win": of(
        {
            "http.request.method": "PUT",
            "http.method": "GET",
            "http.response.status_code": 201,
            "http.status_code": 500,
            "url.path": "/new",
            "http.target": "/old",
        },
        {"method": "PUT", "status_code": 201, "url": "/new"},
    ),
    "a word for none falls through to the next name": of(
        {"http.request.method": "-", "http.method": "GET", "url.path": "", "http.target": "/a"},
        {"method": "GET", "url": "/a"},
    ),
    "an unusable value falls through to the next name": with_path(
        {"http.response.status_code": 0, "http.status_code": 200}, {"status_code": 200}
    ),
    "and to the next source": with_path(
        {"server.address": ":80", "url.full": "https://h/"}, {"host": "h"}
    ),
    "of an array, the first element": of(
        {"http.request.method": ["GET", "PUT"], "http.response.status_code": [404]},
        {"method": "GET", "status_code": 404},
    ),
    "an empty array is absent": of(
        {"http.request.method": [], "http.method": "GET"}, {"method": "GET"}
    ),
    "values of other types are read as text": of(
        {"http.route": True, "http.response.status_code": 200.0},
        {"route": "/true", "status_code": 200},
    ),
    "what is missing is empty or null": of(
        {"http.route": "/r"},
        {
            **{f.name: None if f.nullable else "" for f in FIELDS if f.role is not Role.IDENTITY},
            "response_us": 5,
            "direction": "inbound",
            "route": "/r",
            "route_source": "attribute",
            "function": "GET /r",
            "method": "GET",
            "is_error": False,
            "is_stream": False,
            "weight": 1.0,
            "attributes": {},
            "metrics": {},
        },
    ),
}

URLS = {
    "a query inside the path is kept": of({"url.path": "/a?b=1"}, {"url": "/a?b=1"}),
    "a question mark in front of the query is one": of(
        {"url.path": "/a", "url.query": "?b=1"}, {"url": "/a?b=1"}
    ),
    "secrets are redacted": of(
        {"url.path": "/a", "url.query": "token=x&b=1&API_KEY=y"},
        {"url": "/a?token=REDACTED&b=1&API_KEY=REDACTED"},
    ),
    "a URL is bounded": of(
        {"url.path": "/" + "a" * 2040, "url.query": "b=123456789"},
        {"url": "/" + "a" * 2040 + "?b=1234"},
    ),
    "a URL is bounded after it is redacted": of(
        {"url.path": "/a", "url.query": "b" * 2041 + "&token=secret"},
        {"url": "/a?" + "b" * 2041 + "&tok"},
    ),
    "a query without a path, a route without a method": of(
        {"http.route": "/r", "url.query": "a=1"}, {"url": "?a=1", "function": "/r", "method": ""},
        name="",
    ),
    "the query of the old target": of(
        {"url.path": "/a", "http.target": "/b?c=1"}, {"url": "/a?c=1"}
    ),
    "only one of this scope omits the root": of(
        {"http.request.method": "GET"}, {"url": "/"}, scope="actix-web-opentelemetry"
    ),
    "without a path there is no URL": of({"http.request.method": "GET"}, {"url": ""}),
}  # fmt: skip

METHODS = {
    "an unknown method is bounded": with_path(
        {"http.request.method": "BREW"}, {"method": "_OTHER"}
    ),
    "the original of another": with_path(
        {"http.request.method": "_OTHER", "http.request.method_original": "get"}, {"method": "GET"}
    ),
    "an original that is unknown too": with_path(
        {"http.request.method": "_OTHER", "http.request.method_original": "TEST"},
        {"method": "_OTHER"},
    ),
    "of the name": with_path({}, {"method": "GET"}, name="GET /a"),
    "of no name": with_path({}, {"method": ""}, name="GETTING /a"),
    "none for RPC": with_path(
        {"http.request.method": "POST", "rpc.system": "grpc"}, {"method": ""}
    ),
}

ROUTES = {
    "a sentinel is no route": with_path(
        {"http.route": "/**", "http.response.status_code": 404},
        {"route": "(unmatched)", "route_source": "unmatched"},
    ),
    "a sentinel with success": of(
        {"http.route": "/**", "url.path": "/static/7", "http.response.status_code": 200},
        {"route": "/static/{id}", "route_source": "derived"},
    ),
    "none and not found": of(
        {"url.path": "/wp-admin", "http.response.status_code": 404},
        {"route": "(unmatched)", "route_source": "unmatched", "function": "GET (unmatched)"},
        name="GET",
    ),
    "a gateway refuses": of(
        {"url.path": "/a", "http.response.status_code": 401, "kong.request.id": "1"},
        {"route": "(unmatched)"},
    ),
    "a server refuses": of(
        {"url.path": "/a", "http.response.status_code": 401}, {"route": "/a"}
    ),
    "what another server does not find": of(
        {"url.path": "/a", "http.response.status_code": 404}, {"route": "/a"}, kind=3
    ),
    "of the name, with a placeholder": of(
        {"url.path": "/foo/123"}, {"route": "/foo/{id}", "route_source": "name"},
        name="GET /foo/{id}",
    ),
    "the path as name is no evidence": of(
        {"url.path": "/foo/123"}, {"route": "/foo/{id}", "route_source": "derived"},
        name="GET /foo/123",
    ),
    "the attribute's own path is templated": of(
        {"url.path": "/orders/4711", "http.route": "/orders/4711"},
        {"route": "/orders/{id}", "route_source": "derived"},
    ),
    "a slash is added": of({"http.route": "hello/{name}"}, {"route": "/hello/{name}"}),
    "Symfony's is a name": of(
        {"http.route": "app_home", "url.path": "/home"},
        {"route": "app_home", "function": "app_home"},
        scope="io.opentelemetry.contrib.php.symfony",
    ),
    ".NET's is one for all": of(
        {
            "http.route": "{controller=Home}/{action=Index}/{id?}",
            "url.path": "/Users/Show/7",
        },
        {"route": "/Users/Show/{id?}", "route_source": "attribute"},
    ),
    "labels are bounded": of(
        {"http.route": "/" + "é" * 2000}, {"route": "/" + "é" * 1023, "function": "/" + "é" * 1023},
        name="",
    ),
    "without anything": of({"http.request.method": "GET"}, {"route": "", "function": "unknown"}),
}  # fmt: skip

FUNCTIONS = {
    "a function's name wins over method and route": with_path(
        {"http.route": "/r", "code.function.name": "get_r"}, {"function": "get_r"}
    ),
    "our own attribute wins": with_path(
        {"code.function.name": "f", "apinalytics.function": "users.get"}, {"function": "users.get"}
    ),
    "not a framework's kernel": with_path(
        {"code.function.name": "Illuminate\\Foundation\\Http\\Kernel::handle"},
        {"function": "GET /"},
    ),
    "namespace and function": with_path(
        {"code.namespace": "app.views", "code.function": "show"}, {"function": "app.views.show"}
    ),
    "of Ruby": with_path(
        {"code.namespace": "Shop::ItemsController", "code.function": "show"},
        {"function": "Shop::ItemsController#show"},
    ),
    "a namespace alone": with_path({"code.namespace": "app.views"}, {"function": "GET /"}),
    "a handler": with_path({"tornado.handler": "app.Handler"}, {"function": "app.Handler"}),
    "Phoenix": with_path(
        {"phoenix.plug": "App.Users", "phoenix.action": "index"}, {"function": "App.Users.index"}
    ),
    "an action as name": with_path({}, {"function": "Items#show"}, name="Items#show"),
    "a function as a service": with_path(
        {}, {"function": "resize"}, resource={"faas.name": "resize"}
    ),
    "GraphQL": with_path(
        {"graphql.operation.type": "Query", "graphql.operation.name": "GetUser"},
        {"function": "query GetUser"},
    ),
}

RPC = {
    "the new names": of(
        {
            "rpc.system.name": "grpc",
            "rpc.method": "pkg.Service/Get",
            "rpc.response.status_code": "NOT_FOUND",
            "http.response.status_code": 200,
        },
        {
            "function": "pkg.Service/Get",
            "route": "/pkg.Service/Get",
            "url": "/pkg.Service/Get",
            "rpc_status": "NOT_FOUND",
            "status_code": 404,
            "error_type": "NOT_FOUND",
            "is_error": False,
            "method": "",
        },
    ),
    "the old names": of(
        {
            "rpc.system": "grpc",
            "rpc.service": "pkg.Service",
            "rpc.method": "Get",
            "rpc.grpc.status_code": 13,
        },
        {
            "function": "pkg.Service/Get",
            "rpc_status": "INTERNAL",
            "status_code": 500,
            "is_error": True,
        },
    ),
    "unknown is a status": of(
        {"rpc.system": "grpc", "rpc.method": "a/b", "rpc.status_code": "UNKNOWN"},
        {"rpc_status": "UNKNOWN", "status_code": 500},
    ),
    "Envoy's path": of({"grpc.path": "/a.B/C"}, {"function": "a.B/C", "url": "/a.B/C"}),
    "the span's name": of({"rpc.system": "grpc"}, {"function": "a.B/C"}, name="/a.B/C"),
    "a name with a space is none": of(
        {"rpc.system": "grpc"}, {"function": "unknown"}, name="a/b c"
    ),
    "success has no error": of(
        {"rpc.system": "grpc", "rpc.grpc.status_code": 0},
        {"rpc_status": "OK", "status_code": 200, "error_type": ""},
    ),
    "a code of another system": of(
        {"rpc.system": "jsonrpc", "rpc.jsonrpc.error_code": -32601},
        {"rpc_status": "-32601", "status_code": None, "error_type": "-32601"},
    ),
}  # fmt: skip

ASGI = "opentelemetry.instrumentation.asgi"
HOSTS = {
    "the bind address comes last": with_path(
        {"server.address": "0.0.0.0", "url.full": "http://api.example.com/", "http.host": "x:1"},  # noqa: S104
        {"host": "api.example.com"},
        scope=ASGI,
    ),
    "the server's name comes first there": with_path(
        {"http.server_name": "api:80", "url.full": "http://x/"}, {"host": "api"}, scope=ASGI
    ),
    "elsewhere the address does": with_path(
        {"server.address": "a:80", "http.server_name": "b"}, {"host": "a"}
    ),
    "of a call that we make": with_path(
        {"url.full": "http://a/", "net.peer.name": "b", "http.host": "c"}, {"host": "a"}, kind=3
    ),
    "the peer": with_path({"net.peer.name": "b", "http.host": "c"}, {"host": "b"}, kind=3),
    "our own attribute": with_path({"apinalytics.host": "h", "server.address": "a"}, {"host": "h"}),
}

CONSUMERS = {
    "user": with_path({"user.id": "u"}, {"consumer_id": "u", "consumer_source": "user.id"}),
    "user before end user": with_path({"user.id": "u", "enduser.id": "e"}, {"consumer_id": "u"}),
    "our own attribute first": with_path(
        {"user.id": "u", "apinalytics.consumer.id": "a", HEADER + "x-consumer-id": ["k"]},
        {"consumer_id": "a", "consumer_source": "apinalytics.consumer.id"},
    ),
    "a missing one falls through": with_path(
        {"user.id": "unknown", "enduser.id": "e", "apinalytics.consumer.id": ""},
        {"consumer_id": "e", "consumer_source": "enduser.id"},
    ),
    "a number": with_path({"user.id": 7}, {"consumer_id": "7"}),
    "a word for none": with_path({"user.id": "Null"}, {"consumer_id": "", "consumer_source": ""}),
    "an identity is never cut": with_path(
        {"enduser.id": "x y " * 250}, {"consumer_id": "x y " * 250}
    ),
    "a sanitised header is missing": with_path(
        {HEADER + "x-consumer-id": ["[REDACTED]"]}, {"consumer_id": ""}
    ),
    "a gateway before an OAuth client": with_path(
        {"oauth.client_id": "o", HEADER + "x_consumer_username": ["g"]},
        {"consumer_id": "g", "client_id": "o"},
    ),
    "an OAuth client before a certificate": with_path(
        {"client.id": "o", "tls.client.subject": "CN=c"}, {"consumer_id": "o", "client_id": "o"}
    ),
    "a certificate before a user": with_path(
        {"user.id": "u", "tls.client.subject": "CN=c,O=x"}, {"consumer_id": "c"}
    ),
    "a user before a header that the caller chose": with_path(
        {"user.hash": "u", HEADER + "x-client-id": ["h"]}, {"consumer_id": "u"}
    ),
    "such a header before a key": with_path(
        {HEADER + "x-app-id": ["h"], HEADER + "x-api-key": ["k-123"]}, {"consumer_id": "h"}
    ),
    "a key before a tenant": with_path(
        {"tenant.id": "t", HEADER + "x-api-key": ["k-123"]},
        {"consumer_id": key("k-123"), "organization_id": "t"},
    ),
    "a tenant at last": with_path(
        {"tenant.id": "t"},
        {"consumer_id": "t", "consumer_source": "tenant.id", "organization_id": "t"},
    ),
    "a key is one in whichever header": with_path(
        {HEADER + "authorization": ["Bearer k-123"]}, {"consumer_id": key("k-123")}
    ),
    "the user of credentials": with_path(
        {HEADER + "authorization": "Basic YWxpY2U6czNjcmV0"}, {"consumer_id": "alice"}
    ),
    "what looks like a secret is hashed": with_path(
        {"enduser.id": "sk_live_0123456789"}, {"consumer_id": key("sk_live_0123456789")}
    ),
    "metadata of an RPC": with_path(
        {"rpc.request.metadata.x-api-key": ["k-123"]}, {"consumer_id": key("k-123")}
    ),
    "the resource's user": with_path({}, {"consumer_id": "u"}, resource={"user.id": "u"}),
    "the span's before the resource's": with_path(
        {"user.id": "s"}, {"consumer_id": "s"}, resource={"user.id": "r"}
    ),
    "no header is the resource's": with_path(
        {}, {"consumer_id": ""}, resource={HEADER + "x-api-key": ["k"]}
    ),
}

NAMED = {"service.name": "shop"}
SERVICES = {
    "its name": with_path({}, {"service": "shop"}, resource=NAMED),
    "never the span's": with_path({"service.name": "span"}, {"service": "shop"}, resource=NAMED),
    "a word for none": with_path({}, {"service": "-"}, resource={"service.name": "-"}),
    "of Istio": with_path(
        {"istio.canonical_service": "i"}, {"service": "i"},
        resource={"service.name": "unknown_service:nginx"},
    ),
    "a deployment": with_path({}, {"service": "d"}, resource={"k8s.deployment.name": "d"}),
    "unknown is better than nothing": with_path(
        {}, {"service": "unknown_service:nginx"}, resource={"service.name": "unknown_service:nginx"}
    ),
    "version, environment, region, language": with_path(
        {},
        {
            "service_version": "1.2", "environment": "production", "region": "eu-west-1",
            "sdk_language": "python",
        },
        resource={
            "service.version": "1.2", "deployment.environment.name": "Prod",
            "cloud.availability_zone": "eu-west-1a", "telemetry.sdk.language": "Python",
        },
    ),
}  # fmt: skip

ADDRESS = "192.0.2.1"
OTHERS = {
    "client address": with_path(
        {"client.address": ADDRESS},
        {"client_ip_hash": hashed(ADDRESS, HASH_KEY, ADDRESS_PREFIX)},
    ),
    "an address is the same in any spelling": with_path(
        {"http.client_ip": "x", "net.peer.ip": f"ipv4:{ADDRESS}:80"},
        {"client_ip_hash": hashed(ADDRESS, HASH_KEY, ADDRESS_PREFIX)},
    ),
    "our own address is nobody's": with_path(
        {"client.address": ADDRESS}, {"client_ip_hash": ""}, kind=3
    ),
    "user agent": with_path(
        {"user_agent.original": "curl/8.0 (x)"},
        {"user_agent": "curl/8.0 (x)", "client_name": "curl", "client_version": "8.0"},
    ),
    "sizes": with_path(
        {"http.request.body.size": "17", "http.response_content_length": -1, "response_size": "3"},
        {"request_bytes": 17, "response_bytes": 3},
    ),
    "upstream": with_path(
        {"http.response.header.x-envoy-upstream-service-time": ["12"]}, {"upstream_us": 12_000}
    ),
    "cache": with_path({"http.response.header.x_cache": ["HIT"]}, {"cache_status": "hit"}),
    "resends": with_path({"http.request.resend_count": 0}, {"resend_count": 0}),
    "synthetic": with_path({"user_agent.synthetic.type": "bot"}, {"synthetic": "bot"}),
    "flags": with_path(
        {"feature_flag.key": "new-ui", "feature_flag.result.variant": "b"},
        {"experiment": "new-ui", "variant": "b"},
    ),
    "weight": with_path({}, {"weight": 2.0}, trace_state="ot=th:8"),
    "a socket": with_path({"url.scheme": "wss"}, {"is_stream": True}),
    "an upgrade": with_path({"http.response.status_code": 101}, {"is_stream": True}),
    "server-sent events": with_path(
        {"http.response.header.content-type": ["text/event-stream"]}, {"is_stream": True}
    ),
    "no stream": with_path({"url.scheme": "https"}, {"is_stream": False}),
    "version of the header": of(
        {"url.path": "/v1/a", HEADER + "api-version": ["2"]}, {"api_version": "2"}
    ),
    "version of the query": of({"url.path": "/v1/a?api-version=3"}, {"api_version": "3"}),
    "version of the path": of({"url.path": "/v1/a"}, {"api_version": "v1"}),
    "version of what is accepted": of(
        {"url.path": "/a", HEADER + "accept": ["application/vnd.x.v4+json"]}, {"api_version": "v4"}
    ),
}

EXCEPTIONS = (
    ("exception", {"exception.type": "First"}),
    ("exception", {"exception.type": "Last"}),
    ("message", {"exception.type": "Other"}),
)
ERRORS = {
    "none": with_path({}, {"is_error": False, "error_type": ""}),
    "499": with_path({"http.response.status_code": 499}, {"is_error": False, "error_type": ""}),
    "500": with_path({"http.response.status_code": 500}, {"is_error": True, "error_type": "500"}),
    "599": with_path({"http.response.status_code": 599}, {"is_error": True}, status=1),
    "200": with_path({"http.response.status_code": 200}, {"is_error": False}, status=1),
    "200, and the span says so": with_path(
        {"http.response.status_code": 200}, {"is_error": True}, status=2
    ),
    "no status": with_path({}, {"is_error": True}, status=2),
    "a type without a status": with_path(
        {"error.type": "timeout"}, {"is_error": True, "error_type": "timeout"}
    ),
    "a type with a status": with_path(
        {"error.type": "x", "http.response.status_code": 400},
        {"is_error": False, "error_type": "x"},
    ),
    "Envoy's flags": with_path(
        {"error": "true", "response_flags": "UF"}, {"is_error": True, "error_type": "UF"}
    ),
    "no exception": with_path({"exception": "None"}, {"is_error": False, "error_type": ""}),
    "the last exception": with_path({}, {"error_type": "Last"}, events=EXCEPTIONS),
    "a type before an exception": with_path(
        {"error.type": "x"}, {"error_type": "x"}, events=EXCEPTIONS
    ),
}

TIMES = {
    f"{number}": Case({"response_us": response_us, "timestamp": at // 1000}, {
        "start_ns": start_ns, "end_ns": end_ns,
    })
    for number, (start_ns, end_ns, response_us, at) in enumerate(
        [
            (START, START + 1_999, 1, START),
            (START, START + 999, 0, START),
            (START, START, 0, START),
            (START, START - 1_000_000, 0, START),
            (START, START + LIMIT_NS, MAX_RESPONSE_US, START),
            (START, START + LIMIT_NS + 999, MAX_RESPONSE_US, START),
            (START, START + LIMIT_NS + 1_000, None, START),
            (0, START, None, START),
            (START, 0, None, START),
            (0, 0, None, RECEIVED_NS),
            (1, 0, None, 0),
        ]
    )
}  # fmt: skip

KIND, NOTHING = "kind_not_server_or_client", "neither_http_nor_rpc"
TRIGGER = "messaging_or_trigger"
_OUTCOMES: list[tuple[dict[str, Any], str, str]] = [
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
    *(({"kind": kind}, "filtered", KIND) for kind in (0, 1, 4, 5, -1, 6)),
    ({"kind": 1, "attributes": {}}, "filtered", KIND),
    ({"kind": 0, "attributes": {"span.kind": "Server", "url.path": "/"}}, "stored", ""),
    ({"kind": 0, "attributes": {"span.kind": "client", "url.path": "/"}}, "stored", ""),
    ({"kind": 1, "attributes": {"span.kind": "server", "url.path": "/"}}, "filtered", KIND),
    ({"attributes": {}}, "filtered", NOTHING),
    ({"attributes": {"http.response.status_code": 200}}, "filtered", NOTHING),
    ({"attributes": {"http.request.method": "-"}, "name": "GET /a"}, "filtered", NOTHING),
    ({"attributes": {"db.system": "postgresql"}}, "filtered", NOTHING),
    ({"attributes": {"rpc.system": "grpc"}}, "stored", ""),
    ({"attributes": {"http.route": "/a"}}, "stored", ""),
    ({"attributes": {"url.full": "http://h"}}, "stored", ""),
    (
        {"attributes": {"url.path": "/", "logfire.span_type": "pending_span"}},
        "filtered",
        "placeholder",
    ),
    ({"attributes": {"url.path": "/", "logfire.span_type": "span"}}, "stored", ""),
    ({"attributes": {"url.path": "/", "aws.xray.inprogress": True}}, "filtered", "placeholder"),
    ({"attributes": {"url.path": "/", "kong.propagation_only": 1}}, "filtered", "placeholder"),
    ({"attributes": {"url.path": "/", "apinalytics.probe": "7"}}, "filtered", "probe"),
    ({"attributes": {"url.path": "/", "apinalytics.probe": ""}}, "stored", ""),
    ({"attributes": {"apinalytics.probe": "7"}, "start_ns": LATEST + DAY_NS}, "filtered", "probe"),
    ({"attributes": {"apinalytics.probe": "7"}, "kind": 1}, "filtered", KIND),
    ({"attributes": {"messaging.system": "sqs"}}, "filtered", TRIGGER),
    ({"attributes": {"url.path": "/", "faas.trigger": "timer"}}, "filtered", TRIGGER),
    ({"attributes": {"url.path": "/", "faas.trigger": "http"}}, "stored", ""),
    ({"attributes": {"http.method": "GET", "messaging.system": "sqs"}}, "stored", ""),
    ({"attributes": {}, "start_ns": LATEST + DAY_NS}, "filtered", NOTHING),
    ({"start_ns": LATEST}, "stored", ""),
    ({"start_ns": LATEST + 999}, "stored", ""),
    ({"start_ns": LATEST + 1_000}, "rejected", "time_out_of_range"),
    ({"start_ns": 0, "end_ns": LATEST + 1_000}, "rejected", "time_out_of_range"),
    ({"start_ns": 1}, "stored", ""),
]  # fmt: skip
OUTCOMES = {
    f"{number}": Case({}, changes, outcome, reason)
    for number, (changes, outcome, reason) in enumerate(_OUTCOMES)
}

GROUPS = {
    "call": CALLS, "url": URLS, "method": METHODS, "route": ROUTES, "function": FUNCTIONS,
    "rpc": RPC, "host": HOSTS, "consumer": CONSUMERS, "service": SERVICES, "other": OTHERS,
    "error": ERRORS, "time": TIMES, "outcome": OUTCOMES,
}  # fmt: skip
CASES = {f"{group}: {id_}": case for group, cases in GROUPS.items() for id_, case in cases.items()}


@pytest.fixture(scope="module")
def rows(normalize_in_engine: NormalizeInEngine) -> Values[str, tuple[Row, Row]]:
    """Return what each case gives in Python and in the engine, which is asked once."""
    spans = [
        replace(BASE, **{"trace_id": number.to_bytes(16, "big"), "name": "GET", **case.changes})
        for number, case in enumerate(CASES.values(), 1)
    ]
    made = made_by_python(spans, RECEIVED_NS)
    found = normalize_in_engine(spans, RECEIVED_NS)
    return dict(zip(CASES, zip(made, found, strict=True), strict=True))


@pytest.mark.parametrize("name", CASES)
def test_rules(rows: Values[str, tuple[Row, Row]], name: str) -> None:
    """The span becomes what the table says, in both renderings, which agree on the rest."""
    case, (made, found) = CASES[name], rows[name]
    for row in (made, found):
        assert (row["outcome"], row["reason"]) == (case.outcome, case.reason)
        assert {field: row[field] for field in case.expected} == case.expected
    assert comparable({field: found[field] for field in made}) == comparable(made)


def test_without_a_key_nothing_secret_is_kept() -> None:
    """A program that has no hash key leaves out what would be hashed, and takes the next."""
    attributes = {"url.path": "/", HEADER + "x-api-key": ["k-123"], "client.address": ADDRESS}
    (made,) = normalize_spans([replace(BASE, attributes=attributes)], RECEIVED_NS)
    assert (made.fields["consumer_id"], made.fields["client_ip_hash"]) == ("", "")
    attributes["tenant.id"] = "t"
    (made,) = normalize_spans([replace(BASE, attributes=attributes)], RECEIVED_NS)
    assert made.fields["consumer_id"] == "t"


def test_text_that_no_wire_carries_does_no_harm() -> None:
    """A program may set a lone surrogate; the rules take it."""
    attributes = {"url.path": "/\ud800", HEADER + "x-api-key": "\ud800", "enduser.id": "\udfff"}
    (made,) = normalize_spans(
        [replace(BASE, attributes=attributes)], RECEIVED_NS, hash_key=HASH_KEY
    )
    assert made.outcome == "stored"


def test_no_spans_are_no_events() -> None:
    """An empty batch gives nothing."""
    assert normalize_spans([], RECEIVED_NS) == []
