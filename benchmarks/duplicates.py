# SPDX-License-Identifier: Apache-2.0
"""Copies of a span that come in different requests: how long they count twice, and what that costs.

    python -m benchmarks.duplicates [--rate 5000] [--seconds 600]   until copies are gone
    python -m benchmarks.duplicates --rows 1000000,10000000         merges of a day of so many rows

The first sends probes, events that come twice in different requests, into a service that is quiet
but for them (`--rate 0`) or gets so many spans a second, and asks each second which are counted
twice. The second fills a day through a service and merges it in this process. The load generator
shares the machine.
"""

from __future__ import annotations

import argparse
import json
import secrets
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import urllib3

from benchmarks.ingest import grpc_connection, send_load
from benchmarks.payloads import RequestTemplate
from benchmarks.running_service import READ_KEY, WRITE_KEY, RunningService, running_service
from otel_apinalytics.store.engine import Engine

_SPANS = 512
_PROBE_INTERVAL_S = 20
# Each comes when the merge of the one before is over, and the rest after it.
_QUIET_INTERVAL_S = 250
_POLL_S = 1.0
# As of a client that gives up waiting for an answer, and batches anew.
_COPY_AFTER_S = 30
_TIMEOUT_S = 900
_LATE_ROWS = 1000
_INSERTS = 20
_DAY_S = 86400


# ---- until copies are gone ----


class Probes:
    """Events sent twice, in requests that differ, and the seconds until they count once."""

    def __init__(self, service: RunningService, pool: urllib3.PoolManager) -> None:
        self._service = service
        self._pool = pool
        self._to_copy: list[tuple[float, dict[str, Any]]] = []
        self._sent: dict[str, float] = {}
        self._seen_twice: set[str] = set()
        self.seconds: list[float] = []

    @property
    def waiting(self) -> int:
        """Probes that may still count twice."""
        return len(self._to_copy) + len(self._sent)

    def send(self) -> None:
        """Send one, whose copy is sent later."""
        event = _event(f"probe-{secrets.token_hex(6)}")
        self._post([event, _event("beside")])
        self._to_copy.append((time.monotonic() + _COPY_AFTER_S, event))

    def send_copies(self) -> None:
        """Send the copies that are due."""
        while self._to_copy and time.monotonic() >= self._to_copy[0][0]:
            event = self._to_copy.pop(0)[1]
            self._post([event, _event("beside")])
            self._sent[event["consumer_id"]] = time.monotonic()

    def look(self) -> None:
        """Ask which are counted twice."""
        now = int(time.time())
        url = f"http://{self._service.http}/1/timeseries/{now - 7200}/{now + 3600}/"
        fields = {"group": "consumer_id", "include": "function:probe"}
        answer = self._pool.request(
            "GET", url, fields=fields, headers={"X-Auth-Key": READ_KEY}
        ).json()
        counts = {name: sum(p[1] for p in points) for name, points in answer["groups"].items()}
        for name in [name for name in self._sent if counts.get(name, 0) > 0]:
            if counts[name] > 1:
                self._seen_twice.add(name)
            elif name in self._seen_twice:
                self.seconds.append(time.monotonic() - self._sent.pop(name))

    def _post(self, events: list[dict[str, Any]]) -> None:
        url = f"http://{self._service.http}/1/event/"
        headers = {"X-Auth-Key": WRITE_KEY, "Content-Type": "application/json"}
        answer = self._pool.request("POST", url, body=json.dumps(events), headers=headers)
        if answer.status >= 300:
            raise SystemExit(f"an event was refused: {answer.data!r}")


def _event(consumer: str) -> dict[str, Any]:
    return {
        "timestamp": time.time(),
        "consumer_id": consumer,
        "method": "GET",
        "url": "/probe",
        "function": "probe",
        "response_us": 1000,
        "status_code": 200,
        "trace_id": secrets.token_hex(16),
        "span_id": secrets.token_hex(8),
    }


def _send_at_rate(service: RunningService, rate: float, until: float) -> None:
    """Send so many spans a second, whatever the answers."""
    due = time.monotonic()
    with grpc_connection(service) as send:
        while time.monotonic() < until:
            # Spans of a request begin when its template is made.
            template = RequestTemplate(_SPANS, seed=int(due))
            for _ in range(20):
                send(template.body())
                due += _SPANS / rate
                time.sleep(max(0.0, due - time.monotonic()))


def measure_copies(service: RunningService, rate: float, seconds: float) -> None:
    """Print how long probes counted twice."""
    pool = urllib3.PoolManager()
    probes = Probes(service, pool)
    until = time.monotonic() + seconds
    # The load goes on until the last probe counts once.
    load = threading.Thread(
        target=_send_at_rate, args=(service, rate, until + _TIMEOUT_S), daemon=True
    )
    if rate:
        load.start()
    lags: list[float] = []
    probe_at = time.monotonic()
    cpu_s, started = service.cpu_s(), time.monotonic()
    while time.monotonic() < until or probes.waiting:
        if probe_at <= time.monotonic() < until:
            probes.send()
            probe_at += _PROBE_INTERVAL_S if rate else _QUIET_INTERVAL_S
        if time.monotonic() > until + _TIMEOUT_S:
            raise SystemExit(f"{probes.waiting} probes still count twice")
        probes.send_copies()
        time.sleep(_POLL_S)
        probes.look()
        lags.append(time.time() - _metrics(service, pool)("unique_until_timestamp_seconds"))
    elapsed = time.monotonic() - started
    found = sorted(probes.seconds)
    metric = _metrics(service, pool)
    print(f"{rate:g} spans/s beside, {len(found)} probes, {elapsed:.0f} s")
    print(f"  twice for      {statistics.median(found):>10.0f} s median, {found[-1]:.0f} s at most")
    print(f"  unique until   {statistics.median(lags):>10.0f} s ago, {max(lags):.0f} s at most")
    print(f"  forced merges  {metric('forced_merges_total'):>10.0f}")
    loads = metric("load_seconds_sum") / metric("load_seconds_count")
    print(f"  load mean      {loads * 1e3:>10.0f} ms")
    print(f"  cores used     {(service.cpu_s() - cpu_s) / elapsed:>10.2f}")


def _metrics(service: RunningService, pool: urllib3.PoolManager) -> Callable[[str], float]:
    text = pool.request("GET", f"http://{service.http}/metrics").data.decode()
    values = dict(line.rsplit(" ", 1) for line in text.splitlines() if line[:1] != "#")
    return lambda name: float(values[f"apinalytics_{name}"])


# ---- what a merge costs ----


def measure_cost(directory: Path, rows: int) -> None:
    """Print what it takes to merge a day of so many rows, and what inserts take meanwhile."""
    pool = urllib3.PoolManager()
    with running_service(directory) as service:
        stored = service.stored(pool)
        while stored < rows:
            try:
                send_load(service, "grpc", _SPANS, 4, 20 if rows - stored > 2_000_000 else 3)
            except grpc.RpcError as error:
                raise SystemExit(f"the load failed: {error}") from error
            stored = service.stored(pool)
    engine = Engine(f"chdb://{directory / 'db'}")
    print(f"a day of {_rows(engine):,} rows")
    for what in ("as it was loaded", f"with {_LATE_ROWS:,} late copies"):
        parts = _parts(engine)
        print(f"  {what}, {parts} parts: {_merge(engine)}")
        print(f"  inserts alone:              {_insert(engine)}")
    # Parts are there from the inserts.
    merge = threading.Thread(target=lambda: print(f"  merge beside inserts: {_merge(engine)}"))
    merge.start()
    print(f"  inserts beside a merge:     {_insert(engine, while_alive=merge)}")
    merge.join()
    engine.close()


def _day(engine: Engine) -> str:
    return str(
        engine.query(
            "SELECT argMax(partition_id, rows) FROM system.parts WHERE table = 'events' AND active"
        ).rows[0][0]
    )


def _rows(engine: Engine) -> int:
    return int(engine.query("SELECT count() FROM events").rows[0][0])


def _parts(engine: Engine) -> int:
    rows = engine.query("SELECT count() FROM system.parts WHERE table = 'events' AND active").rows
    return int(rows[0][0])


def _merge(engine: Engine) -> str:
    cpu_s, started = time.process_time(), time.monotonic()
    engine.command(f"OPTIMIZE TABLE events PARTITION ID '{_day(engine)}' FINAL")
    wall = time.monotonic() - started
    return f"{wall:.1f} s, {time.process_time() - cpu_s:.1f} CPU-s, RSS peak {_peak_mb():.0f} MB"


def _insert(engine: Engine, while_alive: threading.Thread | None = None) -> str:
    seconds: list[float] = []
    while len(seconds) < _INSERTS and (while_alive is None or while_alive.is_alive()):
        started = time.monotonic()
        engine.command(
            f"INSERT INTO events SELECT * FROM events LIMIT {_LATE_ROWS} "
            "SETTINGS optimize_on_insert = 0, deduplicate_insert_select = 'disable'"
        )
        seconds.append(time.monotonic() - started)
    median, longest = statistics.median(seconds), max(seconds)
    return f"{median * 1e3:.0f} ms median, {longest * 1e3:.0f} ms at most, {len(seconds)} of them"


def _peak_mb() -> float:
    status = Path("/proc/self/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return float(line.split()[1]) * 1024 / 1e6


def main() -> None:
    """Run what the arguments ask for."""
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("--rate", type=float, default=0, help="spans a second beside")
    arguments.add_argument("--seconds", type=float, default=600, help="while probes are sent")
    arguments.add_argument("--rows", type=lambda text: [int(part) for part in text.split(",")])
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory(prefix="apinalytics-bench-") as name:
        if options.rows:
            for rows in options.rows:
                measure_cost(Path(name) / str(rows), rows)
            return
        with running_service(Path(name) / "data") as service:
            measure_copies(service, options.rate, options.seconds)


if __name__ == "__main__":
    main()
