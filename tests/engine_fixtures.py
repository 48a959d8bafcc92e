# SPDX-License-Identifier: Apache-2.0
"""Fixtures: SQL of ours, run by a real engine that keeps nothing, in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from otel_apinalytics.catalogue import FIELDS, WEIGHT_SCALE, FieldType
from otel_apinalytics.normalize.batch_rules import BatchRules
from otel_apinalytics.normalize.mapping import NO_MAPPING
from otel_apinalytics.normalize.mapping import Mapping as FieldMapping
from otel_apinalytics.normalize.python import SpanView
from otel_apinalytics.normalize.reading import Scalar
from otel_apinalytics.receiver import gate
from otel_apinalytics.receiver.records import events_record, hash_key_field, spans_record, varint
from otel_apinalytics.wire.log_pb2 import (
    AnyValue,
    ArrayItem,
    Event,
    EventBatch,
    KeyValue,
    LogHeader,
    TraceRequest,
)

APPLICATION = "app"
HASH_KEY = bytes(range(32))

Row: TypeAlias = dict[str, Any]
RunSql: TypeAlias = Callable[..., list[list[Any]]]
LoadRecords: TypeAlias = Callable[..., list[Row]]
NormalizeInEngine: TypeAlias = Callable[..., list[Row]]
NormalizeEvents: TypeAlias = Callable[[Sequence[Event], int], list[Row]]

_CHILD = Path(__file__).parent / "unit" / "engine_child.py"
_IDS = tuple(field.name for field in FIELDS if field.type is FieldType.HEX)


class MemoryEngine:
    """A client of the engine in the child process."""

    def __init__(self) -> None:
        self._child = subprocess.Popen(
            [sys.executable, str(_CHILD)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, **request: Any) -> list[Any]:
        """Return the rows that a request gives.

        Raises:
            AssertionError: The engine refused it, with the engine's words.
        """
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        print(json.dumps(request), file=self._child.stdin, flush=True)
        result = json.loads(self._child.stdout.readline())
        assert "error" not in result, result["error"]
        rows: list[Any] = result["rows"]
        return rows

    def close(self) -> None:
        """End the process."""
        self._child.communicate()


@pytest.fixture(scope="session")
def memory_engine() -> Iterator[MemoryEngine]:
    """Run one engine in memory for all tests that need no service; the schema is in it."""
    engine = MemoryEngine()
    yield engine
    engine.close()


@pytest.fixture(scope="session")
def run_sql(memory_engine: MemoryEngine) -> RunSql:
    """Return a function from a SELECT and its parameters to its rows."""

    def run(query: str, parameters: Mapping[str, Any] | None = None) -> list[list[Any]]:
        return memory_engine.ask(query=query, parameters=dict(parameters or {}))

    return run


@pytest.fixture(scope="session")
def run_command(memory_engine: MemoryEngine) -> Callable[[str], None]:
    """Return a function that runs a statement without rows."""

    def run(command: str) -> None:
        memory_engine.ask(command=command)

    return run


@pytest.fixture(scope="session")
def load_records(
    memory_engine: MemoryEngine, tmp_path_factory: pytest.TempPathFactory
) -> LoadRecords:
    """Return a function that loads records as one segment, as the loader does.

    It gives the normalized rows in the form of `Normalized.fields`, with outcome and reason, in the
    order of the records; those of one record are in any order. `batch_rules` overrides what the
    records say.
    """
    path = tmp_path_factory.mktemp("records") / "segment"

    def load(
        records: Sequence[bytes],
        mapping: FieldMapping = NO_MAPPING,
        *,
        batch_rules: BatchRules | None = None,
    ) -> list[Row]:
        with path.open("wb") as stream:
            for record in records:
                data = record + hash_key_field(HASH_KEY)
                stream.write(varint(len(data)) + data)
        headers = [LogHeader.FromString(record) for record in records]
        if batch_rules is None:
            batch_rules = max(BatchRules(header.batch_rules) for header in headers)
        rows = memory_engine.ask(
            load=str(path),
            payloads=sorted({header.payload for header in headers}),
            batch_rules=batch_rules,
            mapping=[asdict(entry) for entry in mapping.entries],
        )
        return [_as_normalized(row) for row in rows]

    return load


@pytest.fixture(scope="session")
def normalize_in_engine(load_records: LoadRecords) -> NormalizeInEngine:
    """Return a function from spans, as one segment, to normalized rows in their order."""

    def normalize(
        spans: Sequence[SpanView], received_ns: int, mapping: FieldMapping = NO_MAPPING
    ) -> list[Row]:
        rows = load_records(span_records(spans, received_ns), mapping) if spans else []
        assert len(rows) == len(spans)
        return rows

    return normalize


@pytest.fixture(scope="session")
def normalize_events(load_records: LoadRecords) -> NormalizeEvents:
    """Return a function from JSON events, encoded, to normalized rows."""

    def normalize(events: Sequence[Event], received_ns: int) -> list[Row]:
        batch = EventBatch(events=events).SerializeToString()
        return load_records([events_record(new_header(received_ns), batch)])

    return normalize


def new_header(received_ns: int, number: int = 0) -> LogHeader:
    """Return the header of a record of one application."""
    return LogHeader(
        record_id=number.to_bytes(16, "big"),
        application=APPLICATION,
        key_id="key",
        transport="grpc",
        received_ns=received_ns,
    )


def span_records(spans: Sequence[SpanView], received_ns: int, size: int = 1) -> list[bytes]:
    """Return records as the door writes them, of so many spans each."""
    records: list[bytes] = []
    for start in range(0, len(spans), size):
        group = spans[start : start + size]
        request = trace_request(group).SerializeToString()
        header = new_header(received_ns, len(records))
        header.received_count = len(group)
        header.batch_rules = gate.inspect(request).batch_rules
        records.append(spans_record(header, request))
    return records


def trace_request(spans: Sequence[SpanView]) -> TraceRequest:
    """Return a request; neighbours share resource and scope where these are equal."""
    request = TraceRequest()
    for _, of_resource in groupby(spans, key=lambda span: repr(span.resource)):
        same_resource = list(of_resource)
        resource_spans = request.resource_spans.add()
        resource_spans.resource.attributes.extend(_key_values(same_resource[0].resource))
        for scope, of_scope in groupby(same_resource, key=lambda span: span.scope):
            scope_spans = resource_spans.scope_spans.add()
            scope_spans.scope.name = scope.encode()
            for span in of_scope:
                _add_span(scope_spans.spans, span)
    return request


def _add_span(spans: Any, span: SpanView) -> None:
    sent = spans.add(
        trace_id=span.trace_id,
        span_id=span.span_id,
        parent_span_id=span.parent_span_id,
        trace_state=span.trace_state.encode(),
        name=span.name.encode(),
        kind=span.kind,
        start_time_unix_nano=span.start_ns,
        end_time_unix_nano=span.end_ns,
        attributes=_key_values(span.attributes),
        flags=span.flags,
    )
    sent.status.code = span.status
    for name, attributes in span.events:
        event = sent.events.add(name=name.encode())
        for key, value in attributes.items():
            text = event.attributes.add(key=key.encode())
            # Of anything but text, nothing is left in the log's view of it.
            text.value.string_value = value.encode() if isinstance(value, str) else b""


def _key_values(attributes: Mapping[str, Scalar | Sequence[Scalar]]) -> list[KeyValue]:
    sent = []
    for key, value in attributes.items():
        pair = KeyValue(key=key.encode())
        if isinstance(value, (str, bool, int, float)):
            _set(pair.value, value)
        else:
            pair.value.array_value.SetInParent()
            for item in value:
                _set(pair.value.array_value.values.add(), item)
        sent.append(pair)
    return sent


def _set(target: AnyValue | ArrayItem, value: Scalar) -> None:
    if isinstance(value, str):
        target.string_value = value.encode()
    elif isinstance(value, bool):
        target.bool_value = int(value)
    elif isinstance(value, int):
        target.int_value = value
    else:
        target.double_value = value


def _as_normalized(row: Row) -> Row:
    ids = {name: bytes.fromhex(row[name]) for name in _IDS}
    return {**row, **ids, "weight": row["weight"] / WEIGHT_SCALE}
