# SPDX-License-Identifier: Apache-2.0
"""Realistic requests: 12 attributes a span, random ids, paths, durations; cheap to make again."""

from __future__ import annotations

import random
import time

import numpy as np
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

_ROUTES = (
    ("GET", "/users/{id}"),
    ("GET", "/orders/{id}"),
    ("GET", "/items/{id}/price"),
    ("POST", "/orders"),
    ("GET", "/search"),
)
_STATUS = (200, 200, 200, 200, 201, 404, 500)
_TRACE_ID, _SPAN_ID, _PARENT_ID = b"\xf1" * 16, b"\xf2" * 8, b"\xf3" * 8
_KIND_INTERNAL, _KIND_SERVER = 1, 2
_PARENT_IS_LOCAL = 0x100


class RequestTemplate:
    """A serialized request whose ids and start times are new at each call.

    Args:
        spans: Spans in the request.
        seed: Decides everything but ids and times.
        children: INTERNAL spans behind each SERVER span, as ASGI instrumentation sends them.
    """

    def __init__(self, spans: int, seed: int, children: int = 0) -> None:
        self.spans = spans
        self._family = children + 1
        self._base_ns = time.time_ns()
        request = _request(spans, random.Random(seed), self._base_ns, self._family)
        body = request.SerializeToString()
        self._body = np.frombuffer(body, dtype=np.uint8).copy()
        self._trace_ids = _offsets(body, _TRACE_ID, spans)
        self._span_ids = _offsets(body, _SPAN_ID, spans)
        numbers = np.arange(spans)
        self._children = numbers[numbers % self._family > 0]
        self._parent_ids = _offsets(body, _PARENT_ID, len(self._children))
        self._random = np.random.default_rng()

    def body(self) -> bytes:
        """Return the request with new random ids."""
        fresh = self._random.integers(1, 256, size=(self.spans, 24), dtype=np.uint8)
        parents = fresh[self._children - self._children % self._family]
        fresh[self._children, :16] = parents[:, :16]
        self._body[self._parent_ids] = parents[:, 16:]
        self._body[self._trace_ids] = fresh[:, :16]
        self._body[self._span_ids] = fresh[:, 16:]
        return self._body.tobytes()


def _offsets(
    body: bytes, pattern: bytes, count: int
) -> np.ndarray[tuple[int, int], np.dtype[np.intp]]:
    found, start = [], 0
    while (start := body.find(pattern, start)) >= 0:
        found.append(start)
        start += len(pattern)
    if len(found) != count:
        raise AssertionError("the placeholder of an id occurs elsewhere")
    return np.array(found, dtype=np.intp)[:, None] + np.arange(len(pattern))[None, :]


def _request(
    spans: int, choice: random.Random, now_ns: int, family: int
) -> ExportTraceServiceRequest:
    request = ExportTraceServiceRequest()
    resource_spans = request.resource_spans.add()
    resource_spans.resource.attributes.extend(
        [_attribute("service.name", "shop"), _attribute("telemetry.sdk.language", "python")]
    )
    scope_spans = resource_spans.scope_spans.add()
    scope_spans.scope.name = "opentelemetry.instrumentation.asgi"
    for number in range(spans):
        if number % family:
            scope_spans.spans.add(
                trace_id=_TRACE_ID,
                span_id=_SPAN_ID,
                parent_span_id=_PARENT_ID,
                name="GET /users/{id} http send",
                kind=_KIND_INTERNAL,
                flags=_PARENT_IS_LOCAL,
                start_time_unix_nano=now_ns,
                end_time_unix_nano=now_ns + 1_000_000,
                attributes=[
                    _attribute("asgi.event.type", "http.response.start"),
                    _attribute("http.status_code", 200),
                ],
            )
            continue
        method, route = choice.choice(_ROUTES)
        identifier = choice.randrange(10**6)
        path = route.replace("{id}", str(identifier))
        start_ns = now_ns - number * 200_000
        elapsed_ns = int(choice.lognormvariate(17, 1))
        span = scope_spans.spans.add(
            trace_id=_TRACE_ID,
            span_id=_SPAN_ID,
            name=f"{method} {route}",
            kind=_KIND_SERVER,
            start_time_unix_nano=start_ns,
            end_time_unix_nano=start_ns + elapsed_ns,
        )
        values: dict[str, str | int] = {
            "http.scheme": "http",
            "http.host": "127.0.0.1:8000",
            "net.host.port": 8000,
            "http.flavor": "1.1",
            "http.target": path,
            "http.url": f"http://api.example.com{path}?page={identifier % 97}",
            "http.method": method,
            "http.server_name": "api.example.com",
            "http.user_agent": "python-requests/2.32",
            "http.route": route,
            "http.status_code": choice.choice(_STATUS),
            # Few consumers call most.
            "enduser.id": f"consumer-{int(choice.paretovariate(1.2)) % 500}",
        }
        span.attributes.extend(_attribute(name, value) for name, value in values.items())
    return request


def _attribute(name: str, value: str | int) -> KeyValue:
    if isinstance(value, int):
        return KeyValue(key=name, value=AnyValue(int_value=value))
    return KeyValue(key=name, value=AnyValue(string_value=value))
