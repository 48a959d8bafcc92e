# SPDX-License-Identifier: Apache-2.0
"""The exporter while the service is away: what it keeps, for how long, and when it tries again."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from itertools import groupby
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult
from opentelemetry.trace import SpanKind

from otel_apinalytics.exporter import ApinalyticsSpanExporter, backlog
from tests.support.sdk_spans import CALL, calls, served
from tests.support.troubled_server import TroubledServer, answer, close, troubled_server
from tests.support.waiting import wait_for

SUCCESS, FAILURE = SpanExportResult.SUCCESS, SpanExportResult.FAILURE
# Nothing waits so long for another attempt.
SHORT_S = 0.2
_made: list[ApinalyticsSpanExporter] = []


@pytest.fixture(autouse=True)
def _shut_down() -> Iterator[None]:
    """Shut down the exporters of a test, as their processor does."""
    yield
    while _made:
        _made.pop().shutdown(0)


@pytest.fixture
def port() -> int:
    """Give a port at which nobody listens yet."""
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        return int(reserved.getsockname()[1])


def exporter(port: int, **arguments: Any) -> ApinalyticsSpanExporter:
    """Return an exporter that sends to a port."""
    _made.append(ApinalyticsSpanExporter(f"http://localhost:{port}", write_key="k", **arguments))
    return _made[-1]


def spans_of(tested: ApinalyticsSpanExporter) -> dict[str, int]:
    """Return what became of the spans, without what became of none."""
    return {fate: number for fate, number in tested.counters["spans"].items() if number}


def arrived(server: TroubledServer) -> list[dict[str, Any]]:
    """Return the events of all requests, each once.

    On a busy machine an answer may come after its time, and the request comes again.
    """
    return [*{event["span_id"]: event for event in server.events()}.values()]


def test_an_outage_longer_than_the_timeout(port: int) -> None:
    """Whose spans all arrive, with nothing set: those of the first batch, and all that came on."""
    tested = exporter(port)
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(tested, schedule_delay_millis=100))
    tracer = provider.get_tracer("test")
    made = 0

    def serve() -> int:
        nonlocal made
        tracer.start_span("GET", kind=SpanKind.SERVER, attributes=CALL).end()
        made += 1
        return tested.counters["spans"]["waiting"]

    # The first batch has had its time, and so have others.
    wait_for(serve, until=lambda waiting: 0 < waiting < made - 1)
    wait_for(serve, until=lambda waiting: waiting > 20)
    with troubled_server(port) as server:
        wait_for(serve, until=lambda waiting: waiting == 0)
        provider.shutdown()
        ids = [event["span_id"] for event in server.events()]
        assert len(ids) == len(set(ids)) == made
        assert spans_of(tested) == {"sent": made}


def test_what_waits_is_sent_first(port: int) -> None:
    """In the order in which it came, and as the same requests."""
    tested = exporter(port, timeout=SHORT_S)
    assert [tested.export(calls(n)) for n in (3, 1, 2)] == [FAILURE] * 3
    assert spans_of(tested) == {"waiting": 6}
    with troubled_server(port) as server:
        wait_for(lambda: tested.export(calls(4)) is SUCCESS)
        # One whose answer came late may have come again.
        sent = [size for size, _ in groupby(len(request.events) for request in server.requests)]
        assert sent[:4] == [3, 1, 2, 4]
        assert "waiting" not in spans_of(tested)
        assert "failed" not in spans_of(tested)


def test_what_waits_is_sent_at_the_end(port: int) -> None:
    """Although no batch follows, and the time of the next attempt has not come."""
    tested = exporter(port, timeout=SHORT_S)
    assert tested.export(calls(3)) is FAILURE
    for _ in range(3):
        # Each failure makes the pause longer.
        wait_for(lambda: tested.force_flush() is False)
    with troubled_server(port) as server:
        tested.shutdown()
        assert len(arrived(server)) == 3
        assert spans_of(tested) == {"sent": 3}


def test_a_flush_sends_what_waits(port: int) -> None:
    """And says whether it did."""
    tested = exporter(port, timeout=SHORT_S)
    assert tested.export(calls(3)) is FAILURE
    assert not tested.force_flush()
    with troubled_server(port) as server:
        assert wait_for(tested.force_flush)
        assert len(arrived(server)) == 3


def test_a_service_in_trouble_is_not_asked_more_often(port: int) -> None:
    """Than it wants, and no batch waits for that: the processor's queue would run over."""
    with troubled_server(port) as server:
        server.script.append(answer(503, Retry_After="100"))
        tested = exporter(port)
        assert [tested.export(calls(2)) for _ in range(50)] == [FAILURE] * 50
        assert len(server.requests) == 1
        assert spans_of(tested) == {"waiting": 100}
        tested.shutdown()
        assert len(server.requests) == 1
        assert spans_of(tested) == {"failed": 100}


def test_a_broken_service_is_not_asked_by_every_batch(port: int) -> None:
    """The pauses between attempts hold over all batches, and get longer."""
    with troubled_server(port) as server:
        server.otherwise = close
        tested = exporter(port, timeout=SHORT_S)
        for _ in range(200):
            tested.export(calls(1))
        # A pause is half a second at the least by then.
        assert len(server.requests) < 20
        assert spans_of(tested) == {"waiting": 200}


def test_what_waits_is_bounded(
    port: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The oldest goes first, and is counted."""
    monkeypatch.setattr(backlog, "MAX_WAITING_BYTES", 10_000)
    tested = exporter(port, timeout=SHORT_S)
    for number in range(100):
        tested.export(served([{"url.path": f"/{number}"}]))
    spans = spans_of(tested)
    assert 10 < spans["waiting"] < 60
    assert spans["waiting"] + spans["failed"] == 100
    assert "1 events lost: more than" in caplog.text
    with troubled_server(port) as server:
        wait_for(tested.force_flush)
        kept = [event["url"] for event in arrived(server)]
        assert kept == [f"/{number}" for number in range(100 - len(kept), 100)]
