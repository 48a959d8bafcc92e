# SPDX-License-Identifier: Apache-2.0
"""The exporter and the process around it: forks, threads that outlive others, ends of all kinds."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace.export import SpanExportResult

from otel_apinalytics.exporter import ApinalyticsSpanExporter
from tests.support.sdk_spans import calls
from tests.support.troubled_server import TroubledServer, answer, troubled_server
from tests.support.waiting import wait_for

SUCCESS = SpanExportResult.SUCCESS
FAR_S = 60.0
_made: list[ApinalyticsSpanExporter] = []
_BEGIN = """
import multiprocessing, sys, threading, time
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from otel_apinalytics.exporter import ApinalyticsSpanExporter

def serve(number):
    attributes = {"http.request.method": "GET", "url.path": f"/n/{number}"}
    tracer = trace.get_tracer("x")
    tracer.start_span("GET", kind=trace.SpanKind.SERVER, attributes=attributes).end()

def trace_it():
    provider, exporter = TracerProvider(), ApinalyticsSpanExporter(sys.argv[1], write_key="k")
    provider.add_span_processor(BatchSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
"""


@pytest.fixture(autouse=True)
def _shut_down() -> Iterator[None]:
    """Shut down the exporters of a test, as their processor does."""
    yield
    while _made:
        _made.pop().shutdown()


def exporter(server: TroubledServer, **arguments: Any) -> ApinalyticsSpanExporter:
    """Return an exporter that sends to a server."""
    _made.append(ApinalyticsSpanExporter(**{"endpoint": server.url, "write_key": "k", **arguments}))
    return _made[-1]


def run(program: str, server: TroubledServer) -> subprocess.CompletedProcess[str]:
    """Run a program to its end."""
    return subprocess.run(
        [sys.executable, "-c", _BEGIN + program, server.url],
        capture_output=True,
        text=True,
        check=True,
        timeout=FAR_S,
    )


def paths_at(server: TroubledServer) -> list[str]:
    """Return the paths of the calls that arrived, in order."""
    return sorted(event["url"] for event in server.events())


def in_background(tested: ApinalyticsSpanExporter) -> threading.Thread:
    """Begin an export in a thread."""
    thread = threading.Thread(target=tested.export, args=(calls(1),), daemon=True)
    thread.start()
    return thread


def test_a_fork_leaves_the_parent_its_connection() -> None:
    """Both send on, each on a connection of its own, and nothing is mixed up."""
    with troubled_server() as server:
        tested = exporter(server)
        assert tested.export(calls(1)) is SUCCESS
        child = os.fork()
        if child == 0:
            # Nothing of the test's process may run in here.
            os._exit(0 if tested.export(calls(20)) is SUCCESS else 1)
        results = [tested.export(calls(30)) for _ in range(3)]
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert results == [SUCCESS] * 3
        assert sorted(len(request.events) for request in server.requests) == [1, 20, 30, 30, 30]
        of_child = [r.connection for r in server.requests if len(r.events) == 20]
        of_parent = {r.connection for r in server.requests if len(r.events) != 20}
        assert of_parent.isdisjoint(of_child)
        assert len(of_parent) == 1


def test_a_fork_of_which_python_is_not_told() -> None:
    """As a server in C does it: the process id tells."""
    with troubled_server() as server:
        tested = exporter(server)
        assert tested.export(calls(1)) is SUCCESS
        assert tested._sender is not None
        tested._sender._pid -= 1
        assert tested.export(calls(1)) is SUCCESS
        assert [request.connection for request in server.requests] == [1, 2]


def test_a_fork_during_an_export_leaves_the_child_its_locks() -> None:
    """As when a server forks its workers while it exports."""
    with troubled_server() as server:
        server.script.append(server.hang)
        tested = exporter(server, timeout=FAR_S)
        exporting = in_background(tested)
        wait_for(lambda: server.requests)
        child = os.fork()
        if child == 0:
            os._exit(0 if tested.export(calls(1)) is SUCCESS else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        tested.shutdown()
        exporting.join(FAR_S)


def test_a_fork_begins_to_count_anew() -> None:
    """What was sent, and what waits, is the parent's."""
    with troubled_server() as server:
        server.script.append(answer(503, Retry_After="100"))
        tested = exporter(server, timeout=0.2)
        tested.export(calls(3))
        assert tested.counters["spans"]["waiting"] == 3
        child = os.fork()
        if child == 0:
            # Nothing of the test's process may run in here.
            of_child = tested.counters
            is_new = not of_child["requests"] and not any(of_child["spans"].values())
            os._exit(0 if is_new else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert tested.counters["spans"]["waiting"] == 3


def test_a_server_in_a_thread_outlives_the_main_thread() -> None:
    """That ends, and everything is sent on, after the time of an end as well."""
    program = """
trace_it()

def serve_on():
    threading.main_thread().join()
    for number in range(4):
        serve(number)
        trace.get_tracer_provider().force_flush()
        time.sleep(1)

threading.Thread(target=serve_on).start()
"""
    with troubled_server() as server:
        assert run(program, server).stderr == ""
        assert paths_at(server) == [f"/n/{number}" for number in range(4)]


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_a_child_of_multiprocessing_sends_its_last_spans(method: str, tmp_path: Path) -> None:
    """It ends without the handlers of the interpreter's end."""
    program = tmp_path / "program.py"
    program.write_text(
        f"""{_BEGIN}
trace_it()

if __name__ == "__main__":
    child = multiprocessing.get_context({method!r}).Process(target=serve, args=(1,))
    child.start()
    child.join()
    assert child.exitcode == 0
"""
    )
    with troubled_server() as server:
        subprocess.run([sys.executable, program, server.url], check=True, timeout=FAR_S)
        assert paths_at(server) == ["/n/1"]


def test_a_child_may_begin_to_trace() -> None:
    """Having been forked off a program that does not."""
    program = """
def child():
    trace_it()
    serve(1)

process = multiprocessing.get_context("fork").Process(target=child)
process.start()
process.join()
"""
    with troubled_server() as server:
        run(program, server)
        assert paths_at(server) == ["/n/1"]


def test_a_program_that_ends_says_what_was_lost() -> None:
    """Nobody has the exporter, to ask it."""
    with troubled_server() as server:
        server.otherwise = answer(400)
        assert "what became of all spans: 1 failed" in run("trace_it(); serve(1)", server).stderr
