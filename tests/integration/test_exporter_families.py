# SPDX-License-Identifier: Apache-2.0
"""The exporter with families of spans that are exported in parts: each call arrives, once."""

from __future__ import annotations

from collections.abc import Sequence

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

from otel_apinalytics.exporter import ApinalyticsSpanExporter
from tests.support.sdk_spans import CALL
from tests.support.troubled_server import TroubledServer, troubled_server


def exporter(server: TroubledServer) -> ApinalyticsSpanExporter:
    """Return an exporter that sends to a server."""
    return ApinalyticsSpanExporter(server.url, write_key="k")


def test_spans_within_a_call_that_are_exported_before_it() -> None:
    """Make no event of their own, and what they know of the consumer is the call's."""
    with troubled_server() as server:
        tested = exporter(server)
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(BatchSpanProcessor(tested))
        start = provider.get_tracer("tests").start_as_current_span
        with start("outer", kind=SpanKind.SERVER, attributes=CALL):
            with start("authentication", attributes={"enduser.id": "alice"}):
                pass
            with start("inner", kind=SpanKind.SERVER, attributes=CALL):
                pass
            provider.force_flush()
            assert tested.counters["spans"]["waiting"] == 1
        provider.force_flush()
        (event,) = server.events()
        assert event["span_name"] == "outer"
        assert event["consumer_id"] == "alice"
        spans = {name: number for name, number in tested.counters["spans"].items() if number}
        assert spans == {"sent": 1, "filtered": 2}
        provider.shutdown()


def test_a_span_whose_parent_never_comes() -> None:
    """Is sent when the exporter is shut down, at the latest."""
    with troubled_server() as server:
        tested = exporter(server)
        tested.export(_orphan())
        assert server.events() == []
        tested.shutdown()
        (event,) = server.events()
        assert event["span_name"] == "inner"
        assert tested.counters["spans"]["sent"] == 1


def test_a_fork_is_another_process() -> None:
    """It leaves to its parent what waits there."""
    with troubled_server() as server:
        tested = exporter(server)
        tested.export(_orphan())
        assert tested.counters["spans"]["waiting"] == 1
        assert tested._sender is not None
        tested._sender.after_fork()
        assert tested.counters["spans"]["waiting"] == 0
        tested.shutdown()
        assert server.events() == []


def _orphan() -> Sequence[ReadableSpan]:
    """Return a SERVER span within one that is not exported."""
    memory = InMemorySpanExporter()
    others, ours = (TracerProvider(shutdown_on_exit=False) for _ in range(2))
    ours.add_span_processor(SimpleSpanProcessor(memory))
    with others.get_tracer("x").start_as_current_span("outer", kind=SpanKind.SERVER):
        ours.get_tracer("x").start_span("inner", kind=SpanKind.SERVER, attributes=CALL).end()
    return memory.get_finished_spans()
