# SPDX-License-Identifier: Apache-2.0
"""The inbox: the table that a segment of the log is loaded into, and the views behind it.

It stores nothing. Its name is a hash of everything that decides what a record becomes, so that a
changed rule is a new inbox and never a migration.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING, Any

from otel_apinalytics.normalize import rules, sql
from otel_apinalytics.wire import log_pb2

if TYPE_CHECKING:
    from otel_apinalytics.store.engine import Engine

_PREFIX = "inbox_"
_LEDGER = "toStartOfMinute(fromUnixTimestamp64Nano(toInt64(received_ns), 'UTC')) AS minute"


@dataclass(frozen=True, slots=True)
class Inbox:
    """What a load needs to know.

    Args:
        table: The table to insert into.
        schema: Text of the `.proto` file that describes a record.
        message: Name of the record's message type.
    """

    table: str
    schema: str
    message: str


def prepare_inbox(engine: Engine) -> Inbox:
    """Create the inbox for the rules of this program, drop those of others, and return it.

    Raises:
        EngineError: The engine refused a statement.
    """
    # Comments are dropped: the schema travels with every load.
    text = (resources.files("otel_apinalytics.wire") / "log.proto").read_text("utf-8")
    lines = (line.partition("//")[0].strip() for line in text.splitlines())
    schema = "\n".join(filter(None, lines))
    statements = list(_statements("{inbox}"))
    digest = hashlib.sha256("\n".join([*statements, schema]).encode()).hexdigest()[:16]
    table = _PREFIX + digest
    existing = engine.query(
        f"SELECT name FROM system.tables WHERE database = currentDatabase() AND "
        f"startsWith(name, '{_PREFIX}') ORDER BY name DESC"
    )
    names = [str(row[0]) for row in existing.rows]
    for name in names:
        # Views sort behind their table, so that descending order drops them first.
        if not name.startswith(table):
            engine.command(f"DROP TABLE IF EXISTS {name}")
    for statement in statements:
        engine.command(statement.replace("{inbox}", table))
    return Inbox(table, schema, log_pb2.LogRecord.DESCRIPTOR.name)


def _statements(inbox: str) -> Iterator[str]:
    fields = log_pb2.LogRecord.DESCRIPTOR.fields
    columns = ", ".join(f"{field.name} {_column_type(field)}" for field in fields)
    yield f"CREATE TABLE IF NOT EXISTS {inbox} ({columns}) ENGINE = Null"
    for name, target, select in (
        ("spans", "normalized", sql.spans_select(inbox)),
        ("events", "normalized", sql.events_select(inbox)),
        ("received", "ledger", _ledger_select(inbox, rules.RECEIVED)),
        ("refused", "ledger", _ledger_select(inbox, rules.REJECTED)),
        ("dead_letters", "rejected", _dead_letters_select(inbox)),
    ):
        yield f"CREATE MATERIALIZED VIEW IF NOT EXISTS {inbox}_{name} TO {target} AS {select}"


def _ledger_select(inbox: str, outcome: str) -> str:
    only_rejected = "" if outcome == rules.RECEIVED else " WHERE reject_reason != ''"
    reason = "''" if outcome == rules.RECEIVED else "reject_reason"
    return (
        f"SELECT {_LEDGER}, application, key_id, transport, record_id, "
        f"'{outcome}' AS outcome, {reason} AS reason, toUInt64(received_count) AS spans "
        f"FROM {inbox}{only_rejected}"
    )


def _dead_letters_select(inbox: str) -> str:
    return (
        "SELECT application, key_id, transport, record_id, reject_reason AS reason, "
        "fromUnixTimestamp64Micro(toInt64(intDiv(received_ns, 1000)), 'UTC') AS received_at "
        f"FROM {inbox} WHERE reject_reason != ''"
    )


_SCALARS = {
    "TYPE_BYTES": "String",
    "TYPE_STRING": "String",
    "TYPE_BOOL": "Bool",
    "TYPE_INT32": "Int32",
    "TYPE_INT64": "Int64",
    "TYPE_UINT32": "UInt32",
    "TYPE_FIXED64": "UInt64",
    "TYPE_DOUBLE": "Float64",
}


# The two implementations of protobuf have descriptors of unrelated types.
def _column_type(field: Any) -> str:
    if field.message_type is not None:
        parts = ", ".join(f"{f.name} {_column_type(f)}" for f in field.message_type.fields)
        kind = f"Tuple({parts})"
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
