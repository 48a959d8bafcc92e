# SPDX-License-Identifier: Apache-2.0
"""Fixtures: SQL of ours, run by a real engine that keeps nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from otel_apinalytics.normalize import sql
from otel_apinalytics.normalize.python import Scalar, SpanView
from otel_apinalytics.receiver.records import varint
from otel_apinalytics.wire.log_pb2 import AnyValue, ArrayItem, Event, KeyValue, LogRecord

_COLUMNS = (
    "consumer_id", "consumer_source", "method", "url", "function", "route", "response_us",
    "status_code", "is_error", "direction", "service", "host", "outcome", "reason",
)  # fmt: skip


class MemoryEngine:
    """A client of the engine in the child process."""

    def __init__(self) -> None:
        self._child = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("engine_child.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, **request: Any) -> list[list[Any]]:
        """Return the rows that a request gives."""
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        print(json.dumps(request), file=self._child.stdin, flush=True)
        result = json.loads(self._child.stdout.readline())
        assert "error" not in result, result["error"]
        rows: list[list[Any]] = result["rows"]
        return rows

    def close(self) -> None:
        """End the process."""
        self._child.communicate()


@pytest.fixture(scope="session")
def memory_engine() -> Iterator[MemoryEngine]:
    """Run one engine in memory for all unit tests; the schema is in it."""
    engine = MemoryEngine()
    yield engine
    engine.close()


@pytest.fixture(scope="session")
def run_sql(memory_engine: MemoryEngine) -> Callable[..., list[list[Any]]]:
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


Normalize = Callable[[Sequence[LogRecord], Callable[[str], str]], list[dict[str, Any]]]


@pytest.fixture(scope="session")
def normalize_records(
    memory_engine: MemoryEngine, tmp_path_factory: pytest.TempPathFactory
) -> Normalize:
    """Return a function from records, each with one span or event, to normalized rows."""
    directory = tmp_path_factory.mktemp("records")

    def normalize(
        records: Sequence[LogRecord], select: Callable[[str], str]
    ) -> list[dict[str, Any]]:
        path = directory / "segment"
        with path.open("wb") as stream:
            for number, record in enumerate(records):
                record.record_id = number.to_bytes(16, "big")
                data = record.SerializeToString()
                stream.write(varint(len(data)) + data)
        memory_engine.ask(load=str(path))
        rows = memory_engine.ask(
            query=f"SELECT toUnixTimestamp64Micro(timestamp), {', '.join(_COLUMNS)}, event_id, "
            "hex(trace_id), hex(span_id), locality "
            f"FROM ({select('records')}) ORDER BY record_id",
            parameters={},
        )
        names = ("timestamp", *_COLUMNS, "event_id", "trace_id", "span_id", "locality")
        assert len(rows) == len(records)
        return [dict(zip(names, row, strict=True)) for row in rows]

    return normalize


@pytest.fixture(scope="session")
def normalize_spans(
    normalize_records: Normalize,
) -> Callable[[Sequence[SpanView], int], list[dict[str, Any]]]:
    """Return a function from spans to what the engine makes of them."""

    def normalize(spans: Sequence[SpanView], received_ns: int) -> list[dict[str, Any]]:
        return normalize_records([_record(span, received_ns) for span in spans], sql.spans_select)

    return normalize


@pytest.fixture(scope="session")
def normalize_events(
    normalize_records: Normalize,
) -> Callable[[Sequence[Event], int], list[dict[str, Any]]]:
    """Return a function from JSON events, encoded, to what the engine makes of them."""

    def normalize(events: Sequence[Event], received_ns: int) -> list[dict[str, Any]]:
        records = [LogRecord(application="app", received_ns=received_ns) for _ in events]
        for record, event in zip(records, events, strict=True):
            record.events.events.append(event)
        return normalize_records(records, sql.events_select)

    return normalize


def _record(span: SpanView, received_ns: int) -> LogRecord:
    record = LogRecord(application="app", received_ns=received_ns)
    resource_spans = record.traces.resource_spans.add()
    resource_spans.resource.attributes.extend(_key_values(span.resource))
    sent = resource_spans.scope_spans.add().spans.add(
        trace_id=span.trace_id,
        span_id=span.span_id,
        parent_span_id=span.parent_span_id,
        name=span.name.encode(),
        kind=span.kind,
        start_time_unix_nano=span.start_ns,
        end_time_unix_nano=span.end_ns,
        attributes=_key_values(span.attributes),
    )
    sent.status.code = span.status
    return record


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
        target.bool_value = value
    elif isinstance(value, int):
        target.int_value = value
    else:
        target.double_value = value
