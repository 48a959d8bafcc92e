# SPDX-License-Identifier: Apache-2.0
"""Twice what the service sustains, by clients that honour no delay: what is still stored.

    python -m benchmarks.overload [--seconds 60] [--factor 2] [--spans 512] [--pending 64]

First the peak: clients that honour delays, as fast as they may. Then twice that, by an open loop
that sends what was refused again at once. Then the peak once more: the more is stored, the more is
merged beside, so that overload is compared with what was before and after it. Goodput is what a
query counts more, per second. The generators are processes of their own on the same machine: their
CPU time is shown, for they take it from the service. Ends with 1 if a promise is broken: less than
0.9 of the peak, a span that was acknowledged and is not there, or a refusal that does not say when
to come again.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import urllib3

from benchmarks.generator import CLIENTS_TO_FIND_PEAK, WARM_UP_S, Load, Phase, run_phase
from benchmarks.running_service import RunningService, running_service

_LEAST_RATIO = 0.9


def print_phase(title: str, phase: Phase, spans: int) -> None:
    """Print what a phase came to."""
    offer, seconds = phase.offer, phase.seconds
    print(title)
    print(f"  offered/s      {offer.requests * spans / seconds:>12,.0f} spans")
    print(f"  stored/s       {phase.goodput:>12,.0f} spans")
    print(f"  refused        {offer.refused:>12,} requests, {offer.without_delay} without a delay")
    print(
        f"  ack p50, p99   {offer.latency_s(0.5) * 1e3:>12.1f} ms, "
        f"{offer.latency_s(0.99) * 1e3:.1f} ms"
    )
    print(
        f"  cores used     {phase.service_cpu_s / seconds:>12.2f}, and "
        f"{offer.cpu_s / seconds:.2f} by the generators",
        flush=True,
    )


def measure(options: argparse.Namespace, directory: Path) -> list[str]:
    """Print the figures, and return which promises are broken."""
    pool = urllib3.PoolManager()
    pending = str(options.pending << 20)
    with running_service(directory, APINALYTICS_LOG_PENDING_BYTES=pending) as service:
        addresses = {"grpc": service.grpc, "http": service.http}

        def load(clients: int, seconds: float, rate: float | None = None) -> Load:
            return Load(addresses, options.spans, clients, seconds, rate)

        warm_up = load(CLIENTS_TO_FIND_PEAK, WARM_UP_S).result()
        service.wait_stored(pool, warm_up.acknowledged, every_s=0.5)
        found = run_phase(service, pool, load(CLIENTS_TO_FIND_PEAK, options.seconds))
        print_phase("peak: clients that honour delays", found, options.spans)
        rate = options.factor * found.goodput
        acknowledged = warm_up.acknowledged + found.offer.acknowledged
        service.wait_stored(pool, acknowledged, every_s=0.5)
        over = run_phase(service, pool, load(options.clients, options.seconds, rate))
        print_phase(f"overload: {rate:,.0f} spans/s, whatever is refused", over, options.spans)
        acknowledged += over.offer.acknowledged
        service.wait_stored(pool, acknowledged, every_s=0.5)
        again = run_phase(service, pool, load(CLIENTS_TO_FIND_PEAK, options.seconds))
        print_phase("peak again", again, options.spans)
        acknowledged += again.offer.acknowledged
        return _judge(service, pool, [found, again], over, acknowledged)


def _judge(
    service: RunningService,
    pool: urllib3.PoolManager,
    peaks: Sequence[Phase],
    over: Phase,
    acknowledged: int,
) -> list[str]:
    service.wait_stored(pool, acknowledged, every_s=0.5)
    stored = service.stored(pool)
    ratio = over.goodput / statistics.mean(peak.goodput for peak in peaks)
    print("in all")
    print(f"  goodput ratio  {ratio:>12.2f}")
    print(f"  acknowledged   {acknowledged:>12,} spans")
    print(f"  stored         {stored:>12,} spans")
    print(f"  lost           {max(0, acknowledged - stored):>12,} spans")
    print(f"  RSS peak       {service.peak_rss_mb():>12.0f} MB")
    without_delay = sum(phase.offer.without_delay for phase in (*peaks, over))
    checks = {
        f"only {ratio:.2f} of the peak is stored": ratio < _LEAST_RATIO,
        f"{acknowledged} spans were acknowledged, {stored} are stored": acknowledged != stored,
        f"{without_delay} refusals say no delay": without_delay,
        "nothing was refused: the limit was not reached": not over.offer.refused,
    }
    return [problem for problem, is_broken in checks.items() if is_broken]


def main() -> None:
    """Run the measurement against a service of its own."""
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("--seconds", type=float, default=60, help="length of each phase")
    arguments.add_argument("--factor", type=float, default=2, help="offered, of the peak")
    arguments.add_argument("--spans", type=int, default=512, help="spans a request")
    arguments.add_argument("--clients", type=int, default=16, help="of each transport")
    arguments.add_argument("--pending", type=int, default=64, help="pending limit, MiB")
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory(prefix="apinalytics-bench-") as name:
        if problems := measure(options, Path(name)):
            sys.exit("\n".join(problems))


if __name__ == "__main__":
    main()
