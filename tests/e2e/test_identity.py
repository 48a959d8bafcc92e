# SPDX-License-Identifier: Apache-2.0
"""One API key is one consumer, whichever way it comes to the service."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

from otel_apinalytics.exporter.hashing import (
    HASH_KEY_VARIABLE,
    consumer_of_key,
    hash_key,
    hash_key_text,
)
from otel_apinalytics.exporter.identity import set_consumer
from otel_apinalytics.exporter.processor import ConsumerSpanProcessor
from otel_apinalytics.normalize.python import normalize_spans
from otel_apinalytics.receiver.sealing import hash_key_of
from tests.support.clients import APPLICATION, WRITE_HEADERS, Client
from tests.support.otlp import CALL, make_request, make_span
from tests.support.sdk import span_view
from tests.support.service_process import environment, service_process
from tests.support.waiting import wait_for

KEY = "k-secret-123"
TOKEN = "sk_live_abcdefgh12345678"
_CALL = {name: value for name, value in CALL.items() if name != "enduser.id"}
Send = Callable[[Client, str], None]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Client, bytes]]:
    """Run a service, and give its client and the application's hash key."""
    directory = tmp_path_factory.mktemp("identity")
    master_key, secret_file = os.urandom(32), directory / "secret.key"
    secret_file.write_bytes(master_key)
    with service_process(directory / "data", secret_key_file=str(secret_file)) as running:
        yield running.client, hash_key_of(master_key, APPLICATION)


@pytest.fixture
def with_hash_key(service: tuple[Client, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    """Give this process the hash key as an application gets it."""
    monkeypatch.setenv(HASH_KEY_VARIABLE, hash_key_text(service[1]))


def _captured(header: str, value: str) -> Send:
    def send(client: Client, name: str) -> None:
        attributes = {**_CALL, f"http.request.header.{header}": [value]}
        client.export(make_request(make_span(attributes), service=name))

    return send


def _traced(client: Client, name: str, view: Callable[[], None], **headers: str) -> None:
    """Serve a request of a traced program that sends by OTLP."""
    exporter = OTLPSpanExporter(f"http://{client.http}/v1/traces", headers=dict(WRITE_HEADERS))
    provider = TracerProvider(resource=Resource({"service.name": name}), shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    provider.add_span_processor(ConsumerSpanProcessor(header="x-api-key"))
    tracer = provider.get_tracer("tests")
    with tracer.start_as_current_span("GET /users/{id}", kind=SpanKind.SERVER) as span:
        span.set_attributes(_CALL)
        for header, value in headers.items():
            span.set_attribute(f"http.request.header.{header}", [value])
        with tracer.start_as_current_span("view"):
            view()
    provider.shutdown()


def _as_event(client: Client, name: str, value: str) -> None:
    """Send what the exporter makes of a span with a captured header."""
    memory = InMemorySpanExporter()
    provider = TracerProvider(resource=Resource({"service.name": name}), shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(memory))
    tracer = provider.get_tracer("tests")
    attributes = {**_CALL, "http.request.header.x_api_key": [value]}
    tracer.start_span("GET", kind=SpanKind.SERVER, attributes=attributes).end()
    views = [span_view(span) for span in memory.get_finished_spans()]
    (made,) = normalize_spans(views, time.time_ns(), hash_key=hash_key())
    event = {"timestamp": time.time(), "service": name, "consumer_id": made.fields["consumer_id"]}
    assert client.post_events([event])[0] == 200


WAYS: dict[str, Send] = {
    "captured header": _captured("x-api-key", KEY),
    "captured credentials": _captured("authorization", f"Bearer {KEY}"),
    "said": lambda client, name: _traced(client, name, lambda: set_consumer(consumer_of_key(KEY))),
    "taken by the processor": (
        lambda client, name: _traced(client, name, lambda: None, x_api_key=KEY)
    ),
    "event": lambda client, name: _as_event(client, name, KEY),
}
WAYS_OF_TOKEN: dict[str, Send] = {
    "captured header": _captured("x-api-key", TOKEN),
    "captured as a plain id": _captured("x-client-id", TOKEN),
    "said": lambda client, name: _traced(client, name, lambda: set_consumer(TOKEN)),
    "said as a key": (
        lambda client, name: _traced(client, name, lambda: set_consumer(consumer_of_key(TOKEN)))
    ),
    "event": lambda client, name: _as_event(client, name, TOKEN),
}


@pytest.mark.usefixtures("with_hash_key")
@pytest.mark.parametrize(("ways", "secret"), [(WAYS, KEY), (WAYS_OF_TOKEN, TOKEN)])
def test_one_key_is_one_consumer(
    service: tuple[Client, bytes], ways: dict[str, Send], secret: str
) -> None:
    """Hashed by the service or by the program, the id is the same, and no secret is anywhere."""
    client, _ = service
    prefix = f"{secret[:2]}: "
    for name, send in ways.items():
        send(client, prefix + name)
    found = wait_for(
        lambda: [e for e in client.raw_events() if e["service"].startswith(prefix)],
        until=lambda events: len(events) >= len(ways),
    )
    assert {event["service"] for event in found} == {prefix + name for name in ways}
    assert {event["consumer_id"] for event in found} == {consumer_of_key(secret)}
    assert secret not in repr(found)


def test_what_is_said_is_what_is_stored(service: tuple[Client, bytes]) -> None:
    """Each argument has its field; the name is among the attributes."""
    client, _ = service

    def view() -> None:
        set_consumer("acme", name="Acme Inc.", app="shop", organization="group", plan="gold")

    _traced(client, "said", view)
    (event,) = wait_for(
        lambda: [event for event in client.raw_events() if event["service"] == "said"]
    )
    assert event["consumer_id"] == "acme"
    assert event["consumer_source"] == "apinalytics.consumer.id"
    assert event["app_id"] == "shop"
    assert event["organization_id"] == "group"
    assert event["plan_id"] == "gold"
    assert event["attributes"] == {"consumer_name": "Acme Inc."}
    groups = client.groups({"group": "attributes.consumer_name", "include": "service:said"})
    assert list(groups) == ["Acme Inc."]


# Nothing but the call: no processor, no middleware.
_PROGRAM = """
from opentelemetry import trace
from otel_apinalytics.exporter.identity import set_consumer
tracer = trace.get_tracer("program")
with tracer.start_as_current_span("request", kind=trace.SpanKind.SERVER):
    with tracer.start_as_current_span("view"):
        set_consumer("acme")
"""


def test_automatic_instrumentation_needs_nothing_else() -> None:
    """From the first request on, whatever the exporter."""
    programs = Path(sys.executable).parent
    ended = subprocess.run(
        [programs / "opentelemetry-instrument", sys.executable, "-c", _PROGRAM],
        env=environment()
        | {
            "OTEL_TRACES_EXPORTER": "console",
            "OTEL_METRICS_EXPORTER": "none",
            "OTEL_LOGS_EXPORTER": "none",
        },
        capture_output=True,
        text=True,
        check=True,
    )
    spans = {span["name"]: span["attributes"] for span in _documents(ended.stdout)}
    assert spans == {"request": {"apinalytics.consumer.id": "acme"}, "view": {}}
    assert ended.stderr == ""


def _documents(text: str) -> Iterator[dict[str, Any]]:
    """Give the JSON documents that stand one after the other in a text."""
    decoder = json.JSONDecoder()
    while text := text.lstrip():
        document, end = decoder.raw_decode(text)
        yield document
        text = text[end:]
