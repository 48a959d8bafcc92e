# SPDX-License-Identifier: Apache-2.0
"""The exporter before a service in trouble: nothing is lost that need not be, and nothing hangs."""

from __future__ import annotations

import logging
import socket
import ssl
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import grpc
import pytest
from opentelemetry.instrumentation.utils import is_http_instrumentation_enabled
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult
from opentelemetry.trace import SpanKind

from otel_apinalytics.exporter import ApinalyticsSpanExporter, patience
from tests.support.certificates import Authority
from tests.support.sdk_spans import CALL, calls
from tests.support.troubled_server import (
    Trouble,
    TroubledServer,
    answer,
    close,
    early_proxy,
    garbage,
    good_and_close,
    reset,
    troubled_server,
)
from tests.support.waiting import wait_for

SUCCESS, FAILURE = SpanExportResult.SUCCESS, SpanExportResult.FAILURE
# So far away that only a defect reaches it.
FAR_S = 60.0


_made: list[ApinalyticsSpanExporter] = []


@pytest.fixture(autouse=True)
def _shut_down() -> Iterator[None]:
    """Shut down the exporters of a test, as their processor does."""
    yield
    while _made:
        _made.pop().shutdown()


def exporter(server: TroubledServer, **arguments: Any) -> ApinalyticsSpanExporter:
    """Return an exporter that sends to a server."""
    return exporter_to(**{"endpoint": server.url, **arguments})


def exporter_to(endpoint: str, **arguments: Any) -> ApinalyticsSpanExporter:
    """Return an exporter that sends to an address."""
    _made.append(ApinalyticsSpanExporter(endpoint, **{"write_key": "k", **arguments}))
    return _made[-1]


def spans_of(tested: ApinalyticsSpanExporter) -> dict[str, int]:
    """Return what became of the spans, without what became of none."""
    return {fate: number for fate, number in tested.counters["spans"].items() if number}


def test_a_batch_is_a_request() -> None:
    """With keys, type and path as the service wants them, on a connection that is kept."""
    with troubled_server() as server:
        more = {"X-Route": "a", "User-Agent": "mine"}
        tested = exporter(server, application_id="shop", headers=more)
        assert [tested.export(calls(3)), tested.export(calls(2))] == [SUCCESS, SUCCESS]
        first, second = server.requests
        assert first.headers["request"] == "POST /1/event/?partial=true HTTP/1.1"
        assert first.headers["x-auth-user"] == "shop"
        assert first.headers["x-auth-key"] == "k"
        assert first.headers["x-route"] == "a"
        assert first.headers["content-type"] == "application/json"
        assert first.headers["user-agent"] == "mine"
        assert len(first.names) == len(set(first.names))
        assert [len(first.events), len(second.events)] == [3, 2]
        assert first.connection == second.connection
        assert spans_of(tested) == {"sent": 5}
        assert tested.counters["requests"] == {"200": 2}


def test_an_endpoint_with_a_path() -> None:
    """As behind a proxy."""
    with troubled_server() as server:
        assert exporter(server, endpoint=server.url + "/behind/").export(calls(1)) is SUCCESS
        assert server.requests[0].headers["request"].startswith("POST /behind/1/event/?")


def test_it_says_what_it_is() -> None:
    """To whoever reads the service's log."""
    with troubled_server() as server:
        assert exporter(server).export(calls(1)) is SUCCESS
        assert server.requests[0].headers["user-agent"].startswith("otel-apinalytics-exporter/")


def test_compression() -> None:
    """Bodies are compressed if that is wanted."""
    with troubled_server() as server:
        tested = exporter(server, compression="gzip")
        assert tested.export(calls(100)) is SUCCESS
        assert server.requests[0].headers["content-encoding"] == "gzip"
        assert int(server.requests[0].headers["content-length"]) < len(server.requests[0].body)
        assert len(server.events()) == 100


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_what_may_help_is_tried_again(status: int) -> None:
    """Until it is taken."""
    with troubled_server() as server:
        server.script.extend([answer(status), answer(status)])
        tested = exporter(server)
        assert tested.export(calls(2)) is SUCCESS
        assert len({request.body for request in server.requests}) == 1
        assert tested.counters["requests"] == {str(status): 2, "200": 1}
        assert spans_of(tested) == {"sent": 2}


@pytest.mark.parametrize("status", [301, 400, 401, 403, 404, 408, 413, 500, 501, 505])
def test_what_does_not_help_is_not(status: int, caplog: pytest.LogCaptureFixture) -> None:
    """One request, one line that says what was answered, and where it came from."""
    with troubled_server() as server:
        server.otherwise = answer(status, '{"error": "why"}', Location="/elsewhere")
        tested = exporter(server)
        assert tested.export(calls(1)) is FAILURE
        assert len(server.requests) == 1
        assert spans_of(tested) == {"failed": 1}
        assert f"it answered {status}" in caplog.text
        assert "why" in caplog.text


@pytest.mark.parametrize("trouble", [close, reset, garbage])
def test_a_broken_connection_is_made_anew(trouble: Trouble) -> None:
    """Whether it ends, is reset, or speaks something else."""
    with troubled_server() as server:
        server.script.extend([trouble, trouble])
        tested = exporter(server)
        assert tested.export(calls(2)) is SUCCESS
        assert len(server.requests) == 3
        assert tested.counters["requests"] == {"connection_error": 2, "200": 1}


def test_a_connection_that_was_ended_while_idle() -> None:
    """Costs neither a span nor a pause."""
    with troubled_server() as server:
        server.otherwise = good_and_close
        tested = exporter(server)
        assert [tested.export(calls(1)) for _ in range(5)] == [SUCCESS] * 5
        assert len(server.events()) == 5


@pytest.mark.parametrize(
    "asked",
    [
        lambda: "1",
        lambda: format_datetime(datetime.now(timezone.utc) + timedelta(seconds=2), usegmt=True),
    ],
    ids=["seconds", "date"],
)
def test_a_delay_that_is_asked_for_is_kept(asked: Callable[[], str]) -> None:
    """Also by the next batch, if this one ends before."""
    with troubled_server() as server:
        server.script.append(answer(503, Retry_After=asked()))
        tested = exporter(server)
        assert tested.export(calls(1)) is SUCCESS
        first, second = server.requests
        assert second.at_s - first.at_s > 0.9


@pytest.mark.parametrize(
    "asked",
    ["soon", "-1", "", "Wed, 99 Xxx", "Wed, 21 Oct 2099 07:28:00 +99999999999999"],
)
def test_a_delay_that_makes_no_sense_is_none(asked: str) -> None:
    """The usual one holds."""
    with troubled_server() as server:
        server.script.append(answer(503, Retry_After=asked))
        assert exporter(server).export(calls(1)) is SUCCESS


@pytest.mark.parametrize("trouble", ["hang", "drip"])
def test_an_export_has_a_deadline(trouble: str, caplog: pytest.LogCaptureFixture) -> None:
    """Over all attempts, whether nothing is answered or an answer without an end."""
    with troubled_server() as server:
        server.otherwise = getattr(server, trouble)
        tested = exporter(server, timeout=0.5)
        assert tested.export(calls(2)) is FAILURE
        assert not server.closed.is_set()
        assert spans_of(tested) == {"waiting": 2}
        assert "2 events wait for the service: TimeoutError" in caplog.text


@pytest.mark.parametrize(
    "body",
    [
        "",
        "hello",
        "[]",
        "null",
        '{"received": 1}',
        '{"received": 1, "refused": [], "errors": []}',
        '{"received": "x", "refused": [], "errors": []}',
        '{"received": 2, "refused": 7, "errors": []}',
    ],
)
def test_an_answer_of_somebody_else(body: str, caplog: pytest.LogCaptureFixture) -> None:
    """Whoever answers so has taken nothing, and the log says where to look."""
    with troubled_server() as server:
        server.otherwise = answer(200, body)
        tested = exporter(server)
        assert tested.export(calls(2)) is FAILURE
        assert len(server.requests) == 1
        assert spans_of(tested) == {"failed": 2}
        assert "OTEL_EXPORTER_APINALYTICS_ENDPOINT is not the service" in caplog.text


def test_refused_events_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    """And said, with the reason."""
    body = '{"received": 2, "refused": [1], "errors": [{"index": 1, "message": "event 1: no"}]}'
    with troubled_server() as server:
        server.otherwise = answer(200, body)
        tested = exporter(server)
        assert tested.export(calls(3)) is FAILURE
        assert len(server.requests) == 1
        assert spans_of(tested) == {"sent": 2, "refused": 1}
        assert "1 events refused: event 1: no" in caplog.text


def test_a_body_that_is_too_large_is_split() -> None:
    """Down to what the server takes."""
    with troubled_server() as server:
        taken = server.otherwise

        def limited(connection: socket.socket, request: Any) -> bool:
            act = taken if len(request.events) <= 3 else answer(413)
            return act(connection, request)

        server.otherwise = limited
        tested = exporter(server)
        assert tested.export(calls(10)) is SUCCESS
        assert spans_of(tested) == {"sent": 10}
        assert tested.counters["requests"] == {"413": 3, "200": 4}


def test_a_body_that_is_refused_before_it_is_read() -> None:
    """As proxies do, which answer by the length and end the connection: it is split."""
    with early_proxy(1 << 20) as (url, answered):
        tested = exporter_to(url)
        tested.export(calls(5000))
        requests = tested.counters["requests"]
        assert requests == {"413": answered.count(413), "200": answered.count(200)}
        assert requests["413"] >= 1


def test_a_port_of_grpc(caplog: pytest.LogCaptureFixture) -> None:
    """It speaks HTTP/2, and the log says which port is wanted."""
    with ThreadPoolExecutor(1) as pool:
        grpc_server = grpc.server(pool)
        port = grpc_server.add_insecure_port("127.0.0.1:0")
        grpc_server.start()
        try:
            assert exporter_to(f"http://127.0.0.1:{port}").export(calls(1)) is FAILURE
        finally:
            grpc_server.stop(0).wait()
    (record,) = caplog.records
    assert "ENDPOINT is a gRPC port" in record.getMessage()
    assert record.getMessage().isprintable()


def test_what_is_not_http_is_shown_as_text(caplog: pytest.LogCaptureFixture) -> None:
    """A terminal must not do what somebody else's bytes say."""
    with troubled_server() as server:
        server.otherwise = garbage
        assert exporter(server, timeout=0.3).export(calls(1)) is FAILURE
    assert "BadStatusLine" in caplog.text
    assert caplog.records[0].getMessage().isprintable()


def test_a_failing_service_does_not_fill_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """One line of a kind in a minute."""
    with troubled_server() as server:
        server.otherwise = answer(400)
        tested = exporter(server)
        for _ in range(20):
            tested.export(calls(1))
    assert len(server.requests) == 20
    assert len(caplog.records) == 1


def test_nothing_is_kept_of_what_failed() -> None:
    """The queue is the processor's; memory does not grow with what cannot be sent."""
    with troubled_server() as server:
        server.otherwise = answer(400)
        tested = exporter(server)
        spans = calls(100)
        left = [weakref.ref(span) for span in spans]
        tested.export(spans)
        del spans
        assert not any(span() for span in left)


# ---- the end ----


def in_background(tested: ApinalyticsSpanExporter) -> threading.Thread:
    """Begin an export in a thread."""
    thread = threading.Thread(target=tested.export, args=(calls(1),), daemon=True)
    thread.start()
    return thread


@pytest.mark.parametrize("trouble", ["hang", "drip", "retry"])
def test_a_shutdown_cuts_short_what_waits(trouble: str) -> None:
    """Be it for an answer, for the rest of it, or for another attempt."""
    with troubled_server() as server:
        wait = answer(503, Retry_After="100")
        server.otherwise = wait if trouble == "retry" else getattr(server, trouble)
        tested = exporter(server, timeout=FAR_S)
        exporting = in_background(tested)
        wait_for(lambda: server.requests)
        started_s = time.monotonic()
        tested.shutdown()
        exporting.join(FAR_S)
        assert time.monotonic() - started_s < FAR_S / 2
        assert spans_of(tested) == {"failed": 1}


def test_after_a_shutdown_nothing_is_sent(caplog: pytest.LogCaptureFixture) -> None:
    """Said once; a second shutdown does nothing."""
    with troubled_server() as server:
        tested = exporter(server)
        tested.shutdown()
        tested.shutdown()
        assert [tested.export(calls(1)) for _ in range(3)] == [FAILURE] * 3
        assert server.requests == []
        assert len(caplog.records) == 1
        assert tested.force_flush()


def test_a_provider_is_shut_down_in_time_while_the_service_hangs() -> None:
    """Its processor would wait for the whole queue, and for each batch to its deadline."""
    with troubled_server() as server:
        server.otherwise = server.hang
        tested = exporter(server, timeout=FAR_S)
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(
            BatchSpanProcessor(tested, max_export_batch_size=10, max_queue_size=100)
        )
        tracer = provider.get_tracer("test")
        for _ in range(60):
            tracer.start_span("GET", kind=SpanKind.SERVER, attributes=CALL).end()
        wait_for(lambda: server.requests)
        started_s = time.monotonic()
        provider.shutdown()
        assert time.monotonic() - started_s < 5
        assert wait_for(lambda: spans_of(tested).get("failed")) == 60


def test_a_host_that_is_looked_up_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """The deadline holds, and one thread waits for the name, however often it is wanted."""
    answered = threading.Event()
    asked: list[str] = []

    def look_up(host: str, *arguments: Any, **options: Any) -> list[Any]:
        asked.append(host)
        answered.wait()
        raise socket.gaierror("no such host")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    tested = ApinalyticsSpanExporter("http://host.example", write_key="k", timeout=0.3)
    try:
        assert [tested.export(calls(1)) for _ in range(3)] == [FAILURE] * 3
        assert asked == ["host.example"]
    finally:
        answered.set()
    tested.shutdown()


def test_its_own_requests_are_not_traced(caplog: pytest.LogCaptureFixture) -> None:
    """Whatever instruments HTTP, or logs, is told to look away."""
    enabled: list[bool] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            enabled.append(is_http_instrumentation_enabled())

    handler = Handler()
    logger = logging.getLogger("otel_apinalytics.exporter")
    logger.addHandler(handler)
    try:
        with troubled_server() as server:
            server.otherwise = answer(400)
            exporter(server).export(calls(1))
    finally:
        logger.removeHandler(handler)
    assert enabled == [False]
    assert is_http_instrumentation_enabled()


# ---- TLS ----


@pytest.fixture
def authority() -> Authority:
    """Give a CA of the test's own."""
    return Authority("test")


def server_context(authority: Authority, directory: Path) -> ssl.SSLContext:
    """Return the context of a server that has a certificate of the CA."""
    files = authority.issue().write(directory)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.certificate, files.key)
    return context


def test_a_slow_service_over_tls(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its first bytes are no answer; there is time until the deadline, not for a call only."""
    monkeypatch.setattr(patience, "MAX_CALL_S", 0.5)
    with troubled_server(tls=server_context(authority, tmp_path)) as server:
        good = server.otherwise

        def slow(connection: socket.socket, request: Any) -> bool:
            server.closed.wait(1.5)
            return good(connection, request)

        server.otherwise = slow
        (tmp_path / "ca.pem").write_bytes(authority.pem)
        tested = exporter(server, certificate=tmp_path / "ca.pem")
        assert tested.export(calls(1)) is SUCCESS
        assert tested.counters["requests"] == {"200": 1}


def test_tls(authority: Authority, tmp_path: Path) -> None:
    """With the authority given, and a certificate shown where one is asked for."""
    context = server_context(authority, tmp_path)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cadata=authority.pem.decode())
    trusted = tmp_path / "ca.pem"
    trusted.write_bytes(authority.pem)
    (tmp_path / "client").mkdir()
    own = authority.issue(name="client").write(tmp_path / "client")
    with troubled_server(tls=context) as server:
        tested = exporter(
            server,
            certificate=trusted,
            client_certificate=own.certificate,
            client_key=own.key,
        )
        assert tested.export(calls(2)) is SUCCESS
        assert tested.export(calls(2)) is SUCCESS
        assert len({request.connection for request in server.requests}) == 1


def test_an_unknown_authority_is_not_trusted(
    authority: Authority, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing is sent, and nothing is tried again."""
    with troubled_server(tls=server_context(authority, tmp_path)) as server:
        tested = exporter(server)
        assert tested.export(calls(1)) is FAILURE
        assert server.requests == []
        assert tested.counters["requests"] == {}
        assert "its certificate is not valid" in caplog.text
