# SPDX-License-Identifier: Apache-2.0
"""Metrics and readiness with the real log, loader and engine."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, cast

import pytest
from fastapi.responses import JSONResponse
from prometheus_client.parser import text_string_to_metric_families

from otel_apinalytics.api import routes_health
from otel_apinalytics.errors import RetryableError
from otel_apinalytics.normalize.outcomes import outcome_of
from otel_apinalytics.query.ledger_totals import LedgerTotals
from otel_apinalytics.receiver.log import Limits, RequestLog, SealedSegment, open_log_directory
from otel_apinalytics.receiver.records import new_header, spans_record
from otel_apinalytics.service import Service
from otel_apinalytics.store.engine import Engine, EngineError, Rows
from otel_apinalytics.telemetry import CONTENT_TYPE, Telemetry
from tests.support.clients import APPLICATION, READ_KEY, WRITE_KEY, Client
from tests.support.otlp import CALL, make_request, make_span
from tests.support.pipeline import DEADLINE_S, MASTER_KEY, Pipeline, record_at, sample
from tests.support.waiting import wait_for

APP = "metrics-test"
STORED, RECEIVED = ("stored", ""), ("received", "")
_DAY_S = 86_400
_first_days = itertools.count(int(datetime(2090, 1, 1, tzinfo=timezone.utc).timestamp()), _DAY_S)


# ---- over HTTP ----


def test_metrics_need_no_key_and_name_nobody(client: Client) -> None:
    """Prometheus reads them as they are; they hold neither application nor keys."""
    client.export(make_request(make_span({**CALL, "enduser.id": "metrics"})))
    status, body, headers = client.request("GET", "/metrics")
    assert (status, headers["content-type"]) == (200, CONTENT_TYPE)
    text = body.decode()
    families = {family.name for family in text_string_to_metric_families(text)}
    assert {"apinalytics_received_items", "process_cpu_seconds"} <= families
    assert not any(secret in text for secret in (APPLICATION, WRITE_KEY, READ_KEY))


def test_a_running_service_is_ready(client: Client) -> None:
    """And gives no reasons."""
    status, body, _ = client.request("GET", "/health/ready")
    assert (status, body) == (200, {"status": "ready"})


def readiness(faults: Callable[[], Sequence[str]]) -> tuple[int, object]:
    """Return status and body of the readiness route."""
    route = next(r for r in routes_health.router(faults).routes if r.path == "/health/ready")  # type: ignore[attr-defined]
    answer = cast(JSONResponse, asyncio.run(route.endpoint()))  # type: ignore[attr-defined]
    return answer.status_code, json.loads(bytes(answer.body))


# ---- the log ----


@pytest.fixture
def telemetry() -> Telemetry:
    """Give fresh instruments."""
    return Telemetry()


@pytest.fixture
def log(tmp_path: Path, telemetry: Telemetry) -> Iterator[RequestLog]:
    """Run a log of small segments."""
    directory = tmp_path / "log"
    identity = open_log_directory(directory, MASTER_KEY)
    limits = Limits(segment_bytes=1, pending_bytes=10_000)
    running = RequestLog(directory, identity, lambda segment: None, limits, telemetry)
    running.start()
    yield running
    running.close()


def loaded(size: int) -> SealedSegment:
    """Return a segment of so many bytes."""
    return SealedSegment(1, Path(), size, opened_at=0.0)


def test_commits_and_pending_bytes_are_shown(log: RequestLog, telemetry: Telemetry) -> None:
    """A commit is measured once, and what waits is shown at the moment of the scrape."""
    assert sample(telemetry, "log_pending_bytes") == 0
    log.append(bytes(500)).result(DEADLINE_S)
    assert sample(telemetry, "log_commit_seconds_count") == 1
    assert sample(telemetry, "log_commit_seconds_sum") > 0
    assert sample(telemetry, "log_pending_bytes") == log.pending_bytes > 500
    log.released(loaded(log.pending_bytes), 0.0)
    assert sample(telemetry, "log_pending_bytes") == 0


def test_a_log_that_cannot_be_written_is_not_ready_until_it_can(
    tmp_path: Path, log: RequestLog, telemetry: Telemetry
) -> None:
    """It says so after the first commit that fails, and recovers although nothing is sent."""
    assert readiness(log.faults) == (200, {"status": "ready"})
    (tmp_path / "log").rename(tmp_path / "away")
    with pytest.raises(RetryableError, match="cannot be written"):
        log.append(b"refused").result(DEADLINE_S)
    reasons = ["the request log cannot be written"]
    assert readiness(log.faults) == (503, {"status": "not ready", "reasons": reasons})
    assert sample(telemetry, "log_commit_failures_total") == 1
    (tmp_path / "away").rename(tmp_path / "log")
    wait_for(lambda: log.is_writable)
    assert readiness(log.faults) == (200, {"status": "ready"})
    assert [path.name for path in (tmp_path / "log").iterdir()] == ["id"]
    log.append(b"taken").result(DEADLINE_S)


def test_a_commit_that_succeeds_makes_the_log_writable(tmp_path: Path, log: RequestLog) -> None:
    """Whoever sends although the service is not ready is served as soon as it goes."""
    (tmp_path / "log").rename(tmp_path / "away")
    with pytest.raises(RetryableError, match="cannot be written"):
        log.append(b"refused").result(DEADLINE_S)
    (tmp_path / "away").rename(tmp_path / "log")
    log.append(b"taken").result(DEADLINE_S)
    assert log.is_writable


_FULL_DISK = """
import resource, sys
from pathlib import Path
from otel_apinalytics.errors import RetryableError
from otel_apinalytics.receiver.log import RequestLog, open_log_directory
from tests.support.waiting import wait_for

directory = Path(sys.argv[1])
log = RequestLog(directory, open_log_directory(directory, bytes(32)), lambda segment: None)
probed = []
probe = log._probe
log._probe = lambda: (probe(), probed.append(log.is_writable))
log.start()
resource.setrlimit(resource.RLIMIT_FSIZE, (64 << 10, resource.RLIM_INFINITY))
try:
    log.append(bytes(100 << 10)).result(60)
except RetryableError:
    wait_for(lambda: len(probed) >= 2)
    assert probed == [False, False], probed
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    wait_for(lambda: log.is_writable)
    log.append(bytes(100 << 10)).result(60)
    log.close()
    print(*sorted(path.name for path in directory.iterdir()))
"""


def test_room_for_less_than_failed_is_not_enough(tmp_path: Path) -> None:
    """The log stays unwritable while a file may be 64 KB and 100 KB failed; nothing is left over.

    The limit on file sizes is of a whole process.
    """
    run = [sys.executable, "-c", _FULL_DISK, str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    result = subprocess.run(run, capture_output=True, text=True, env=environment, check=False)
    assert result.returncode == 0, result.stderr
    *segments, name = result.stdout.split()
    assert (len(segments), name) == (1, "id")


def test_a_log_near_its_cap_is_not_ready(log: RequestLog) -> None:
    """From 95 % on, until a load made room; the store itself is not asked."""
    log.append(bytes(9_300)).result(DEADLINE_S)
    assert log.pending_bytes < 9_500
    assert log.faults() == []
    log.append(bytes(200)).result(DEADLINE_S)
    assert [fault.partition(":")[0] for fault in log.faults()] == ["the store is behind"]
    log.released(loaded(5_000), 0.0)
    assert log.faults() == []


def test_a_thread_that_ended_is_a_fault(log: RequestLog, service: Service, tmp_path: Path) -> None:
    """Which one is said."""
    log.close()
    assert log.faults() == ["the thread log-writer has ended"]
    with Pipeline(service.engine, tmp_path / "other") as pipeline:
        assert pipeline.loader.faults() == []
    assert pipeline.loader.faults() == [
        "the thread loader has ended",
        "the thread checkpoints has ended",
    ]


# ---- loader and ledger ----


@pytest.fixture
def pipeline(service: Service, tmp_path: Path) -> Iterator[Pipeline]:
    """Run a loader of its own."""
    with Pipeline(service.engine, tmp_path / "log") as running:
        yield running


def totals_since(
    engine: Engine, since: float, loaded_until: Callable[[], float] = lambda: 0.0
) -> LedgerTotals:
    """Return totals that ask the store each time."""
    return LedgerTotals(engine, loaded_until, since, interval_s=0.0)


def test_a_load_is_measured(service: Service, tmp_path: Path) -> None:
    """Its time, its segment while it waits, and the time from receipt to the load's end."""
    with Pipeline(service.engine, tmp_path / "log") as pipeline:
        header = new_header(APP, "key", "grpc", 1)
        before_s = 3600.0
        header.received_ns -= int(before_s * 1e9)
        pipeline.load([spans_record(header, make_request(make_span()))])
        telemetry = pipeline.telemetry
        assert sample(telemetry, "load_seconds_sum") > 0
        assert sample(telemetry, "visible_after_seconds_count") == 1
        assert sample(telemetry, "visible_after_seconds_sum") > before_s
        wait_for(lambda: sample(telemetry, "log_pending_segments") == 0)
        assert sample(telemetry, "load_failures_total") == 0
        assert sample(telemetry, "segments_set_aside_total") == 0


def test_a_segment_that_waits_is_pending(service: Service, tmp_path: Path) -> None:
    """It is from the moment it is submitted; one that is set aside is no more, and is counted."""
    pipeline = Pipeline(service.engine, tmp_path / "log")
    damaged = tmp_path / "log" / "0000000000000001.log"
    damaged.write_bytes(bytes(range(100)))
    pipeline.loader.submit(SealedSegment(1, damaged, 100, opened_at=0.0))
    assert sample(pipeline.telemetry, "log_pending_segments") == 1
    with pipeline:
        wait_for(lambda: sample(pipeline.telemetry, "log_pending_segments") == 0)
    assert sample(pipeline.telemetry, "segments_set_aside_total") == 1
    assert sample(pipeline.telemetry, "load_seconds_count") == 0


def test_a_load_that_is_repeated_counts_once(service: Service, pipeline: Pipeline) -> None:
    """The same records under another token change nothing; others add to what was there."""
    start = next(_first_days)
    totals = totals_since(service.engine, start)
    record = record_at(start + 30, 3, APP)
    for _ in range(2):
        pipeline.load([record])
        assert {STORED: 3, RECEIVED: 3}.items() <= totals.read().totals.items()
    pipeline.load([record_at(start + 40, 2, APP)])
    assert {STORED: 5, RECEIVED: 5}.items() <= totals.read().totals.items()


def test_totals_begin_at_zero(service: Service, pipeline: Pipeline) -> None:
    """What an earlier process loaded is not counted, what it left to be loaded is."""
    start = next(_first_days)
    pipeline.load([record_at(start, 4, APP)])
    totals = totals_since(service.engine, start)
    assert set(totals.read().totals.values()) == {0}
    pipeline.load([record_at(start - 10, 1, APP)])
    assert totals.read().totals[STORED] == 1


def insert(engine: Engine, minute_s: int, record: int, reason: str, items: int) -> None:
    """Write what became of a record; the same record again replaces it."""
    columns = (
        "minute", "application", "key_id", "transport", "record_id", "source", "outcomes",
    )  # fmt: skip
    minute = datetime.fromtimestamp(minute_s, timezone.utc)
    account = [(outcome_of(reason), reason, items)]
    row = (minute, APP, "key", "grpc", record.to_bytes(16, "big"), "store", account)
    engine.insert("ledger_records", columns, [row])


class CountingEngine:
    """The engine, and from when on it was asked.

    Args:
        engine: The real one.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.asked_from: list[int] = []
        self.is_down = False

    def query(self, sql: str, parameters: dict[str, Any]) -> Rows:
        """Ask the real engine, unless it is down."""
        if self.is_down:
            raise EngineError("connection refused", None)
        self.asked_from.append(parameters["open_from"])
        return self._engine.query(sql, parameters)


def test_totals_stay_when_minutes_settle(service: Service) -> None:
    """Settled minutes are not asked for again, and the totals are the same in every step."""
    start, loaded_until = next(_first_days), [0.0]
    engine = CountingEngine(service.engine)
    totals = totals_since(cast(Engine, engine), start, lambda: loaded_until[0])
    for minute in range(12):
        insert(service.engine, start + 60 * minute, minute, "", 10)
        insert(service.engine, start + 60 * minute, 100 + minute, "placeholder", 1)
    expected = {STORED: 120, ("filtered", "placeholder"): 12}
    for minute in range(12):
        loaded_until[0] = start + 60 * minute + 59
        assert expected.items() <= totals.read().totals.items()
    # The last question was asked before its own minutes were settled.
    assert engine.asked_from[-1] == start + 60 * (10 - 5)
    assert engine.asked_from == sorted(engine.asked_from)
    insert(service.engine, start + 60 * 12, 12, "", 5)
    assert totals.read().totals[STORED] == 125
    # A row that replaces one, in a minute that may still change.
    insert(service.engine, start + 60 * 12, 12, "", 3)
    assert totals.read().totals[STORED] == 125


def test_nothing_settles_before_it_is_loaded(service: Service) -> None:
    """Rows of a minute of long ago are counted, as long as loads are behind."""
    start = next(_first_days)
    totals = totals_since(service.engine, start, lambda: start + 60.0)
    insert(service.engine, start + 3600, 1, "", 7)
    assert totals.read().totals[STORED] == 7
    insert(service.engine, start, 2, "", 4)
    assert totals.read().totals[STORED] == 11


def test_a_store_that_is_down_leaves_the_other_metrics(service: Service) -> None:
    """The totals are as they were, and it is shown; when it answers again they go on."""
    start = next(_first_days)
    engine = CountingEngine(service.engine)
    totals = totals_since(cast(Engine, engine), start)
    telemetry = Telemetry()
    telemetry.watch_ledger(totals.read)
    insert(service.engine, start, 1, "", 7)
    assert sample(telemetry, "store_up") == 1
    engine.is_down = True
    assert sample(telemetry, "store_up") == 0
    assert totals.read().totals[STORED] == 7
    engine.is_down = False
    insert(service.engine, start, 2, "", 1)
    assert sample(telemetry, "store_up") == 1
    assert totals.read().totals[STORED] == 8


def test_the_store_is_asked_once_in_the_interval(service: Service) -> None:
    """Many scrapers cost no more than one."""
    engine = CountingEngine(service.engine)
    totals = LedgerTotals(cast(Engine, engine), lambda: 0.0, next(_first_days), interval_s=3600)
    for _ in range(5):
        assert totals.read().is_store_up
    # Once for what was there, once for the first scrape.
    assert len(engine.asked_from) == 2
    totals.close()
