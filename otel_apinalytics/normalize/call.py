# SPDX-License-Identifier: Apache-2.0
"""One call in the Python rendering of the rules: from a span to an event's fields."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TypeAlias

from otel_apinalytics.catalogue import INBOUND, MAX_RESPONSE_US, OUTBOUND, WEIGHT_SCALE
from otel_apinalytics.normalize import identity, outcomes, routes, rpc, rules, sampling, urls
from otel_apinalytics.normalize import transforms as t
from otel_apinalytics.normalize.batch_rules import Child
from otel_apinalytics.normalize.reading import OWN_PARTS, Found, Part, Reader, text_of
from otel_apinalytics.normalize.span_view import SpanView, has_span_id, has_trace_id, key_of

Value: TypeAlias = str | bytes | int | float | bool | dict[str, str] | dict[str, float] | None
Fields: TypeAlias = dict[str, Value]
_DAY_US = 24 * 3600 * 1_000_000


@dataclass(frozen=True, slots=True)
class Normalized:
    """What became of a span.

    Args:
        outcome: stored, filtered or rejected.
        reason: Why it is not stored; empty if it is.
        fields: The event's fields by their names in the catalogue; missing text is empty, a missing
            number is None. Time is in Unix microseconds, ids are bytes.
    """

    outcome: str
    reason: str
    fields: Fields


class Call:
    """A span on its way to an event: what was found in it, and what it is composed of."""

    def __init__(self, span: SpanView, reader: Reader) -> None:
        self._reader = reader
        self._hash_key = reader.hash_key
        self._span = span
        self.scope = span.scope
        self._take(reader.read(span.attributes, span.resource))
        got = self.got
        self.kind = self._kind()
        self._is_rpc = bool(got["rpc_system"] or got["rpc_path"])
        self._rpc = self._rpc_name() if self._is_rpc else ""
        self._method = self._find_method()
        self._status = int(rpc.status_code.python(got["rpc_status"]) or got["http_status"] or 0)

    def _take(self, found: Found) -> None:
        self.got, self._sources = found.texts, found.sources
        got = self.got
        self._path_text = (
            got["url_path"]
            or got["target"]
            or got["full_url"]
            or ("/" if self.scope == rules.PATHLESS_ROOT_SCOPE else "")
        )
        self.path = urls.path.python(self._path_text)
        self._query = got["query_text"] or urls.query.python(self._query_part())

    # ---- calls of one kind ----

    def become(self, found: Found) -> None:
        """Become another call of the same kind, of which the common fields are the same.

        Args:
            found: What was found in its span.
        """
        self._take(found)

    def has_common_route(self) -> bool:
        """Return whether it is a call, and its route the same, whatever its path is."""
        if self._rpc:
            return True
        if said := self.got["said_route"]:
            if said == routes.NO_MATCH or routes.is_conventional.search(said):
                return False
            # A path that is said to be the route is made a template.
            slashed = self.with_slash()
            return routes.template.python(slashed) == slashed
        return bool(self.got["said_method"]) and self._is_unmatched()

    # ---- which call ----

    def _kind(self) -> int:
        if self._span.kind != rules.KIND_UNSPECIFIED:
            return self._span.kind
        tags = {"server": rules.KIND_SERVER, "client": rules.KIND_CLIENT}
        return tags.get(self.got["kind_tag"], rules.KIND_UNSPECIFIED)

    def _query_part(self) -> str:
        for name in ("target", "full_url"):
            if "?" in self.got[name]:
                return self.got[name]
        return self.got["url_path"]

    def _rpc_name(self) -> str:
        service, method = self.got["rpc_service"], self.got["rpc_method"]
        if "/" in method:
            name = method
        elif service and method:
            name = f"{service}/{method}"
        elif self.got["rpc_path"]:
            name = self.got["rpc_path"]
        elif "/" in self._span.name and " " not in self._span.name:
            name = self._span.name
        else:
            name = method or service
        return name.removeprefix("/").partition("?")[0]

    def _find_method(self) -> str:
        said, original = self.got["said_method"], self.got["original_method"]
        if self._is_rpc:
            return ""
        if not said:
            return t.method_of_name.python(self._span.name)
        method = _known_method(said)
        if method == t.OTHER_METHOD and original:
            return t.method.python(original)
        return method

    # ---- what was asked for, and what became of it ----

    def _host(self) -> str:
        got = self.got
        if got["said_host"]:
            return got["said_host"]
        url_host = urls.url_host.python(got["full_url"])
        address, server_name = got["address"], got["server_name"]
        if self.kind == rules.KIND_CLIENT:
            return address or url_host or got["peer_name"] or got["host_header"]
        if self.scope in rules.BIND_ADDRESS_SCOPES:
            return server_name or url_host or address or got["host_header"] or got["local_host"]
        return address or server_name or got["host_header"] or got["local_host"] or url_host

    def _url(self) -> str:
        whole = f"/{self._rpc}" if self._rpc else self.path + ("?" if self._query else "")
        if not self._rpc:
            whole += self._query
        return t.url.python(urls.redacted.python(whole))

    def said_route(self) -> str:
        """Return the route that the framework said, with its slash."""
        route = self.got["said_route"]
        if route in ("", routes.NO_MATCH):
            return ""
        if routes.is_conventional.search(route):
            return routes.conventional(route, self.path)
        return self.with_slash()

    def with_slash(self) -> str:
        """Return the route as it was said, with its slash."""
        route = self.got["said_route"]
        if route == routes.NO_MATCH:
            return ""
        # A route of Symfony's is a name.
        if not route or route.startswith("/") or routes.SYMFONY in self.scope:
            return route
        return f"/{route}"

    def _route(self, said: str) -> tuple[str, str]:
        if self._rpc:
            return f"/{self._rpc}", routes.ATTRIBUTE
        path = self.path
        if said:
            template = routes.template.python(said) if said == path else said
            return template, routes.ATTRIBUTE if template == said else routes.DERIVED
        if self.got["said_route"] == routes.NO_MATCH and self._is_unmatched():
            return routes.UNMATCHED, routes.UNMATCHED_SOURCE
        in_name = routes.route_of_name.python(self._span.name)
        if routes.has_placeholder.search(in_name):
            return in_name, routes.NAME
        if self._is_unmatched():
            return routes.UNMATCHED, routes.UNMATCHED_SOURCE
        template = routes.template.python(in_name or path)
        if path not in ("", in_name) and template and template == in_name:
            return in_name, routes.NAME
        return template, routes.DERIVED if template else ""

    def _is_unmatched(self) -> bool:
        if self.kind != rules.KIND_SERVER:
            return False
        is_gateway = self.got["gateway"] or self._span.name in rules.GATEWAY_SPAN_NAMES
        return self._status in rules.UNMATCHED_STATUSES or bool(
            self._status in rules.UNMATCHED_GATEWAY_STATUSES and is_gateway
        )

    def said_function(self) -> str:
        """Return the function that the span names, without its route."""
        got = self.got
        plug, action = got["phoenix_plug"], got["phoenix_action"]
        return (
            got["said_function"]
            or self._rpc
            or self.graphql()
            or got["code_function"]
            or self._code()
            or got["handler"]
            or (f"{plug}.{action}" if plug and action else "")
            or routes.action_of_name.python(self._span.name)
            or got["faas_name"]
            or (got["said_route"] if routes.SYMFONY in self.scope else "")
        )

    def _code(self) -> str:
        namespace, method = self.got["code_namespace"], self.got["code_method"]
        # Ruby writes Namespace::Class#method.
        separator = "#" if "::" in namespace else "."
        if not (namespace and method):
            return ""
        return rules.NOT_KERNEL.python(f"{namespace}{separator}{method}")

    def graphql(self) -> str:
        """Return type and name of a GraphQL operation."""
        return f"{self.got['graphql_type']} {self.got['graphql_name']}".strip(" ")

    def consumer(self) -> tuple[str, str]:
        """Return the consumer and the attribute that named it."""
        for part in rules.CONSUMER_PARTS:
            if self.got[part]:
                return self.got[part], self._sources[part]
        return "", ""

    def _error_type(self) -> str:
        got = self.got
        status = got["rpc_status"]
        return (
            got["said_error"]
            or self._exception_type()
            or got["other_error"]
            or ("" if status == rpc.OK else status)
            or (str(self._status) if self._status >= 500 else "")
        )

    def _exception_type(self) -> str:
        found = [attributes for name, attributes in self._span.events if name == "exception"]
        kind = found[-1].get("exception.type", "") if found else ""
        return kind if isinstance(kind, str) else ""

    # ---- in its batch ----

    def as_server(self) -> Child:
        """Return what decides whether it is, or has in it, a part of a call."""
        span = self._span
        return Child(
            key=key_of(span),
            parent=(span.trace_id, span.parent_span_id),
            kind=span.kind,
            flags=span.flags,
            service=text_of(span.resource.get("service.name", "")),
            start_ns=span.start_ns,
            is_call=not self.no_call(),
        )

    def as_child(self) -> Child:
        """Return what this span may tell of its parent."""
        got = self.got
        consumer, consumer_source = self.consumer()
        return replace(
            self.as_server(),
            route=self.with_slash() or (f"/{self._rpc}" if self._rpc else ""),
            function=(
                got["said_function"]
                or self._rpc
                or got["code_function"]
                or self._code()
                or got["handler"]
            ),
            graphql=self.graphql(),
            consumer=consumer,
            consumer_source=consumer_source,
            failed=self._span.status == rules.STATUS_ERROR,
        )

    # ---- the event ----

    def normalized(self, received_ns: int, child: Child | None, is_nested: bool) -> Normalized:
        """Return what becomes of the span.

        Args:
            received_ns: When it arrived.
            child: What its children say, if it has any.
            is_nested: Whether it is a part of another span's call.
        """
        timestamp_us = (self._span.start_ns or self._span.end_ns or received_ns) // 1000
        fields: Fields = {
            "timestamp": timestamp_us,
            "trace_id": self._span.trace_id,
            "span_id": self._span.span_id,
            "parent_span_id": self._span.parent_span_id,
            "response_us": response_us(self._span.start_ns, self._span.end_ns),
            **self.common_fields(child),
        }
        for part in OWN_PARTS:
            fields |= self.own_fields(part, child)
        reason = self._reason(timestamp_us, received_ns, is_nested)
        return Normalized(outcomes.outcome_of(reason), reason, fields)

    def common_fields(self, child: Child | None = None) -> Fields:
        """Return the fields that calls of one kind have in common.

        They depend on common targets only, if the route does.
        """
        got = self.got
        said = self.said_route()
        if child and child.route and routes.prefers(child.route, said):
            said = child.route
        route, route_source = self._route(said)
        called = f"{self._method} {route}" if self._method and route else route
        function = self._function_with(child) or called or rules.UNKNOWN_FUNCTION
        return {
            "direction": OUTBOUND if self.kind == rules.KIND_CLIENT else INBOUND,
            "service": self._service(),
            "method": self._method,
            "route": _label(route),
            "route_source": route_source,
            "function": _label(function),
            "status_code": self._status or None,
            "is_error": self._is_error() or bool(child and child.failed),
            "error_type": _label(self._error_type()),
            "rpc_status": got["rpc_status"],
            "weight": sampling.weight(self._span.trace_state) / WEIGHT_SCALE,
            **{name: got[name] for name in _TEXTS},
        }

    def own_fields(self, part: Part, child: Child | None = None) -> Fields:
        """Return the fields of a part in which calls of one kind differ.

        They depend on what is common, and on targets of this part only.
        """
        got = self.got
        if part is Part.PATH:
            return {
                "host": self._host(),
                "url": self._url(),
                "api_version": self._api_version(),
                "is_stream": self._is_stream(),
            }
        if part is Part.CONSUMER:
            return self._consumer_fields(child)
        if part is Part.AGENT:
            user_agent = got["user_agent"]
            return {
                "user_agent": user_agent,
                "client_name": got["client_name"] or _product(user_agent),
                "client_version": got["client_version"] or _product_version(user_agent),
            }
        if part is Part.ADDRESS:
            return {"client_ip_hash": self._address_hash()}
        return {name: int(got[name]) if got[name] else None for name in _NUMBERS}

    def _consumer_fields(self, child: Child | None) -> Fields:
        got = self.got
        consumer, consumer_source = self.consumer()
        if child and not consumer:
            consumer, consumer_source = child.consumer, child.consumer_source
        return {
            "consumer_id": consumer,
            "consumer_source": consumer_source,
            "developer_id": got["developer_id"],
            "app_id": got["app_id"],
            "organization_id": got["said_organization"] or got["tenant"],
            "plan_id": got["plan_id"],
            "client_id": got["client_id"],
            "attributes": self._attributes(),
            "metrics": self._metrics(),
        }

    def _function_with(self, child: Child | None) -> str:
        if child is None or self.got["said_function"] or self._rpc or self.graphql():
            return self.said_function()
        return child.graphql or self.said_function() or child.function

    def _service(self) -> str:
        raw = text_of(self._span.resource.get("service.name", ""))
        return self.got["service"] or self.got["faas_name"] or t.label.python(raw)

    def _api_version(self) -> str:
        return (
            self.got["api_version"]
            or urls.version_of_query.python(self._query)
            or urls.version_of_path.python(self.path)
            or self.got["accept_version"]
        )

    def _is_error(self) -> bool:
        return (
            self._status >= 500
            or self._span.status == rules.STATUS_ERROR
            or bool(self.got["said_error"] and not self._status)
            or bool(self.got["error_flag"])
        )

    def _is_stream(self) -> bool:
        return (
            self._status == 101
            or bool(self.got["stream_sign"])
            or self.got["full_url"].startswith("ws")
        )

    def _address_hash(self) -> str:
        address = self.got["client_address"]
        if not address or self.kind == rules.KIND_CLIENT or not self._hash_key:
            return ""
        return _hashed_address(address, self._hash_key)

    def _attributes(self) -> dict[str, str]:
        names = self._reader.attributes.items()
        return {name: self.got[target] for name, target in names if self.got[target]}

    def _metrics(self) -> dict[str, float]:
        names = self._reader.metrics.items()
        return {name: float(self.got[target]) for name, target in names if self.got[target]}

    def no_call(self) -> str:
        """Return the reason why the span is no API call, if there is one in its attributes."""
        got = self.got
        is_call = self._is_rpc or self._path_text or got["said_method"] or got["said_route"]
        if got["probe"]:
            return outcomes.PROBE
        if got["placeholder"]:
            return outcomes.PLACEHOLDER
        if not got["said_method"] and (got["messaging"] or got["trigger"] not in ("", "http")):
            return outcomes.MESSAGING_OR_TRIGGER
        return "" if is_call else outcomes.NEITHER_HTTP_NOR_RPC

    def _reason(self, timestamp_us: int, received_ns: int, is_nested: bool) -> str:
        if not has_trace_id(self._span):
            return outcomes.INVALID_TRACE_ID
        if not has_span_id(self._span):
            return outcomes.INVALID_SPAN_ID
        if self.kind not in (rules.KIND_SERVER, rules.KIND_CLIENT):
            return outcomes.KIND_NOT_SERVER_OR_CLIENT
        if no_call := self.no_call():
            return no_call
        if is_nested:
            return outcomes.NESTED
        is_too_late = timestamp_us > latest_us(received_ns)
        return outcomes.TIME_OUT_OF_RANGE if is_too_late else ""


# Fields that are what was found under their name.
_TEXTS = (
    "service_version", "environment", "region", "cache_status", "protocol_version",
    "sdk_language", "synthetic", "experiment", "variant", "job_type",
)  # fmt: skip
_NUMBERS = (
    "upstream_us", "queue_us", "request_bytes", "response_bytes", "resend_count", "quota_consumed",
)  # fmt: skip


def response_us(start_ns: int, end_ns: int) -> int | None:
    """Return how long a call took; None where that is not known."""
    if not start_ns or not end_ns:
        return None
    elapsed_us = max(0, end_ns - start_ns) // 1000
    return elapsed_us if elapsed_us <= MAX_RESPONSE_US else None


def latest_us(received_ns: int) -> int:
    """Return the latest time that an event may have, Unix microseconds: clocks differ."""
    return received_ns // 1000 + _DAY_US


def _label(text: str) -> str:
    return _known_label(urls.redacted.python(text))


# The last ones that called: callers come again.
@lru_cache(maxsize=1024)
def _hashed_address(address: str, hash_key: bytes) -> str:
    return identity.hashed(address, hash_key, identity.ADDRESS_PREFIX)


# Few different ones in a program. What was redacted is remembered, never what it was.
_known_label = lru_cache(maxsize=1024)(t.label.python)
_product = lru_cache(maxsize=512)(t.product.python)
_product_version = lru_cache(maxsize=512)(t.product_version.python)
_known_method = lru_cache(maxsize=64)(t.method.python)
