# SPDX-License-Identifier: Apache-2.0
"""Load statements: what each kind of record becomes, and in which table.

A statement holds the rules, so that a changed rule is another statement and never a migration, and
nothing of it stays in the store's metadata. It reads a stream of `LogRecord` messages; the engine
decodes them in blocks of a few records and stores the rows of a segment as one block.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from types import MappingProxyType
from typing import Any

from otel_apinalytics.normalize import mapping as m
from otel_apinalytics.normalize import outcomes
from otel_apinalytics.normalize.batch_rules import BatchRules
from otel_apinalytics.normalize.events_sql import events_select
from otel_apinalytics.normalize.rows_sql import NORMALIZED_COLUMNS, VERSION
from otel_apinalytics.normalize.spans_sql import spans_select
from otel_apinalytics.store.engine import IDS, RECORDS, LoadStatement
from otel_apinalytics.wire import log_pb2

_P = log_pb2
_MINUTE = "toStartOfMinute(fromUnixTimestamp64Nano(toInt64(received_ns), 'UTC'))"
_RECEIVED_AT = "fromUnixTimestamp64Micro(toInt64(intDiv(received_ns, 1000)), 'UTC')"
_LEDGER_COLUMNS = (
    "minute", "application", "key_id", "transport", "record_id", "source", "outcomes", "version",
)  # fmt: skip
# Who counted: the door what it let in, the store what became of it. Two sources, so that the
# equation can fail.
_DOOR, _STORE = "door", "store"
_DEAD_LETTER_COLUMNS = (
    "application", "key_id", "transport", "record_id", "reason", "received_at",
)  # fmt: skip


class Loads:
    """The statements of this program's rules with one mapping. Immutable.

    Args:
        mapping: The operator's mapping.
    """

    def __init__(self, mapping: m.Mapping) -> None:
        normalized = NORMALIZED_COLUMNS
        self._traces = {
            needed: _statement(
                "normalized", normalized, spans_select(RECORDS, IDS, mapping, needed)
            )
            for needed in BatchRules
        }
        self._events = _statement("normalized", normalized, events_select(RECORDS))
        self._received = _ledger(_DOOR, outcomes.RECEIVED, where=_IS_RECEIVED)
        self._refused = _ledger(_DOOR, outcomes.REFUSED, "reject_reason", _of(_P.PAYLOAD_REFUSED))
        self._duplicate = _ledger(_STORE, outcomes.DUPLICATE, where=_of(_P.PAYLOAD_DUPLICATE))
        of_rejected = _of(_P.PAYLOAD_REJECTED)
        self._rejected = (
            _ledger(_STORE, outcomes.REJECTED, "reject_reason", of_rejected),
            _statement("rejected", _DEAD_LETTER_COLUMNS, f"{_DEAD_LETTERS} {of_rejected}"),
        )
        self._audit = _statement("audit", _AUDIT_COLUMNS, _AUDIT_ENTRIES)

    def for_payloads(
        self, payloads: Iterable[int], batch_rules: BatchRules = BatchRules.NONE
    ) -> list[LoadStatement]:
        """Return the statements that load records with these payloads.

        Each takes what it knows and passes over the rest. One that finds nothing would still cost
        its analysis, so that only those that are needed are returned.

        Args:
            payloads: Values of `LogHeader.payload`.
            batch_rules: Which batch rules the records need.
        """
        found = set(payloads)
        # Before what became of it: the ledger may show more received than stored, never less.
        statements = [self._received] if found != {_P.PAYLOAD_AUDIT} else []
        if _P.PAYLOAD_TRACES in found:
            statements.append(self._traces[batch_rules])
        if _P.PAYLOAD_EVENTS in found:
            statements.append(self._events)
        if _P.PAYLOAD_REJECTED in found:
            statements += self._rejected
        if _P.PAYLOAD_DUPLICATE in found:
            statements.append(self._duplicate)
        if _P.PAYLOAD_REFUSED in found:
            statements.append(self._refused)
        if _P.PAYLOAD_AUDIT in found:
            statements.append(self._audit)
        return statements


# A record without items is none: it tries whether a statement works.
_HAS_ITEMS = "WHERE received_count > 0"
# Of requests that were refused the items are not known.
_IS_RECEIVED = f"{_HAS_ITEMS} AND payload != {_P.PAYLOAD_REFUSED}"


def _of(payload: int) -> str:
    return f"{_HAS_ITEMS} AND payload = {payload}"


def _ledger(source: str, outcome: str, reason: str = "''", where: str = "") -> LoadStatement:
    """Return the statement for the ledger's rows of whole records, with the door's count."""
    select = (
        f"SELECT {_MINUTE}, application, key_id, transport, record_id, '{source}', "
        f"[('{outcome}', {reason}, toUInt64(received_count))], {VERSION} FROM {RECORDS} {where}"
    )
    return _statement("ledger_records", _LEDGER_COLUMNS, select)


_DEAD_LETTERS = (
    f"SELECT application, key_id, transport, record_id, reject_reason, {_RECEIVED_AT} "
    f"FROM {RECORDS}"
)
_AUDIT_COLUMNS = (
    "at", "application", "key_id", "key_name", "action", "method", "route", "parameters", "status",
    "rows", "bytes", "client_address", "record_id", "number",
)  # fmt: skip
_AUDIT_ENTRIES = (
    "SELECT fromUnixTimestamp64Micro(tupleElement(entry, 'at_us'), 'UTC'), "
    + ", ".join(f"tupleElement(entry, '{name}')" for name in _AUDIT_COLUMNS[1:-2])
    + ", record_id, number FROM (SELECT record_id, tupleElement(audit, 'entries') AS entries "
    f"FROM {RECORDS}) ARRAY JOIN entries AS entry, arrayEnumerate(entries) AS number"
)


def _statement(table: str, columns: Sequence[str], select: str) -> LoadStatement:
    record = log_pb2.LogRecord.DESCRIPTOR
    structure = _structure(record.fields)
    ids = _structure(f for f in record.fields if f.name in _OF_RECORD)
    resources = log_pb2.TraceRequest.DESCRIPTOR.fields_by_name["resource_spans"]
    ids += f", traces Tuple(resource_spans {_column_type(resources, _OF_IDS)})"
    return LoadStatement(table, tuple(columns), select, structure, ids, _schema_text(), record.name)


_OF_RECORD = (
    "record_id", "application", "key_id", "transport", "received_ns",
)  # fmt: skip
# Of a span, what tells it and its kind: reading attributes costs most of a decoding.
_OF_IDS = {"Span": ("trace_id", "span_id", "kind")}


def _structure(fields: Iterable[Any]) -> str:
    return ", ".join(f"{field.name} {_column_type(field)}" for field in fields)


def _schema_text() -> str:
    text = (resources.files("otel_apinalytics.wire") / "log.proto").read_text("utf-8")
    # Comments are dropped: the schema travels with every load.
    lines = (line.partition("//")[0].strip() for line in text.splitlines())
    return "\n".join(filter(None, lines))


_SCALARS = {
    "TYPE_BYTES": "String",
    "TYPE_STRING": "String",
    "TYPE_BOOL": "Bool",
    "TYPE_INT32": "Int32",
    "TYPE_INT64": "Int64",
    "TYPE_UINT32": "UInt32",
    "TYPE_UINT64": "UInt64",
    "TYPE_FIXED32": "UInt32",
    "TYPE_FIXED64": "UInt64",
    "TYPE_DOUBLE": "Float64",
    "TYPE_ENUM": "Int32",
}


# The two implementations of protobuf have descriptors of unrelated types.
def _column_type(field: Any, only: Mapping[str, Sequence[str]] = MappingProxyType({})) -> str:
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        key, value = field.message_type.fields
        return f"Map({_column_type(key)}, {_column_type(value)})"
    if field.message_type is not None:
        message = field.message_type
        kept = only.get(message.name) or [f.name for f in message.fields]
        parts = (f"{f.name} {_column_type(f, only)}" for f in message.fields if f.name in kept)
        kind = f"Tuple({', '.join(parts)})"
    else:
        kind = _SCALARS[_type_name(field)]
        # Only these tell "absent" from zero; a null in a nested column costs, so no more of them.
        if field.containing_oneof is not None:
            kind = f"Nullable({kind})"
    return f"Array({kind})" if field.is_repeated else kind


def _type_name(field: Any) -> str:
    for name in _SCALARS:
        if field.type == getattr(field, name):
            return name
    raise TypeError(f"{field.full_name}: no column type for protobuf type {field.type}")
