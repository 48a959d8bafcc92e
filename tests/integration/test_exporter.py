# SPDX-License-Identifier: Apache-2.0
"""The exporter before the real service: the same events as by OTLP, each once."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, Span, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    TraceState,
    set_span_in_context,
)

from otel_apinalytics.exporter import ApinalyticsSpanExporter
from otel_apinalytics.exporter.hashing import hash_key_text
from otel_apinalytics.receiver.sealing import hash_key_of
from tests.support.clients import APPLICATION, READ_HEADERS, WRITE_HEADERS, WRITE_KEY, Client
from tests.support.door import settle
from tests.support.sdk_spans import calls
from tests.support.service_process import service_process
from tests.support.waiting import wait_for

MASTER_KEY = bytes(range(32))
HASH_KEY = hash_key_text(hash_key_of(MASTER_KEY, APPLICATION))
HEADER = "http.request.header."
_numbers = itertools.count()


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """Run a service whose hash key is known."""
    directory = tmp_path_factory.mktemp("exporter")
    (directory / "secret.key").write_bytes(MASTER_KEY)
    secret_file = str(directory / "secret.key")
    with service_process(directory / "data", secret_key_file=secret_file) as service:
        yield service.client


@pytest.fixture
def exporter(client: Client) -> Iterator[ApinalyticsSpanExporter]:
    """Give an exporter that sends everything to it."""
    made = ApinalyticsSpanExporter(
        f"http://{client.http}",
        APPLICATION,
        WRITE_KEY,
        hash_key=HASH_KEY,
        client_spans=True,
        compression="gzip",
    )
    yield made
    made.shutdown()


@pytest.fixture
def otlp(client: Client) -> Iterator[OTLPSpanExporter]:
    """Give the stock exporter, which sends to it as well."""
    made = OTLPSpanExporter(f"http://{client.http}/v1/traces", headers=dict(WRITE_HEADERS))
    yield made
    made.shutdown()  # type: ignore[no-untyped-call]


@dataclass(frozen=True)
class Case:
    """A span that a program makes.

    Args:
        attributes: Its attributes.
        name: Its name.
        kind: Its kind.
        resource: Attributes of its resource.
        trace_state: Its parent's trace state.
        finish: What else is done to it.
        child: Attributes of a span within it; None for no such span.
    """

    attributes: Mapping[str, Any]
    name: str = "GET /users/{id}"
    kind: SpanKind = SpanKind.SERVER
    resource: Mapping[str, Any] = field(default_factory=dict)
    trace_state: Mapping[str, str] = field(default_factory=dict)
    finish: Callable[[Span], Any] = lambda span: None
    child: Mapping[str, Any] | None = None


_FASTAPI = {
    "http.request.method": "GET",
    "url.path": "/users/7",
    "url.query": "page=2&token=t-secret",
    "url.scheme": "http",
    "http.route": "/users/{id}",
    "http.response.status_code": 200,
    "server.address": "api.example.com",
    "client.address": "192.0.2.7",
    "user_agent.original": "shop-client/2.1 (x)",
    "network.protocol.version": "1.1",
    "http.response.body.size": 5,
}
CASES = {
    "stable names": Case(_FASTAPI),
    "old names": Case(
        {
            "http.method": "GET",
            "http.target": "/users/7?a=b",
            "http.url": "http://api.example.com:8080/users/7?a=b",
            "http.host": "api.example.com:8080",
            "http.server_name": "api.example.com",
            "http.route": "/users/{id}",
            "http.status_code": 503,
            "http.flavor": "1.1",
            "net.peer.ip": "192.0.2.7",
        },
    ),
    "a key": Case({**_FASTAPI, HEADER + "x_api_key": ["k-secret"]}),
    "a token": Case({**_FASTAPI, HEADER + "authorization": ["Bearer eyJhbGci.eyJzdWIi.c2ln"]}),
    "what the application says": Case(
        {
            **_FASTAPI,
            "apinalytics.consumer.id": "acme",
            "apinalytics.consumer.name": "Acme Inc.",
            "apinalytics.consumer.plan": "gold",
            "apinalytics.quota_consumed": 3,
        }
    ),
    "sampled": Case(_FASTAPI, trace_state={"ot": "th:c"}),
    "a call that is made": Case(
        {"http.request.method": "POST", "url.full": "https://api.example.com/pay?x=1",
         "http.response.status_code": 201, "server.address": "api.example.com"},
        kind=SpanKind.CLIENT,
        name="POST",
    ),
    "a remote procedure": Case(
        {"rpc.system": "grpc", "rpc.service": "shop.Shop", "rpc.method": "GetUser",
         "rpc.grpc.status_code": 5},
        name="shop.Shop/GetUser",
    ),
    "a name of its own": Case(
        {**_FASTAPI, "http.route": "users/<int:id>/"}, name="GET users/<int:id>/"
    ),
    "no route": Case({**_FASTAPI, "http.route": "", "http.response.status_code": 404}, name="GET"),
    "a service that says another name": Case({**_FASTAPI}, resource={"apinalytics.service": "x"}),
    "without a service": Case(_FASTAPI, resource={"service.name": ""}),
    "another region": Case(
        _FASTAPI, resource={"cloud.region": "eu-west-1", "deployment.environment.name": "prod"}
    ),
    "an exception": Case(
        {**_FASTAPI, "http.response.status_code": 500},
        finish=lambda span: span.record_exception(KeyError("x")),
    ),
    "an error": Case(_FASTAPI, finish=lambda span: span.set_status(Status(StatusCode.ERROR))),
    "a secret in the name": Case(_FASTAPI, name="GET /users/7?page=2&token=t-secret"),
    "a long name": Case(_FASTAPI, name="GET /users/" + "x" * 2000),
    "a consumer within": Case(_FASTAPI, child={"enduser.id": "alice"}),
}  # fmt: skip


def made_by_sdk(case: Case) -> list[ReadableSpan]:
    """Return the spans of a case, as a program that was called has them."""
    memory = InMemorySpanExporter()
    resource = Resource({"service.name": f"s-{next(_numbers)}", **case.resource})
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(memory))
    tracer = provider.get_tracer("opentelemetry.instrumentation.flask")
    number = next(_numbers) + 1
    caller = SpanContext(
        time.time_ns(), number, True, TraceFlags(1), TraceState(list(case.trace_state.items()))
    )
    context = set_span_in_context(NonRecordingSpan(caller))
    with tracer.start_as_current_span(case.name, context, case.kind) as span:
        assert isinstance(span, Span)
        span.set_attributes(dict(case.attributes))
        case.finish(span)
        if case.child is not None:
            tracer.start_span("child", attributes=dict(case.child)).end()
    return list(memory.get_finished_spans())


def stored(client: Client, spans: Sequence[ReadableSpan]) -> list[dict[str, Any]]:
    """Return the events of a trace, as they are read out."""
    context = spans[-1].get_span_context()
    assert context is not None
    trace_id = format(context.trace_id, "032x")
    return [event for event in client.raw_events() if event["trace_id"] == trace_id]


def stored_since(client: Client, spans: Sequence[ReadableSpan], since_s: float) -> dict[str, Any]:
    """Return a trace's one event, once it is one that was received since then."""
    (event,) = wait_for(
        lambda: stored(client, spans),
        until=lambda events: any(event["received_at"] > since_s for event in events),
    )
    # What is not the event's own: when it came, and where it lies.
    return {name: event[name] for name in event if name not in ("received_at", "cursor")}


@pytest.mark.parametrize("otlp_first", [False, True], ids=["exporter first", "OTLP first"])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_a_span_is_one_event_whichever_way_it_comes(
    client: Client,
    exporter: ApinalyticsSpanExporter,
    otlp: OTLPSpanExporter,
    case: Case,
    otlp_first: bool,
) -> None:
    """The same fields, all of them, and one event, when it comes both ways."""
    spans = made_by_sdk(case)
    found = []
    for way in (otlp, exporter) if otlp_first else (exporter, otlp):
        began_s = time.time()
        assert way.export(spans) is SpanExportResult.SUCCESS
        found.append(stored_since(client, spans, began_s))
    assert found[0] == found[1]
    assert "secret" not in json.dumps(found)


def test_a_batch_that_comes_again_is_counted_once(
    client: Client, exporter: ApinalyticsSpanExporter
) -> None:
    """As when an answer was lost; the ledger says that it was a duplicate."""
    spans = calls(7)
    minute = int(time.time()) // 60 * 60
    settle(client)
    before = totals(client, minute)
    for _ in range(3):
        assert exporter.export(spans) is SpanExportResult.SUCCESS
    after = wait_for(
        lambda: totals(client, minute),
        until=lambda totals: totals["duplicate"] - before["duplicate"] == 14,
    )
    assert after["received"] - before["received"] == 21


def totals(client: Client, start: float) -> dict[str, int]:
    """Return the ledger's totals from then on."""
    path = f"/1/ledger/{start}/{time.time() + 120:.0f}/"
    status, body, _ = client.request("GET", path, headers=READ_HEADERS)
    assert status == 200, body
    found: dict[str, int] = body["totals"]
    return found


def test_a_wrong_key_is_said(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    """In the service's words; the key is in no line."""
    made = ApinalyticsSpanExporter(f"http://{client.http}", APPLICATION, "k-secret")
    assert made.export(calls(2)) is SpanExportResult.FAILURE
    made.shutdown()
    assert made.counters["spans"]["failed"] == 2
    assert "it answered 401" in caplog.text
    assert "k-secret" not in caplog.text


def test_what_the_service_refuses_is_counted(
    client: Client, exporter: ApinalyticsSpanExporter, caplog: pytest.LogCaptureFixture
) -> None:
    """And costs the others nothing. Nothing the exporter makes is refused, so it is given more."""
    sender, bad = exporter._sender, "{}"
    assert sender is not None
    good = list(map(str, sender._rendering.events(calls(3), time.time_ns())))
    sender._patience.begin()
    sender._backlog.add([good[0], bad, *good[1:], bad])
    assert not sender._deliver(is_patient=True)
    numbers = exporter.counters["spans"]
    assert (numbers["sent"], numbers["refused"], numbers["failed"]) == (3, 2, 0)
    assert "2 events refused: event 1" in caplog.text
