# SPDX-License-Identifier: Apache-2.0
"""OTLP requests for tests."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

Value = str | bool | int | float | Sequence[str]
SERVER = Span.SPAN_KIND_SERVER
CLIENT = Span.SPAN_KIND_CLIENT
INTERNAL = Span.SPAN_KIND_INTERNAL
ERROR = Status.STATUS_CODE_ERROR
CALL: Mapping[str, Value] = {
    "http.request.method": "GET",
    "url.path": "/users/7",
    "http.route": "/users/{id}",
    "http.response.status_code": 200,
    "enduser.id": "alice",
}


def make_span(
    attributes: Mapping[str, Value] = CALL,
    *,
    kind: Span.SpanKind.ValueType = SERVER,
    name: str = "GET /users/{id}",
    start_ns: int | None = None,
    elapsed_ns: int = 12_345_678,
    trace_id: bytes | None = None,
    span_id: bytes | None = None,
    status: Status.StatusCode.ValueType = Status.STATUS_CODE_UNSET,
) -> Span:
    """Return a span; ids are random and it starts now unless said otherwise."""
    start = time.time_ns() if start_ns is None else start_ns
    span = Span(
        trace_id=os.urandom(16) if trace_id is None else trace_id,
        span_id=os.urandom(8) if span_id is None else span_id,
        name=name,
        kind=kind,
        start_time_unix_nano=start,
        end_time_unix_nano=start + elapsed_ns if start else 0,
        attributes=key_values(attributes),
    )
    span.status.code = status
    return span


def make_request(*spans: Span, service: str = "svc") -> bytes:
    """Return a serialized request with these spans."""
    request = ExportTraceServiceRequest()
    resource_spans = request.resource_spans.add()
    resource_spans.resource.attributes.extend(key_values({"service.name": service}))
    resource_spans.scope_spans.add().spans.extend(spans)
    return request.SerializeToString()


def key_values(attributes: Mapping[str, Value]) -> list[KeyValue]:
    """Return attributes as OTLP writes them."""
    return [KeyValue(key=key, value=_any_value(value)) for key, value in attributes.items()]


def _any_value(value: Value) -> AnyValue:
    if isinstance(value, bool):
        return AnyValue(bool_value=value)
    if isinstance(value, int):
        return AnyValue(int_value=value)
    if isinstance(value, float):
        return AnyValue(double_value=value)
    if isinstance(value, str):
        return AnyValue(string_value=value)
    return AnyValue(array_value=ArrayValue(values=[_any_value(item) for item in value]))
