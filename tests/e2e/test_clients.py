# SPDX-License-Identifier: Apache-2.0
"""Real clients against a real service: SDKs of three languages, curl, h2load.

A client that is not installed, or cannot be fetched, skips its tests. What npm and Go fetch stays
outside the repository.
"""

from __future__ import annotations

import gzip
import json
import logging
import os
import re
import shutil
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from opentelemetry._logs import LogRecord
from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter as GrpcLogs
from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter as GrpcMetrics
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcSpans
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter as HttpLogs
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter as HttpMetrics
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpSpans
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

from otel_apinalytics.receiver.grpc_server import SERVICE
from otel_apinalytics.receiver.otlp_http import TRACES_PATH
from tests.support.clients import APPLICATION, KEY_SETTINGS, READ_HEADERS, WRITE_KEY, Client
from tests.support.otlp import make_request, make_span
from tests.support.service_process import environment, serve_command, service_process
from tests.support.waiting import wait_for

_SOURCES = Path(__file__).parent / "clients"
_HEADERS = {"x-auth-user": APPLICATION, "x-auth-key": WRITE_KEY}
_SPANS = 1000
_UNREACHABLE = re.compile(
    r"ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ENETUNREACH|ETIMEDOUT|no such host|dial tcp|i/o timeout"
)
_GRPC_COMPRESSIONS = {
    "none": grpc.Compression.NoCompression,
    "gzip": grpc.Compression.Gzip,
    "deflate": grpc.Compression.Deflate,
}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """Run a service for the tests of this file; they tell their spans apart by the consumer."""
    with service_process(tmp_path_factory.mktemp("clients")) as service:
        yield service.client


# ---- what they share ----


def tool(name: str) -> str:
    """Return where a program is, or skip the test."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def fetch(command: Sequence[str], directory: Path) -> None:
    """Run what fetches a client's packages; skip the test if there is no network to do so."""
    ended = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)
    if ended.returncode and _UNREACHABLE.search(ended.stderr):
        pytest.skip(f"{Path(command[0]).name} cannot reach its registry")
    assert ended.returncode == 0, ended.stderr


def run_quietly(*command: str) -> None:
    """Run a client that must succeed without a complaint."""
    ended = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")


def run_refused(*command: str) -> str:
    """Run a client that must fail, and return what it complains of."""
    ended = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    return ended.stderr


def events_of(client: Client, consumer: str, count: int = _SPANS) -> list[dict[str, Any]]:
    """Return the events of a consumer once there are `count`: each a span of its own, no more."""

    def counted() -> float:
        points = client.groups({"include": f"consumer_id:{consumer}"}).get(APPLICATION)
        return points[0][1] if points else 0

    wait_for(counted, until=lambda stored: stored >= count)
    events = [event for event in client.raw_events() if event["consumer_id"] == consumer]
    assert len(events) == len({(e["trace_id"], e["span_id"]) for e in events}) == count
    return events


def ledger_of(client: Client) -> dict[str, int]:
    """Return spans by outcome, as the status says; only those outcomes that there were."""
    status, body, _ = client.request("GET", "/1/status/", None, READ_HEADERS)
    assert status == 200, body
    return {outcome: sum(spans.values()) for outcome, spans in body["outcomes"].items()}


def record_calls(provider: TracerProvider, consumer: str, count: int) -> None:
    """Make SERVER spans, as an instrumentation would."""
    tracer = provider.get_tracer("calls")
    for number in range(count):
        attributes: dict[str, str | int] = {
            "http.request.method": "GET",
            "http.route": "/py/{n}",
            "url.path": f"/py/{number}",
            "http.response.status_code": 200,
            "enduser.id": consumer,
        }
        tracer.start_span("GET /py/{n}", kind=SpanKind.SERVER, attributes=attributes).end()


def finished_calls(consumer: str, count: int = _SPANS) -> Sequence[ReadableSpan]:
    """Return spans that are finished, for an exporter that is called by hand."""
    memory = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(memory))
    record_calls(provider, consumer, count)
    provider.shutdown()
    return memory.get_finished_spans()


def problems(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return what was logged as a warning or worse."""
    return [entry.getMessage() for entry in caplog.records if entry.levelno >= logging.WARNING]


def span_exporter(
    client: Client, transport: str, compression: str = "none", key: str = WRITE_KEY
) -> SpanExporter:
    """Return an exporter of the Python SDK."""
    headers = {**_HEADERS, "x-auth-key": key}
    if transport == "grpc":
        chosen = _GRPC_COMPRESSIONS[compression]
        return GrpcSpans(f"http://{client.grpc}", headers=headers, compression=chosen)
    url = f"http://{client.http}{TRACES_PATH}"
    return HttpSpans(url, headers=headers, compression=Compression(compression))


# ---- Python ----


@pytest.mark.parametrize("compression", ["none", "gzip", "deflate"])
@pytest.mark.parametrize("transport", ["grpc", "http"])
def test_python_exporters(
    client: Client, transport: str, compression: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Spans arrive once, with consumer and route, however they are compressed."""
    consumer = f"python-{transport}-{compression}"
    exporter = span_exporter(client, transport, compression)
    assert exporter.export(finished_calls(consumer)) is SpanExportResult.SUCCESS
    exporter.shutdown()
    events = events_of(client, consumer)
    assert {event["route"] for event in events} == {"/py/{n}"}
    assert {event["sdk_language"] for event in events} == {"python"}
    assert problems(caplog) == []


@pytest.mark.parametrize(("transport", "code"), [("grpc", "UNAUTHENTICATED"), ("http", "401")])
def test_python_exporters_give_up_on_a_wrong_key(
    client: Client, transport: str, code: str, caplog: pytest.LogCaptureFixture
) -> None:
    """They report it once, with the reason, and do not try again."""
    exporter = span_exporter(client, transport, key="not-a-key")
    assert exporter.export(finished_calls("stranger", 1)) is SpanExportResult.FAILURE
    exporter.shutdown()
    (problem,) = problems(caplog)
    assert code in problem
    assert "not-a-key" not in problem


@pytest.mark.parametrize("transport", ["grpc", "http"])
def test_all_signals_of_python_to_one_endpoint(
    client: Client,
    transport: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Metrics and logs cost nobody an error, and take no spans with them."""
    consumer = f"signals-{transport}"
    address = client.grpc if transport == "grpc" else client.http
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://{address}")
    monkeypatch.setenv(
        "OTEL_EXPORTER_OTLP_HEADERS", ",".join(f"{name}={_HEADERS[name]}" for name in _HEADERS)
    )
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")
    is_grpc = transport == "grpc"
    tracers = TracerProvider()
    tracers.add_span_processor(SimpleSpanProcessor(GrpcSpans() if is_grpc else HttpSpans()))
    reader = PeriodicExportingMetricReader(GrpcMetrics() if is_grpc else HttpMetrics())
    meters = MeterProvider([reader])
    loggers = LoggerProvider()
    loggers.add_log_record_processor(BatchLogRecordProcessor(GrpcLogs() if is_grpc else HttpLogs()))
    record_calls(tracers, consumer, 5)
    meters.get_meter("m").create_counter("calls").add(1)
    loggers.get_logger("l").emit(LogRecord(timestamp=time.time_ns(), body="called"))
    assert meters.force_flush()
    assert loggers.force_flush()
    for provider in (tracers, meters, loggers):
        provider.shutdown()
    events_of(client, consumer, 5)
    assert problems(caplog) == []


# ---- JavaScript ----


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the script beside its packages, of the versions in the lock file."""
    tool("node")
    npm = tool("npm")
    directory = tmp_path_factory.mktemp("js")
    for name in ("package.json", "package-lock.json", "send.mjs"):
        shutil.copy(_SOURCES / "js" / name, directory)
    options = ("--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline")
    fetch([npm, "ci", *options], directory)
    return str(directory / "send.mjs")


@pytest.mark.parametrize("compression", ["none", "gzip"])
@pytest.mark.parametrize("protocol", ["grpc", "proto", "json"])
def test_javascript_exporters(client: Client, script: str, protocol: str, compression: str) -> None:
    """Spans arrive once; half of a surrogate pair costs nothing but itself."""
    url = f"http://{client.grpc}" if protocol == "grpc" else f"http://{client.http}{TRACES_PATH}"
    run_quietly(tool("node"), script, protocol, url, WRITE_KEY, compression, str(_SPANS))
    events = events_of(client, f"javascript-{protocol}-{compression}")
    expected = {
        "route": "/js/{n}",
        "service": "javascript",
        "sdk_language": "nodejs",
        "host": "api.example.com",
        "status_code": 200,
        "user_agent": "half \ufffd of a pair",
    }
    assert [event for event in events if event | expected != event] == []


@pytest.mark.parametrize(
    ("protocol", "reason"), [("grpc", "UNAUTHENTICATED"), ("json", "Unauthorized")]
)
def test_javascript_exporters_give_up_on_a_wrong_key(
    client: Client, script: str, protocol: str, reason: str
) -> None:
    """Their diagnostics say why."""
    url = f"http://{client.grpc}" if protocol == "grpc" else f"http://{client.http}{TRACES_PATH}"
    assert reason in run_refused(tool("node"), script, protocol, url, "not-a-key", "none", "1")


# ---- Go ----


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the program, built with the versions in go.sum."""
    go = tool("go")
    path = tmp_path_factory.mktemp("go") / "client"
    fetch([go, "build", "-mod=readonly", "-o", str(path), "."], _SOURCES / "go")
    return str(path)


@pytest.mark.parametrize("compression", ["none", "gzip"])
@pytest.mark.parametrize("protocol", ["grpc", "http", "json"])
def test_go_exporters(client: Client, program: str, protocol: str, compression: str) -> None:
    """Spans arrive once, and the SDK's error handler hears nothing."""
    address = client.grpc if protocol == "grpc" else client.http
    run_quietly(program, "send", protocol, address, WRITE_KEY, compression, str(_SPANS))
    events = events_of(client, f"go-{protocol}-{compression}")
    assert {event["route"] for event in events} == {"/go/{n}"}
    assert {(event["service"], event["sdk_language"]) for event in events} == {("go", "go")}


@pytest.mark.parametrize(
    ("protocol", "reason"), [("grpc", "Unauthenticated"), ("http", "401 Unauthorized")]
)
def test_go_exporters_give_up_on_a_wrong_key(
    client: Client, program: str, protocol: str, reason: str
) -> None:
    """The SDK's error handler hears why."""
    address = client.grpc if protocol == "grpc" else client.http
    assert reason in run_refused(program, "send", protocol, address, "not-a-key", "none", "1")


def test_pings_of_an_idle_go_client_are_tolerated(client: Client, program: str) -> None:
    """Dozens, far more often than any client sends them; the connection stays."""
    run_quietly(program, "ping", client.grpc, "3")


def test_pings_are_what_grpc_refuses_by_default(program: str) -> None:
    """Without its options a server ends the connection: the test above can fail."""
    server = grpc.server(ThreadPoolExecutor(1))
    port = server.add_insecure_port("localhost:0")
    server.start()
    assert "ended the connection" in run_refused(program, "ping", f"localhost:{port}", "3")
    server.stop(None).wait()


# ---- curl ----


@pytest.mark.parametrize("count", [1, 10_000])
@pytest.mark.parametrize("compression", ["none", "gzip"])
def test_curl(client: Client, tmp_path: Path, compression: str, count: int) -> None:
    """JSON is answered `{}`; also a body for which curl waits for `100 Continue`."""
    consumer = f"curl-{compression}-{count}"
    body = json_body(consumer, count)
    headers = ["content-type: application/json", f"authorization: Bearer {WRITE_KEY}"]
    if count > 1:
        # Up to some megabytes curl does not ask by itself.
        headers.append("expect: 100-continue")
    if compression == "gzip":
        body = gzip.compress(body)
        headers.append("content-encoding: gzip")
    (tmp_path / "body").write_bytes(body)
    command = [tool("curl"), "--silent", "--show-error", "--data-binary", f"@{tmp_path / 'body'}"]
    for header in headers:
        command += ["--header", header]
    command += ["--write-out", " %{http_code} %{content_type}"]
    ended = subprocess.run(
        [*command, f"http://{client.http}{TRACES_PATH}"], capture_output=True, text=True, check=True
    )
    assert ended.stdout == "{} 200 application/json"
    assert {event["route"] for event in events_of(client, consumer, count)} == {"/curl/{n}"}


def json_body(consumer: str, count: int) -> bytes:
    """Return an OTLP request in JSON."""
    now = time.time_ns()
    attributes = {"http.request.method": "GET", "http.route": "/curl/{n}", "enduser.id": consumer}
    spans = [
        {
            "traceId": os.urandom(16).hex(),
            "spanId": os.urandom(8).hex(),
            "name": "GET /curl/{n}",
            "kind": 2,
            "startTimeUnixNano": str(now),
            "endTimeUnixNano": str(now + 1_000_000),
            "attributes": [
                {"key": key, "value": {"stringValue": value}} for key, value in attributes.items()
            ],
        }
        for _ in range(count)
    ]
    return json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": spans}]}]}).encode()


# ---- h2load ----


def test_h2load(tmp_path: Path) -> None:
    """Every one of many equal requests is answered and counted; their spans are stored once."""
    h2load = tool("h2load")
    requests, spans = 2000, 10
    body = make_request(*(make_span() for _ in range(spans)))
    # Not compressed, and the length.
    (tmp_path / "body").write_bytes(b"\0" + len(body).to_bytes(4, "big") + body)
    command = [h2load, "-n", str(requests), "-c", "4", "-m", "10", f"--data={tmp_path / 'body'}"]
    headers = {"content-type": "application/grpc", "te": "trailers", "x-auth-key": WRITE_KEY}
    for name, value in headers.items():
        command += ["-H", f"{name}: {value}"]
    with service_process(tmp_path / "data") as service:
        url = f"http://{service.client.grpc}/{SERVICE}/Export"
        ended = subprocess.run([*command, url], capture_output=True, text=True, check=True)
        assert f"{requests} succeeded, 0 failed, 0 errored, 0 timeout" in ended.stdout
        assert f"status codes: {requests} 2xx, 0 3xx, 0 4xx, 0 5xx" in ended.stdout
        expected = {
            "received": requests * spans,
            "stored": spans,
            "duplicate": (requests - 1) * spans,
        }
        # What became of spans is in the ledger after that they were received.
        wait_for(lambda: ledger_of(service.client), until=lambda found: found == expected)
        assert len(service.client.raw_events()) == spans


# ---- a service that crashes ----


@contextmanager
def service_again(data_dir: Path, client: Client) -> Iterator[subprocess.Popen[bytes]]:
    """Run a service with the data and at the addresses of an earlier one."""
    command = serve_command("--data-dir", str(data_dir), "--grpc", client.grpc)
    with subprocess.Popen(
        [*command, "--http", client.http],
        env=environment(**KEY_SETTINGS),
        stdout=subprocess.DEVNULL,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


class Sender(threading.Thread):
    """Sends batches by the Python gRPC exporter, each a consumer of its own, until told to stop.

    Args:
        client: The service.
        name: Prefix of the consumers.
    """

    BATCH = 50

    def __init__(self, client: Client, name: str) -> None:
        super().__init__(daemon=True)
        self._exporter = GrpcSpans(f"http://{client.grpc}", headers=_HEADERS, timeout=60)
        self._prefix = name
        self._stopping = threading.Event()
        self.acknowledged: list[str] = []
        self.failed: list[str] = []

    def run(self) -> None:
        """Send; the exporter tries again by itself."""
        while not self._stopping.is_set():
            consumer = f"{self._prefix}-{len(self.acknowledged) + len(self.failed)}"
            result = self._exporter.export(finished_calls(consumer, self.BATCH))
            took = result is SpanExportResult.SUCCESS
            (self.acknowledged if took else self.failed).append(consumer)
        self._exporter.shutdown()

    def stop(self) -> None:
        """End after the batch of now."""
        self._stopping.set()
        self.join()


def test_the_python_exporter_outlives_crashes_of_the_service(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What is acknowledged is read out, each span once; the exporter tries again what was not."""
    senders: list[Sender] = []

    def wait_for_more() -> None:
        def acknowledged() -> int:
            return sum(len(sender.acknowledged) for sender in senders)

        enough = acknowledged() + 30
        wait_for(acknowledged, until=lambda count: count >= enough)

    with service_process(tmp_path) as first:
        client = first.client
        senders += [Sender(client, f"sender-{number}") for number in range(3)]
        for sender in senders:
            sender.start()
        wait_for_more()
        first.kill()
    with service_again(tmp_path, client) as second:
        wait_for_more()
        second.kill()
    with service_again(tmp_path, client) as third:
        wait_for_more()
        for sender in senders:
            sender.stop()
        third.terminate()
        assert third.wait(60) == 0
    assert any("retrying" in problem for problem in problems(caplog))
    assert [consumer for sender in senders for consumer in sender.failed] == []
    with service_process(tmp_path) as last:
        # Not a timeseries: a batch that was kept, not answered and sent again counts twice there
        # until the store has collapsed it.
        events = last.client.raw_events()
    stored = Counter(event["consumer_id"] for event in events)
    acknowledged = [consumer for sender in senders for consumer in sender.acknowledged]
    assert stored == dict.fromkeys(acknowledged, Sender.BATCH)
    assert len({(event["trace_id"], event["span_id"]) for event in events}) == len(events)
