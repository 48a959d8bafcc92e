# SPDX-License-Identifier: Apache-2.0
"""The SQL that spans and JSON events share: the columns of a normalized row, outcome and reason."""

from __future__ import annotations

from collections.abc import Sequence

from otel_apinalytics.catalogue import FIELDS
from otel_apinalytics.normalize import outcomes, rules
from otel_apinalytics.normalize.transforms import any_of, sql_text

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

# What every row takes from its record.
RECORD_COLUMNS = "application, key_id, transport, record_id, received_ns, hash_key"
# Event time may lie a day ahead of receive time: clocks differ.
_LATEST_US = "toInt64(intDiv(received_ns, 1000)) + 86400000000"
# Of rows with the same key the one of newer rules stays, then the one that arrived later.
VERSION = f"bitOr(bitShiftLeft(toUInt64({rules.RULES_VERSION}), 51), intDiv(received_ns, 1000))"

# Named columns of a SELECT.
Columns = dict[str, str]
# Conditions with the reason that each gives.
Checks = Sequence[tuple[str, str]]


def layer(columns: Columns, source: str) -> str:
    """Return a SELECT with all columns of the source, and these."""
    named = ", ".join(f"{expression} AS {name}" for name, expression in columns.items())
    return f"SELECT *, {named} FROM ({source})"


def normalized_select(fields: Columns, checks: Checks, source: str) -> str:
    """Return the projection on `NORMALIZED_COLUMNS`; the first check that holds is the reason.

    The number of the first check that holds picks outcome and reason from constant arrays: a chain
    of conditions over text costs the engine several times as much, to analyze and to run.
    """
    failed = f"indexOf([{', '.join(f'toBool({check})' for check, _ in checks)}], true)"
    received_us = "intDiv(received_ns, 1000)"
    reasons = [reason for _, reason in checks]
    columns = {
        "key_id": "key_id",
        "transport": "transport",
        "record_id": "record_id",
        "application": "application",
        "received_at": time(received_us),
        **fields,
        "outcome": _pick([outcomes.STORED, *map(outcomes.outcome_of, reasons)]),
        "reason": _pick(["", *reasons]),
        "version": VERSION,
    }
    projection = ", ".join(f"{columns[name]} AS {name}" for name in NORMALIZED_COLUMNS)
    return f"SELECT {projection} FROM ({layer({'failed_check': failed}, source)})"


def filtered_select(reason: str, source: str) -> str:
    """Return rows of spans that are filtered for a reason: the ledger needs no more of them."""
    columns = {
        "key_id": "key_id",
        "transport": "transport",
        "record_id": "record_id",
        "application": "application",
        "received_at": time("intDiv(received_ns, 1000)"),
        "outcome": sql_text(outcomes.outcome_of(reason)),
        "reason": sql_text(reason),
        "version": VERSION,
    }
    types = {field.name: field.column for field in FIELDS} | {"locality": "UInt32"}
    projection = ", ".join(
        columns.get(name) or f"defaultValueOfTypeName({sql_text(types[name])})"
        for name in NORMALIZED_COLUMNS
    )
    return f"SELECT {projection} FROM ({source})"


def _pick(values: list[str]) -> str:
    return f"[{', '.join(map(sql_text, values))}][failed_check + 1]"


def is_too_late(microseconds: str) -> str:
    """Return whether an event time is out of range."""
    return f"{microseconds} > {_LATEST_US}"


def time(microseconds: str) -> str:
    """Return Unix microseconds as a time."""
    return f"fromUnixTimestamp64Micro(toInt64({microseconds}), 'UTC')"


def fixed(value: str, length: int) -> str:
    """Return bytes with a fixed length, cut or padded with zeros."""
    return f"toFixedString(substring({value}, 1, {length}), {length})"


def is_invalid_id(value: str, length: int) -> str:
    """Return whether an id has another length or is zero (W3C Trace Context)."""
    return any_of(f"length({value}) != {length}", f"{value} = unhex('{'00' * length}')")


def event_id(trace_id: str, span_id: str) -> str:
    """Return the identity of an event with ids; it depends on nothing else."""
    return f"sipHash64({trace_id}, {span_id})"


def locality(service: str, name: str) -> str:
    """Return a number that keeps equal calls together on disk."""
    return f"toUInt32(cityHash64({service}, {name}))"
