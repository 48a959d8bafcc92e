# SPDX-License-Identifier: Apache-2.0
"""Tests of sending what is left when an ASGI server ends."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Sequence

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from otel_apinalytics.exporter import ConsumerMiddleware, endings
from otel_apinalytics.exporter.asgi import Message, Receive, Scope, Send


class Gated(InMemorySpanExporter):
    """Keeps spans once it may."""

    def __init__(self) -> None:
        super().__init__()
        self.may = threading.Event()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Wait, and keep them."""
        self.may.wait()
        return super().export(spans)


@pytest.fixture
def exporter(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gated]:
    """Make a provider the program's that would send in a minute, and give its exporter."""
    made = Gated()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(made, schedule_delay_millis=60_000))
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: provider)
    yield made
    made.may.set()
    provider.shutdown()


async def with_lifespan(scope: Scope, receive: Receive, send: Send) -> None:
    """Do as frameworks do: the last span of all ends with the application."""
    await send({"type": "lifespan.startup.complete"})
    trace.get_tracer_provider().get_tracer("test").start_span("last").end()
    await send({"type": "lifespan.shutdown.complete"})


def live() -> list[str]:
    """Let an application live and end; return what it sent to the server."""
    sent: list[str] = []

    async def send(message: Message) -> None:
        sent.append(message["type"])

    async def receive() -> Message:
        raise AssertionError

    asyncio.run(ConsumerMiddleware(with_lifespan)({"type": "lifespan"}, receive, send))
    return sent


def test_the_end_of_an_application_sends_what_is_left(exporter: Gated) -> None:
    """Before the server hears of it, and ends."""
    exporter.may.set()
    assert live() == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert [span.name for span in exporter.get_finished_spans()] == ["last"]


def test_the_end_of_an_application_is_not_held_up(
    exporter: Gated, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By an exporter that does not return."""
    monkeypatch.setattr(endings, "_LONGEST_S", 0.1)
    assert live() == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert exporter.get_finished_spans() == ()


def test_without_a_provider_there_is_nothing_to_send(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a program that is not traced."""
    provider = trace.NoOpTracerProvider()
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: provider)
    assert len(live()) == 2
