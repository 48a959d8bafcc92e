# SPDX-License-Identifier: Apache-2.0
"""Strategies: texts and spans of every kind of sender, and of none, for both renderings."""

from __future__ import annotations

import base64

from hypothesis import strategies as st

from otel_apinalytics.normalize import rules
from otel_apinalytics.normalize.lookup import Entry, look_up
from otel_apinalytics.normalize.mapping import HASH, NO_MAPPING, Mapping, MappingEntry
from otel_apinalytics.normalize.python import SpanView
from otel_apinalytics.normalize.reading import Attributes, Scalar
from otel_apinalytics.normalize.routes import SYMFONY
from otel_apinalytics.normalize.rpc import STATUSES
from otel_apinalytics.normalize.transforms import KNOWN_METHODS, MISSING_WORDS
from otel_apinalytics.normalize.urls import SECRET_PARAMETERS
from tests.engine_fixtures import APPLICATION

RECEIVED_NS = 1_700_000_000_123_456_789
OTHER_APPLICATION = "another"

# Every treatment, several names for a target, several targets for a name, and an application's own.
MAPPING = Mapping(
    (
        MappingEntry("my-header", "consumer_id"),
        MappingEntry("x.app", "consumer_id", application=APPLICATION),
        MappingEntry("x.app", "app_id", application=OTHER_APPLICATION),
        MappingEntry("x.other", "consumer_id", application=OTHER_APPLICATION),
        MappingEntry("X-Api-Key", "developer_id"),
        MappingEntry("authorization", "client_id"),
        MappingEntry("http.request.header.x_plan", "plan_id", HASH),
        MappingEntry("x.organization", "organization_id"),
        MappingEntry("x.organization", "attributes.organization"),
        MappingEntry("enduser.id", "attributes.user-id", HASH),
        MappingEntry("cookie", "attributes.cookie"),
        MappingEntry("service.name", "attributes.service_name"),
        MappingEntry("http.route", "api_version"),
        MappingEntry("x.route", "route"),
        MappingEntry("x.host", "host"),
        MappingEntry("x.function", "function"),
        MappingEntry("x.environment", "environment"),
        MappingEntry("x.agent", "user_agent"),
        MappingEntry("x.protocol", "protocol_version"),
        MappingEntry("x.queue", "queue_us"),
        MappingEntry("x.error", "error_type"),
        MappingEntry("x.service", "service"),
        MappingEntry("x.size", "metrics.size"),
        MappingEntry("x.tokens", "metrics.tokens", application=APPLICATION),
    )
)
mappings = st.sampled_from([NO_MAPPING, MAPPING])

# ---- texts ----


def _mixed(*pieces: str) -> st.SearchStrategy[str]:
    """Return texts that are put together from pieces."""
    return st.lists(st.sampled_from(pieces), min_size=1, max_size=10).map("".join)


# A lone surrogate has no form in UTF-8, so no wire carries one. Everything else does, NUL included.
any_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
_ODD = (*"aZ019&?#:/@[].=;, \n\r\t\0\\'\"$^", "é", "€", "😀", "\u0130", "\u017f", "\u212a", "٣")
_SECRETS = (
    "eyJhbGciOi.eyJzdWIiOi.c2ln", "sk_live_0123456789", "ghp_0123456789abcdef",
    "AKIA0123456789ABCDEF", "x" * 101, "x" * 100,
)  # fmt: skip
odd = _mixed(*_ODD)
words = st.sampled_from(
    [
        *MISSING_WORDS, "NULL", "None", "[Redacted]", "true", "TRUE", "false", "server", "client",
        "http", "timer", "pubsub", "grpc", "x", "-1", "0", "bot", "test", "pending_span", "ws",
        "wss", "websocket", "WebSocket", "text/event-stream; charset=utf-8", "Prod", "dev", "stage",
        "unknown_service:nginx", "unknown_service", "query", "mutation", "HTTP/1.1", "2.0", "3.0",
    ]
)  # fmt: skip
methods = st.sampled_from([*KNOWN_METHODS, "get", "Put", "BREW", "_OTHER", "opt\u0131ons"])
statuses = st.sampled_from(
    [*STATUSES, "canceled", "not_found", "UF,URX", "ECONNRESET", *map(str, range(-1, 18)), "99"]
) | st.integers(95, 605).map(str)
urls = _mixed(
    *"/?#&=:;@", "https://", "http://", "wss://", "h", "u:p@", "[::1]", ":8080", "api", "/v1/",
    "/v2.1", "/api", "api-version=", "key=", "k" * 20, "%20", "42", "//", *_SECRETS[:4],
    *(f"{name}=" for name in SECRET_PARAMETERS), "TOKEN=", "\u017fig=", "REDACTED", "é", "\n",
)  # fmt: skip
paths = _mixed(
    *"/./-_", "users", "7", "-7", "0123abcd", "deadbeef", "2024-05-01", "2024-05-01T10:00",
    "550e8400-e29b-41d4-a716-446655440000", "01ARZ3NDEKTSV4RRFFQ69G5FAV", "a@b.c", "%", ",",
    "v1", "a" * 40, "a" * 41, "é" * 21, "😀", "YWJjZGVmZ2hpamtsbW5vcHFyc3Q5==", *_SECRETS[:4],
    "/a/b/c/d/e/f", "\n",
)  # fmt: skip
routes = _mixed(
    *"/^$ *?{}<>:", "/users", "users", "/{id}", "<int:id>", ":id", "{id?}", "{id:[0-9]+}",
    "(?P<id>[0-9]{4})", "\\Z", "(.:format)", "(.format)", "GET ", "POST  ", "example.com/",
    "example.com:80/", "**", "//", "@named", "{controller=Home}", "{action=Index}", "{area}",
    "{controller}", "{action:x}", "...", "{proxy+}", "?a=1", "7", "root", "default", "/v1", "é",
    "\n",
) | st.sampled_from(
    ["/**", "/*", "UNKNOWN", "NOT_FOUND", "REDIRECTION", "root", "[REDACTED]", "*", "/"]
)  # fmt: skip
hosts = _mixed(*":[]./", "h", "example.com", "80", "::1", "user@", "é")
addresses = _mixed(
    "1.2.3.4", "999.1.1.1", "::1", "2001:db8::1", "[", "]", ":80", "ipv4:", "ipv6:", "::ffff:",
    "%eth0", ",", " ", "x", "é", "\n",
)  # fmt: skip
agents = _mixed("curl/8.0", "Mozilla/5.0", " ", "/", "(X11; Linux)", "python-requests", "é", "\n")
certificates = _mixed(
    *",;/=\" ", "CN=alice", "cn=", "O=x", "By=y", "Hash=1", "Subject=\"", "subject=\"CN=b\"",
    "URI=spiffe://a/b", "uri=", "é", "\n",
)  # fmt: skip
caches = _mixed(*", /_", "HIT", "miss", "TCP_", "Hit from cloudfront", "MISS", "dynamic", "é", "\n")
_encoded = (any_text | st.just("alice:s3cret")).map(
    lambda text: base64.b64encode(text.encode()).decode()
)
credentials = st.builds(
    str.__add__,
    st.sampled_from(["Basic ", "basic  ", "Bearer ", "Token ", "ApiKey ", "Api-Key ", "", "x "]),
    _encoded | st.sampled_from(_SECRETS) | any_text | st.just("YWxpY2U6=="),
)
secrets = _mixed(*_SECRETS, " ", "alice", "é") | st.sampled_from(_SECRETS)
numerals = st.text("0123456789+-.e x٣", min_size=1, max_size=6) | st.integers(0, 10**17).map(str)
_long = st.builds(
    lambda piece, length: piece * length,
    st.sampled_from(["a", "é", "😀", "/7", "a="]),
    st.sampled_from([64, 511, 512, 513, 1023, 1024, 1025, 2047, 2048, 2049, 4000]),
)
accepts = _mixed(
    "application/vnd.x", ".v2", "+json", "; version=", ";version=", "\"", "1.0", "v3", ", ", "é"
)  # fmt: skip

_ALL_TEXTS = (
    any_text, odd, words, methods, statuses, urls, paths, routes, hosts, addresses, agents,
    certificates, caches, credentials, secrets, numerals, _long, accepts,
)  # fmt: skip
texts = st.one_of(*_ALL_TEXTS)

# What its senders write into an attribute, by the target that it is for.
_USUAL: dict[str, st.SearchStrategy[str]] = {
    "said_method": methods,
    "original_method": methods,
    "url_path": paths | urls,
    "target": urls | paths,
    "full_url": urls,
    "query_text": urls,
    "said_route": routes,
    "api_version": accepts | numerals,
    "accept_version": accepts,
    "http_status": statuses,
    "rpc_status": statuses,
    "client_address": addresses,
    "user_agent": agents,
    "cache_status": caches,
    "second_consumer": credentials | certificates | secrets,
    "first_consumer": secrets | any_text,
    **dict.fromkeys(("address", "server_name", "host_header", "local_host", "peer_name"), hosts),
    **dict.fromkeys(("request_bytes", "response_bytes", "resend_count", "upstream_us"), numerals),
}

# ---- attributes ----

_COMPOSING = (
    "http.request.method", "http.request.method_original", "url.path", "http.target", "url.full",
    "url.query", "http.route", "http.response.status_code", "rpc.system", "rpc.service",
    "rpc.method", "grpc.path", "rpc.grpc.status_code", "error.type", "error", "exception",
    "server.address", "http.server_name", "http.host", "net.host.name", "net.peer.name",
    "code.function.name", "code.namespace", "code.function", "tornado.handler", "phoenix.plug",
    "phoenix.action", "faas.name", "faas.trigger", "graphql.operation.type",
    "graphql.operation.name", "span.kind", "kong.request.id", "enduser.id", "client.id",
    "http.request.header.authorization", "http.request.header.x_forwarded_client_cert",
    "tls.client.subject", "client.address", "user_agent.original", "service.name", "tenant.id",
    "http.request.header.x-consumer-username", "x.app", "x.route", "x.host", "x.function",
)  # fmt: skip

_numbers = st.one_of(
    st.integers(-(2**63), 2**63 - 1),
    st.sampled_from([0, -1, 1, 13, 101, 200, 404, 405, 500, 599]),
    st.floats(),
    st.sampled_from([200.0, 404.0, 1e21, 1e-7, -0.0, 0.1]),
    st.booleans(),
)


def _values(usual: st.SearchStrategy[str]) -> st.SearchStrategy[Scalar | list[Scalar]]:
    # Twice, because most attributes are as they should be.
    scalars: st.SearchStrategy[Scalar] = st.one_of(usual, usual, texts, _numbers)
    return st.one_of(scalars, scalars, scalars, st.lists(scalars, max_size=2))


def _attributes(entries: list[tuple[str, Entry]]) -> st.SearchStrategy[Attributes]:
    usual: dict[str, st.SearchStrategy[str]] = {}
    for target, entry in entries:
        usual.setdefault(entry.attribute, _USUAL.get(target, words))
    pairs = [st.tuples(st.just(name), _values(text)) for name, text in usual.items()]
    # Those that fields are composed of meet each other more often.
    composed = [i for i, name in enumerate(usual) if name in _COMPOSING] or [0]
    chosen = st.sampled_from(composed) | st.integers(0, len(pairs) - 1)
    known = st.lists(chosen, max_size=8).flatmap(lambda c: st.tuples(*(pairs[i] for i in c)))
    unknown = st.tuples(any_text, _values(any_text))
    return st.builds(
        lambda known, other: dict([*known, *other]), known, st.lists(unknown, max_size=1)
    )


_ENTRIES = [(t.name, e) for t in look_up(MAPPING) for e in t.entries]
_span_attributes = _attributes([pair for pair in _ENTRIES if pair[1].of_span])
_resource_attributes = _attributes([pair for pair in _ENTRIES if pair[1].of_resource])

# ---- spans ----

# Few of them, so that spans of a batch are parents of others, or even the same.
_trace_ids = st.sampled_from([b"\1" * 16, b"\1" * 16, b"\2" * 16, b"", bytes(16), b"\1" * 15])
_span_ids = st.sampled_from([*(bytes([n]) * 8 for n in range(1, 6)), b"", bytes(8), b"\1" * 9])
_kinds = st.sampled_from([*(2 * [rules.KIND_SERVER]), *range(-1, 7), rules.KIND_INTERNAL])
_flags = st.sampled_from([0, 1, 0x100, 0x101, 0x101, 0x301, 0x200]) | st.integers(0, 2**32 - 1)
_scopes = st.sampled_from(
    [
        "", "opentelemetry.instrumentation.flask", *rules.BIND_ADDRESS_SCOPES,
        rules.PATHLESS_ROOT_SCOPE, f"io.{SYMFONY}",
    ]
)  # fmt: skip
names = st.one_of(
    st.builds("{} {}".format, methods | st.sampled_from(["HTTP", "http get", "x"]), routes | paths),
    st.sampled_from(["", "GET", *rules.GATEWAY_SPAN_NAMES, "/pkg.Service/Method", "Users#show?"]),
    routes,
    texts,
)
trace_states = st.just("") | _mixed(
    "ot=", "th:", "p:", "rv:", "8", "0", "f", "ffffffffffffff", "c", "63", "99", ",", ";", " ",
    "x=y",
)  # fmt: skip
_exceptions = st.lists(
    st.tuples(
        st.sampled_from(["exception", "exception", "message"]),
        st.dictionaries(
            st.sampled_from(["exception.type", "exception.message"]), texts | _numbers, max_size=2
        ),
    ),
    max_size=2,
)
# Around the bounds, and anything that is less than 2**63; what is later has a test of its own.
_times = (
    st.sampled_from([0, 1, 999, RECEIVED_NS, RECEIVED_NS + 1000, 2**63 - 1])
    | st.integers(RECEIVED_NS - 10**15, RECEIVED_NS + 10**14 + 10**9)
    | st.integers(0, 2**63 - 1)
)
spans = st.builds(
    SpanView,
    trace_id=_trace_ids,
    span_id=_span_ids,
    parent_span_id=_span_ids,
    name=names,
    kind=_kinds,
    start_ns=_times,
    end_ns=_times,
    status=st.integers(0, 2),
    attributes=_span_attributes,
    resource=st.just({"service.name": "svc"}) | _resource_attributes,
    scope=_scopes,
    flags=_flags,
    trace_state=trace_states,
    events=_exceptions,
)
