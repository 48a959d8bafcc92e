# SPDX-License-Identifier: Apache-2.0
"""`set_consumer` finds the SERVER span of the request, wherever it is called."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import logging
import os
import subprocess
import sys
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import Span
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, TraceFlags

from otel_apinalytics.exporter.identity import set_consumer
from otel_apinalytics.exporter.processor import ConsumerSpanProcessor
from tests.unit.exporter_identity.conftest import ID, Traced

_ROOT = Path(__file__).parents[3]
SERVER, CLIENT = SpanKind.SERVER, SpanKind.CLIENT


def test_in_the_server_span(traced: Traced) -> None:
    """All that is said is on the span, under the names that the rules read first."""
    with traced.tracer.start_as_current_span("request", kind=SERVER):
        set_consumer("acme", name="Acme Inc.", app="shop", organization="acme-org", plan="gold")
    assert traced.attributes("request") == {
        "apinalytics.consumer.id": "acme",
        "apinalytics.consumer.name": "Acme Inc.",
        "apinalytics.consumer.application": "shop",
        "apinalytics.consumer.organisation": "acme-org",
        "apinalytics.consumer.plan": "gold",
    }


def test_from_a_span_deep_within(traced: Traced) -> None:
    """The SERVER span has the consumer, and nothing between."""
    start = traced.tracer.start_as_current_span
    with start("request", kind=SERVER), start("service"), start("query", kind=CLIENT):
        set_consumer("acme")
    assert traced.consumers() == {"request": "acme"}


def test_without_a_processor_in_the_server_span() -> None:
    """The current span is the SERVER span itself."""
    traced = Traced()
    with traced.tracer.start_as_current_span("request", kind=SERVER):
        set_consumer("acme")
    assert traced.consumers() == {"request": "acme"}


def test_without_a_processor_within() -> None:
    """The inner span has it, from which the service copies it to the SERVER span."""
    traced = Traced()
    start = traced.tracer.start_as_current_span
    with start("request", kind=SERVER), start("view"):
        set_consumer("acme")
    assert traced.consumers() == {"view": "acme"}


def test_the_processor_is_there_after_the_first_call(
    use_provider: Callable[[Traced], None],
) -> None:
    """Where tracing was set up in code, without it."""
    traced = Traced()
    use_provider(traced)
    start = traced.tracer.start_as_current_span
    for name in ("first", "second"):
        with start(name, kind=SERVER), start(f"view of {name}"):
            set_consumer("acme")
    assert traced.consumers() == {"view of first": "acme", "second": "acme"}


def test_a_processor_that_comes_in_the_middle_of_a_request() -> None:
    """What begins from then on leads to the SERVER span."""
    traced = Traced()
    start = traced.tracer.start_as_current_span
    with start("request", kind=SERVER):
        traced.provider.add_span_processor(ConsumerSpanProcessor())
        with start("service"), start("query"):
            set_consumer("acme")
    assert traced.consumers() == {"request": "acme"}


def test_two_processors_are_as_one() -> None:
    """One that was added by hand does not disturb the one that is there."""
    traced = Traced(ConsumerSpanProcessor(), ConsumerSpanProcessor())
    start = traced.tracer.start_as_current_span
    with start("outer", kind=SERVER), start("request", kind=SERVER), start("view"):
        set_consumer("acme")
    assert traced.consumers() == {"outer": "acme", "request": "acme"}


def test_nested_server_spans(traced: Traced) -> None:
    """Whichever of them the call is counted by has the consumer."""
    start = traced.tracer.start_as_current_span
    with start("outer", kind=SERVER), start("mounted", kind=SERVER):
        with start("inner", kind=SERVER), start("view"):
            set_consumer("acme")
        with start("other"):
            pass
    assert traced.consumers() == {"outer": "acme", "mounted": "acme", "inner": "acme"}


def test_a_server_span_beside(traced: Traced) -> None:
    """What ran before within the outer one is not touched."""
    start = traced.tracer.start_as_current_span
    with start("outer", kind=SERVER):
        with start("first", kind=SERVER):
            pass
        with start("second", kind=SERVER):
            set_consumer("acme")
    assert traced.consumers() == {"outer": "acme", "second": "acme"}


def test_a_program_that_calls_itself(traced: Traced) -> None:
    """A call of its own API, in the same process, is another request."""
    start = traced.tracer.start_as_current_span
    with start("outer", kind=SERVER), start("call", kind=CLIENT) as call:
        with start("direct", kind=SERVER):
            set_consumer("direct")
        remote = SpanContext(
            call.get_span_context().trace_id,
            call.get_span_context().span_id,
            is_remote=True,
            trace_flags=TraceFlags(TraceFlags.SAMPLED),
        )
        parent = trace.set_span_in_context(NonRecordingSpan(remote))
        with start("by network", kind=SERVER, context=parent), start("view"):
            set_consumer("network")
        set_consumer("caller")
    assert traced.consumers() == {
        "direct": "direct",
        "by network": "network",
        "outer": "caller",
    }


def test_in_threads_with_the_context(traced: Traced) -> None:
    """Each request of a pool's threads is its own."""

    def view(number: int) -> None:
        with traced.tracer.start_as_current_span("view"):
            set_consumer(f"consumer-{number}")

    with ThreadPoolExecutor(4) as pool:
        futures = []
        for number in range(20):
            with traced.tracer.start_as_current_span(f"request-{number}", kind=SERVER):
                context = contextvars.copy_context()
                futures.append(pool.submit(context.run, view, number))
                futures[-1].result()
    assert traced.consumers() == {f"request-{n}": f"consumer-{n}" for n in range(20)}


def test_in_tasks_that_take_turns(traced: Traced) -> None:
    """Requests that are served at the same time do not get each other's consumer."""

    async def serve(number: int, all_serve: asyncio.Event) -> None:
        start = traced.tracer.start_as_current_span
        with start(f"request-{number}", kind=SERVER), start("view"):
            if number == 9:
                all_serve.set()
            await all_serve.wait()
            await asyncio.to_thread(set_consumer, f"consumer-{number}")

    async def serve_all() -> None:
        all_serve = asyncio.Event()
        await asyncio.gather(*(serve(number, all_serve) for number in range(10)))

    asyncio.run(serve_all())
    assert traced.consumers() == {f"request-{n}": f"consumer-{n}" for n in range(10)}


# A server that loads the application, serves, and then forks its workers.
_FORKING = """
import os, sys
from opentelemetry.trace import SpanKind
from otel_apinalytics.exporter.identity import set_consumer
from otel_apinalytics.exporter.processor import ConsumerSpanProcessor
from tests.unit.exporter_identity.conftest import Traced
traced = Traced(ConsumerSpanProcessor())
def serve(consumer):
    start = traced.tracer.start_as_current_span
    with start(consumer, kind=SpanKind.SERVER), start("view"):
        set_consumer(consumer)
serve("master")
for number in (1, 2):
    worker = os.fork()
    if worker == 0:
        serve(f"worker-{number}")
        break
    os.waitpid(worker, 0)
print(sorted(traced.consumers().values()), flush=True)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_in_forked_workers() -> None:
    """Each worker's requests have their consumers."""
    command = [sys.executable, "-c", _FORKING]
    ended = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, check=True)
    assert ended.stdout.splitlines() == [
        "['master', 'worker-1']",
        "['master', 'worker-2']",
        "['master']",
    ]
    assert ended.stderr == ""


def test_a_task_that_outlives_the_span_it_began_in(traced: Traced) -> None:
    """What it does is still a part of the request."""
    start = traced.tracer.start_as_current_span
    with start("request", kind=SERVER):
        with start("view"):
            context = contextvars.copy_context()

        def work() -> None:
            with start("task"):
                set_consumer("acme")

        context.run(work)
    assert traced.consumers() == {"request": "acme"}


def test_nothing_is_kept_of_what_has_ended(traced: Traced) -> None:
    """A request of days, such as a WebSocket, has any number of spans; none waits for its end."""
    start = traced.tracer.start_as_current_span
    gc.disable()
    try:
        with start("request", kind=SERVER) as request:
            with start("message") as message:
                set_consumer("acme")
            inner = weakref.ref(message)
            del message
            assert inner() is None
        outer = weakref.ref(request)
        del request
        assert outer() is None
    finally:
        gc.enable()


# ---- nothing to set, or nowhere ----


def test_outside_of_a_request(traced: Traced, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing happens, and nothing reaches the next request."""
    set_consumer("nobody")
    with traced.tracer.start_as_current_span("request", kind=SERVER):
        pass
    set_consumer("nobody")
    assert traced.consumers() == {}
    assert caplog.records == []


def test_in_a_request_that_is_not_sampled(traced: Traced, caplog: pytest.LogCaptureFixture) -> None:
    """There is nothing to put it on."""
    span = trace.NonRecordingSpan(trace.SpanContext(1, 2, is_remote=False))
    with trace.use_span(span):
        set_consumer("acme")
    assert traced.consumers() == {}
    assert caplog.records == []


def test_after_the_request_has_ended(traced: Traced, caplog: pytest.LogCaptureFixture) -> None:
    """What goes on in the background is too late, and the SDK does not complain in each call."""
    request = traced.tracer.start_span("request", kind=SERVER)
    with trace.use_span(request), traced.tracer.start_as_current_span("background"):
        request.end()
        set_consumer("late")
    with trace.use_span(request):
        set_consumer("late")
    assert traced.consumers() == {}
    assert caplog.records == []


@pytest.mark.parametrize("nobody", [None, "", "  ", "-", "null", "Unknown", "***"])
def test_nobody_known_changes_nothing(traced: Traced, nobody: str | None) -> None:
    """An anonymous call leaves what was said before."""
    with traced.tracer.start_as_current_span("request", kind=SERVER):
        set_consumer("acme", plan="gold")
        set_consumer(nobody, plan="free")
    assert traced.attributes("request") == {ID: "acme", "apinalytics.consumer.plan": "gold"}


def test_the_last_call_stays_as_a_whole(traced: Traced) -> None:
    """A plan of the consumer before is not the next one's; an empty attribute is none."""
    with traced.tracer.start_as_current_span("request", kind=SERVER):
        set_consumer("acme", name="Acme", plan="gold")
        set_consumer("globex", app="shop")
    assert traced.attributes("request") == {
        ID: "globex",
        "apinalytics.consumer.name": "",
        "apinalytics.consumer.application": "shop",
        "apinalytics.consumer.plan": "",
    }


@pytest.mark.parametrize("somebody", ["ghp_0123456789abcdefgh", 5.5])
def test_somebody_who_cannot_be_named_is_not_the_one_before(traced: Traced, somebody: Any) -> None:
    """Without a hash key, or of a wrong type: another's call is not billed to them."""
    with traced.tracer.start_as_current_span("request", kind=SERVER):
        set_consumer("acme", name="Acme", plan="gold")
        set_consumer(somebody, plan="free", app="shop")
    assert traced.attributes("request") == {
        ID: "",
        "apinalytics.consumer.name": "",
        "apinalytics.consumer.plan": "",
    }


@pytest.mark.parametrize(
    ("said", "sent"),
    [
        (7, "7"),
        (0, "0"),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        ("Ünïcode ✓", "Ünïcode ✓"),
        ("half \ud800", "half ?"),
    ],
)
def test_ids_become_text(traced: Traced, said: Any, sent: str) -> None:
    """Numbers and UUIDs as they are written; what cannot be sent is replaced."""
    with traced.tracer.start_as_current_span("request", kind=SERVER):
        set_consumer(said)
    assert traced.consumers() == {"request": sent}


@pytest.mark.parametrize("wrong", [b"acme", 1.5, True, ["acme"], {"id": "acme"}, object()])
def test_a_wrong_argument_is_logged_once(
    traced: Traced, caplog: pytest.LogCaptureFixture, wrong: Any
) -> None:
    """Nothing is raised; the log has the type and not the value."""
    for _ in range(3):
        with traced.tracer.start_as_current_span("request", kind=SERVER):
            set_consumer(wrong)
    assert traced.consumers() == {}
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert type(wrong).__name__ in record.getMessage()
    assert repr(wrong) not in record.getMessage()


def test_a_wrong_plan_costs_only_itself(traced: Traced) -> None:
    """The consumer is still known."""
    plan: Any = ["gold"]
    with traced.tracer.start_as_current_span("request", kind=SERVER):
        set_consumer("acme", plan=plan)
    assert traced.attributes("request") == {ID: "acme"}


def test_an_error_of_ours_stays_here(
    traced: Traced, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A span that cannot take attributes does not end the request, and no value is logged."""

    def broken(self: Span, attributes: Any) -> None:
        raise RuntimeError("acme")

    monkeypatch.setattr(Span, "set_attributes", broken)
    with traced.tracer.start_as_current_span("request", kind=SERVER):
        set_consumer("acme")
        set_consumer("acme")
    (record,) = caplog.records
    assert "RuntimeError" in record.getMessage()
    assert "acme" not in record.getMessage()


# ---- secrets ----

SECRETS = [
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiI3In0.c2lnbmF0dXJl",
    "sk_live_abcdefgh12345678",
    "x" * 120,
    "two words, " * 200,
]


@pytest.mark.parametrize("secret", SECRETS)
def test_what_looks_like_a_secret_is_hashed(
    traced: Traced, with_hash_key: bytes, secret: str
) -> None:
    """In any argument."""
    with traced.tracer.start_as_current_span("request", kind=SERVER):
        set_consumer(secret, name=secret, app=secret, organization=secret, plan=secret)
    values = set(traced.attributes("request").values())
    assert len(values) == 1
    assert str(values.pop()).startswith("key_")


@pytest.mark.parametrize("secret", SECRETS)
def test_without_the_hash_key_no_secret_is_sent(
    traced: Traced, caplog: pytest.LogCaptureFixture, secret: str
) -> None:
    """Not even hashed, and the log says what to set, once."""
    for _ in range(2):
        with traced.tracer.start_as_current_span("request", kind=SERVER):
            set_consumer(secret)
            set_consumer("acme", plan=secret)
    assert set(traced.consumers()) == {"request"}
    spans = traced.memory.get_finished_spans()
    assert [dict(span.attributes or {}) for span in spans] == [{ID: "acme"}] * 2
    (record,) = caplog.records
    assert "OTEL_EXPORTER_APINALYTICS_HASH_KEY" in record.getMessage()
    assert secret not in record.getMessage()
