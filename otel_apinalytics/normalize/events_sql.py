# SPDX-License-Identifier: Apache-2.0
"""The SQL rendering of the rules for JSON events: a SELECT from log records to normalized rows.

Events were validated at the door, so that only their time can still reject them. What they say is
kept; what they leave out is derived as for spans, and what must not be stored is taken out.
"""

from __future__ import annotations

from otel_apinalytics.catalogue import FIELDS, INBOUND, WEIGHT_SCALE, FieldType, Role
from otel_apinalytics.normalize import identity, outcomes, routes, rpc, rules, urls
from otel_apinalytics.normalize import transforms as t
from otel_apinalytics.normalize.attributes_sql import item
from otel_apinalytics.normalize.rows_sql import (
    RECORD_COLUMNS,
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
from otel_apinalytics.normalize.transforms import sql_list, sql_text

_SENT = tuple(field for field in FIELDS if field.in_event)
_BESIDE = ("event_id", "timestamp_us", "span_service", "span_name")


def events_select(records: str) -> str:
    """Return the statement that turns JSON events into normalized rows.

    Args:
        records: A table, or an expression that stands for one, with the columns of `LogRecord`.
    """
    events = (
        f"SELECT {RECORD_COLUMNS}, arrayJoin({item('events', 'events')}) AS event FROM {records}"
    )
    names = [*_BESIDE, *(f.name for f in _SENT if f.name != "timestamp")]
    columns = ", ".join(f"{item('event', name)} AS sent_{name}" for name in names)
    sent = f"SELECT {RECORD_COLUMNS}, {columns} FROM ({events})"
    source = layer({"path": urls.path.sql("sent_url"), "query": urls.query.sql("sent_url")}, sent)
    for columns_ in (_IDENTITIES, _PARTS, _ROUTE, _FUNCTION):
        source = layer(columns_, source)
    return normalized_select(_FIELDS, _CHECKS, source)


_IDENTITIES: Columns = {
    f"marked_{name}": (
        f"if({t.is_missing_sql(f'sent_{name}')}, '', {identity.identity.sql(f'sent_{name}')})"
    )
    for name in rules.IDENTITY_FIELDS
}
_PARTS: Columns = {
    "direction": f"if(sent_direction = '', '{INBOUND}', sent_direction)",
    "method": t.method.sql("sent_method"),
    "whole_url": "concat(path, if(query = '', '', '?'), query)",
    # As the door or the sender's RPC said it; 0 for none.
    "status": (
        f"ifNull(sent_status_code, toUInt32OrZero({rpc.status_code.sql('sent_rpc_status')}))"
    ),
    "templated": "if(sent_route = '', path, '')",
    "template": routes.template.sql("templated"),
}
_UNMATCHED = t.all_of(f"direction = '{INBOUND}'", f"status IN {rules.UNMATCHED_STATUSES}")
_ROUTE: Columns = {
    "route": (
        f"multiIf(sent_route != '', sent_route, template = '', '', {_UNMATCHED}, "
        f"'{routes.UNMATCHED}', template)"
    ),
    "route_source": (
        f"multiIf(route = '', '', sent_route_source != '', sent_route_source, sent_route != '', "
        f"'{routes.ATTRIBUTE}', {_UNMATCHED}, '{routes.UNMATCHED_SOURCE}', '{routes.DERIVED}')"
    ),
}
_FUNCTION: Columns = {
    "function": (
        f"multiIf(sent_function != '', sent_function, route = '', '{rules.UNKNOWN_FUNCTION}', "
        "method = '', route, concat(method, ' ', route))"
    ),
}
_SOURCE = f"if(sent_consumer_source = '', '{rules.SOURCE_EVENT}', sent_consumer_source)"
_WITHOUT_IDS = t.any_of(is_invalid_id("sent_trace_id", 16), is_invalid_id("sent_span_id", 8))
_EVENT_ID = event_id("sent_trace_id", "sent_span_id")


_ADDRESS = urls.ip_address.sql("sent_client_ip_hash")
_SECRET_NAMES = (
    *urls.SECRET_PARAMETERS, *rules.KEY_HEADERS, *rules.CREDENTIAL_HEADERS, *rules.COOKIE_HEADERS,
)  # fmt: skip
# What is named like a secret is one.
_OWN = (
    f"if(lower(k) IN {sql_list(_SECRET_NAMES)}, {identity.secret.sql('v')}, "
    f"{identity.identity.sql('v')})"
)


def _default(name: str, kind: FieldType) -> str:
    if name in rules.IDENTITY_FIELDS:
        return identity.without_secret_sql(f"marked_{name}")
    if kind is FieldType.BOOLEAN:
        return f"ifNull(sent_{name}, false)"
    return f"sent_{name}"


_FIELDS: Columns = {
    **{f.name: _default(f.name, f.type) for f in _SENT if f.role is not Role.IDENTITY},
    "timestamp": time("sent_timestamp_us"),
    "consumer_source": f"if({t.is_missing_sql('sent_consumer_id')}, '', {_SOURCE})",
    "environment": t.environment.sql("sent_environment"),
    "host": urls.host.sql("sent_host"),
    "protocol_version": t.protocol_version.sql("sent_protocol_version"),
    # An address itself is not kept.
    "client_ip_hash": (
        f"if(empty({_ADDRESS}), sent_client_ip_hash, "
        f"{identity.hashed_sql(_ADDRESS, identity.ADDRESS_PREFIX)})"
    ),
    "attributes": (
        f"mapApply((k, v) -> (k, {identity.without_secret_sql(_OWN)}), sent_attributes)"
    ),
    "direction": "direction",
    "method": "method",
    "url": t.url.sql(urls.redacted.sql("whole_url")),
    "route": urls.redacted.sql("route"),
    "route_source": "route_source",
    "function": urls.redacted.sql("function"),
    "error_type": urls.redacted.sql("sent_error_type"),
    "user_agent": urls.redacted.sql("sent_user_agent"),
    "status_code": "toUInt16(nullIf(status, 0))",
    "is_error": "ifNull(sent_is_error, status >= 500)",
    "weight": f"if(sent_weight = 0, {WEIGHT_SCALE}, sent_weight)",
    "client_name": (f"firstNonDefault(sent_client_name, {t.product.sql('sent_user_agent')})"),
    "client_version": (
        f"firstNonDefault(sent_client_version, {t.product_version.sql('sent_user_agent')})"
    ),
    "event_id": f"if({_WITHOUT_IDS}, sent_event_id, {_EVENT_ID})",
    "trace_id": fixed("sent_trace_id", 16),
    "span_id": fixed("sent_span_id", 8),
    "parent_span_id": fixed("sent_parent_span_id", 8),
    # As sent: no rule may move a row. What was made of a span lies where the span would.
    "locality": (
        f"if(empty(sent_span_name), {locality('sent_service', 'sent_function')}, "
        f"{locality('sent_span_service', 'sent_span_name')})"
    ),
}
_CHECKS = (
    (f"notEmpty(sent_attributes[{sql_text(rules.PROBE_ATTRIBUTE)}])", outcomes.PROBE),
    (
        t.any_of("sent_timestamp_us < 0", is_too_late("sent_timestamp_us")),
        outcomes.TIME_OUT_OF_RANGE,
    ),
)
