# SPDX-License-Identifier: Apache-2.0
"""Contract of OTLP/HTTP: each situation of the specification and its answer."""

from __future__ import annotations

import gzip
import http.client
import json
import select
import socket
import uuid
import zlib
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import zstandard
from google.protobuf.json_format import MessageToDict, Parse
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import BadRequest, RetryInfo
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from otel_apinalytics.receiver.log import RequestLog
from tests.support.clients import APPLICATION, READ_KEY, WRITE_HEADERS, WRITE_KEY, Client
from tests.support.door import consumer_request, count, large_request
from tests.support.otlp import CALL, make_request, make_span
from tests.support.service_process import service_process
from tests.support.waiting import wait_for

TRACES = "/v1/traces"
PROTOBUF, JSON = "application/x-protobuf", "application/json"
MAX_REQUEST_BYTES = 2 << 20
# The service cannot take more than this at once: a larger request within its limit is refused.
MAX_PENDING_BYTES = 1 << 20
# What lies in the buffers of two sockets, at most.
BUFFERS = 32 << 20
COMPRESSORS: Mapping[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "zstd": zstandard.compress,
}
each_type = pytest.mark.parametrize("media_type", [PROTOBUF, JSON])
each_encoding = pytest.mark.parametrize("encoding", COMPRESSORS)


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer, in full.

    Args:
        status: Of HTTP.
        headers: With names in lower case.
        body: As it came.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def media_type(self) -> str:
        """Its media type."""
        return self.headers["content-type"].partition(";")[0]

    def message(self, kind: type[Message]) -> Any:
        """Return the message that is its body, in the encoding that it names."""
        if self.media_type == JSON:
            return Parse(self.body, kind())
        assert self.media_type == PROTOBUF
        return kind.FromString(self.body)

    def error(self) -> Status:
        """Return the status that every error's body is; it has a code and a text."""
        status: Status = self.message(Status)
        assert status.code
        assert status.message
        return status


class Connection:
    """A connection on which each byte is ours."""

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        self.socket = socket.create_connection((host, int(port)), timeout=60)

    def send(self, head: Mapping[str, str], body: bytes = b"", path: str = TRACES) -> None:
        """Send a request's head, and what there is of its body."""
        lines = [f"POST {path} HTTP/1.1", "Host: test", *(f"{k}: {v}" for k, v in head.items())]
        self.socket.sendall("\r\n".join([*lines, "", ""]).encode() + body)

    def answer(self) -> Answer:
        """Read an answer."""
        response = http.client.HTTPResponse(self.socket)
        response.begin()
        headers = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, headers, response.read())

    @property
    def is_answered(self) -> bool:
        """Whether there is something to read."""
        return bool(select.select([self.socket], [], [], 0)[0])


@contextmanager
def connection(address: str) -> Iterator[Connection]:
    """Give a connection to an HTTP address."""
    opened = Connection(address)
    try:
        yield opened
    finally:
        opened.socket.close()


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """Run a service that takes small requests only."""
    limits = {
        "max_request_bytes": str(MAX_REQUEST_BYTES),
        "log_pending_bytes": str(MAX_PENDING_BYTES),
    }
    with service_process(tmp_path_factory.mktemp("small") / "data", **limits) as running:
        yield running.client


def post(
    client: Client,
    body: bytes,
    media_type: str | None = PROTOBUF,
    path: str = TRACES,
    *,
    method: str = "POST",
    key: str | None = WRITE_KEY,
    **headers: str,
) -> Answer:
    """Send a request with a key; return the answer."""
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    if media_type is not None:
        sent["Content-Type"] = media_type
    if key is not None:
        sent |= {"X-Auth-User": APPLICATION, "X-Auth-Key": key}
    host, _, port = client.http.rpartition(":")
    opened = http.client.HTTPConnection(host, int(port), timeout=60)
    try:
        opened.request(method, path, body, sent)
        response = opened.getresponse()
        got = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, got, response.read())
    finally:
        opened.close()


def in_json(request: bytes) -> bytes:
    """Return a request in OTLP's JSON, whose ids are hexadecimal."""
    made = MessageToDict(ExportTraceServiceRequest.FromString(request))
    sent = ExportTraceServiceRequest.FromString(request)
    for group, made_group in zip(sent.resource_spans, made["resourceSpans"], strict=True):
        for scope, made_scope in zip(group.scope_spans, made_group["scopeSpans"], strict=True):
            for span, made_span in zip(scope.spans, made_scope["spans"], strict=True):
                made_span["traceId"] = span.trace_id.hex()
                made_span["spanId"] = span.span_id.hex()
    return json.dumps(made).encode()


def encoded(request: bytes, media_type: str) -> bytes:
    """Return a request in either encoding."""
    return in_json(request) if media_type == JSON else request


def is_stored(client: Client, consumer: str) -> bool:
    """Wait until a consumer has one event."""
    return wait_for(lambda: count(client, consumer)) == 1


def assert_full_success(answer: Answer, media_type: str) -> None:
    """An empty message of the request's type."""
    assert answer.status == 200, answer
    assert answer.media_type == media_type
    assert answer.body == (b"{}" if media_type == JSON else b"")


# ---- the table: what is taken ----


@pytest.mark.parametrize(
    ("sent", "media_type"),
    [
        ("application/x-protobuf", PROTOBUF),
        ("Application/X-Protobuf", PROTOBUF),
        ("application/x-protobuf; proto=opentelemetry.proto.collector.trace.v1", PROTOBUF),
        (" application/x-protobuf ;charset=utf-8", PROTOBUF),
        ("application/json", JSON),
        ("application/json; charset=utf-8", JSON),
        ("APPLICATION/JSON;charset=UTF-8", JSON),
    ],
)
def test_content_type_in_any_case_and_with_parameters(
    small: Client, sent: str, media_type: str
) -> None:
    """They are compared without either; the answer is of the same type."""
    consumer, request = consumer_request()
    assert_full_success(post(small, encoded(request, media_type), sent), media_type)
    assert is_stored(small, consumer)


def test_application_protobuf_is_an_alias(small: Client) -> None:
    """It is sent in the wild, and answered in kind."""
    consumer, request = consumer_request()
    answer = post(small, request, "application/protobuf")
    assert (answer.status, answer.body) == (200, b"")
    assert answer.media_type == "application/protobuf"
    assert is_stored(small, consumer)


@each_type
@each_encoding
def test_compressed_bodies_are_taken(small: Client, media_type: str, encoding: str) -> None:
    """Each compression with each type."""
    consumer, request = consumer_request()
    body = COMPRESSORS[encoding](encoded(request, media_type))
    answer = post(small, body, media_type, Content_Encoding=encoding)
    assert_full_success(answer, media_type)
    assert is_stored(small, consumer)


def test_gzip_of_several_members_is_one_body(small: Client) -> None:
    """RFC 1952, 2.2; a protobuf message may be cut anywhere."""
    consumer, request = consumer_request()
    body = gzip.compress(request[:40]) + gzip.compress(b"") + gzip.compress(request[40:])
    assert_full_success(post(small, body, Content_Encoding="gzip"), PROTOBUF)
    assert is_stored(small, consumer)


@each_type
@pytest.mark.parametrize("path", ["/v1/metrics", "/v1/logs", "/v1/metrics/", "/v1/logs/"])
def test_metrics_and_logs_are_taken_and_dropped(small: Client, media_type: str, path: str) -> None:
    """An SDK that sends all three reports no errors."""
    assert_full_success(post(small, b"\x0a\x00", media_type, path), media_type)
    assert post(small, b"", media_type, path, key=None).status == 401
    too_large = bytes(MAX_REQUEST_BYTES + 1)
    assert post(small, too_large, media_type, path).status == 413


# ---- the table: what is not ----


@pytest.mark.parametrize("path", [TRACES, "/v1/metrics", "/v1/logs"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_method_other_than_post(small: Client, method: str, path: str) -> None:
    """405, and which one is right; with a type, the body is a status."""
    answer = post(small, b"", None, path, method=method, key=None)
    assert (answer.status, answer.headers["allow"]) == (405, "POST")
    assert answer.media_type == "text/plain"
    typed = post(small, b"", JSON, path, method=method)
    assert (typed.status, typed.media_type) == (405, JSON)
    if method != "HEAD":
        assert method in typed.error().message


@pytest.mark.parametrize(
    "media_type",
    [None, "", "text/plain", "text/json", "application/x-www-form-urlencoded", "application/jsonl",
     "application/json, application/x-protobuf", "application/grpc", ";", "x" * 1000],
)  # fmt: skip
def test_content_type_absent_or_unknown(small: Client, media_type: str | None) -> None:
    """415 as text, for there is no type to answer in; it names those that there are."""
    answer = post(small, make_request(make_span()), media_type)
    assert (answer.status, answer.media_type) == (415, "text/plain")
    assert PROTOBUF in answer.body.decode()
    assert JSON in answer.body.decode()


@pytest.mark.parametrize(
    ("media_type", "body"),
    [
        (PROTOBUF, b"\xff"),
        (PROTOBUF, b"{}"),
        (PROTOBUF, make_request(make_span())[:-1]),
        (JSON, b"{"),
        (JSON, b"[]"),
        (JSON, b"\x0a\x00"),
        (JSON, b'{"resourceSpans":1}'),
        (JSON, b"[" * 100_000),
    ],
)
def test_unparsable_body(small: Client, media_type: str, body: bytes) -> None:
    """400: it is never sent again."""
    answer = post(small, body, media_type)
    assert answer.status == 400
    assert answer.error().code == 3


@each_type
@each_encoding
def test_bad_compression_stream(small: Client, media_type: str, encoding: str) -> None:
    """400, with the header at fault in the details; also what is cut."""
    request = encoded(make_request(make_span()), media_type)
    for body in (request, COMPRESSORS[encoding](request)[:-1], b"\0"):
        answer = post(small, body, media_type, Content_Encoding=encoding)
        assert answer.status == 400
        status, found = answer.error(), BadRequest()
        assert status.code == 3
        assert status.details[0].Unpack(found)
        assert found.field_violations[0].field == "Content-Encoding"


@each_type
@pytest.mark.parametrize("encoding", ["br", "snappy", "lz4", "compress", "gzip, gzip"])
def test_unsupported_content_encoding(small: Client, media_type: str, encoding: str) -> None:
    """400 with a status, as the Collector answers; it names those that there are."""
    answer = post(small, b"x", media_type, Content_Encoding=encoding)
    assert answer.status == 400
    assert "gzip, deflate, zstd" in answer.error().message


@each_type
def test_body_over_limit(small: Client, media_type: str) -> None:
    """413, and no delay: it would be as large the next time."""
    consumer, request = consumer_request()
    answer = post(
        small, encoded(request + large_request(MAX_REQUEST_BYTES), media_type), media_type
    )
    assert answer.status == 413
    status = answer.error()
    assert (status.code, len(status.details)) == (8, 0)
    assert str(MAX_REQUEST_BYTES) in status.message
    assert "retry-after" not in answer.headers
    assert count(small, consumer) == 0


@each_type
@each_encoding
def test_body_over_limit_once_decompressed(small: Client, media_type: str, encoding: str) -> None:
    """The same, for what is small on the way: a bomb."""
    request = encoded(large_request(MAX_REQUEST_BYTES), media_type)
    for blown_up in (request, bytes(100 * MAX_REQUEST_BYTES)):
        body = COMPRESSORS[encoding](blown_up)
        assert len(body) < MAX_REQUEST_BYTES
        answer = post(small, body, media_type, Content_Encoding=encoding)
        assert answer.status == 413
        status = answer.error()
        assert (status.code, len(status.details)) == (8, 0)


@each_type
def test_overload(small: Client, media_type: str) -> None:
    """503 with a delay that fits into a client's own deadline, in header and details."""
    body = encoded(large_request(MAX_PENDING_BYTES), media_type)
    answer = post(small, body, media_type)
    assert answer.status == 503
    assert 1 <= int(answer.headers["retry-after"]) <= 5
    status, found = answer.error(), RetryInfo()
    assert status.code == 14
    assert status.details[0].Unpack(found)
    assert 0 < found.retry_delay.ToMilliseconds() <= 5000


@each_type
@pytest.mark.parametrize(
    ("key", "status", "code"), [(None, 401, 16), ("wrong", 401, 16), (READ_KEY, 403, 7)]
)
def test_unauthenticated_and_forbidden(
    small: Client, media_type: str, key: str | None, status: int, code: int
) -> None:
    """401 says how to authenticate; neither repeats the key."""
    answer = post(small, b"", media_type, key=key)
    assert answer.status == status
    assert answer.error().code == code
    assert ("www-authenticate" in answer.headers) is (status == 401)
    assert (key or "none") not in answer.error().message


def test_a_bearer_token_is_a_key(small: Client) -> None:
    """For clients that can send nothing else."""
    answer = post(small, b"", key=None, Authorization=f"Bearer {WRITE_KEY}")
    assert_full_success(answer, PROTOBUF)


@pytest.mark.parametrize(
    "path", ["/v2/traces", "/v1/tracesx", "/v1development/profiles", "/V1/TRACES", "/v1//traces"]
)
def test_unknown_path(small: Client, path: str) -> None:
    """404."""
    assert post(small, b"", PROTOBUF, path).status == 404


@each_type
def test_internal_bug(client: Client, monkeypatch: pytest.MonkeyPatch, media_type: str) -> None:
    """503, not 500: a client would drop what is ours to mend."""

    def fail(log: RequestLog, record: bytes) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(RequestLog, "append", fail)
    answer = post(client, encoded(make_request(make_span()), media_type), media_type)
    assert answer.status == 503
    assert answer.error().message == "internal error"
    assert int(answer.headers["retry-after"]) >= 1


# ---- mistaken paths ----


@each_type
@pytest.mark.parametrize(
    "path",
    ["/", "/v1", "/v1/", "/v1/trace", "/traces", "/traces/", "/v1/traces/v1/traces",
     "/v1/traces/v1/traces/", "/api/v2/spans", "/api/traces"],
)  # fmt: skip
def test_a_mistaken_path_is_told_the_right_one(small: Client, path: str, media_type: str) -> None:
    """Base and signal endpoint mixed up, and the paths of others, with or without a key."""
    for key in (WRITE_KEY, None):
        answer = post(small, b"", media_type, path, key=key)
        assert answer.status == 404
        status = answer.error()
        assert status.code == 5
        assert TRACES in status.message or "without a path" in status.message


def test_a_slash_at_the_end_is_no_mistake(small: Client) -> None:
    """The path is as good with it."""
    consumer, request = consumer_request()
    assert_full_success(post(small, request, path=f"{TRACES}/"), PROTOBUF)
    assert is_stored(small, consumer)


def test_the_page_is_where_it_was(small: Client) -> None:
    """Only a POST to it is a mistake."""
    assert small.request("GET", "/")[0] == 200


# ---- answers ----


@each_type
def test_partial_success_is_in_the_encoding_of_the_request(small: Client, media_type: str) -> None:
    """A number and a text, status 200."""
    consumer, request = consumer_request()
    request += make_request(make_span(span_id=b"\1" * 7), make_span(trace_id=bytes(16)))
    answer = post(small, encoded(request, media_type), media_type)
    assert answer.status == 200
    partial = answer.message(ExportTraceServiceResponse).partial_success
    assert partial.rejected_spans == 2
    assert partial.error_message
    assert is_stored(small, consumer)


# ---- streaming ----

CHUNKED = {**WRITE_HEADERS, "Content-Type": PROTOBUF, "Transfer-Encoding": "chunked"}


def chunk(data: bytes) -> bytes:
    """Return a chunk of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


@pytest.mark.parametrize("encoding", [None, *COMPRESSORS])
def test_chunked_bodies_have_no_length(small: Client, encoding: str | None) -> None:
    """They are read to their end, in whatever pieces."""
    consumer, request = consumer_request()
    head = CHUNKED | ({"Content-Encoding": encoding} if encoding else {})
    body = COMPRESSORS[encoding](request) if encoding else request
    with connection(small.http) as opened:
        opened.send(head)
        for byte in body:
            opened.socket.sendall(chunk(bytes([byte])))
        opened.socket.sendall(chunk(b""))
        assert_full_success(opened.answer(), PROTOBUF)
    assert is_stored(small, consumer)


def send_for_ever(opened: Connection) -> int:
    """Send chunks until there is an answer; return how many bytes that took."""
    sent = 0
    while not opened.is_answered:
        assert sent < MAX_REQUEST_BYTES + BUFFERS, "it is still being read"
        opened.socket.sendall(chunk(bytes(16_384)))
        sent += 16_384
    return sent


@pytest.mark.parametrize("path", [TRACES, "/v1/logs", "/1/event/"])
@pytest.mark.parametrize("encoding", [None, "gzip"])
def test_a_body_that_never_ends_is_refused(small: Client, encoding: str | None, path: str) -> None:
    """Soon after the limit: nothing waits for its end."""
    head = CHUNKED | ({"Content-Encoding": encoding} if encoding else {})
    with connection(small.http) as opened:
        opened.send(head, path=path)
        assert send_for_ever(opened) > MAX_REQUEST_BYTES - 16_384
        assert opened.answer().status == 413


@pytest.mark.parametrize("path", [TRACES, "/v1/metrics", "/1/event/"])
@pytest.mark.parametrize(
    "framing",
    [{"Transfer-Encoding": "chunked"}, {"Content-Length": "100"}, {"Content-Length": "99999999"}],
)
def test_the_key_is_looked_at_before_the_body(
    small: Client, framing: Mapping[str, str], path: str
) -> None:
    """Whoever has none is told so, and need not send anything."""
    head = {"X-Auth-Key": "wrong", "Content-Type": PROTOBUF, **framing}
    with connection(small.http) as opened:
        opened.send(head, path=path)
        assert opened.answer().status == 401


def test_a_body_that_never_ends_needs_a_key(small: Client) -> None:
    """The answer comes while it is being sent."""
    with connection(small.http) as opened:
        opened.send({**CHUNKED, "X-Auth-Key": "wrong"})
        send_for_ever(opened)
        assert opened.answer().status == 401


# ---- Expect: 100-continue ----


def expecting(**changes: str) -> dict[str, str]:
    """Return the head of a request whose sender waits before it sends the body."""
    length = str(len(make_request(make_span())))
    head = {**WRITE_HEADERS, "Content-Type": PROTOBUF, "Content-Length": length}
    return head | {"Expect": "100-continue"} | {k.replace("_", "-"): v for k, v in changes.items()}


def test_expect_gets_a_continue(small: Client) -> None:
    """Then the body is sent, and answered."""
    consumer, request = consumer_request()
    with connection(small.http) as opened:
        opened.send(expecting(Content_Length=str(len(request))))
        interim = b""
        while not interim.endswith(b"\r\n\r\n"):
            interim += opened.socket.recv(1)
        assert interim.startswith(b"HTTP/1.1 100 ")
        opened.socket.sendall(request)
        assert_full_success(opened.answer(), PROTOBUF)
    assert is_stored(small, consumer)


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"X_Auth_Key": "wrong"}, 401),
        ({"X_Auth_Key": READ_KEY}, 403),
        ({"Content_Type": "text/plain"}, 415),
        ({"Content_Encoding": "br"}, 400),
    ],
)
def test_expect_gets_the_refusal_at_once(
    small: Client, changes: Mapping[str, str], status: int
) -> None:
    """Without a continue: the body is never sent."""
    with connection(small.http) as opened:
        opened.send(expecting(**changes))
        first = opened.socket.recv(12, socket.MSG_WAITALL)
        assert first == b"HTTP/1.1 %d" % status


# ---- connections ----


def test_a_connection_is_kept_over_errors(small: Client) -> None:
    """Each answer is complete, and the next request is served on the same connection."""
    request = make_request(make_span())
    head = {**WRITE_HEADERS, "Content-Type": PROTOBUF}
    too_large = bytes(MAX_REQUEST_BYTES + 1)
    cases: list[tuple[Mapping[str, str], bytes, str, int]] = [
        ({**head, "X-Auth-Key": "wrong"}, request, TRACES, 401),
        ({**head, "X-Auth-Key": READ_KEY}, request, TRACES, 403),
        ({**head, "Content-Type": "text/plain"}, request, TRACES, 415),
        (head, b"\xff", TRACES, 400),
        ({**head, "Content-Encoding": "br"}, request, TRACES, 400),
        ({**head, "Content-Encoding": "gzip"}, b"\xff" * 100, TRACES, 400),
        (head, request, "/", 404),
        (head, request, "/v1/other", 404),
        (head, too_large, TRACES, 413),
        ({**head, "X-Auth-Key": "wrong"}, too_large, TRACES, 401),
        (head, large_request(MAX_PENDING_BYTES), TRACES, 503),
        (head, request, TRACES, 200),
    ]
    with connection(small.http) as opened:
        for case, body, path, status in cases:
            opened.send({**case, "Content-Length": str(len(body))}, body, path)
            answer = opened.answer()
            assert answer.status == status
            assert int(answer.headers["content-length"]) == len(answer.body)
            assert answer.headers.get("connection", "keep-alive") == "keep-alive"


def test_many_connections_at_once(small: Client) -> None:
    """Clients raise throughput that way."""
    consumer = f"c-{uuid.uuid4()}"
    requests = [make_request(make_span({**CALL, "enduser.id": consumer})) for _ in range(32)]
    with ThreadPoolExecutor(len(requests)) as pool:
        answers = list(pool.map(lambda request: post(small, request), requests))
    assert {answer.status for answer in answers} == {200}
    wait_for(lambda: count(small, consumer), until=lambda found: found == len(requests))


def test_requests_behind_each_other(small: Client) -> None:
    """Sent at once on one connection, answered in order."""
    request = make_request(make_span())
    head = {**WRITE_HEADERS, "Content-Type": PROTOBUF, "Content-Length": str(len(request))}
    with connection(small.http) as opened:
        for _ in range(3):
            opened.send(head, request)
        stream = opened.socket.makefile("rb")
        for _ in range(3):
            assert stream.readline() == b"HTTP/1.1 200 OK\r\n"
            while stream.readline() != b"\r\n":
                pass
        stream.close()


@pytest.mark.parametrize("framing", [{"Transfer-Encoding": "chunked"}, {"Content-Length": "1000"}])
def test_a_client_that_goes_away_is_no_error_of_ours(
    client: Client, caplog: pytest.LogCaptureFixture, framing: Mapping[str, str]
) -> None:
    """What it sent is not taken; the next one is served, and nothing is logged."""
    consumer, request = consumer_request()
    head = {**WRITE_HEADERS, "Content-Type": PROTOBUF, **framing}
    with connection(client.http) as opened:
        opened.send(head, chunk(request) if "chunked" in framing.values() else request)
    after, request = consumer_request()
    assert_full_success(post(client, request), PROTOBUF)
    assert is_stored(client, after)
    assert count(client, consumer) == 0
    assert caplog.records == []


@pytest.mark.parametrize("junk", [b"\0" * 100, b"GET\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"])
def test_junk_on_the_port_is_refused(small: Client, junk: bytes) -> None:
    """The connection ends, the service does not."""
    with connection(small.http) as opened:
        opened.socket.sendall(junk)
        answer = b""
        while part := opened.socket.recv(1000):
            answer += part
        assert not answer or answer.startswith(b"HTTP/1.1 400 ")
    assert_full_success(post(small, make_request(make_span())), PROTOBUF)
