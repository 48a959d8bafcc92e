# SPDX-License-Identifier: Apache-2.0
"""Contract of an OTLP receiver on both transports: one test for each obligation.

B10 to B12 are of senders, or of what an acknowledgement means: here is what a sender can see of it;
that nothing acknowledged is lost is shown where the process is killed.
"""

from __future__ import annotations

import gzip
import os
import time
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue, KeyValueList
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from otel_apinalytics.errors import RetryableError
from otel_apinalytics.receiver.log import RequestLog
from otel_apinalytics.receiver.records import varint
from tests.contracts import test_otlp_grpc as over_grpc
from tests.contracts import test_otlp_http as over_http
from tests.support.clients import Client
from tests.support.door import count
from tests.support.otlp import CALL, key_values, make_request, make_span
from tests.support.waiting import wait_for

LIMIT = 64 << 20
MAX_RESPONSE_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a sender gets.

    Args:
        ok: Whether it is success, full or partial.
        code: Code of gRPC, or status of HTTP.
        body: The response, or a serialized `google.rpc.Status`.
    """

    ok: bool
    code: int
    body: bytes

    @property
    def partial(self) -> Any:
        """The partial success; there is one."""
        response = ExportTraceServiceResponse.FromString(self.body)
        assert self.ok
        assert response.HasField("partial_success")
        return response.partial_success


Export = Callable[..., Outcome]


def _by_grpc(client: Client, body: bytes, compress: bool) -> Outcome:
    compression = grpc.Compression.Gzip if compress else grpc.Compression.NoCompression
    try:
        return Outcome(True, 0, over_grpc.call(client, body, compression=compression))
    except grpc.RpcError as error:
        refused: Any = error
        details = over_grpc.trailers(refused).get("grpc-status-details-bin", b"")
        return Outcome(False, refused.code().value[0], details)


def _by_http(client: Client, body: bytes, compress: bool) -> Outcome:
    headers = {"Content_Encoding": "gzip"} if compress else {}
    answer = over_http.post(client, gzip.compress(body) if compress else body, **headers)
    return Outcome(answer.status == 200, answer.status, answer.body)


@pytest.fixture(params=["grpc", "http"])
def transport(request: pytest.FixtureRequest) -> str:
    """Run a test by each transport."""
    return str(request.param)


@pytest.fixture
def export(client: Client, transport: str) -> Export:
    """Return a function that sends a request in protobuf."""

    def send(body: bytes, *, compress: bool = False) -> Outcome:
        return (_by_grpc if transport == "grpc" else _by_http)(client, body, compress)

    return send


def call_of(consumer: str, **changes: Any) -> Span:
    """Return a call of a consumer."""
    return make_span({**CALL, "enduser.id": consumer}, **changes)


def new_consumer() -> str:
    """Return a consumer that nobody else has."""
    return f"c-{uuid.uuid4()}"


def wait_for_count(client: Client, consumer: str, number: int) -> None:
    """Wait until a consumer has so many events."""
    wait_for(lambda: count(client, consumer), until=lambda found: found == number)


def events_of(client: Client, consumer: str) -> list[dict[str, Any]]:
    """Return the events of a consumer, once there are any."""
    now = int(time.time())

    def mine() -> list[dict[str, Any]]:
        found = client.raw_events(now - 1800, now + 1800)
        return [event for event in found if event["consumer_id"] == consumer]

    return wait_for(mine)


def field(number: int, content: bytes) -> bytes:
    """Return a length-delimited field."""
    return varint(number << 3 | 2) + varint(len(content)) + content


def assert_full(outcome: Outcome) -> None:
    """A response without anything."""
    assert (outcome.ok, outcome.body) == (True, b"")


# ---- the obligations ----


@pytest.mark.parametrize("compress", [False, True])
def test_b1_plain_and_gzip_are_accepted(client: Client, export: Export, compress: bool) -> None:
    """On both transports."""
    consumer = new_consumer()
    assert_full(export(make_request(call_of(consumer)), compress=compress))
    wait_for_count(client, consumer, 1)


def test_b2_the_limit_counts_after_decompression(export: Export, transport: str) -> None:
    """What is small on the way is refused all the same."""
    refused = export(bytes(LIMIT + 1), compress=True)
    assert refused.code == (8 if transport == "grpc" else 413)


def test_b3_the_limit_is_64_mib(export: Export, transport: str) -> None:
    """By default, and to the byte: what is as large is read, although it is no request."""
    codes = [export(b"\xff" * size, compress=True).code for size in (LIMIT, LIMIT + 1)]
    assert codes == ([3, 8] if transport == "grpc" else [400, 413])


def test_b4_too_large_is_not_sent_again(export: Export, transport: str) -> None:
    """RESOURCE_EXHAUSTED without a delay, or 413; by either limit, of bytes or of spans."""
    for body in (bytes(LIMIT + 1), over_grpc.large_number_of_spans(131_073)):
        refused = export(body, compress=True)
        assert refused.code == (8 if transport == "grpc" else 413)
        assert not Status.FromString(refused.body).details


def test_b5_a_response_is_small(export: Export) -> None:
    """Whatever a request has, and in whatever number."""
    bad = [Span(trace_id=os.urandom(15), name="x" * 100) for _ in range(20_000)]
    assert len(export(make_request(*bad)).body) < MAX_RESPONSE_BYTES / 1000
    assert len(export(b"\xff" * (16 << 20)).body) < MAX_RESPONSE_BYTES / 1000


@pytest.mark.parametrize(
    "body",
    [b"", make_request(), field(1, field(2, b"")) * 3, field(1, field(1, b"") + field(2, b""))],
)
def test_b6_no_spans_succeed(export: Export, body: bytes) -> None:
    """Nothing at all, and envelopes without a letter."""
    assert_full(export(body))


def test_b7_full_success_is_unset(export: Export) -> None:
    """Zero bytes: not an empty partial success."""
    assert_full(export(make_request(make_span(), make_span())))


def test_b8_partial_success_counts_and_explains(client: Client, export: Export) -> None:
    """The number of those that were rejected, why, and what would be right."""
    consumer = new_consumer()
    body = make_request(
        make_span(trace_id=bytes(16)), call_of(consumer), make_span(span_id=b"\1" * 7)
    )
    partial = export(body).partial
    assert partial.rejected_spans == 2
    for text in ("trace id", "16 bytes", "span id", "8 bytes"):
        assert text in partial.error_message
    wait_for_count(client, consumer, 1)


def test_b9_a_warning_rejects_none(export: Export) -> None:
    """Zero, and a text."""
    partial = export(field(1, b"")).partial
    assert partial.rejected_spans == 0
    assert partial.error_message


@pytest.mark.parametrize(
    "body", [make_request(make_span()), make_request(make_span(), make_span(span_id=b""))]
)
def test_b10_trouble_of_ours_refuses_the_whole(
    export: Export, transport: str, body: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a code on which a client comes again: after a partial success it would not."""

    def refuse(log: RequestLog, record: bytes) -> None:
        raise RetryableError("the store is behind")

    monkeypatch.setattr(RequestLog, "append", refuse)
    refused = export(body)
    assert refused.code == (14 if transport == "grpc" else 503)
    assert Status.FromString(refused.body).details[0].Is(RetryInfo.DESCRIPTOR)


def test_b11_delivery_again_is_no_second_event(client: Client, export: Export) -> None:
    """The same request, and the same span in another request."""
    consumer, span = new_consumer(), call_of("x")
    span = call_of(consumer, trace_id=span.trace_id, span_id=span.span_id)
    for body in [make_request(span)] * 3 + [make_request(span, make_span())]:
        assert_full(export(body))
    mark = new_consumer()
    assert_full(export(make_request(call_of(mark))))
    wait_for_count(client, mark, 1)
    assert len(events_of(client, consumer)) == 1


def test_b12_success_comes_after_the_disk(
    export: Export, transport: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If it does not take the request, the client is told, and comes again."""

    def fail(descriptor: int) -> None:
        raise OSError("no disk")

    body = make_request(make_span())
    with monkeypatch.context() as broken:
        broken.setattr(os, "fdatasync", fail)
        refused = export(body)
        assert refused.code == (14 if transport == "grpc" else 503)
    wait_for(lambda: export(body).ok)


def test_b13_concurrent_requests_are_served(client: Client, export: Export) -> None:
    """Many at a time, from one client."""
    consumer = new_consumer()
    bodies = [make_request(call_of(consumer)) for _ in range(32)]
    with ThreadPoolExecutor(len(bodies)) as pool:
        for outcome in pool.map(export, bodies):
            assert_full(outcome)
    wait_for_count(client, consumer, len(bodies))


def test_b14_unknown_fields_are_ignored(client: Client, export: Export) -> None:
    """Of newer senders, at each level and of each wire type; and older ones lack some."""
    consumer = new_consumer()
    new = field(1000, b"new") + varint(1001 << 3) + b"\1" + varint(1002 << 3 | 5) + bytes(4)
    new += varint(1003 << 3 | 1) + bytes(8)
    span = call_of(consumer).SerializeToString() + new
    resource_spans = field(1, new) + field(2, field(1, new) + field(2, span) + new) + new
    assert_full(export(field(1, resource_spans) + new))
    wait_for_count(client, consumer, 1)


ANY_VALUES: Mapping[str, AnyValue] = {
    "empty": AnyValue(),
    "bytes": AnyValue(bytes_value=b"\0\xff"),
    "array": AnyValue(array_value=ArrayValue(values=[AnyValue(), AnyValue(bytes_value=b"x")])),
    "nested": AnyValue(
        array_value=ArrayValue(
            values=[AnyValue(array_value=ArrayValue(values=[AnyValue(string_value="deep")]))]
        )
    ),
    "map": AnyValue(
        kvlist_value=KeyValueList(values=[KeyValue(key="k", value=AnyValue(int_value=1))])
    ),
    "nan": AnyValue(double_value=float("nan")),
}


def test_b15_attribute_values_of_any_kind_are_taken(client: Client, export: Export) -> None:
    """Wherever they are: also where text or a number is looked for."""
    consumers = []
    for value in ANY_VALUES.values():
        for key in ("x", "user_agent.original", "http.request.body.size"):
            span = call_of(new_consumer())
            span.attributes.append(KeyValue(key=key, value=value))
            assert_full(export(make_request(span)))
            consumers.append(span.attributes[-2].value.string_value)
    # Names and values of profiles, which refer to a table that a trace request has not.
    span = call_of(new_consumer())
    consumers.append(span.attributes[-1].value.string_value)
    indexed = span.SerializeToString() + field(9, b"\x18\x07" + field(2, b"\x40\x07"))
    assert_full(export(field(1, field(2, field(2, indexed)))))
    for consumer in consumers:
        wait_for_count(client, consumer, 1)


@pytest.mark.parametrize(
    "ids",
    [
        {"trace_id": b""},
        {"trace_id": bytes(16)},
        {"trace_id": b"\1" * 15},
        {"trace_id": b"\1" * 32},
        {"span_id": b""},
        {"span_id": bytes(8)},
        {"span_id": b"\1" * 7},
        {"span_id": b"\1" * 16},
    ],
)
def test_b16_an_invalid_id_costs_its_span(
    client: Client, export: Export, ids: Mapping[str, bytes]
) -> None:
    """Not the request."""
    consumer, bad = new_consumer(), new_consumer()
    body = make_request(call_of(consumer), call_of(bad, **ids), call_of(consumer))
    assert export(body).partial.rejected_spans == 1
    wait_for_count(client, consumer, 2)
    assert count(client, bad) == 0


def test_b17_unknown_kinds_and_codes_cost_nothing_else(client: Client, export: Export) -> None:
    """Their spans are passed over or taken; the request is not refused."""
    consumer = new_consumer()
    numbers = (6, 99, 2**31 - 1, 2**64 - 1)
    for number in numbers:
        good = call_of(consumer).SerializeToString()
        odd = make_span().SerializeToString() + b"\x30" + varint(number)
        odd += field(15, b"\x18" + varint(number))
        assert_full(export(field(1, field(2, field(2, odd) + field(2, good)))))
    for kind in range(6):
        assert_full(export(make_request(make_span(kind=kind))))  # type: ignore[arg-type]
    wait_for_count(client, consumer, len(numbers))


def test_b18_flags_may_have_any_bit(client: Client, export: Export) -> None:
    """Also those that are reserved."""
    consumer, flags = new_consumer(), (0, 1, 0x101, 0x301, 0xFFFFFFFF)
    spans = [call_of(consumer) for _ in flags]
    for span, value in zip(spans, flags, strict=True):
        span.flags = value
    assert_full(export(make_request(*spans)))
    wait_for_count(client, consumer, len(flags))


def test_b19_times_are_no_reason_to_refuse(client: Client, export: Export) -> None:
    """An end before the start, none at all, zero, or the end of time."""
    consumer, now = new_consumer(), time.time_ns()
    times = [(now, now - 1), (now, 0), (now, now), (0, 0), (0, now), (2**64 - 1, 2**64 - 1)]
    spans = [call_of(consumer) for _ in times]
    for span, (start, end) in zip(spans, times, strict=True):
        span.start_time_unix_nano, span.end_time_unix_nano = start, end
    assert export(make_request(*spans)).ok
    for event in events_of(client, consumer):
        assert event["response_us"] is None or event["response_us"] >= 0
    assert len(events_of(client, consumer)) >= 3


def test_b20_a_resource_may_be_absent_and_keys_may_repeat(client: Client, export: Export) -> None:
    """Of two attributes with one key there is one event, with one of the values."""
    consumer = new_consumer()
    span = call_of(consumer)
    span.attributes.extend(key_values({"http.route": "/other"}))
    span.dropped_attributes_count = 7
    request = ExportTraceServiceRequest()
    request.resource_spans.add().scope_spans.add().spans.append(span)
    assert_full(export(request.SerializeToString()))
    (event,) = events_of(client, consumer)
    assert event["route"] in ("/users/{id}", "/other")
    assert event["service"] is None


def test_b21_resources_without_scopes_get_a_warning(client: Client, export: Export) -> None:
    """Binary of senders before 0.15 is read as ever; what has no scopes at all is warned of."""
    consumer = new_consumer()
    # Then field 2 was instrumentation_library_spans, with the same fields.
    assert_full(export(field(1, field(2, field(2, call_of(consumer).SerializeToString())))))
    wait_for_count(client, consumer, 1)
    assert "scopeSpans" in export(field(1, field(1, b""))).partial.error_message
