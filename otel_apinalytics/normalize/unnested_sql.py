# SPDX-License-Identifier: Apache-2.0
"""The SQL from log records to spans: a row for each, with its own columns and its attributes."""

from __future__ import annotations

from otel_apinalytics.catalogue import MAX_TEXT_LENGTH
from otel_apinalytics.normalize import attributes_sql as attributes
from otel_apinalytics.normalize import outcomes, rules
from otel_apinalytics.normalize.attributes_sql import item
from otel_apinalytics.normalize.children_sql import IS_LOCAL_SERVER
from otel_apinalytics.normalize.lookup import Numbering
from otel_apinalytics.normalize.rows_sql import RECORD_COLUMNS, filtered_select, is_invalid_id
from otel_apinalytics.normalize.transforms import all_of

_EXCEPTION = "arrayFilter(e -> tupleElement(e, 'name') = 'exception', tupleElement(span, 'events'))"
_EXCEPTION_TYPE = (
    "arrayFirst(a -> tupleElement(a, 'key') = 'exception.type', "
    f"tupleElement({_EXCEPTION}[-1], 'attributes'))"
)
_IDS = f"""
    {item("span", "trace_id")} AS span_trace_id,
    {item("span", "span_id")} AS span_span_id,
    {item("span", "kind")} AS raw_kind"""
_HAS_IDS = (
    f"NOT ({is_invalid_id('span_trace_id', 16)})",
    f"NOT ({is_invalid_id('span_span_id', 8)})",
)
# Filtered without a further look.
IS_OTHER = all_of(f"raw_kind IN {rules.OTHER_KINDS}", *_HAS_IDS)
# May say something of its parent.
MAY_BE_CHILD = all_of(
    f"(raw_kind IN ({rules.KIND_INTERNAL}) OR {IS_LOCAL_SERVER})",
    "notEmpty(span_parent_span_id)",
    "span_parent_span_id != span_span_id",
    *_HAS_IDS,
)
SPAN_COLUMNS = f"""
    {_IDS},
    {item("span", "parent_span_id")} AS span_parent_span_id,
    toValidUTF8({item("span", "name")}) AS span_name,
    {item("span", "start_time_unix_nano")} AS start_ns,
    {item("span", "end_time_unix_nano")} AS end_ns,
    {item("span", "status", "code")} AS span_status,
    {item("span", "trace_state")} AS trace_state,
    {item("span", "flags")} AS flags,
    if(empty({item("span", "events")}), '',
        toValidUTF8({item(_EXCEPTION_TYPE, "value", "string_value")})) AS exception_type
"""


def spans_of(records: str, numbering: Numbering, condition: str) -> str:
    """Return a SELECT with a row for each span: its own columns, and arrays of attributes.

    Only what is needed is carried through each unnesting: an array that came along would be copied
    for every span. Spans for which the condition does not hold are left out.
    """
    resource_spans = (
        f"SELECT {RECORD_COLUMNS}, arrayJoin({item('traces', 'resource_spans')}) AS resource_spans "
        f"FROM {records}"
    )
    resource_attributes = item("resource_spans", "resource", "attributes")
    raw_resources = (
        f"SELECT {RECORD_COLUMNS}, {item('resource_spans', 'scope_spans')} AS scope_spans, "
        f"{item(resource_attributes, 'key')} AS keys, "
        f"{attributes.texts(resource_attributes)} AS texts FROM ({resource_spans})"
    )
    columns = f"{RECORD_COLUMNS}, scope_spans, raw_service"
    # Each span gets a copy of these: a long one would be gigabytes.
    raw_service = f"substringUTF8(texts[indexOf(keys, 'service.name')], 1, {MAX_TEXT_LENGTH})"
    resources = attributes.found(
        numbering.resource_lanes,
        numbering,
        columns,
        f"SELECT *, {raw_service} AS raw_service FROM ({raw_resources})",
    )
    columns = f"{RECORD_COLUMNS}, raw_service, resource_texts, resource_numbers"
    scopes = (
        f"SELECT {RECORD_COLUMNS}, raw_service, arrayJoin(scope_spans) AS scope_span, "
        "arrayFilter((u, n) -> n != 0, usable, numbers) AS resource_texts, "
        f"arrayFilter(n -> n != 0, numbers) AS resource_numbers FROM ({resources})"
    )
    spans = (
        f"SELECT {columns}, {scope_name('scope_span')} AS scope, "
        f"arrayJoin({item('scope_span', 'spans')}) AS span FROM ({scopes})"
    )
    kept = f"SELECT * FROM (SELECT *, {SPAN_COLUMNS} FROM ({spans})) WHERE {condition}"
    columns += (
        ", scope, span_trace_id, span_span_id, span_parent_span_id, span_name, raw_kind, start_ns, "
        "end_ns, span_status, trace_state, flags, exception_type"
    )
    span_attributes = item("span", "attributes")
    raw_spans = (
        f"SELECT {columns}, {item(span_attributes, 'key')} AS keys, "
        f"{attributes.texts(span_attributes)} AS texts FROM ({kept})"
    )
    found = attributes.found(numbering.span_lanes, numbering, columns, raw_spans)
    together = (
        "SELECT * EXCEPT (usable, numbers, resource_texts, resource_numbers), "
        "arrayConcat(usable, resource_texts) AS usable, "
        f"arrayConcat(numbers, resource_numbers) AS numbers FROM ({found})"
    )
    return attributes.in_order(together)


def scope_name(scope_spans: str) -> str:
    """Return the name of a scope, as far as it is looked at."""
    return f"substring({item(scope_spans, 'scope', 'name')}, 1, {MAX_TEXT_LENGTH})"


def others_of(ids: str) -> str:
    """Return the rows of spans that are filtered for their kind, without a look at attributes."""
    columns = "application, key_id, transport, record_id, received_ns"
    spans = f"SELECT {columns}, {_IDS} FROM ({unnested(ids, columns)})"
    return filtered_select(
        outcomes.KIND_NOT_SERVER_OR_CLIENT, f"SELECT * FROM ({spans}) WHERE {IS_OTHER}"
    )


def unnested(records: str, columns: str, *, of_scope: str = "") -> str:
    """Return a SELECT with a row for each span, as the column `span`."""
    resource_spans = (
        f"SELECT {columns}, arrayJoin({item('traces', 'resource_spans')}) AS resource_spans "
        f"FROM {records}"
    )
    scopes = (
        f"SELECT {columns}, arrayJoin({item('resource_spans', 'scope_spans')}) AS scope_span "
        f"FROM ({resource_spans})"
    )
    return (
        f"SELECT {columns}{of_scope}, arrayJoin({item('scope_span', 'spans')}) AS span "
        f"FROM ({scopes})"
    )
