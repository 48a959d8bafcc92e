# SPDX-License-Identifier: Apache-2.0
"""OTLP end to end: spans acknowledged and stored, per second and per CPU-second.

    python -m benchmarks.ingest [--transport grpc|http] [--seconds 20] [--spans 512] [--clients 4]
    python -m benchmarks.ingest --sizes 1,10,100,512,8192    a table, a line for each request size

Every acknowledged span is counted by a query before the time stops. The load generator shares the
machine; its own CPU time is not counted.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import urllib3

from benchmarks.payloads import RequestTemplate
from benchmarks.running_service import WRITE_KEY, RunningService, running_service

_EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
_METADATA = (("x-auth-key", WRITE_KEY),)
_TRACES = "/v1/traces"
_HEADERS = {"x-auth-key": WRITE_KEY, "content-type": "application/x-protobuf"}
_CHANNEL_OPTIONS = (("grpc.use_local_subchannel_pool", 1),)
_TIMEOUT_S = 30
_REFUSED_PAUSE_S = 0.2
_IDLE_S = 15
_VISIBLE_ROUNDS = 20

# Sends a request and returns whether it was acknowledged.
Send = Callable[[bytes], bool]


@dataclass(slots=True)
class Load:
    """What the clients saw."""

    acknowledged: int = 0
    refused: int = 0
    latencies_s: list[float] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def latency_s(self, level: float) -> float:
        """Seconds within which a share of the acknowledgements came, `level` from 0 to 1."""
        return sorted(self.latencies_s)[int(level * (len(self.latencies_s) - 1))]


@dataclass(frozen=True, slots=True)
class Throughput:
    """What a load came to; CPU time is the service's.

    Args:
        load: What the clients saw.
        acknowledged_s: Seconds until the last acknowledgement.
        acknowledged_cpu_s: CPU seconds until then, with what was loaded meanwhile.
        stored: Spans that a query counts.
        stored_s: Seconds until it counts all of them.
        stored_cpu_s: CPU seconds until then.
    """

    load: Load
    acknowledged_s: float
    acknowledged_cpu_s: float
    stored: int
    stored_s: float
    stored_cpu_s: float

    def check(self) -> None:
        """Raise SystemExit if it is not as much as was acknowledged."""
        if self.stored != self.load.acknowledged:
            raise SystemExit(f"{self.load.acknowledged} acknowledged, but {self.stored} stored")


@contextlib.contextmanager
def grpc_connection(service: RunningService) -> Iterator[Send]:
    """Send by OTLP/gRPC, over a connection of its own."""
    with grpc.insecure_channel(service.grpc, options=_CHANNEL_OPTIONS) as channel:
        export = channel.unary_unary(_EXPORT)

        def send(body: bytes) -> bool:
            try:
                export(body, metadata=_METADATA, timeout=_TIMEOUT_S)
            except grpc.RpcError:
                return False
            return True

        yield send


@contextlib.contextmanager
def http_connection(service: RunningService) -> Iterator[Send]:
    """Send by OTLP/HTTP in protobuf, over a connection that is kept."""
    connection = http.client.HTTPConnection(service.http, timeout=_TIMEOUT_S)

    def send(body: bytes) -> bool:
        try:
            connection.request("POST", _TRACES, body, _HEADERS)
            answer = connection.getresponse()
            answer.read()
        except (OSError, http.client.HTTPException):
            # The next request connects again.
            connection.close()
            return False
        return answer.status == 200

    with contextlib.closing(connection):
        yield send


_TRANSPORTS: dict[str, Callable[[RunningService], AbstractContextManager[Send]]] = {
    "grpc": grpc_connection,
    "http": http_connection,
}


def send_load(
    service: RunningService, transport: str, spans: int, clients: int, seconds: float
) -> Load:
    """Send requests from `clients` threads, one at a time each, for a while; no two are equal."""
    load = Load()
    deadline = time.monotonic() + seconds

    def run(seed: int) -> None:
        template = RequestTemplate(spans, seed)
        with _TRANSPORTS[transport](service) as send:
            while time.monotonic() < deadline:
                body = template.body()
                started = time.monotonic()
                is_acknowledged = send(body)
                elapsed = time.monotonic() - started
                with load.lock:
                    if is_acknowledged:
                        load.acknowledged += spans
                        load.latencies_s.append(elapsed)
                    else:
                        load.refused += 1
                if not is_acknowledged:
                    time.sleep(_REFUSED_PAUSE_S)

    threads = [threading.Thread(target=run, args=(seed,)) for seed in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if not load.acknowledged:
        raise SystemExit(f"no request was acknowledged, {load.refused} refused")
    return load


def measure_throughput(
    service: RunningService,
    pool: urllib3.PoolManager,
    transport: str,
    spans: int,
    clients: int,
    seconds: float,
) -> Throughput:
    """Warm up, send for a while, and wait until all of it is stored."""
    send_load(service, transport, spans, clients, min(3.0, seconds))
    before = _settled(service, pool)
    cpu_s, started = service.cpu_s(), time.monotonic()
    load = send_load(service, transport, spans, clients, seconds)
    acknowledged_s, acknowledged_cpu_s = time.monotonic() - started, service.cpu_s() - cpu_s
    service.wait_stored(pool, before + load.acknowledged, every_s=0.5)
    stored_s, stored_cpu_s = time.monotonic() - started, service.cpu_s() - cpu_s
    stored = service.stored(pool) - before
    return Throughput(load, acknowledged_s, acknowledged_cpu_s, stored, stored_s, stored_cpu_s)


def print_throughput(found: Throughput, service: RunningService, title: str) -> None:
    """Print acknowledged and stored spans per second and per CPU-second."""
    load, stored = found.load, found.stored
    p50, p99 = load.latency_s(0.50), load.latency_s(0.99)
    print(title)
    print(f"  acknowledged   {load.acknowledged:>12,} spans, {load.refused} requests refused")
    print(f"  stored         {stored:>12,} spans")
    print(f"  acknowledged/s {load.acknowledged / found.acknowledged_s:>12,.0f}")
    print(f"  stored/s       {stored / found.stored_s:>12,.0f}")
    print(f"  stored/CPU-s   {stored / found.stored_cpu_s:>12,.0f}")
    print(f"  CPU µs a span  {found.stored_cpu_s / stored * 1e6:>12.2f}")
    print(f"  cores used     {found.acknowledged_cpu_s / found.acknowledged_s:>12.2f}")
    print(f"  ack p50, p99   {p50 * 1e3:>12.1f} ms, {p99 * 1e3:.1f} ms")
    print(f"  RSS peak       {service.peak_rss_mb():>12.0f} MB")


def print_table(
    directory: Path,
    pool: urllib3.PoolManager,
    transport: str,
    sizes: Sequence[int],
    clients: int,
    seconds: float,
) -> None:
    """Print a line for each request size; each has a service of its own, so that none pays twice.

    Spans per CPU-second: acknowledged, until the last acknowledgement and with what was loaded
    meanwhile; stored, until a query counts all of them.
    """
    print(f"OTLP/{transport}, {clients} clients, {seconds:g} s for each size")
    print(
        f"{'spans a request':>15} {'ack/s':>10} {'ack/CPU-s':>10} {'stored/CPU-s':>13} "
        f"{'ack p50 ms':>11} {'ack p99 ms':>11} {'refused':>8}"
    )
    for spans in sizes:
        with running_service(directory / f"size-{spans}") as service:
            found = measure_throughput(service, pool, transport, spans, clients, seconds)
        load = found.load
        print(
            f"{spans:>15,} {load.acknowledged / found.acknowledged_s:>10,.0f} "
            f"{load.acknowledged / found.acknowledged_cpu_s:>10,.0f} "
            f"{found.stored / found.stored_cpu_s:>13,.0f} "
            f"{load.latency_s(0.50) * 1e3:>11.1f} {load.latency_s(0.99) * 1e3:>11.1f} "
            f"{load.refused:>8,}",
            flush=True,
        )
        found.check()


def measure_visibility(service: RunningService, pool: urllib3.PoolManager) -> None:
    """Print the time from an acknowledgement to the query that counts it."""
    template = RequestTemplate(10, seed=99)
    elapsed = []
    with grpc.insecure_channel(service.grpc) as channel:
        export = channel.unary_unary(_EXPORT)
        for _ in range(_VISIBLE_ROUNDS):
            before = service.stored(pool)
            export(template.body(), metadata=_METADATA)
            started = time.monotonic()
            service.wait_stored(pool, before + template.spans)
            elapsed.append(time.monotonic() - started)
    print("from acknowledgement to visible in a query, one request at a time")
    print(f"  median, max    {statistics.median(elapsed):>12.2f} s, {max(elapsed):.2f} s")


def measure_idle(service: RunningService) -> None:
    """Print what the service uses while nothing happens."""
    # Merges of what was loaded come to an end first.
    time.sleep(5)
    cpu_s = service.cpu_s()
    time.sleep(_IDLE_S)
    share = (service.cpu_s() - cpu_s) / _IDLE_S
    print(f"idle for {_IDLE_S} s")
    print(f"  CPU            {100 * share:>12.2f} % of a core")
    print(f"  RSS            {service.rss_mb():>12.0f} MB")


def _settled(service: RunningService, pool: urllib3.PoolManager) -> int:
    """Return the count of stored events once it stops to grow."""
    count = -1
    while (now := service.stored(pool)) != count:
        count = now
        time.sleep(2)
    return count


def measure_all(options: argparse.Namespace, directory: Path, pool: urllib3.PoolManager) -> None:
    """Print what an idle service uses, how soon spans are visible, and one load's throughput."""
    with running_service(directory / "idle") as service:
        measure_idle(service)
        measure_visibility(service, pool)
    with running_service(directory / "load") as service:
        load = (options.transport, options.spans, options.clients, options.seconds)
        found = measure_throughput(service, pool, *load)
        transport, spans, clients, seconds = load
        title = f"OTLP/{transport}, {spans} spans a request, {clients} clients, {seconds:g} s"
        print_throughput(found, service, title)
        found.check()
        measure_idle(service)


def _sizes(text: str) -> list[int]:
    sizes = [int(part) for part in text.split(",")]
    if min(sizes) < 1:
        raise ValueError(text)
    return sizes


def main() -> None:
    """Run the measurements against services of their own."""
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("--transport", choices=sorted(_TRANSPORTS), default="grpc")
    arguments.add_argument("--seconds", type=float, default=20)
    arguments.add_argument("--spans", type=int, default=512, help="spans a request")
    arguments.add_argument("--clients", type=int, default=4)
    arguments.add_argument("--sizes", type=_sizes, help="spans a request, a table of several")
    options = arguments.parse_args()
    pool = urllib3.PoolManager()
    with tempfile.TemporaryDirectory(prefix="apinalytics-bench-") as name:
        directory = Path(name)
        if options.sizes:
            load = (options.transport, options.sizes, options.clients, options.seconds)
            print_table(directory, pool, *load)
        else:
            measure_all(options, directory, pool)


if __name__ == "__main__":
    main()
