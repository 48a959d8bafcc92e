# SPDX-License-Identifier: Apache-2.0
"""The Python rendering of the rules: from spans to events, the same that the engine makes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from otel_apinalytics.catalogue import INBOUND, MAX_RESPONSE_US, OUTBOUND, WEIGHT_SCALE
from otel_apinalytics.normalize import identity, outcomes, routes, rpc, rules, sampling, urls
from otel_apinalytics.normalize import transforms as t
from otel_apinalytics.normalize.batch_rules import Child, are_nested, children_of
from otel_apinalytics.normalize.mapping import ATTRIBUTES, METRICS, NO_MAPPING, Mapping
from otel_apinalytics.normalize.reading import Attributes, Reader, text_of

Value: TypeAlias = str | bytes | int | float | bool | dict[str, str] | dict[str, float] | None
Fields: TypeAlias = dict[str, Value]
_DAY_US = 24 * 3600 * 1_000_000


@dataclass(frozen=True, slots=True)
class SpanView:
    """What the rules read of a span.

    Args:
        trace_id: 16 bytes if valid.
        span_id: 8 bytes if valid.
        parent_span_id: 8 bytes, or empty for a root.
        name: The span's name.
        kind: OTLP number of the kind; 2 is SERVER, 3 is CLIENT.
        start_ns: Start in Unix nanoseconds, 0 if unknown.
        end_ns: End in Unix nanoseconds, 0 if unknown.
        status: OTLP number of the status; 2 is ERROR.
        attributes: The span's attributes.
        resource: The resource's attributes.
        scope: Name of the instrumentation scope.
        flags: OTLP flags; 0x100 is set if it is known whether the parent is remote, 0x200 if it is.
        trace_state: W3C trace state.
        events: Name and attributes of the span's events.
    """

    trace_id: bytes
    span_id: bytes
    parent_span_id: bytes
    name: str
    kind: int
    start_ns: int
    end_ns: int
    status: int
    attributes: Attributes
    resource: Attributes
    scope: str = ""
    flags: int = 0
    trace_state: str = ""
    events: Sequence[tuple[str, Attributes]] = ()


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


def normalize_spans(
    spans: Sequence[SpanView],
    received_ns: int,
    *,
    hash_key: bytes | None = None,
    mapping: Mapping = NO_MAPPING,
    application: str | None = None,
) -> list[Normalized]:
    """Return what the rules make of each span of a batch. Never raises.

    Args:
        spans: The spans.
        received_ns: When they arrived, Unix nanoseconds.
        hash_key: The application's hash key; without it, what would be hashed is left out.
        mapping: The operator's mapping.
        application: The application, for entries of the mapping that hold for one.
    """
    reader = Reader(mapping, hash_key, application)
    calls = [_Call(span, reader) for span in spans]
    said = [call.as_child() for call in calls]
    children = children_of([child for call, child in zip(calls, said, strict=True) if call.has_ids])
    return [
        call.normalized(received_ns, children.get(call.key), is_nested)
        for call, is_nested in zip(calls, are_nested(said), strict=True)
    ]


class _Call:
    """A span on its way to an event: what was found in it, and what it is composed of."""

    def __init__(self, span: SpanView, reader: Reader) -> None:
        self._span = span
        self._reader = reader
        self._mapping = reader.mapping
        self._hash_key = reader.hash_key
        self.got, self._sources = reader.read(span.attributes, span.resource)
        self.key = (span.trace_id, span.span_id)
        self.kind = self._kind()
        self.scope = span.scope
        got = self.got
        self._is_rpc = bool(got["rpc_system"] or got["rpc_path"])
        self._path_text = (
            got["url_path"]
            or got["target"]
            or got["full_url"]
            or ("/" if span.scope == rules.PATHLESS_ROOT_SCOPE else "")
        )
        self._path = urls.path.python(self._path_text)
        self._query = got["query_text"] or urls.query.python(self._query_part())
        self._rpc = self._rpc_name() if self._is_rpc else ""
        self._method = self._find_method()
        self._status = int(rpc.status_code.python(got["rpc_status"]) or got["http_status"] or 0)

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
        method = t.method.python(said)
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
        whole = f"/{self._rpc}" if self._rpc else self._path + ("?" if self._query else "")
        if not self._rpc:
            whole += self._query
        return t.url.python(urls.redacted.python(whole))

    def said_route(self) -> str:
        """Return the route that the framework said, with its slash."""
        route = self.got["said_route"]
        if route in ("", routes.NO_MATCH):
            return ""
        if routes.is_conventional.search(route):
            return routes.conventional(route, self._path)
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
        path = self._path
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

    def _response_us(self) -> int | None:
        if not self._span.start_ns or not self._span.end_ns:
            return None
        elapsed_us = max(0, self._span.end_ns - self._span.start_ns) // 1000
        return elapsed_us if elapsed_us <= MAX_RESPONSE_US else None

    # ---- in its batch ----

    @property
    def has_ids(self) -> bool:
        """Whether its ids are valid; what has none says nothing of others."""
        return not (
            _is_invalid_id(self._span.trace_id, 16) or _is_invalid_id(self._span.span_id, 8)
        )

    def as_child(self) -> Child:
        """Return what this span may tell of its parent."""
        # Its own attributes only: its resource is the parent's as well.
        tells = self._span.parent_span_id and self._span.kind in rules.KINDS_OF_CHILDREN
        own = _Call(replace(self._span, resource={}), self._reader) if tells else self
        got = own.got
        consumer, consumer_source = own.consumer()
        return Child(
            key=self.key,
            parent=(self._span.trace_id, self._span.parent_span_id),
            kind=self._span.kind,
            flags=self._span.flags,
            service=text_of(self._span.resource.get("service.name", "")),
            start_ns=self._span.start_ns,
            is_call=not self._no_call(),
            route=own.with_slash() or (f"/{own._rpc}" if own._rpc else ""),
            function=(
                got["said_function"]
                or own._rpc
                or got["code_function"]
                or own._code()
                or got["handler"]
            ),
            graphql=own.graphql(),
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
        got, span = self.got, self._span
        timestamp_us = (span.start_ns or span.end_ns or received_ns) // 1000
        said = self.said_route()
        if child and child.route and routes.prefers(child.route, said):
            said = child.route
        route, route_source = self._route(said)
        consumer, consumer_source = self.consumer()
        if child and not consumer:
            consumer, consumer_source = child.consumer, child.consumer_source
        called = f"{self._method} {route}" if self._method and route else route
        function = self._function_with(child) or called or rules.UNKNOWN_FUNCTION
        fields: Fields = {
            "timestamp": timestamp_us,
            "trace_id": span.trace_id,
            "span_id": span.span_id,
            "parent_span_id": span.parent_span_id,
            "consumer_id": consumer,
            "consumer_source": consumer_source,
            "developer_id": got["developer_id"],
            "app_id": got["app_id"],
            "organization_id": got["said_organization"] or got["tenant"],
            "plan_id": got["plan_id"],
            "client_id": got["client_id"],
            "direction": OUTBOUND if self.kind == rules.KIND_CLIENT else INBOUND,
            "service": self._service(),
            "host": self._host(),
            "method": self._method,
            "url": self._url(),
            "route": t.label.python(urls.redacted.python(route)),
            "route_source": route_source,
            "function": t.label.python(urls.redacted.python(function)),
            "api_version": self._api_version(),
            "status_code": self._status or None,
            "is_error": self._is_error() or bool(child and child.failed),
            "error_type": t.label.python(urls.redacted.python(self._error_type())),
            "rpc_status": got["rpc_status"],
            "is_stream": self._is_stream(),
            "response_us": self._response_us(),
            "weight": sampling.weight(span.trace_state) / WEIGHT_SCALE,
            "client_name": got["client_name"] or t.product.python(got["user_agent"]),
            "client_version": got["client_version"] or t.product_version.python(got["user_agent"]),
            "client_ip_hash": self._address_hash(),
            "attributes": self._attributes(),
            "metrics": self._metrics(),
        }
        fields |= {name: got[name] for name in _TEXTS}
        fields |= {name: int(got[name]) if got[name] else None for name in _NUMBERS}
        reason = self._reason(timestamp_us, received_ns, is_nested)
        return Normalized(outcomes.outcome_of(reason), reason, fields)

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
            or urls.version_of_path.python(self._path)
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
        return identity.hashed(address, self._hash_key, identity.ADDRESS_PREFIX)

    def _attributes(self) -> dict[str, str]:
        names = self._mapping.names(ATTRIBUTES)
        return {n.removeprefix(ATTRIBUTES): self.got[n] for n in names if self.got[n]}

    def _metrics(self) -> dict[str, float]:
        names = self._mapping.names(METRICS)
        return {n.removeprefix(METRICS): float(self.got[n]) for n in names if self.got[n]}

    def _no_call(self) -> str:
        """Return the reason why the span is no API call, if there is one in its attributes."""
        got = self.got
        is_call = self._is_rpc or self._path_text or got["said_method"] or got["said_route"]
        if got["placeholder"]:
            return outcomes.PLACEHOLDER
        if not got["said_method"] and (got["messaging"] or got["trigger"] not in ("", "http")):
            return outcomes.MESSAGING_OR_TRIGGER
        return "" if is_call else outcomes.NEITHER_HTTP_NOR_RPC

    def _reason(self, timestamp_us: int, received_ns: int, is_nested: bool) -> str:
        if _is_invalid_id(self._span.trace_id, 16):
            return outcomes.INVALID_TRACE_ID
        if _is_invalid_id(self._span.span_id, 8):
            return outcomes.INVALID_SPAN_ID
        if self.kind not in (rules.KIND_SERVER, rules.KIND_CLIENT):
            return outcomes.KIND_NOT_SERVER_OR_CLIENT
        if no_call := self._no_call():
            return no_call
        if is_nested:
            return outcomes.NESTED
        is_too_late = timestamp_us > received_ns // 1000 + _DAY_US
        return outcomes.TIME_OUT_OF_RANGE if is_too_late else ""


# Fields that are what was found under their name.
_TEXTS = (
    "service_version", "environment", "region", "cache_status", "user_agent", "protocol_version",
    "sdk_language", "synthetic", "experiment", "variant", "job_type",
)  # fmt: skip
_NUMBERS = (
    "upstream_us", "queue_us", "request_bytes", "response_bytes", "resend_count", "quota_consumed",
)  # fmt: skip


def _is_invalid_id(value: bytes, length: int) -> bool:
    return len(value) != length or not any(value)
