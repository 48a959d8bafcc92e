# SPDX-License-Identifier: Apache-2.0
"""The janitor at work: with a service, with a store on disk, and with one that fails."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from otel_apinalytics.service import Service
from otel_apinalytics.settings import Settings
from otel_apinalytics.store.janitor import Janitor, Pace
from otel_apinalytics.store.merges import Merges
from otel_apinalytics.store.retention_limits import Policy
from otel_apinalytics.telemetry import Telemetry
from tests.engine_fixtures import MemoryEngine
from tests.support.clients import APPLICATION, Client
from tests.support.otlp import make_request, make_span
from tests.support.store import Store, refuse
from tests.support.waiting import wait_for

DAY_S = 86400
FAST = Pace(look_s=0.05, wait_s=0, rest_s=0.05, sync_s=0.05)

# ---- with a service ----


def test_the_same_span_in_different_requests_counts_once(service: Service, client: Client) -> None:
    """As soon as its day is merged, which does not wait for the day to be over."""
    start = (time.time() // DAY_S - 41) * DAY_S + 3600
    span = make_span(start_ns=int(start * 1e9))

    def count() -> int:
        groups = client.groups(start=start - 60, end=start + 60)
        return int(groups[APPLICATION][0][1]) if APPLICATION in groups else 0

    # No request is the same as another.
    client.export(make_request(span))
    client.export(make_request(span, make_span(start_ns=int(start * 1e9))))
    client.export(make_request(span, span, service="elsewhere"))
    wait_for(lambda: _received_of(service, start), until=lambda rows: rows == 5)
    merges = Merges(service.engine, Telemetry(), threading.Event(), wait_s=0, rest_s=0)
    merges.run()
    # The service is part of an event's key: the third is another event, sent twice.
    assert count() == 3


def _received_of(service: Service, start: float) -> int:
    rows = service.engine.query(
        f"SELECT count() FROM events WHERE timestamp = toDateTime64({start}, 6, 'UTC')"
    ).rows
    return int(rows[0][0])


def test_a_service_merges_by_itself(client: Client) -> None:
    """Its janitor runs: up to when events are unique is known and recent."""
    text = client.request("GET", "/metrics")[1].decode()
    line = next(x for x in text.splitlines() if x.startswith("apinalytics_unique_until_timestamp"))
    assert float(line.split()[1]) > 0


# ---- with a store on disk ----

# The engine allows one directory per process, and other tests need that of this one.
_STOPPED_IN_A_MERGE = """
import json, sys, time
from otel_apinalytics.settings import Settings
from otel_apinalytics.store.engine import Engine
from otel_apinalytics.store.janitor import Janitor, Pace
from otel_apinalytics.store.retention_limits import Policy
from otel_apinalytics.store.schema import migrate
from otel_apinalytics.telemetry import Telemetry

engine = Engine(f"chdb://{sys.argv[1]}")
migrate(engine)
# Only what is asked for is merged.
engine.command("ALTER TABLE events MODIFY SETTING max_bytes_to_merge_at_max_space_in_pool = 1")

def insert(rows, seed):
    engine.command(
        "INSERT INTO events (timestamp, application, event_id, locality, url, trace_id) SELECT "
        "toDateTime64('2026-01-05 00:00:00', 6, 'UTC') + number % 86400, 'shop', "
        f"cityHash64(number, {seed}), number % 100, toString(cityHash64(number)), "
        f"reinterpretAsFixedString(generateUUIDv4()) FROM numbers({rows}) "
        "SETTINGS optimize_on_insert = 0"
    )

def parts():
    return [list(row) for row in engine.query(
        "SELECT level, sum(rows) FROM system.parts WHERE table = 'events' AND active "
        "GROUP BY level ORDER BY level").rows]

def is_merging():
    merges = engine.query("SELECT count() FROM system.merges WHERE table = 'events'")
    return merges.rows[0][0] > 0

for seed in range(4):
    insert(300_000, seed)
telemetry = Telemetry()
pace = Pace(look_s=0.05, wait_s=0, rest_s=600)
janitor = Janitor(engine, lambda: Policy(Settings()), telemetry, pace)
janitor.start()
while not is_merging():
    time.sleep(0.005)
insert(10, 4)
overtaken = is_merging()
janitor.close()
found = {"overtaken": overtaken, "stopped": parts(), "is_merging": is_merging()}
value = telemetry.registry.get_sample_value
found["failures"] = value("apinalytics_janitor_failures_total", {"task": "merges"})
found["merges"] = value("apinalytics_forced_merges_total")
engine.close()

engine = Engine(f"chdb://{sys.argv[1]}")
again = Janitor(engine, lambda: Policy(Settings()), Telemetry(), pace)
again.start()
while len(parts()) != 1 or parts()[0][0] == 0:
    time.sleep(0.01)
found["again"] = parts()
again.close()
engine.close()
print(json.dumps(found))
"""


def test_a_merge_holds_up_neither_loads_nor_the_end(tmp_path: Path) -> None:
    """An insert does not wait for it; a stop ends it, and the next start does it."""
    result = subprocess.run(
        [sys.executable, "-c", _STOPPED_IN_A_MERGE, str(tmp_path / "db")],
        capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    rows = 4 * 300_000 + 10
    assert json.loads(result.stdout) == {
        "overtaken": True,
        "stopped": [[0, rows]],
        "is_merging": False,
        "failures": 0,
        "merges": 0,
        "again": [[1, rows]],
    }


# ---- with a store that fails ----


@pytest.fixture(scope="module")
def _engine() -> Iterator[MemoryEngine]:
    engine = MemoryEngine()
    yield engine
    engine.close()


@pytest.fixture
def store(_engine: MemoryEngine) -> Store:
    """Return an empty store."""
    store = Store(_engine)
    store.run("SYSTEM START MERGES")
    store.clear()
    return store


class Running:
    """A janitor of a store, and what it counts."""

    def __init__(self, store: Store) -> None:
        self.telemetry = Telemetry()
        self.janitor = Janitor(store.engine, lambda: Policy(Settings()), self.telemetry, FAST)
        self.janitor.start()

    def failures(self, task: str) -> float:
        """Return how often a task failed."""
        labels = {"task": task}
        name = "apinalytics_janitor_failures_total"
        return self.telemetry.registry.get_sample_value(name, labels) or 0.0


@pytest.fixture
def stopped_after(store: Store) -> Iterator[list[Running]]:
    """Stop the janitors in it."""
    running: list[Running] = []
    yield running
    for found in running:
        found.janitor.close()


@pytest.fixture
def start(store: Store, stopped_after: list[Running]) -> Running:
    """Run a janitor of the store."""
    stopped_after.append(Running(store))
    return stopped_after[0]


def test_a_fault_does_not_end_the_janitor(
    store: Store, start: Running, caplog: pytest.LogCaptureFixture
) -> None:
    """It is counted each time and reported once; afterwards the work is done."""
    store.before_command = refuse
    store.add_events("2026-01-05", [1, 1])
    wait_for(lambda: start.failures("merges"), until=lambda count: count >= 3)
    assert start.janitor.faults() == []
    reports = [r for r in caplog.records if r.levelno >= logging.ERROR]
    assert len(reports) == 1
    store.before_command = lambda sql: None
    wait_for(store.parts, until=lambda parts: parts == [("20260105", 1, 1)])


def test_what_changed_is_synced_until_that_succeeds(
    store: Store, stopped_after: list[Running]
) -> None:
    """Once for each change, however long nothing happens then."""
    tries: list[bool] = []
    failing = threading.Event()

    def sync() -> None:
        tries.append(failing.is_set())
        if failing.is_set():
            raise OSError("the disk is gone")

    store.sync = sync
    running = Running(store)
    stopped_after.append(running)
    wait_for(lambda: tries)
    failing.set()
    store.add_ledger("2026-01-05", 1)
    wait_for(lambda: running.failures("sync"), until=lambda count: count >= 3)
    assert running.janitor.faults() == []
    failing.clear()
    count = len(tries)
    wait_for(lambda: False in tries[count:])
    done = len(tries)
    looks: list[str] = []
    store.before_query = looks.append
    wait_for(lambda: sum("groupBitXor" in sql for sql in looks), until=lambda count: count >= 3)
    assert len(tries) == done


# The thread ends by an error of the test.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_that_ended_is_a_fault(store: Store, start: Running) -> None:
    """Nothing but a defect ends it; the service is not ready then."""

    def end(sql: str) -> None:
        raise SystemExit

    assert start.janitor.faults() == []
    store.before_query = end
    faults = wait_for(start.janitor.faults, until=lambda found: len(found) == 2)
    assert faults == ["the thread janitor has ended", "the thread syncs has ended"]
    store.before_query = lambda sql: None


def test_a_janitor_that_was_never_started_can_be_closed(store: Store) -> None:
    """As when a port is taken."""
    Janitor(store.engine, lambda: Policy(Settings()), Telemetry()).close()
