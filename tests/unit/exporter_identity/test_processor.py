# SPDX-License-Identifier: Apache-2.0
"""The processor says who calls, from what is on the spans of a request, and is there by itself."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind

from otel_apinalytics.exporter.consumers import Consumer
from otel_apinalytics.exporter.hashing import consumer_of_key
from otel_apinalytics.exporter.identity import set_consumer
from otel_apinalytics.exporter.processor import ConsumerSpanProcessor, register
from tests.unit.exporter_identity.conftest import ID, Traced

SERVER = SpanKind.SERVER


def test_a_function_sees_the_whole_span() -> None:
    """It is asked when the request is about to end: attributes that came late are there."""

    def of_path(span: ReadableSpan) -> str:
        return str((span.attributes or {})["url.path"]).split("/")[1]

    traced = Traced(ConsumerSpanProcessor(consumer=of_path))
    with traced.tracer.start_as_current_span("request", kind=SERVER) as span:
        span.set_attribute("url.path", "/acme/orders")
    assert traced.consumers() == {"request": "acme"}


def test_a_function_may_say_more() -> None:
    """A whole consumer."""
    consumer = Consumer("acme", plan="gold")
    traced = Traced(ConsumerSpanProcessor(consumer=lambda span: consumer))
    with traced.tracer.start_as_current_span("request", kind=SERVER):
        pass
    assert traced.attributes("request") == {ID: "acme", "apinalytics.consumer.plan": "gold"}


def test_what_the_application_says_comes_first() -> None:
    """Under any of the names by which it can."""
    traced = Traced(ConsumerSpanProcessor(consumer=lambda span: "processor"))
    with traced.tracer.start_as_current_span("by us", kind=SERVER):
        set_consumer("acme")
    for name in ("apinalytics.consumer", "apinalytics.consumer_id"):
        with traced.tracer.start_as_current_span(name, kind=SERVER) as span:
            span.set_attribute(name, "acme")
    with traced.tracer.start_as_current_span("nobody", kind=SERVER):
        pass
    assert traced.consumers() == {"by us": "acme", "nobody": "processor"}


def test_only_server_spans_are_asked_about() -> None:
    """A consumer of an inner span or of a call that we make is nobody's."""
    traced = Traced(ConsumerSpanProcessor(consumer=lambda span: "acme"))
    start = traced.tracer.start_as_current_span
    with start("request", kind=SERVER), start("view"), start("call", kind=SpanKind.CLIENT):
        pass
    assert traced.consumers() == {"request": "acme"}


def test_an_attribute_of_the_server_span() -> None:
    """As other code sets it, at any time."""
    traced = Traced(ConsumerSpanProcessor(attribute="shop.account"))
    with traced.tracer.start_as_current_span("request", kind=SERVER) as span:
        span.set_attribute("shop.account", 7)
    assert traced.consumers() == {"request": "7"}


def test_an_attribute_of_a_span_within() -> None:
    """Set on whatever span was current; the first that ends with one is right."""
    traced = Traced(ConsumerSpanProcessor(attribute="shop.account"))
    start = traced.tracer.start_as_current_span
    with start("request", kind=SERVER):
        with start("authentication"), start("look-up") as span:
            span.set_attribute("shop.account", "acme")
        with start("later") as span:
            span.set_attribute("shop.account", "globex")
    assert traced.consumers() == {"request": "acme"}


@pytest.mark.parametrize("value", [["acme"], ("acme", "globex")])
def test_of_an_array_the_first(value: Any) -> None:
    """Captured headers are arrays."""
    traced = Traced(ConsumerSpanProcessor(attribute="shop.account"))
    with traced.tracer.start_as_current_span("request", kind=SERVER) as span:
        span.set_attribute("shop.account", value)
    assert traced.consumers() == {"request": "acme"}


@pytest.mark.parametrize("value", [{"id": "acme"}, b"acme", [], ""])
def test_an_attribute_without_a_consumer(value: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Is none."""
    traced = Traced(ConsumerSpanProcessor(attribute="shop.account"))
    with traced.tracer.start_as_current_span("request", kind=SERVER) as span:
        span.set_attribute("shop.account", value)
    assert traced.consumers() == {}
    assert "could not be found" not in caplog.text


@pytest.mark.parametrize("spelling", ["x_customer", "x-customer"])
def test_a_captured_header(spelling: str) -> None:
    """In either spelling."""
    traced = Traced(ConsumerSpanProcessor(header="X-Customer"))
    with traced.tracer.start_as_current_span("request", kind=SERVER) as span:
        span.set_attribute(f"http.request.header.{spelling}", ["acme"])
    assert traced.consumers() == {"request": "acme"}


def test_a_captured_key_is_hashed(with_hash_key: bytes) -> None:
    """Without being asked to: what the header has is known."""
    traced = Traced(ConsumerSpanProcessor(header="X-API-Key"))
    with traced.tracer.start_as_current_span("request", kind=SERVER) as span:
        span.set_attribute("http.request.header.x_api_key", ["k-secret"])
    assert traced.consumers() == {"request": consumer_of_key("k-secret")}


def test_a_secret_attribute_is_hashed(with_hash_key: bytes) -> None:
    """If it is said to be one."""
    traced = Traced(ConsumerSpanProcessor(attribute="shop.token", secret=True))
    with traced.tracer.start_as_current_span("request", kind=SERVER) as span:
        span.set_attribute("shop.token", "t-1")
    assert traced.consumers() == {"request": consumer_of_key("t-1")}


def test_without_a_hash_key_a_secret_is_not_sent() -> None:
    """Nobody is known then."""
    traced = Traced(ConsumerSpanProcessor(header="X-API-Key"))
    with traced.tracer.start_as_current_span("request", kind=SERVER) as span:
        span.set_attribute("http.request.header.x_api_key", ["k-secret"])
    assert traced.consumers() == {}


def test_the_order_of_the_sources() -> None:
    """Function, attribute, header."""
    answers: dict[str, str | None] = {"by function": "f", "by attribute": None, "by header": None}
    traced = Traced(
        ConsumerSpanProcessor(
            consumer=lambda span: answers[span.name], attribute="a", header="x-customer"
        )
    )
    for name in answers:
        with traced.tracer.start_as_current_span(name, kind=SERVER) as span:
            span.set_attribute("http.request.header.x_customer", ["h"])
            if name != "by header":
                span.set_attribute("a", "a")
    assert traced.consumers() == {"by function": "f", "by attribute": "a", "by header": "h"}


def test_a_function_that_fails(caplog: pytest.LogCaptureFixture) -> None:
    """The span ends and is exported; the log says so once, without what the error says."""

    def fail(span: ReadableSpan) -> str:
        raise ValueError("k-secret")

    traced = Traced(ConsumerSpanProcessor(consumer=fail))
    for _ in range(3):
        with traced.tracer.start_as_current_span("request", kind=SERVER):
            pass
    assert len(traced.memory.get_finished_spans()) == 3
    (record,) = caplog.records
    assert "ValueError" in record.getMessage()
    assert "k-secret" not in record.getMessage()


@pytest.mark.parametrize("answer", [KeyError("k-secret"), 5.5, "null"], ids=repr)
def test_a_source_that_gives_nothing_hides_none(answer: Any) -> None:
    """Attribute and header are looked at as if it were not there."""

    def ask(span: ReadableSpan) -> Any:
        if isinstance(answer, Exception):
            raise answer
        return answer

    traced = Traced(ConsumerSpanProcessor(consumer=ask, attribute="a", header="x-customer"))
    with traced.tracer.start_as_current_span("by attribute", kind=SERVER) as span:
        span.set_attribute("a", "acme")
    with traced.tracer.start_as_current_span("by header", kind=SERVER) as span:
        span.set_attribute("http.request.header.x_customer", ["globex"])
    assert traced.consumers() == {"by attribute": "acme", "by header": "globex"}


def test_the_end_of_a_span_is_as_it_was_said() -> None:
    """Its time is kept, and ending twice is still a mistake that the SDK tells of."""
    processors = [ConsumerSpanProcessor(consumer=lambda span: "acme") for _ in range(2)]
    traced = Traced(*processors)
    span = traced.tracer.start_span("request", kind=SERVER, start_time=1_000)
    span.end(end_time=2_000)
    (ended,) = traced.memory.get_finished_spans()
    assert (ended.start_time, ended.end_time) == (1_000, 2_000)
    assert traced.consumers() == {"request": "acme"}


def test_a_span_does_not_wait_for_the_garbage_collector() -> None:
    """Nothing of ours holds it in a circle."""
    traced = Traced(ConsumerSpanProcessor(consumer=lambda span: "acme"))
    gc.disable()
    try:
        span = traced.tracer.start_span("request", kind=SERVER)
        held = weakref.ref(span)
        span.end()
        del span
        assert held() is None
    finally:
        gc.enable()


# ---- registration ----


def test_registered_once(use_provider: Callable[[Traced], None]) -> None:
    """However often it is asked for, by tracers that there were before as well."""
    traced = Traced()
    use_provider(traced)
    for _ in range(3):
        register()
    start = traced.tracer.start_as_current_span
    with start("request", kind=SERVER), start("view"):
        set_consumer("acme")
    assert traced.consumers() == {"request": "acme"}
    processors = traced.provider._active_span_processor._span_processors
    assert sum(isinstance(p, ConsumerSpanProcessor) for p in processors) == 1


def test_without_a_provider_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    """The API's own has no processors; a later one is taken."""
    monkeypatch.setattr(trace, "get_tracer_provider", trace.NoOpTracerProvider)
    register()


def test_a_provider_that_refuses(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Automatic instrumentation goes on."""

    class Refusing(trace.NoOpTracerProvider):
        def add_span_processor(self, processor: object) -> None:
            raise RuntimeError

    monkeypatch.setattr(trace, "get_tracer_provider", Refusing)
    register()
    assert "RuntimeError" in caplog.text
