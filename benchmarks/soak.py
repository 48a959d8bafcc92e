# SPDX-License-Identifier: Apache-2.0
"""Half of the peak for long, with questions beside: what grows that must not.

    python -m benchmarks.soak [--minutes 30] [--rate 40000] [--spans 512] [--clients 4]

Two clients ask once a second: by hour, by consumer, the latest raw events, the metrics. Every ten
seconds the service is looked at from outside. Ends with 1 if something grows in the last two thirds
of the time: memory, descriptors, threads, parts, temporary files or log segments. To grow is to
rise by more than 5 % of the mean, and by more than three times the error of the slope; that error
is of the means of twelve stretches of time, so that what comes and goes within one is no trend.
Disk grows with what is stored, and is only shown. What begins in the first five minutes is shown
and not judged: parts that were merged stay for two minutes, and caches fill. It ends with 1 as well
if what was acknowledged is not what is stored, or a question failed.
"""

from __future__ import annotations

import argparse
import itertools
import math
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import urllib3

from benchmarks.footprint import Footprint, footprint
from benchmarks.generator import CLIENTS_TO_FIND_PEAK, WARM_UP_S, Load, run_phase
from benchmarks.running_service import READ_KEY, RunningService, running_service

_PEAK_S = 20.0
_SAMPLE_S = 10.0
_ASKERS = 2
_ASK_S = 1.0
_RAW_BYTES = 1 << 20
_RAW_RANGE_S = 20
_SETTLED_S = 300.0
_STRETCHES = 12
_FEWEST = 4
_ERRORS = 3.0
_SHARE = 0.05
# A count of less than this more is no growth, whatever its share.
_COUNT = 2.0
_JUDGED: Sequence[tuple[str, Callable[[Footprint], float]]] = (
    ("RSS, MB", lambda seen: seen.rss_mb),
    ("descriptors", lambda seen: seen.descriptors),
    ("threads", lambda seen: seen.threads),
    ("active parts", lambda seen: seen.active),
    ("inactive parts", lambda seen: seen.inactive),
    ("temporary files", lambda seen: seen.temporary),
    ("log segments", lambda seen: seen.segments),
)


@dataclass(frozen=True, slots=True)
class Sample:
    """What was seen at a moment.

    Args:
        at: Seconds since the beginning.
        seen: What the service occupied.
        asked_s: How long the questions took since the last sample.
    """

    at: float
    seen: Footprint
    asked_s: Sequence[float]


@dataclass(frozen=True, slots=True)
class Trend:
    """How a figure went in the last two thirds of the time.

    Args:
        mean: Its mean.
        growth: What its slope comes to over that time.
        error: The standard error of `growth`.
    """

    mean: float
    growth: float
    error: float

    @property
    def is_growth(self) -> bool:
        """Whether it grew, beyond noise."""
        return self.growth > max(_ERRORS * self.error, _SHARE * self.mean, _COUNT)


def trend(at: Sequence[float], values: Sequence[float]) -> Trend:
    """Return how values went, from the means of stretches of equal numbers of them.

    Args:
        at: When they were taken, in seconds, ascending.
        values: At least `_FEWEST` of them.
    """
    stretches = min(_STRETCHES, len(values))
    times = np.array([part.mean() for part in np.array_split(np.array(at), stretches)])
    means = np.array([part.mean() for part in np.array_split(np.array(values), stretches)])
    seconds = at[-1] - at[0]
    (slope, _), covariance = np.polyfit(times, means, 1, cov=True)
    error = math.sqrt(max(0.0, float(covariance[0, 0])))
    return Trend(float(means.mean()), float(slope) * seconds, error * seconds)


@dataclass(slots=True)
class Askers:
    """Clients that ask, once a second each.

    Args:
        service: The service.
    """

    service: RunningService
    failures: list[str] = field(default_factory=list)
    _asked_s: list[float] = field(default_factory=list)
    _ended: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def start(self) -> None:
        """Begin to ask."""
        self._threads = [
            threading.Thread(target=self._run, args=(number,)) for number in range(_ASKERS)
        ]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Stop asking."""
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def take_times(self) -> list[float]:
        """Return how long questions took since the last call."""
        taken, self._asked_s = self._asked_s, []
        return taken

    def _run(self, number: int) -> None:
        pool = urllib3.PoolManager(retries=False, timeout=60.0)
        # They begin with different questions.
        for path in itertools.islice(self._paths(), number, None):
            started = time.monotonic()
            try:
                self._ask(pool, path())
            except (urllib3.exceptions.HTTPError, RuntimeError) as error:
                self.failures.append(f"{path()}: {error}")
            elapsed = time.monotonic() - started
            self._asked_s.append(elapsed)
            if self._ended.wait(max(0.0, _ASK_S - elapsed)):
                return

    def _ask(self, pool: urllib3.PoolManager, path: str) -> None:
        url = f"http://{self.service.http}{path}"
        answer = pool.request("GET", url, headers={"X-Auth-Key": READ_KEY}, preload_content=False)
        try:
            if answer.status != 200:
                raise RuntimeError(f"{answer.status} {answer.read(500)!r}")
            # Of what is long, the beginning: a client that goes away must leave nothing behind.
            read = 0
            for block in answer.stream(1 << 16):
                read += len(block)
                if read > _RAW_BYTES:
                    answer.close()
                    return
        finally:
            answer.release_conn()

    def _paths(self) -> Iterator[Callable[[], str]]:
        def day(parameters: str) -> str:
            now = int(time.time())
            return f"/1/timeseries/{now - 86400}/{now + 3600}/?{parameters}"

        def latest() -> str:
            now = int(time.time())
            return f"/1/events/{now - _RAW_RANGE_S}/{now}/"

        return itertools.cycle(
            (
                lambda: day("granularity=hour"),
                lambda: day("group=consumer_id"),
                latest,
                lambda: "/metrics",
            )
        )


def find_rate(options: argparse.Namespace, directory: Path) -> float:
    """Return half of what a service of its own sustains, in spans a second."""
    pool = urllib3.PoolManager()
    with running_service(directory, APINALYTICS_LOG_PENDING_BYTES=str(64 << 20)) as service:
        addresses = {"grpc": service.grpc}
        Load(addresses, options.spans, CLIENTS_TO_FIND_PEAK, WARM_UP_S).result()
        load = Load(addresses, options.spans, CLIENTS_TO_FIND_PEAK, _PEAK_S)
        peak = run_phase(service, pool, load).goodput
    print(f"peak: {peak:,.0f} spans/s stored")
    return peak / 2


def soak(options: argparse.Namespace, rate: float, directory: Path) -> list[str]:
    """Run it, print the figures, and return which promises are broken."""
    pool = urllib3.PoolManager()
    scratch, data_dir = directory / "tmp", directory / "data"
    scratch.mkdir()
    with running_service(data_dir, TMPDIR=str(scratch)) as service:
        addresses = {"grpc": service.grpc}
        load = Load(addresses, options.spans, options.clients, 60 * options.minutes, rate)
        askers = Askers(service)
        time.sleep(max(0.0, load.begin - time.time()))
        askers.start()
        try:
            samples = _take_samples(service, askers, data_dir, scratch, 60 * options.minutes)
        finally:
            askers.stop()
        offer = load.result()
        service.wait_stored(pool, offer.acknowledged, every_s=0.5)
        stored = service.stored(pool)
    print(f"  acknowledged   {offer.acknowledged:>12,} spans, {offer.refused} requests refused")
    print(f"  stored         {stored:>12,} spans")
    print(
        f"  ack p50, p99   {offer.latency_s(0.5) * 1e3:>12.1f} ms, "
        f"{offer.latency_s(0.99) * 1e3:.1f} ms"
    )
    print(f"  questions      {len(askers.failures):>12,} failed")
    problems = print_trends(samples)
    if stored != offer.acknowledged:
        problems.append(f"{offer.acknowledged} spans were acknowledged, {stored} are stored")
    if askers.failures:
        problems.append(f"{len(askers.failures)} questions failed, first: {askers.failures[0]}")
    return problems


def _take_samples(
    service: RunningService, askers: Askers, data_dir: Path, scratch: Path, seconds: float
) -> list[Sample]:
    print_head()
    samples: list[Sample] = []
    started, printed = time.monotonic(), 0
    while (elapsed := time.monotonic() - started) < seconds:
        time.sleep(min(_SAMPLE_S, seconds - elapsed))
        at = time.monotonic() - started
        seen = footprint(service, data_dir, scratch)
        samples.append(Sample(at, seen, askers.take_times()))
        if len(samples) - printed >= 60 / _SAMPLE_S:
            print_minute(samples[printed:])
            printed = len(samples)
    return samples


def print_head() -> None:
    """Print what the columns are: means of a minute, of questions the median and the longest."""
    print(
        f"{'minute':>6} {'RSS MB':>7} {'fds':>5} {'threads':>7} {'active':>7} {'inactive':>8} "
        f"{'temp':>5} {'segments':>8} {'disk MB':>8} {'asked p50, max s':>18}"
    )


def print_minute(samples: Sequence[Sample]) -> None:
    """Print a minute's line."""

    def mean(of: Callable[[Footprint], float]) -> float:
        return statistics.mean(of(sample.seen) for sample in samples)

    asked_s = [elapsed for sample in samples for elapsed in sample.asked_s] or [math.nan]
    print(
        f"{samples[-1].at / 60:>6.0f} {mean(lambda s: s.rss_mb):>7.0f} "
        f"{mean(lambda s: s.descriptors):>5.0f} {mean(lambda s: s.threads):>7.0f} "
        f"{mean(lambda s: s.active):>7.1f} {mean(lambda s: s.inactive):>8.1f} "
        f"{mean(lambda s: s.temporary):>5.1f} {mean(lambda s: s.segments):>8.1f} "
        f"{samples[-1].seen.disk_mb:>8.0f} "
        f"{statistics.median(asked_s):>11.2f}, {max(asked_s):.2f}",
        flush=True,
    )


def print_trends(samples: Sequence[Sample]) -> list[str]:
    """Print how each figure went in the last two thirds of the time; return what grew."""
    last = samples[len(samples) // 3 :]
    if len(last) < _FEWEST:
        print(f"{len(last)} samples in the last two thirds: too few for a slope")
        return []
    at = [sample.at for sample in last]
    is_judged = at[0] >= _SETTLED_S
    print(f"last {(at[-1] - at[0]) / 60:.1f} minutes: {'mean':>10} {'growth':>9} {'± error':>9}")
    grown = []
    for name, of in _JUDGED:
        found = trend(at, [of(sample.seen) for sample in last])
        verdict = "grows" if found.is_growth else ""
        print(
            f"  {name:<17} {found.mean:>12.1f} {found.growth:>+9.1f} {found.error:>9.1f} {verdict}"
        )
        if found.is_growth and is_judged:
            grown.append(f"{name} grew by {found.growth:.1f} of {found.mean:.1f}")
    if not is_judged:
        print("too short to be judged")
    return grown


def main() -> None:
    """Run it against a service of its own."""
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("--minutes", type=float, default=30)
    arguments.add_argument("--rate", type=float, help="spans a second; default half of the peak")
    arguments.add_argument("--spans", type=int, default=512, help="spans a request")
    arguments.add_argument("--clients", type=int, default=4)
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory(prefix="apinalytics-bench-") as name:
        directory = Path(name)
        rate = options.rate or find_rate(options, directory / "peak")
        print(f"{rate:,.0f} spans/s by OTLP/gRPC for {options.minutes:g} minutes")
        (directory / "soak").mkdir()
        if problems := soak(options, rate, directory / "soak"):
            sys.exit("\n".join(problems))


if __name__ == "__main__":
    main()
