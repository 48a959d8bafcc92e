# SPDX-License-Identifier: Apache-2.0
"""The SQL rendering of the rules for spans: a SELECT from log records to normalized rows.

It reads the columns of `LogRecord` (`proto/apinalytics/v1/log.proto`) and gives the columns
`NORMALIZED_COLUMNS`: one row per span, whatever its outcome. It is total: what the engine could
decode becomes a row, nothing throws.

The work is laid out in layers, each a SELECT from the one before. The text is short on purpose: the
engine analyzes all of it for every load, a tenth of a millisecond for each function call.
"""

from __future__ import annotations

from collections.abc import Sequence

from otel_apinalytics.catalogue import INBOUND, MAX_RESPONSE_US, MAX_TEXT_LENGTH, OUTBOUND
from otel_apinalytics.normalize import attributes_sql as attributes
from otel_apinalytics.normalize import children_sql as children
from otel_apinalytics.normalize import identity, outcomes, routes, rpc, rules, sampling, urls
from otel_apinalytics.normalize import transforms as t
from otel_apinalytics.normalize import unnested_sql as unnested
from otel_apinalytics.normalize.attributes_sql import item
from otel_apinalytics.normalize.batch_rules import BatchRules
from otel_apinalytics.normalize.lookup import Numbering, look_up
from otel_apinalytics.normalize.mapping import ATTRIBUTES, METRICS, Mapping
from otel_apinalytics.normalize.rows_sql import (
    Columns,
    event_id,
    fixed,
    is_invalid_id,
    is_too_late,
    layer,
    locality,
    normalized_select,
    time,
)
from otel_apinalytics.normalize.transforms import all_of, sql_list, sql_text


def spans_select(records: str, ids: str, mapping: Mapping, batch_rules: BatchRules) -> str:
    """Return the statement that turns OTLP requests into normalized rows.

    Args:
        records: A table, or an expression that stands for one, with the columns of `LogRecord`.
        ids: The same records, of which no attributes of spans are needed.
        mapping: The operator's mapping.
        batch_rules: Which batch rules the records need; what is not needed is not looked for.
    """
    numbering = Numbering(look_up(mapping))
    of_composed = attributes.of_targets(_COMPOSED, numbering)
    numbers = attributes.numbers_of(rules.CONSUMER_PARTS, numbering)
    alone = batch_rules is BatchRules.NONE
    spans = unnested.spans_of(records, numbering, "true" if alone else f"NOT ({unnested.IS_OTHER})")
    source = layer(of_composed | numbers, spans)
    source = layer(_CALL, source)
    if alone:
        source = layer(children.NOTHING, source)
    else:
        servers = _servers(records, mapping) if batch_rules is BatchRules.NESTED else None
        source = children.with_children(source, _children(records, mapping), servers)
    for columns in (_REQUEST, _RESULT, _SAID, _TEMPLATED, _TEMPLATE, _CASE, _ROUTE, _WHO):
        source = layer(columns, source)
    select = normalized_select(_fields(mapping, numbering), _CHECKS, source)
    return select if alone else f"{select} UNION ALL {unnested.others_of(ids)}"


def _children(records: str, mapping: Mapping) -> str:
    """Return a SELECT with the spans that may be children, and what they say."""
    numbering = Numbering(tuple(t for t in look_up(mapping) if t.name in children.TARGETS))
    columns = "application, hash_key"
    of_scope = f", {unnested.scope_name('scope_span')} AS scope"
    spans = unnested.unnested(f"{records} WHERE batch_rules > 0", columns, of_scope=of_scope)
    columns += ", scope, span_trace_id, span_span_id, span_parent_span_id, span_name, raw_kind"
    columns += ", flags, start_ns, span_status"
    attributes_of_span = item("span", "attributes")
    raw_spans = (
        f"SELECT {columns}, {item(attributes_of_span, 'key')} AS keys, "
        f"{attributes.texts(attributes_of_span)} AS texts "
        f"FROM (SELECT *, {unnested.SPAN_COLUMNS} FROM ({spans})) "
        f"WHERE {unnested.MAY_BE_CHILD}"
    )
    found = attributes.found(numbering.span_lanes, numbering, columns, raw_spans)
    got = attributes.of_targets(children.TARGETS, numbering)
    got |= attributes.numbers_of(rules.CONSUMER_PARTS, numbering)
    source = layer(got, attributes.in_order(found))
    source = layer({name: _CALL[name] for name in ("is_rpc", "rpc_name")}, source)
    source = layer({"rpc": _RPC}, source)
    function = _first(
        "got_said_function", "rpc", "got_code_function", rules.NOT_KERNEL.sql(_CODE), "got_handler"
    )
    said = {
        "route": f"if({children.IS_LOCAL_SERVER}, {_first(_WITH_SLASH, _RPC_ROUTE)}, '')",
        "function": f"if({children.IS_LOCAL_SERVER}, {function}, '')",
        "graphql": _GRAPHQL,
        "consumer": _CONSUMER,
        "consumer_source": attributes.source_of(_CONSUMER_NUMBER, numbering),
    }
    return layer(said, source)


def _servers(records: str, mapping: Mapping) -> str:
    """Return a SELECT with the SERVER spans that are calls: application, ids, service."""
    asked = [target for target in look_up(mapping) if target.name in _OF_CALL]
    numbering = Numbering(tuple(asked))
    spans = unnested.spans_of(records, numbering, f"raw_kind IN ({rules.KIND_SERVER})")
    source = layer(attributes.of_targets(_OF_CALL, numbering), spans)
    source = layer({name: _CALL[name] for name in ("is_rpc", "path_text")}, source)
    checks = [f"NOT ({check})" for check, reason in _CHECKS if reason in _NO_CALL]
    return (
        "SELECT application, span_trace_id, span_span_id, raw_service "
        f"FROM ({source}) WHERE {all_of(*checks)}"
    )


# ---- from attributes to fields ----

# Targets that more than one expression needs, or that are needed before the row is put together.
_COMPOSED = (
    "kind_tag", "rpc_system", "gateway", "said_method", "original_method", "url_path", "target",
    "full_url", "query_text", "said_route", "said_host", "address", "server_name", "host_header",
    "local_host", "peer_name", "said_function", "code_function", "code_namespace", "code_method",
    "handler", "phoenix_plug", "phoenix_action", "faas_name", "rpc_service", "rpc_method",
    "rpc_path", "graphql_type", "graphql_name", "http_status", "rpc_status", "said_error",
    "other_error", "user_agent", "client_address", "probe", "placeholder", "messaging", "trigger",
    "said_organization", "error_flag", "stream_sign", "api_version", "accept_version", "service",
    "client_name", "client_version", *rules.CONSUMER_PARTS,
)  # fmt: skip


def _is_present(*columns: str) -> str:
    return " OR ".join(f"notEmpty({column})" for column in columns)


def _first(*values: str) -> str:
    """Return the first that is not empty, or the last."""
    return f"firstNonDefault({', '.join(values)})"


_SCOPES = sql_list(rules.BIND_ADDRESS_SCOPES)
_PATH_TEXTS = ("got_url_path", "got_target", "got_full_url")
_UNSET = rules.KIND_UNSPECIFIED

_NAMES_RPC = ("position(span_name, '/') > 0", "position(span_name, ' ') = 0")

# Which call it is.
_CALL: Columns = {
    "kind": (
        f"multiIf(raw_kind != {_UNSET}, raw_kind, got_kind_tag = 'server', {rules.KIND_SERVER}, "
        f"got_kind_tag = 'client', {rules.KIND_CLIENT}, {_UNSET})"
    ),
    "is_rpc": _is_present("got_rpc_system", "got_rpc_path"),
    "path_text": _first(*_PATH_TEXTS, f"if(scope = '{rules.PATHLESS_ROOT_SCOPE}', '/', '')"),
    "query_part": (
        "multiIf(position(got_target, '?') > 0, got_target, position(got_full_url, '?') > 0, "
        "got_full_url, got_url_path)"
    ),
    "rpc_name": (
        "multiIf(position(got_rpc_method, '/') > 0, got_rpc_method, "
        "notEmpty(got_rpc_service) AND notEmpty(got_rpc_method), "
        "concat(got_rpc_service, '/', got_rpc_method), notEmpty(got_rpc_path), got_rpc_path, "
        f"{all_of(*_NAMES_RPC)}, span_name, "
        f"{_first('got_rpc_method', 'got_rpc_service')})"
    ),
    "first_method": t.method.sql("got_said_method"),
}
_RPC = "if(is_rpc, replaceRegexpAll(rpc_name, '^/|[?][^?]*', ''), '')"
_RPC_ROUTE = "if(empty(rpc), '', concat('/', rpc))"

# What was asked for.
_REQUEST: Columns = {
    "method": (
        f"multiIf(is_rpc, '', first_method = '', {t.method_of_name.sql('span_name')}, "
        f"first_method = '{t.OTHER_METHOD}', "
        f"{_first(t.method.sql('got_original_method'), 'first_method')}, first_method)"
    ),
    "path": urls.path.sql("path_text"),
    "query": _first("got_query_text", urls.query.sql("query_part")),
    # Only where it will be asked for.
    "url_host": (
        "if(notEmpty(got_server_name) OR notEmpty(got_address) AND "
        f"scope NOT IN {_SCOPES}, '', {urls.url_host.sql('got_full_url')})"
    ),
    "rpc": _RPC,
    "name_path": (
        f"if(is_rpc OR got_said_route NOT IN ('', '{routes.NO_MATCH}'), '', "
        f"{routes.route_of_name.sql('span_name')})"
    ),
}

_HOST_INBOUND = _first(
    "got_address", "got_server_name", "got_host_header", "got_local_host", "url_host"
)
_HOST_BOUND = _first(
    "got_server_name", "url_host", "got_address", "got_host_header", "got_local_host"
)
_HOST_OUTBOUND = _first("got_address", "url_host", "got_peer_name", "got_host_header")

# A route of Symfony's is a name.
_WITH_SLASH = (
    f"multiIf(got_said_route = '{routes.NO_MATCH}', '', empty(got_said_route) OR "
    "startsWith(got_said_route, '/') OR "
    f"position(scope, '{routes.SYMFONY}') > 0, got_said_route, concat('/', got_said_route))"
)

# Ruby writes Namespace::Class#method.
_CODE = (
    "if(empty(got_code_namespace) OR empty(got_code_method), '', concat(got_code_namespace, "
    "if(position(got_code_namespace, '::') > 0, '#', '.'), got_code_method))"
)

# What became of it.
_RESULT: Columns = {
    # 0 for none.
    "status": (
        f"toUInt16OrZero({_first(rpc.status_code.sql('got_rpc_status'), 'got_http_status')})"
    ),
    "host": (
        f"multiIf(notEmpty(got_said_host), got_said_host, kind = {rules.KIND_CLIENT}, "
        f"{_HOST_OUTBOUND}, scope IN {_SCOPES}, {_HOST_BOUND}, {_HOST_INBOUND})"
    ),
    "whole_url": (
        "if(notEmpty(rpc), concat('/', rpc), concat(path, if(query = '', '', '?'), query))"
    ),
    "code": _CODE,
    "own_route": (
        f"multiIf(got_said_route IN ('', '{routes.NO_MATCH}'), '', "
        f"{routes.is_conventional.search_sql('got_said_route')}, "
        f"{routes.conventional_sql('got_said_route', 'path')}, "
        f"{_WITH_SLASH})"
    ),
    "name_is_template": routes.has_placeholder.search_sql("name_path"),
}

_IS_COARSE = routes.is_coarse.search_sql("own_route")
_SAID: Columns = {
    "said_route": (
        f"if(notEmpty(child_route) AND (empty(own_route) OR {_IS_COARSE} OR "
        "startsWith(child_route, trim(TRAILING '/' FROM own_route))), child_route, own_route)"
    ),
}

# A path, or a name that may be one, to be templated if there is no better route.
_TEMPLATED: Columns = {
    "templated": """multiIf(
        notEmpty(rpc) OR name_is_template AND empty(said_route), '',
        notEmpty(said_route), if(said_route = path, said_route, ''),
        notEmpty(name_path), name_path,
        path)""",
}
_TEMPLATE: Columns = {"template": routes.template.sql("templated")}
# Without a route: nothing matched.
_UNMATCHED = (
    f"kind IN ({rules.KIND_SERVER}) AND (status IN {rules.UNMATCHED_STATUSES} OR "
    f"status IN {rules.UNMATCHED_GATEWAY_STATUSES} AND "
    f"(notEmpty(got_gateway) OR span_name IN {sql_list(rules.GATEWAY_SPAN_NAMES)}))"
)
_ROUTE_CASES = (
    ("notEmpty(rpc)", "concat('/', rpc)", routes.ATTRIBUTE),
    ("notEmpty(said_route) AND template IN ('', said_route)", "said_route", routes.ATTRIBUTE),
    ("notEmpty(said_route)", "template", routes.DERIVED),
    (
        f"got_said_route IN ('{routes.NO_MATCH}') AND {_UNMATCHED}",
        f"'{routes.UNMATCHED}'",
        routes.UNMATCHED_SOURCE,
    ),
    ("name_is_template", "name_path", routes.NAME),
    (_UNMATCHED, f"'{routes.UNMATCHED}'", routes.UNMATCHED_SOURCE),
    ("path NOT IN ('', name_path) AND template = name_path", "name_path", routes.NAME),
    ("notEmpty(template)", "template", routes.DERIVED),
)
_CASES = ", ".join(f"{condition}, {i}" for i, (condition, _, _) in enumerate(_ROUTE_CASES, 1))
_ROUTES = ", ".join(f"route_case = {i}, {value}" for i, (_, value, _) in enumerate(_ROUTE_CASES, 1))
_ROUTE_SOURCES = ", ".join(f"'{source}'" for _, _, source in _ROUTE_CASES)

_CASE: Columns = {"route_case": f"multiIf({_CASES}, 0)"}
_ROUTE: Columns = {
    "route": f"multiIf({_ROUTES}, '')",
    "route_source": f"['', {_ROUTE_SOURCES}][route_case + 1]",
}

_GRAPHQL = "trimBoth(concat(got_graphql_type, ' ', got_graphql_name))"
_PHOENIX = (
    "if(empty(got_phoenix_plug) OR empty(got_phoenix_action), '', "
    "concat(got_phoenix_plug, '.', got_phoenix_action))"
)
_FUNCTIONS = (
    "got_said_function",
    "rpc",
    _GRAPHQL,
    "child_graphql",
    "got_code_function",
    rules.NOT_KERNEL.sql("code"),
    "got_handler",
    _PHOENIX,
    routes.action_of_name.sql("span_name"),
    "got_faas_name",
    f"if(position(scope, '{routes.SYMFONY}') > 0, got_said_route, '')",
    "child_function",
    "if(route = '', '', concat(method, if(method = '', '', ' '), route))",
    f"'{rules.UNKNOWN_FUNCTION}'",
)
_CONSUMER = _first(*(f"got_{part}" for part in rules.CONSUMER_PARTS))
_NUMBERS = ", ".join(f"notEmpty(got_{p}), number_{p}" for p in rules.CONSUMER_PARTS)
_CONSUMER_NUMBER = f"multiIf({_NUMBERS}, 0)"

# Who did what, and whether it failed.
_WHO: Columns = {
    "called": _first(*_FUNCTIONS),
    "consumer": _first(_CONSUMER, "child_consumer.1"),
    "consumer_number": _CONSUMER_NUMBER,
    "organization": _first("got_said_organization", "got_tenant"),
    "error_type": (
        _first(
            "got_said_error",
            "exception_type",
            "got_other_error",
            f"if(got_rpc_status = '{rpc.OK}', '', got_rpc_status)",
            "if(status >= 500, toString(status), '')",
        )
    ),
    "is_error": (
        f"intDiv(status, 100) IN (5) OR span_status IN ({rules.STATUS_ERROR}) OR "
        "notEmpty(got_said_error) AND status IN (0) OR notEmpty(got_error_flag) "
        "OR child_failed"
    ),
}

# ---- the row ----

# Start, else end, else receive time; event time is never altered.
_TIME_US = "toInt64(intDiv(multiIf(start_ns > 0, start_ns, end_ns > 0, end_ns, received_ns), 1000))"
# The engine's difference of unsigned numbers is signed.
_ELAPSED_US = "intDiv(if(end_ns > start_ns, toUInt64(end_ns - start_ns), 0), 1000)"
_API_VERSION = _first(
    "got_api_version",
    urls.version_of_query.sql("query"),
    urls.version_of_path.sql("path"),
    "got_accept_version",
)
_ADDRESS_HASH = identity.hashed_sql("got_client_address", identity.ADDRESS_PREFIX)


def _fields(mapping: Mapping, numbering: Numbering) -> Columns:
    got = attributes.of_targets(numbering.of_target, numbering)

    def only(target: str) -> str:
        return got[attributes.column_of(target)]

    def number(target: str) -> str:
        return f"toInt64OrNull({only(target)})"

    own_texts, own_numbers = mapping.names(ATTRIBUTES), mapping.names(METRICS)
    return {
        "timestamp": time(_TIME_US),
        "consumer_id": "consumer",
        "consumer_source": _first(
            attributes.source_of("consumer_number", numbering), "child_consumer.2"
        ),
        "developer_id": only("developer_id"),
        "app_id": only("app_id"),
        "organization_id": "organization",
        "plan_id": only("plan_id"),
        "client_id": "got_client_id",
        "direction": f"if(kind = {rules.KIND_CLIENT}, '{OUTBOUND}', '{INBOUND}')",
        "service": _first("got_service", "got_faas_name", t.label.sql("raw_service")),
        "service_version": only("service_version"),
        "environment": only("environment"),
        "region": only("region"),
        "host": "host",
        "method": "method",
        "url": t.url.sql(urls.redacted.sql("whole_url")),
        "route": t.label.sql(urls.redacted.sql("route")),
        "route_source": "route_source",
        "function": t.label.sql(urls.redacted.sql("called")),
        "api_version": _API_VERSION,
        "status_code": "nullIf(status, 0)",
        "is_error": "is_error",
        "error_type": t.label.sql(urls.redacted.sql("error_type")),
        "rpc_status": "got_rpc_status",
        "cache_status": only("cache_status"),
        "is_stream": (
            "status IN (101) OR notEmpty(got_stream_sign) OR startsWith(got_full_url, 'ws')"
        ),
        "response_us": (
            f"multiIf(start_ns = 0, NULL, end_ns = 0, NULL, {_ELAPSED_US} > {MAX_RESPONSE_US}, "
            f"NULL, toInt64({_ELAPSED_US}))"
        ),
        "upstream_us": number("upstream_us"),
        "queue_us": number("queue_us"),
        "request_bytes": number("request_bytes"),
        "response_bytes": number("response_bytes"),
        "resend_count": number("resend_count"),
        "quota_consumed": number("quota_consumed"),
        "weight": sampling.weight_sql("trace_state"),
        "user_agent": "got_user_agent",
        "client_name": _first("got_client_name", t.product.sql("got_user_agent")),
        "client_version": _first("got_client_version", t.product_version.sql("got_user_agent")),
        "client_ip_hash": (
            f"multiIf(got_client_address = '', '', kind = {rules.KIND_CLIENT}, '', {_ADDRESS_HASH})"
        ),
        "protocol_version": only("protocol_version"),
        "sdk_language": only("sdk_language"),
        "synthetic": only("synthetic"),
        "experiment": only("experiment"),
        "variant": only("variant"),
        "job_type": only("job_type"),
        "attributes": _map(own_texts, [*map(only, own_texts)], ATTRIBUTES, "String"),
        "metrics": _map(own_numbers, [*map(only, own_numbers)], METRICS, "Float64"),
        "event_id": event_id("span_trace_id", "span_span_id"),
        "trace_id": fixed("span_trace_id", 16),
        "span_id": fixed("span_span_id", 8),
        "parent_span_id": fixed("span_parent_span_id", 8),
        # As sent: no rule or mapping may move a row. A program that makes the event itself keeps
        # the secrets of a name to itself, so that they are in neither.
        "locality": locality(
            "raw_service",
            f"substringUTF8({urls.redacted.sql('span_name')}, 1, {MAX_TEXT_LENGTH})",
        ),
    }


def _map(targets: Sequence[str], texts: Sequence[str], prefix: str, kind: str) -> str:
    """Return a map with those of the mapping's targets that were found, by their names."""
    if not targets:
        return f"CAST(map(), 'Map(String, {kind})')"
    names = ", ".join(sql_text(target.removeprefix(prefix)) for target in targets)
    present = f"arrayFilter(p -> notEmpty(p.2), arrayZip([{names}], [{', '.join(texts)}]))"
    value = "p.2" if kind == "String" else "toFloat64OrZero(p.2)"
    pairs = f"arrayMap(p -> (p.1, {value}), {present})"
    return f"CAST({pairs}, 'Map(String, {kind})')"


# What says that a span is a call, or that it is none.
_NO_CALL = (
    outcomes.PROBE, outcomes.PLACEHOLDER, outcomes.MESSAGING_OR_TRIGGER,
    outcomes.NEITHER_HTTP_NOR_RPC,
)  # fmt: skip
_OF_CALL = (
    "probe", "placeholder", "messaging", "trigger", "rpc_system", "rpc_path", "url_path", "target",
    "full_url", "said_method", "said_route",
)  # fmt: skip
_IS_CALL = f"is_rpc OR {_is_present('path_text', 'got_said_method', 'got_said_route')}"
_CHECKS = (
    (is_invalid_id("span_trace_id", 16), outcomes.INVALID_TRACE_ID),
    (is_invalid_id("span_span_id", 8), outcomes.INVALID_SPAN_ID),
    (
        f"kind NOT IN ({rules.KIND_SERVER}, {rules.KIND_CLIENT})",
        outcomes.KIND_NOT_SERVER_OR_CLIENT,
    ),
    ("notEmpty(got_probe)", outcomes.PROBE),
    ("notEmpty(got_placeholder)", outcomes.PLACEHOLDER),
    (
        "empty(got_said_method) AND (notEmpty(got_messaging) OR got_trigger NOT IN ('', 'http'))",
        outcomes.MESSAGING_OR_TRIGGER,
    ),
    (f"NOT ({_IS_CALL})", outcomes.NEITHER_HTTP_NOR_RPC),
    ("is_nested", outcomes.NESTED),
    (is_too_late(_TIME_US), outcomes.TIME_OUT_OF_RANGE),
)
