# SPDX-License-Identifier: Apache-2.0
"""A tracer of the SDK whose ended spans are looked at, and a process that starts anew."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from otel_apinalytics.exporter import hashing, quiet
from otel_apinalytics.exporter.hashing import HASH_KEY_VARIABLE, hash_key_text
from otel_apinalytics.exporter.processor import ConsumerSpanProcessor

HASH_KEY = bytes(range(32))
ID = "apinalytics.consumer.id"


class Traced:
    """Spans of a provider of its own.

    Args:
        processors: What is added to the provider, behind the exporter.
    """

    def __init__(self, *processors: SpanProcessor) -> None:
        self.memory = InMemorySpanExporter()
        self.provider = TracerProvider(shutdown_on_exit=False)
        self.provider.add_span_processor(SimpleSpanProcessor(self.memory))
        for processor in processors:
            self.provider.add_span_processor(processor)
        self.tracer = self.provider.get_tracer("tests")

    def attributes(self, name: str) -> Mapping[str, Any]:
        """Return the attributes of the only ended span with a name."""
        (span,) = (span for span in self.memory.get_finished_spans() if span.name == name)
        return span.attributes or {}

    def consumers(self) -> dict[str, Any]:
        """Return the consumer of each ended span that has one, by the span's name."""
        spans = [(s.name, s.attributes or {}) for s in self.memory.get_finished_spans()]
        return {name: attributes[ID] for name, attributes in spans if ID in attributes}


@pytest.fixture
def traced() -> Traced:
    """Give a tracer with our processor."""
    return Traced(ConsumerSpanProcessor())


@pytest.fixture
def use_provider(monkeypatch: pytest.MonkeyPatch) -> Callable[[Traced], None]:
    """Give a function that makes a provider the program's."""

    def use(traced: Traced) -> None:
        monkeypatch.setattr(trace, "get_tracer_provider", lambda: traced.provider)

    return use


@pytest.fixture(autouse=True)
def fresh_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Begin without a hash key and without anything told."""
    monkeypatch.delenv(HASH_KEY_VARIABLE, raising=False)
    monkeypatch.setattr(quiet, "_told", set())
    monkeypatch.setattr(hashing, "_given", None)


@pytest.fixture
def with_hash_key(monkeypatch: pytest.MonkeyPatch, fresh_process: None) -> bytes:
    """Set the hash key, and give it."""
    monkeypatch.setenv(HASH_KEY_VARIABLE, hash_key_text(HASH_KEY))
    return HASH_KEY
