# SPDX-License-Identifier: Apache-2.0
"""The SQL rendering of the rules: SELECT statements from log records to normalized rows.

Both statements read the columns of `LogRecord` (`proto/apinalytics/v1/log.proto`) and give the
columns `NORMALIZED_COLUMNS`: one row per span or event, whatever its outcome. They are total: what
the engine could decode becomes a row, nothing throws.
"""

from __future__ import annotations

from otel_apinalytics.catalogue import FIELDS, INBOUND, MAX_RESPONSE_US, OUTBOUND
from otel_apinalytics.normalize import rules
from otel_apinalytics.normalize import transforms as t
from otel_apinalytics.normalize.rules import Rule

NORMALIZED_COLUMNS = (
    "key_id",
    "transport",
    "record_id",
    *(field.name for field in FIELDS),
    "locality",
    "outcome",
    "reason",
    "version",
)

_RECORD = "application, key_id, transport, record_id, received_ns"
# Event time may lie a day ahead of receive time: clocks differ.
_LATEST_US = "toInt64(intDiv(received_ns, 1000)) + 86400000000"
# Conditions with the reason that each gives.
_Checks = tuple[tuple[str, str], ...]


def spans_select(records: str) -> str:
    """Return the statement that turns OTLP requests into normalized rows.

    Only scalars are carried through each unnesting: an array that came along would be copied for
    every span.

    Args:
        records: A table, or an expression that stands for one, with the columns of `LogRecord`.
    """
    resource_spans = (
        f"SELECT {_RECORD}, arrayJoin({_item('traces', 'resource_spans')}) AS resource_spans "
        f"FROM {records}"
    )
    resources = (
        f"SELECT {_RECORD}, {_item('resource_spans', 'scope_spans')} AS scope_spans, "
        f"{_attributes(_item(_item('resource_spans', 'resource'), 'attributes'))} "
        f"FROM ({resource_spans})"
    )
    raw_resources = (
        f"SELECT {_RECORD}, scope_spans, {_picked(rules.RESOURCE_RULES)} FROM ({resources})"
    )
    scopes = (
        f"SELECT {_RECORD}, {_found(rules.RESOURCE_RULES)}, arrayJoin(scope_spans) AS scope_span "
        f"FROM ({raw_resources})"
    )
    resource_columns = ", ".join(f"found_{rule.target}" for rule in rules.RESOURCE_RULES)
    spans = (
        f"SELECT {_RECORD}, {resource_columns}, arrayJoin({_item('scope_span', 'spans')}) AS span "
        f"FROM ({scopes})"
    )
    attributes = (
        f"SELECT {_RECORD}, {resource_columns}, {_SPAN_COLUMNS}, "
        f"{_attributes(_item('span', 'attributes'))} FROM ({spans})"
    )
    raw = f"SELECT * EXCEPT (keys, texts), {_picked(rules.SPAN_RULES)} FROM ({attributes})"
    found = f"SELECT *, {_found(rules.SPAN_RULES)} FROM ({raw})"
    return _select(_span_fields(), _span_checks(), found)


def events_select(records: str) -> str:
    """Return the statement that turns JSON events into normalized rows.

    Events were validated at the door, so that only their time can still reject them.

    Args:
        records: As for `spans_select`.
    """
    events = f"SELECT {_RECORD}, arrayJoin({_item('events', 'events')}) AS event FROM {records}"
    sent = f"SELECT {_RECORD}, {_EVENT_COLUMNS}, {_EVENT_TEXTS} FROM ({events})"
    found = (
        f"SELECT *, {t.method.sql('sent_method')} AS found_method, "
        f"{t.path.sql('sent_url')} AS found_path, {t.query.sql('sent_url')} AS found_query "
        f"FROM ({sent})"
    )
    checks = (
        (f"sent_timestamp_us > {_LATEST_US} OR sent_timestamp_us < 0", rules.TIME_OUT_OF_RANGE),
    )
    return _select(_event_fields(), checks, found)


def _select(fields: dict[str, str], checks: _Checks, source: str) -> str:
    """Return the projection on `NORMALIZED_COLUMNS`; the first check that holds is the reason.

    The source has the columns `found_path` and `found_query` besides those that the fields need.

    The checks are bits of a number that picks outcome and reason from a constant array: a chain of
    conditions over text costs the engine several times as much, to analyze and to run.
    """
    mask = " + ".join(f"({check}) * {1 << bit}" for bit, (check, _) in enumerate(checks))
    received_us = "intDiv(received_ns, 1000)"
    fields = {
        "key_id": "key_id",
        "transport": "transport",
        "record_id": "record_id",
        "application": "application",
        "received_at": _time(received_us),
        **fields,
        "outcome": _pick(
            rules.STORED, [_outcome(reason) for _, reason in checks], f"({mask} AS mask)"
        ),
        "reason": _pick("", [reason for _, reason in checks], "mask"),
        "version": f"bitOr(bitShiftLeft(toUInt64({rules.RULES_VERSION}), 51), {received_us})",
    }
    projection = ", ".join(f"{fields[name]} AS {name}" for name in NORMALIZED_COLUMNS)
    redacted = t.redacted_query.sql("found_query")
    query = f"if(found_query IS NULL, '', concat('?', {redacted}))"
    whole_url = f"concat(ifNull(found_path, ''), {query}) AS whole_url"
    return f"SELECT {projection} FROM (SELECT *, {whole_url} FROM ({source}))"


# ---- spans ----

_SPAN_COLUMNS = """
    tupleElement(span, 'trace_id') AS found_trace_id,
    tupleElement(span, 'span_id') AS found_span_id,
    tupleElement(span, 'parent_span_id') AS found_parent_span_id,
    tupleElement(span, 'name') AS span_name,
    tupleElement(span, 'kind') AS kind,
    tupleElement(span, 'start_time_unix_nano') AS start_ns,
    tupleElement(span, 'end_time_unix_nano') AS end_ns,
    tupleElement(tupleElement(span, 'status'), 'code') AS span_status
"""


def _item(value: str, name: str) -> str:
    return f"tupleElement({value}, '{name}')"


def _attributes(attributes: str) -> str:
    """Return the columns `keys` and `texts`: each attribute as text, null where it says "none"."""
    value = _item(attributes, "value")
    scalars = ("string_value", "int_value", "double_value", "bool_value")
    arguments = [_item(value, name) for name in scalars]
    arguments.append(_item(_item(value, "array_value"), "values"))

    def text(string: str, integer: str, double: str, boolean: str) -> str:
        return f"{string}, toString({integer}), toString({double}), toString({boolean})"

    # Of an array, the first element: captured headers are arrays of one.
    first = text(*(_item("items[1]", name) for name in scalars))
    any_text = f"coalesce({text('s', 'i', 'd', 'b')}, {first})"
    texts = f"arrayMap((s, i, d, b, items) -> {any_text}, {', '.join(arguments)})"
    present = f"arrayMap(text -> if({t.is_missing_sql('text')}, NULL, text), {texts})"
    return f"{_item(attributes, 'key')} AS keys, {present} AS texts"


def _picked(table: tuple[Rule, ...]) -> str:
    """Return a column for each source of each rule: the raw text of its first present attribute.

    A stage of its own, so that transforms repeat a short name and not the look-up: the engine
    analyzes the whole text for every load.
    """
    columns = []
    for rule in table:
        for number, source in enumerate(rule.sources):
            values = [f"texts[indexOf(keys, {t.sql_text(name)})]" for name in source.attributes]
            text = f"coalesce({', '.join(values)})" if len(values) > 1 else values[0]
            columns.append(f"{text} AS {_raw(rule, number)}")
            if rule.named_by:
                names = ", ".join(
                    f"{value} IS NOT NULL, {t.sql_text(name)}"
                    for name, value in zip(source.attributes, values, strict=True)
                )
                columns.append(f"multiIf({names}, '') AS {_raw(rule, number)}_name")
    return ", ".join(columns)


def _found(table: tuple[Rule, ...]) -> str:
    """Return a column for each rule: the first source that its transform leaves something of."""
    columns = []
    for rule in table:
        raw = [_raw(rule, number) for number in range(len(rule.sources))]
        # Unlike coalesce, multiIf evaluates a later value only for the rows that need it.
        values = "".join(
            f"({source.transform.sql(name)} AS {name}_usable) IS NOT NULL, {name}_usable, "
            for source, name in zip(rule.sources, raw, strict=True)
        )
        columns.append(f"multiIf({values}NULL) AS found_{rule.target}")
        if rule.named_by:
            names = "".join(f"{name}_usable IS NOT NULL, {name}_name, " for name in raw)
            columns.append(f"multiIf({names}'') AS found_{rule.named_by}")
    return ", ".join(columns)


def _raw(rule: Rule, number: int) -> str:
    return f"raw_{rule.target}_{number}"


def _span_fields() -> dict[str, str]:
    status_code = "toUInt16OrNull(found_status_code)"
    # The engine's difference of unsigned numbers is signed.
    elapsed_us = "intDiv(if(end_ns > start_ns, toUInt64(end_ns - start_ns), 0), 1000)"
    return {
        "timestamp": _time(_SPAN_TIME_US),
        "consumer_id": _text("found_consumer_id"),
        "consumer_source": "found_consumer_source",
        "method": _text("found_method"),
        "url": _text(t.bounded_url.sql("whole_url")),
        "function": _function("found_named_function", "found_method", "found_route"),
        "route": _text("found_route"),
        "response_us": (
            f"if(start_ns = 0 OR end_ns = 0 OR {elapsed_us} > {MAX_RESPONSE_US}, NULL, "
            f"toInt64({elapsed_us}))"
        ),
        "status_code": status_code,
        "is_error": _is_error(status_code, f"span_status = {rules.STATUS_ERROR}"),
        "direction": f"if(kind = {rules.KIND_CLIENT}, '{OUTBOUND}', '{INBOUND}')",
        "service": _text("found_service"),
        "host": _text("found_host"),
        "event_id": _event_id("found_trace_id", "found_span_id"),
        "trace_id": _fixed("found_trace_id", 16),
        "span_id": _fixed("found_span_id", 8),
        "parent_span_id": _fixed("found_parent_span_id", 8),
        "locality": _locality("ifNull(found_service, '')", "span_name"),
    }


# Start, else end, else receive time; event time is never altered.
_SPAN_TIME_US = (
    "toInt64(intDiv(if(start_ns > 0, start_ns, if(end_ns > 0, end_ns, received_ns)), 1000))"
)


def _span_checks() -> _Checks:
    return (
        (_is_invalid_id("found_trace_id", 16), rules.INVALID_TRACE_ID),
        (_is_invalid_id("found_span_id", 8), rules.INVALID_SPAN_ID),
        (f"kind NOT IN ({rules.KIND_SERVER}, {rules.KIND_CLIENT})", rules.OTHER_KIND),
        (" AND ".join(f"found_{name} IS NULL" for name in rules.EVIDENCE), rules.WITHOUT_HTTP),
        (f"{_SPAN_TIME_US} > {_LATEST_US}", rules.TIME_OUT_OF_RANGE),
    )


# ---- JSON events ----

_EVENT_COLUMNS = ", ".join(
    f"tupleElement(event, '{name}') AS sent_{name}"
    for name in (
        "event_id", "trace_id", "span_id", "parent_span_id", "timestamp_us", "response_us",
        "status_code", "consumer_id", "direction", "service", "host", "is_error",
    )
)  # fmt: skip
# Those that transforms take: null where they were not sent.
_EVENT_TEXTS = ", ".join(
    f"nullIf(tupleElement(event, '{name}'), '') AS sent_{name}"
    for name in ("method", "url", "function", "route")
)


def _event_fields() -> dict[str, str]:
    without_ids = " OR ".join(
        (_is_invalid_id("sent_trace_id", 16), _is_invalid_id("sent_span_id", 8))
    )
    hashed = _event_id("sent_trace_id", "sent_span_id")
    return {
        "timestamp": _time("sent_timestamp_us"),
        "consumer_id": "sent_consumer_id",
        "consumer_source": f"if(sent_consumer_id = '', '', '{rules.SOURCE_EVENT}')",
        "method": _text("found_method"),
        "url": _text(t.bounded_url.sql("whole_url")),
        "function": _function("sent_function", "found_method", "sent_route"),
        "route": _text("sent_route"),
        "response_us": "sent_response_us",
        "status_code": "toUInt16(sent_status_code)",
        "is_error": _is_error("sent_status_code", "sent_is_error"),
        "direction": f"if(sent_direction = '', '{INBOUND}', sent_direction)",
        "service": "sent_service",
        "host": "sent_host",
        "event_id": f"if({without_ids}, sent_event_id, {hashed})",
        "trace_id": _fixed("sent_trace_id", 16),
        "span_id": _fixed("sent_span_id", 8),
        "parent_span_id": _fixed("sent_parent_span_id", 8),
        "locality": _locality("sent_service", "ifNull(sent_function, '')"),
    }


# ---- shared by both ----


def _pick(otherwise: str, values: list[str], mask: str) -> str:
    """Return the value of the lowest bit that is set in `mask`, or `otherwise`."""
    table = [otherwise]
    for number in range(1, 1 << len(values)):
        lowest = (number & -number).bit_length() - 1
        table.append(values[lowest])
    return f"[{', '.join(map(t.sql_text, table))}][{mask} + 1]"


def _outcome(reason: str) -> str:
    return rules.REJECTED if reason in rules.REJECT_REASONS else rules.FILTERED


def _time(microseconds: str) -> str:
    return f"fromUnixTimestamp64Micro(toInt64({microseconds}), 'UTC')"


def _text(value: str) -> str:
    return f"ifNull(toValidUTF8({value}), '')"


def _fixed(value: str, length: int) -> str:
    return f"toFixedString(substring({value}, 1, {length}), {length})"


def _is_invalid_id(value: str, length: int) -> str:
    # W3C Trace Context: all zero is invalid.
    return f"(length({value}) != {length} OR {value} = unhex('{'00' * length}'))"


def _event_id(trace_id: str, span_id: str) -> str:
    return f"sipHash64({trace_id}, {span_id})"


def _locality(service: str, name: str) -> str:
    return f"toUInt32(cityHash64({service}, {name}))"


def _function(named: str, method: str, route: str) -> str:
    called = f"concat(ifNull(concat({method}, ' '), ''), {route})"
    return _text(f"coalesce({named}, {called}, '{rules.UNKNOWN_FUNCTION}')")


def _is_error(status_code: str, failed: str) -> str:
    return f"ifNull({status_code} >= 500, false) OR ifNull({failed}, false)"
