# SPDX-License-Identifier: Apache-2.0
"""The exporter beside the stock OTLP exporters: CPU, the request path, drops, requests in trouble.

    python -m benchmarks.exporter [--parts cpu,path] [--rounds 3] [--pairs 2000] [--rate 150]

All send to one real service on the same machine, each from a process of its own.

import    wall time of importing the exporter, beyond the SDK, in fresh interpreters.
cpu       CPU time of the whole process within `export()`, per span of batches of 512.
busy      wall time of `export()`, of a batch of 512, beside a thread that computes all the time.
path      CPU time of the thread that serves, per span from start to end, with a batch processor.
drops     5,000 spans a second, and a service that does not answer for a while: spans that are lost.
requests  a FastAPI program under uvicorn, asked in turns with one whose exporter is off: p50 and
          p99 of its requests while the service is up, down, hanging, or answers 503.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import logging
import multiprocessing
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import urllib3
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import SpanKind, Tracer

from benchmarks.running_service import READ_KEY, WRITE_KEY, RunningService, running_service

T = TypeVar("T")
OURS, OURS_GZIP, HTTP, GRPC, NOTHING = (
    "apinalytics",
    "apinalytics, gzip",
    "OTLP/HTTP",
    "OTLP/gRPC",
    "nothing",
)
_BATCH = 512
_BATCHES = 60
_RATE = 5_000
_CONSUMERS, _ADDRESSES, _ROUTES = 200, 500, 20


class _Nothing(SpanExporter):
    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        return SpanExportResult.SUCCESS


def new_exporter(name: str, http: str, grpc: str) -> SpanExporter:
    """Return an exporter that sends to a service."""
    if name in (OURS, OURS_GZIP):
        from otel_apinalytics.exporter import ApinalyticsSpanExporter

        compression = "gzip" if name == OURS_GZIP else None
        return ApinalyticsSpanExporter(
            f"http://{http}", write_key=WRITE_KEY, compression=compression
        )
    if name == HTTP:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as Http

        return Http(f"http://{http}/v1/traces", headers={"x-auth-key": WRITE_KEY})
    if name == GRPC:
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as Grpc

        return Grpc(f"http://{grpc}", insecure=True, headers=(("x-auth-key", WRITE_KEY),))
    return _Nothing()


def new_provider(service: str = "bench") -> TracerProvider:
    """Return a provider as a program has it."""
    resource = Resource.create({"service.name": service, "service.version": "1.2.3"})
    return TracerProvider(resource=resource, shutdown_on_exit=False)


def serve_one(tracer: Tracer, number: int) -> None:
    """Make the span that the FastAPI instrumentation makes of a request."""
    route = f"/shop/r{number % _ROUTES}/{{id}}"
    with tracer.start_as_current_span(f"GET {route}", kind=SpanKind.SERVER) as span:
        span.set_attributes(
            {
                "http.request.method": "GET",
                "url.scheme": "http",
                "server.address": "10.0.0.1",
                "server.port": 8080,
                "network.protocol.version": "1.1",
                "url.path": f"/shop/r{number % _ROUTES}/{number}",
                "url.query": f"page={number % 10}",
                "client.address": f"10.1.2.{number % _ADDRESSES}",
                "client.port": 30_000 + number % 20_000,
                "user_agent.original": "python-requests/2.32.3",
                "enduser.id": f"consumer-{number % _CONSUMERS}",
                "http.route": route,
            }
        )
        span.set_attribute("http.response.status_code", 200)


# ---- CPU of an export ----


class _Collecting(_Nothing):
    def __init__(self) -> None:
        self.spans: list[ReadableSpan] = []

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.spans.extend(spans)
        return SpanExportResult.SUCCESS


def _collected(batches: int) -> list[list[ReadableSpan]]:
    """Return spans in batches, as the processor hands them over."""
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor

    collecting, provider = _Collecting(), new_provider()
    provider.add_span_processor(SimpleSpanProcessor(collecting))
    tracer = provider.get_tracer("opentelemetry.instrumentation.fastapi")
    for number in range(_BATCH * batches):
        serve_one(tracer, number)
    spans = collecting.spans
    return [spans[start : start + _BATCH] for start in range(0, len(spans), _BATCH)]


def cpu_of_export(name: str, http: str, grpc: str) -> float:
    """Return the CPU microseconds of a span."""
    batches = _collected(_BATCHES + 4)
    exporter = new_exporter(name, http, grpc)
    # Connections and caches are as they are after a few seconds.
    for batch in batches[:4]:
        exporter.export(batch)
    began_s = time.process_time()
    results = [exporter.export(batch) for batch in batches[4:]]
    cpu_s = time.process_time() - began_s
    exporter.shutdown()
    if set(results) != {SpanExportResult.SUCCESS}:
        raise RuntimeError(f"{name}: not everything was exported")
    return cpu_s / (_BATCH * _BATCHES) * 1e6


def time_beside_busy_thread(name: str, http: str, grpc: str) -> float:
    """Return the milliseconds of a batch while another thread keeps the interpreter busy."""
    batches = _collected(8)
    exporter = new_exporter(name, http, grpc)
    exporter.export(batches.pop())
    is_over = False

    def compute() -> None:
        while not is_over:
            sum(range(1000))

    thread = threading.Thread(target=compute)
    thread.start()
    began_s = time.perf_counter()
    for batch in batches:
        exporter.export(batch)
    took_s = time.perf_counter() - began_s
    is_over = True
    thread.join()
    exporter.shutdown()
    return took_s / len(batches) * 1e3


# ---- the thread that serves ----


def cpu_of_serving(name: str, http: str, grpc: str) -> float:
    """Return the CPU microseconds of a span for the thread that makes it, at 2,000 a second."""
    provider = new_provider()
    provider.add_span_processor(BatchSpanProcessor(new_exporter(name, http, grpc)))
    tracer = provider.get_tracer("opentelemetry.instrumentation.fastapi")
    cpu_s, spans = 0.0, 10_000
    began_s = time.monotonic()
    for number in range(spans):
        before_s = time.thread_time()
        serve_one(tracer, number)
        cpu_s += time.thread_time() - before_s
        time.sleep(max(0.0, began_s + number / 2_000 - time.monotonic()))
    provider.shutdown()
    return cpu_s / spans * 1e6


# ---- drops ----


class StallingRelay:
    """Passes connections on to a service, and for a while passes nothing on.

    Args:
        upstream: The service's address.
    """

    def __init__(self, upstream: str) -> None:
        host, _, port = upstream.rpartition(":")
        self._upstream = (host, int(port))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"localhost:{self._listener.getsockname()[1]}"
        self._flows = threading.Event()
        self._flows.set()
        threading.Thread(target=self._accept, daemon=True).start()

    def stall(self, seconds: float) -> None:
        """Pass nothing on for so long."""
        self._flows.clear()
        time.sleep(seconds)
        self._flows.set()

    def _accept(self) -> None:
        while True:
            client, _ = self._listener.accept()
            service = socket.create_connection(self._upstream)
            for source, target in ((client, service), (service, client)):
                threading.Thread(target=self._pass_on, args=(source, target), daemon=True).start()

    def _pass_on(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while piece := source.recv(1 << 16):
                self._flows.wait()
                target.sendall(piece)
            target.shutdown(socket.SHUT_WR)


def serve_at_rate(name: str, http: str, grpc: str, service: str, queue: int) -> int:
    """Make 5,000 spans a second for six seconds; return how many."""
    logging.disable()
    provider = new_provider(service)
    exporter = new_exporter(name, http, grpc)
    provider.add_span_processor(BatchSpanProcessor(exporter, max_queue_size=queue))
    tracer = provider.get_tracer("opentelemetry.instrumentation.fastapi")
    spans, began_s = 6 * _RATE, time.monotonic()
    for number in range(spans):
        serve_one(tracer, number)
        if number % 10 == 0:
            time.sleep(max(0.0, began_s + number / _RATE - time.monotonic()))
    provider.shutdown()
    return spans


def lost(name: str, running: RunningService, stall_s: float, queue: int) -> str:
    """Return how many spans are lost when the service does not answer for a while."""
    http, grpc = StallingRelay(running.http), StallingRelay(running.grpc)
    service = f"{name} {stall_s} {queue} {time.time()}"
    with _process() as pool:
        made = pool.submit(serve_at_rate, name, http.address, grpc.address, service, queue)
        time.sleep(4.0)
        stalls = [threading.Thread(target=r.stall, args=(stall_s,)) for r in (http, grpc)]
        for thread in stalls:
            thread.start()
        spans = made.result()
        for thread in stalls:
            thread.join()
    stored = _settled(running, service)
    return f"{spans - stored:,} of {spans:,}"


def _settled(running: RunningService, service: str) -> int:
    """Return the events of a service, once they are no more after a while."""
    now = int(time.time())
    url = f"http://{running.http}/1/timeseries/{now - 3600}/{now + 3600}/"
    counts = [-1, -2]
    while counts[-1] != counts[-2]:
        time.sleep(2.0)
        answer = urllib3.request(
            "GET",
            url,
            fields={"include": f"service:{service}", "group": "service"},
            headers={"X-Auth-Key": READ_KEY},
        ).json()
        points = answer["groups"].get(service, [])
        counts.append(sum(int(value) for _, value in points))
    return counts[-1]


# ---- requests ----

_PROGRAM = """
from fastapi import FastAPI
app = FastAPI()
@app.get("/orders/{number}")
def order(number: int) -> dict:
    return {"order": number, "lines": [{"item": n, "price": n * 1.5} for n in range(50)]}
"""


@contextlib.contextmanager
def serving_program(directory: Path, endpoint: str | None) -> Iterator[str]:
    """Run the program with the exporter, or with one that is off; give its address."""
    (directory / "program.py").write_text(_PROGRAM)
    port = _free_port()
    variables = {
        "OTEL_TRACES_EXPORTER": "apinalytics",
        "OTEL_METRICS_EXPORTER": "none",
        "OTEL_LOGS_EXPORTER": "none",
        "PYTHONHASHSEED": "0",
        "OTEL_EXPORTER_APINALYTICS_ENDPOINT": endpoint or "",
        # Without a key the exporter is off; what the SDK does for it is the same.
        "OTEL_EXPORTER_APINALYTICS_WRITE_KEY": WRITE_KEY if endpoint else "",
    }
    command = [str(Path(sys.executable).parent / "opentelemetry-instrument"), sys.executable]
    command += ["-m", "uvicorn", "program:app", "--port", str(port), "--log-level", "critical"]
    with subprocess.Popen(
        command, cwd=directory, env={**os.environ, **variables}, stderr=subprocess.DEVNULL
    ) as process:
        try:
            pool = urllib3.PoolManager(retries=urllib3.Retry(100, backoff_factor=0.05))
            pool.request("GET", f"http://127.0.0.1:{port}/orders/1")
            yield f"http://127.0.0.1:{port}/orders/"
        finally:
            process.kill()


def paired_latencies_s(addresses: Sequence[str], pairs: int, rate: float) -> list[list[float]]:
    """Return how long requests took, sent to each address in turns, the first one changing.

    Args:
        addresses: Where to.
        pairs: Requests to each.
        rate: How many a second to each, at most.
    """
    pools = [urllib3.PoolManager(retries=False) for _ in addresses]
    latencies: list[list[float]] = [[] for _ in addresses]
    order = itertools.cycle([range(len(addresses)), range(len(addresses))[::-1]])
    first_s = time.perf_counter()
    for number in range(pairs):
        time.sleep(max(0.0, first_s + number / rate - time.perf_counter()))
        for which in next(order):
            began_s = time.perf_counter()
            pools[which].request("GET", f"{addresses[which]}{number}")
            latencies[which].append(time.perf_counter() - began_s)
    return latencies


def hanging_server() -> str:
    """Return the address of a server that accepts, reads, and never answers."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=100)

    def accept() -> None:
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=_read_on, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    return f"http://127.0.0.1:{listener.getsockname()[1]}"


def _read_on(connection: socket.socket, answer: bytes = b"") -> None:
    with contextlib.suppress(OSError):
        while connection.recv(1 << 16):
            if answer:
                connection.sendall(answer)


def refusing_server() -> str:
    """Return the address of a server that answers 503, and closes."""
    answer = b"HTTP/1.1 503 No\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    listener = socket.create_server(("127.0.0.1", 0), backlog=100)

    def accept() -> None:
        while True:
            connection, _ = listener.accept()
            arguments = (connection, answer)
            threading.Thread(target=_read_on, args=arguments, daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    return f"http://127.0.0.1:{listener.getsockname()[1]}"


def requests_in(
    endpoint: str | None, pairs: int, rounds: int, rate: float
) -> tuple[float, float, float, float]:
    """Return p50 and p99 in ms with the exporter off, and their ratios with it: medians of rounds.

    Args:
        endpoint: Where the other program exports to; None for nowhere.
        pairs: Requests to each program in a round.
        rounds: Rounds.
        rate: Requests a second to each program.
    """
    found = []
    for number in range(rounds):
        # Two equal programs differ by several percent: others each time, and the other one first.
        ends = (None, endpoint) if number % 2 == 0 else (endpoint, None)
        with contextlib.ExitStack() as stack:
            directories = [stack.enter_context(tempfile.TemporaryDirectory()) for _ in ends]
            addresses = [
                stack.enter_context(serving_program(Path(directory), to))
                for directory, to in zip(directories, ends, strict=True)
            ]
            paired_latencies_s(addresses, 500, rate)
            pair = [sorted(one) for one in paired_latencies_s(addresses, pairs, rate)]
        without, within = pair if number % 2 == 0 else pair[::-1]
        p50, p99 = pairs // 2, pairs * 99 // 100
        found.append(
            (
                without[p50] * 1e3,
                without[p99] * 1e3,
                within[p50] / without[p50],
                within[p99] / without[p99],
            )
        )
    p50, p99, ratio_50, ratio_99 = (
        statistics.median(column) for column in zip(*found, strict=True)
    )
    return p50, p99, ratio_50, ratio_99


# ---- import ----

_IMPORT = """
import time
import opentelemetry.sdk.trace.export
began_s = time.perf_counter()
from otel_apinalytics.exporter import ApinalyticsSpanExporter
imported_s = time.perf_counter()
ApinalyticsSpanExporter(write_key="k")
print(imported_s - began_s, time.perf_counter() - imported_s)
"""


def import_ms() -> tuple[float, float]:
    """Return the milliseconds of importing the exporter, and of making one: medians of 11."""
    runs = [
        subprocess.run([sys.executable, "-c", _IMPORT], capture_output=True, text=True, check=True)
        for _ in range(11)
    ]
    columns = zip(*((float(word) for word in run.stdout.split()) for run in runs), strict=True)
    imported, made = (statistics.median(column) * 1e3 for column in columns)
    return imported, made


# ---- all of it ----


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@contextlib.contextmanager
def _process() -> Iterator[ProcessPoolExecutor]:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        yield pool


def _median(measure: Callable[..., float], rounds: int, *arguments: Any) -> float:
    values = []
    for _ in range(rounds):
        with _process() as pool:
            values.append(pool.submit(measure, *arguments).result())
    return statistics.median(values)


def _measure(
    parts: Sequence[str], rounds: int, pairs: int, rate: float, running: RunningService
) -> None:
    addresses = (running.http, running.grpc)
    if "import" in parts:
        imported, made = import_ms()
        print(f"import: {imported:.0f} ms beyond the SDK; the first exporter: {made:.0f} ms")
    if "cpu" in parts:
        for name in (OURS, OURS_GZIP, HTTP, GRPC):
            cpu_us = _median(cpu_of_export, rounds, name, *addresses)
            print(f"cpu: {name:<18} {cpu_us:>6.1f} µs a span")
    if "busy" in parts:
        for name in (OURS, HTTP, GRPC):
            took_ms = _median(time_beside_busy_thread, rounds, name, *addresses)
            print(f"busy: {name:<18} {took_ms:>6.0f} ms a batch")
    if "path" in parts:
        for name in (NOTHING, OURS, HTTP, GRPC):
            cpu_us = _median(cpu_of_serving, rounds, name, *addresses)
            print(f"path: {name:<18} {cpu_us:>6.1f} µs a span")
    if "drops" in parts:
        for stall_s, queue in ((0.0, 2048), (0.3, 2048), (2.0, 2048), (2.0, 16_384)):
            for name in (OURS, HTTP, GRPC):
                line = lost(name, running, stall_s, queue)
                print(f"drops: stall {stall_s} s, queue {queue:>6}: {name:<18} {line}", flush=True)
    if "requests" in parts:
        endpoints = {
            # Both are off: how far two equal programs are apart.
            "of nobody": None,
            "up": f"http://{running.http}",
            "down": f"http://127.0.0.1:{_free_port()}",
            "hanging": hanging_server(),
            "answering 503": refusing_server(),
        }
        for state, endpoint in endpoints.items():
            p50, p99, ratio_50, ratio_99 = requests_in(endpoint, pairs, rounds, rate)
            print(
                f"requests: service {state:<14} p50 {p50:.2f} ms x {ratio_50:.3f}, "
                f"p99 {p99:.2f} ms x {ratio_99:.3f}",
                flush=True,
            )


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", default="import,cpu,busy,path,drops,requests")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--pairs", type=int, default=2_000)
    parser.add_argument("--rate", type=float, default=150)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory, running_service(Path(directory)) as running:
        parts, rounds = arguments.parts.split(","), arguments.rounds
        _measure(parts, rounds, arguments.pairs, arguments.rate, running)


if __name__ == "__main__":
    main()
