# SPDX-License-Identifier: Apache-2.0
"""OTLP/gRPC into the running service and back out by a query."""

from __future__ import annotations

import time
import uuid

import grpc
import pytest
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from otel_apinalytics.errors import RetryableError
from otel_apinalytics.receiver.log import RequestLog
from otel_apinalytics.service import Service
from tests.support.clients import APPLICATION, READ_KEY, WRITE_KEY, Client
from tests.support.otlp import CALL, INTERNAL, key_values, make_request, make_span
from tests.support.waiting import wait_for


def visible(client: Client, consumer: str, count: int) -> None:
    """Wait until a consumer has so many events."""
    include = {"include": f"consumer_id:{consumer}", "group": "consumer_id"}
    nothing = [[0, 0.0]]
    wait_for(
        lambda: client.groups(include).get(consumer, nothing)[0][1], until=lambda n: n >= count
    )


def test_an_acknowledged_span_becomes_an_event(client: Client) -> None:
    """A full success is an empty response, and the span is counted with its fields."""
    consumer = f"c-{uuid.uuid4()}"
    span = make_span({**CALL, "enduser.id": consumer})
    assert client.export(make_request(span, service="users")) == b""
    visible(client, consumer, 1)
    include = {"include": f"consumer_id:{consumer}"}
    for field, value in {
        "consumer_source": "enduser.id",
        "method": "GET",
        "url": "/users/7",
        "route": "/users/{id}",
        "function": "GET /users/{id}",
        "status_code": "200",
        "is_error": "false",
        "service": "users",
        "direction": "inbound",
    }.items():
        assert list(client.groups({**include, "group": field})) == [value], field
    mean = client.groups({**include, "aggregation": "mean"})
    assert next(iter(mean.values()))[0][1] == 12_345


def test_the_same_span_sent_again_is_the_same_event(client: Client, service: Service) -> None:
    """After a merge there is one row, whatever the request that brought it."""
    consumer = f"c-{uuid.uuid4()}"
    # On a day of its own: a part that another test empties holds up the merges of a day.
    start = int(time.time()) - 17 * 86_400
    span = make_span({**CALL, "enduser.id": consumer}, start_ns=start * 10**9)

    def counted() -> float:
        include = {"include": f"consumer_id:{consumer}", "group": "consumer_id"}
        return client.groups(include, start, start + 1).get(consumer, [[0, 0]])[0][1]

    client.export(make_request(span))
    wait_for(counted)
    client.export(make_request(span, make_span({**CALL, "enduser.id": f"{consumer}-mark"})))
    visible(client, f"{consumer}-mark", 1)
    day = time.strftime("%Y%m%d", time.gmtime(start))
    service.engine.command(f"OPTIMIZE TABLE events PARTITION ID '{day}' FINAL")
    assert counted() == 1


def test_what_is_no_call_is_filtered_and_in_the_ledger(client: Client, service: Service) -> None:
    """Received equals stored plus filtered plus rejected, record by record."""
    consumer = f"c-{uuid.uuid4()}"
    spans = [
        make_span({**CALL, "enduser.id": consumer}),
        make_span(CALL, kind=INTERNAL),
        make_span({"db.system": "postgresql"}),
        make_span(CALL, trace_id=bytes(16)),
        make_span(CALL, span_id=b"short"),
        make_span({**CALL, "enduser.id": consumer}, start_ns=2**62),
    ]
    body = client.export(make_request(*spans))
    partial = ExportTraceServiceResponse.FromString(body).partial_success
    assert partial.rejected_spans == 2
    assert "1 spans with an invalid trace id" in partial.error_message
    assert "1 spans with an invalid span id" in partial.error_message
    expected = [
        ("filtered", "kind_not_server_or_client", 1),
        ("filtered", "neither_http_nor_rpc", 1),
        ("received", "", 6),
        ("rejected", "invalid_span_id", 1),
        ("rejected", "invalid_trace_id", 1),
        ("rejected", "time_out_of_range", 1),
        ("stored", "", 1),
    ]
    ledger = (
        "SELECT outcome, reason, items FROM ledger WHERE record_id IN "
        "(SELECT record_id FROM rejected WHERE consumer_id = %(consumer)s) ORDER BY ALL"
    )
    wait_for(
        lambda: service.engine.query(ledger, {"consumer": consumer}).rows,
        until=lambda rows: rows == expected,
    )


def test_an_empty_request_succeeds(client: Client) -> None:
    """Nothing to do is a success."""
    assert client.export(b"") == b""
    assert client.export(make_request()) == b""


@pytest.mark.parametrize(
    ("key", "code", "text"),
    [
        (None, grpc.StatusCode.UNAUTHENTICATED, "no key"),
        ("wrong", grpc.StatusCode.UNAUTHENTICATED, "unknown application or key"),
        (READ_KEY, grpc.StatusCode.PERMISSION_DENIED, "this is a read key"),
    ],
)
def test_a_request_without_write_key_is_refused(
    client: Client, key: str | None, code: grpc.StatusCode, text: str
) -> None:
    """The status says whether the key is unknown or of the wrong kind."""
    with pytest.raises(grpc.RpcError) as refused:
        client.export(make_request(make_span()), key)
    assert refused.value.code() is code
    assert text in refused.value.details()


def test_a_bearer_token_is_a_key(client: Client) -> None:
    """Clients that can only send `Authorization` get in."""
    with client.exporter() as call:
        assert call(b"", metadata=(("authorization", f"Bearer {WRITE_KEY}"),)) == b""


def test_garbage_is_an_invalid_argument(client: Client) -> None:
    """A client does not retry what can never be parsed."""
    with pytest.raises(grpc.RpcError) as refused:
        client.export(b"\xff\xff\xff")
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "ExportTraceServiceRequest" in refused.value.details()


def test_invalid_utf8_in_one_attribute_does_not_cost_the_request(client: Client) -> None:
    """The engine takes the bytes, and the text is made valid."""
    consumer = f"c-{uuid.uuid4()}"
    body = make_request(make_span({**CALL, "enduser.id": consumer, "http.route": "/bad-text"}))
    client.export(body.replace(b"/bad-text", b"/bad\xfftext"))
    visible(client, consumer, 1)
    groups = client.groups({"include": f"consumer_id:{consumer}", "group": "route"})
    assert list(groups) == ["/bad\ufffdtext"]


def test_a_full_log_asks_to_come_back(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """UNAVAILABLE carries its delay in both trailers that clients read."""

    def refuse(log: RequestLog, record: bytes) -> None:
        raise RetryableError("the store is behind", retry_after_s=1.5)

    monkeypatch.setattr(RequestLog, "append", refuse)
    with pytest.raises(grpc.RpcError) as refused:
        client.export(make_request(make_span()))
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
    trailers = dict(refused.value.trailing_metadata())
    delay = RetryInfo.FromString(trailers["google.rpc.retryinfo-bin"]).retry_delay
    assert delay.ToMilliseconds() == 1500
    status = Status.FromString(trailers["grpc-status-details-bin"])
    unpacked = RetryInfo()
    assert status.code == 14
    assert status.details[0].Unpack(unpacked)
    assert unpacked.retry_delay.ToMilliseconds() == 1500


def test_a_bug_of_ours_is_retryable(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unexpected exception never becomes UNKNOWN, on which clients drop."""

    def fail(log: RequestLog, record: bytes) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(RequestLog, "append", fail)
    with pytest.raises(grpc.RpcError) as refused:
        client.export(make_request(make_span()))
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
    assert refused.value.details() == "internal error"


def test_a_record_that_the_engine_refuses_costs_itself(client: Client, service: Service) -> None:
    """The door reads no attribute; what is malformed in one is found by the engine."""
    consumer = f"c-{uuid.uuid4()}"
    attribute = key_values({"marker": consumer})[0].SerializeToString()
    body = make_request(make_span({**CALL, "marker": consumer}), make_span())
    assert attribute in body
    # The key claims to be longer than the attribute.
    malformed = body.replace(attribute, attribute[:1] + b"\x7f" + attribute[2:])
    with client.exporter() as call:
        metadata = (("x-auth-key", WRITE_KEY),)
        good = [make_request(make_span({**CALL, "enduser.id": consumer})) for _ in range(4)]
        for request in [*good[:2], malformed, *good[2:]]:
            call(request, metadata=metadata)
    visible(client, consumer, 4)
    undecodable = (
        "SELECT outcome, items FROM ledger WHERE record_id IN "
        "(SELECT record_id FROM rejected WHERE reason = 'undecodable' AND "
        f"application = '{APPLICATION}') ORDER BY outcome"
    )
    rows = wait_for(lambda: service.engine.query(undecodable).rows, until=lambda r: len(r) == 2)
    assert rows == [("received", 2), ("rejected", 2)]
    groups = client.groups({"include": f"consumer_id:{consumer}", "group": "consumer_id"})
    assert [value for _, value in groups[consumer]] == [4]
