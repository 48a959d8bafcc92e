# SPDX-License-Identifier: Apache-2.0
"""OTLP/gRPC end to end: spans acknowledged and stored, per second and per CPU-second.

    python -m benchmarks.ingest [--seconds 20] [--spans 512] [--clients 4]

Every acknowledged span is counted by a query before the time stops. The load generator shares the
machine; its own CPU time is not counted.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import urllib3

from benchmarks.payloads import RequestTemplate
from benchmarks.running_service import WRITE_KEY, RunningService, running_service

_EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
_METADATA = (("x-auth-key", WRITE_KEY),)
_IDLE_S = 15
_VISIBLE_ROUNDS = 20


@dataclass(slots=True)
class Load:
    """What the clients saw."""

    acknowledged: int = 0
    refused: int = 0
    latencies_s: list[float] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)


def send_load(address: str, spans: int, clients: int, seconds: float) -> Load:
    """Send requests from `clients` threads, one at a time each, for a while."""
    load = Load()
    deadline = time.monotonic() + seconds

    def send(seed: int) -> None:
        template = RequestTemplate(spans, seed)
        with grpc.insecure_channel(address, options=_CHANNEL_OPTIONS) as channel:
            export = channel.unary_unary(_EXPORT)
            while time.monotonic() < deadline:
                body = template.body()
                started = time.monotonic()
                try:
                    export(body, metadata=_METADATA, timeout=30)
                except grpc.RpcError:
                    with load.lock:
                        load.refused += 1
                    time.sleep(0.2)
                    continue
                elapsed = time.monotonic() - started
                with load.lock:
                    load.acknowledged += spans
                    load.latencies_s.append(elapsed)

    threads = [threading.Thread(target=send, args=(seed,)) for seed in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return load


_CHANNEL_OPTIONS = (("grpc.use_local_subchannel_pool", 1),)


def measure_throughput(
    service: RunningService, http: urllib3.PoolManager, spans: int, clients: int, seconds: float
) -> None:
    """Print acknowledged and stored spans per second and per CPU-second."""
    send_load(service.grpc, spans, clients, min(3.0, seconds))
    before = _settled(service, http)
    cpu_s, started = service.cpu_s(), time.monotonic()
    load = send_load(service.grpc, spans, clients, seconds)
    acknowledged_s, acknowledged_cpu_s = time.monotonic() - started, service.cpu_s() - cpu_s
    service.wait_stored(http, before + load.acknowledged, every_s=0.5)
    stored_s, stored_cpu_s = time.monotonic() - started, service.cpu_s() - cpu_s
    stored = service.stored(http) - before
    latencies = sorted(load.latencies_s)
    p50, p99 = (latencies[int(level * (len(latencies) - 1))] for level in (0.50, 0.99))
    print(f"{spans} spans a request, {clients} clients, {seconds:g} s")
    print(f"  acknowledged   {load.acknowledged:>12,} spans, {load.refused} requests refused")
    print(f"  stored         {stored:>12,} spans")
    print(f"  acknowledged/s {load.acknowledged / acknowledged_s:>12,.0f}")
    print(f"  stored/s       {stored / stored_s:>12,.0f}")
    print(f"  stored/CPU-s   {stored / stored_cpu_s:>12,.0f}")
    print(f"  CPU µs a span  {stored_cpu_s / stored * 1e6:>12.2f}")
    print(f"  cores used     {acknowledged_cpu_s / acknowledged_s:>12.2f}")
    print(f"  ack p50, p99   {p50 * 1e3:>12.1f} ms, {p99 * 1e3:.1f} ms")
    print(f"  RSS peak       {service.peak_rss_mb():>12.0f} MB")
    if stored != load.acknowledged:
        raise SystemExit(f"{load.acknowledged} acknowledged, but {stored} stored")


def measure_visibility(service: RunningService, http: urllib3.PoolManager) -> None:
    """Print the time from an acknowledgement to the query that counts it."""
    template = RequestTemplate(10, seed=99)
    elapsed = []
    with grpc.insecure_channel(service.grpc) as channel:
        export = channel.unary_unary(_EXPORT)
        for _ in range(_VISIBLE_ROUNDS):
            before = service.stored(http)
            export(template.body(), metadata=_METADATA)
            started = time.monotonic()
            service.wait_stored(http, before + template.spans)
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


def _settled(service: RunningService, http: urllib3.PoolManager) -> int:
    """Return the count of stored events once it stops to grow."""
    count = -1
    while (now := service.stored(http)) != count:
        count = now
        time.sleep(2)
    return count


def main() -> None:
    """Run all measurements against a service of their own."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--seconds", type=float, default=20)
    arguments.add_argument("--spans", type=int, default=512)
    arguments.add_argument("--clients", type=int, default=4)
    options = arguments.parse_args()
    http = urllib3.PoolManager()
    with tempfile.TemporaryDirectory(prefix="apinalytics-bench-") as directory:
        with running_service(Path(directory) / "idle") as service:
            measure_idle(service)
            measure_visibility(service, http)
        with running_service(Path(directory) / "load") as service:
            measure_throughput(service, http, options.spans, options.clients, options.seconds)
            measure_idle(service)


if __name__ == "__main__":
    main()
