# SPDX-License-Identifier: Apache-2.0
"""A disk that is full, or fails: requests are refused for a time, nothing is lost or doubled."""

from __future__ import annotations

import errno
import json
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc.error_details_pb2 import RetryInfo

from tests.support.clients import WRITE_HEADERS, Client
from tests.support.disk.account import is_there, wait_for_loads
from tests.support.disk.arrival import assert_all_arrived
from tests.support.disk.shim import Operation, Shim, why_not
from tests.support.disk.traffic import Traffic
from tests.support.door import consumer_request, count, large_request
from tests.support.service_process import ServiceProcess, service_process
from tests.support.waiting import MERGED_WITHIN_S, wait_for

pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not())

_PROTOBUF = {**WRITE_HEADERS, "Content-Type": "application/x-protobuf"}
_SEGMENT = str(1 << 16)
_LITTLE = str(1 << 20)
_PADDING = 32 << 10
_TMPFS_MB = 48


@contextmanager
def _shimmed(directory: Path, **settings: str) -> Iterator[tuple[ServiceProcess, Shim]]:
    """Run a service whose disk fails when it is told to."""
    data_dir = directory / "data"
    shim = Shim(directory / "shim", data_dir)
    settings = {"log_segment_bytes": _SEGMENT, "min_free_bytes": _LITTLE, **settings}
    with service_process(data_dir, None, None, shim.environment(), **settings) as service:
        yield service, shim


@pytest.fixture(scope="module")
def shimmed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Client, Shim, Path]]:
    """Run a service for the tests of its log; give its client, its shim, and its log."""
    directory = tmp_path_factory.mktemp("faults")
    with _shimmed(directory) as (service, shim):
        yield service.client, shim, directory / "data/log"


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize("operation", [Operation.WRITE, Operation.SYNC, Operation.CREATE])
def test_a_log_that_cannot_be_written_refuses_until_it_can(
    shimmed: tuple[Client, Shim, Path], operation: Operation, error: int
) -> None:
    """Each transport says to try again, readiness says why, and all is well when the disk is."""
    client, shim, log = shimmed
    consumer, body = consumer_request()
    shim.fail(operation, log, error)
    # A segment that is open already needs no new file.
    wait_for(lambda: not _is_taken(client))
    _assert_refused(client, body)
    assert _readiness(client) == (503, ["the request log cannot be written"])
    assert shim.failed() > 0
    shim.mend()
    wait_for(lambda: _readiness(client), until=lambda answer: answer == (200, None))
    client.export(body)
    client.export(body)
    wait_for(lambda: count(client, consumer))
    assert count(client, consumer) == 1


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO])
def test_a_failing_disk_of_log_and_engine_loses_and_doubles_nothing(
    tmp_path: Path, error: int
) -> None:
    """What was begun arrives after the fault, without a restart."""
    traffic = Traffic()
    with _shimmed(tmp_path) as (service, shim):
        _begin(traffic, service.client)
        shim.fail(Operation.ALL, tmp_path / "data", error)
        wait_for(lambda: _readiness(service.client)[0], until=lambda status: status == 503)
        failed = shim.failed()
        # Not only the log's: the engine goes on trying to load.
        wait_for(shim.failed, until=lambda now: now > failed + 20)
        shim.mend()
        wait_for(lambda: _readiness(service.client), until=lambda answer: answer == (200, None))
        assert_all_arrived(service, traffic)


def test_a_disk_that_fails_now_and_then_loses_and_doubles_nothing(tmp_path: Path) -> None:
    """Of writes, syncs and new files of log and engine, some fail."""
    traffic = Traffic()
    with _shimmed(tmp_path) as (service, shim):
        _begin(traffic, service.client)
        shim.fail(Operation.ALL, tmp_path / "data", errno.EIO, probability=0.01)
        wait_for(shim.failed, until=lambda failed: failed > 20)
        shim.mend()
        assert_all_arrived(service, traffic)


def test_a_full_disk_of_the_engine_holds_up_the_log_only_when_that_is_full(tmp_path: Path) -> None:
    """The log takes what is sent meanwhile; then it refuses, until loads succeed."""
    traffic = Traffic()
    with _shimmed(tmp_path, log_pending_bytes=_LITTLE) as (service, shim):
        client = service.client
        _begin(traffic, client)
        shim.fail(Operation.ALL, tmp_path / "data/db", errno.ENOSPC)
        wait_for(shim.failed)
        consumer, body = consumer_request()
        client.export(body)
        # Readiness goes before a request of this size does not fit.
        wait_for(lambda: _is_taken(client, _PADDING), until=lambda is_taken: not is_taken)
        behind = "the store is behind: too much waits to be loaded"
        wait_for(lambda: _readiness(client), until=lambda now: now == (503, [behind]))
        shim.mend()
        wait_for(lambda: _readiness(client), until=lambda answer: answer == (200, None))
        wait_for(lambda: is_there(client, consumer))
        assert_all_arrived(service, traffic)


def test_a_load_whose_writes_fail_is_no_load(tmp_path: Path) -> None:
    """Files can be made but not written; what was acknowledged is there, also after a restart."""
    with _shimmed(tmp_path) as (service, shim):
        wait_for_loads(service.client)
        shim.fail(Operation.WRITE, tmp_path / "data/db", errno.EIO)
        consumer, body = consumer_request()
        service.client.export(body)
        wait_for(shim.failed, until=lambda failed: failed > 20)
        shim.mend()
        wait_for(lambda: is_there(service.client, consumer))
        assert service.stop() == 0
    with _shimmed(tmp_path) as (service, _):
        # A load is done again for what the disk lost of any table, and may leave copies in others.
        wait_for(
            lambda: count(service.client, consumer),
            until=lambda number: number == 1,
            within_s=MERGED_WITHIN_S,
        )


def test_a_disk_that_is_full_at_the_first_load_is_got_over(tmp_path: Path) -> None:
    """The engine keeps a file of the log's schema; half of one must not stay."""
    with _shimmed(tmp_path) as (service, shim):
        shim.fail(Operation.WRITE, tmp_path / "data/__cache__", errno.ENOSPC)
        consumer, body = consumer_request()
        service.client.export(body)
        wait_for(shim.failed)
        shim.mend()
        wait_for(lambda: is_there(service.client, consumer))


def test_a_full_disk_does_not_keep_the_service_from_stopping(tmp_path: Path) -> None:
    """SIGTERM ends it; what was acknowledged is there at the next start."""
    traffic = Traffic()
    with _shimmed(tmp_path) as (service, shim):
        _begin(traffic, service.client)
        shim.fail(Operation.ALL, tmp_path / "data", errno.ENOSPC)
        wait_for(lambda: _readiness(service.client)[0], until=lambda status: status == 503)
        assert service.stop(signal.SIGTERM) == 0
        traffic.direct(None)
    with _shimmed(tmp_path) as (service, _):
        traffic.direct(service.client)
        assert_all_arrived(service, traffic)


@pytest.mark.parametrize("min_free_bytes", [8 << 20, 1])
def test_a_disk_that_is_really_full(tmp_path: Path, min_free_bytes: int) -> None:
    """Log and engine share a small disk that fills up, to the floor or to the last byte."""
    traffic = Traffic()
    with _small_disk(tmp_path / "disk") as disk:
        settings = {"min_free_bytes": str(min_free_bytes), "log_segment_bytes": _SEGMENT}
        with service_process(disk / "data", **settings) as service:
            _begin(traffic, service.client)
            _fill(disk / "filler")
            wait_for(lambda: _readiness(service.client)[0], until=lambda status: status == 503)
            _assert_refused(service.client, consumer_request()[1])
            reasons = _readiness(service.client)[1]
            assert reasons
            if min_free_bytes > 1:
                assert reasons == ["the disk is nearly full"]
            (disk / "filler").unlink()
            wait_for(lambda: _readiness(service.client), until=lambda now: now == (200, None))
            assert_all_arrived(service, traffic)


def test_a_disk_that_is_really_full_does_not_keep_the_service_from_stopping(
    tmp_path: Path,
) -> None:
    """SIGTERM ends it, and with space it starts and has all."""
    traffic = Traffic()
    with _small_disk(tmp_path / "disk") as disk:
        settings = {"min_free_bytes": "1", "log_segment_bytes": _SEGMENT}
        with service_process(disk / "data", **settings) as service:
            _begin(traffic, service.client)
            _fill(disk / "filler")
            wait_for(lambda: _readiness(service.client)[0], until=lambda status: status == 503)
            assert service.stop() == 0
            traffic.direct(None)
        (disk / "filler").unlink()
        with service_process(disk / "data", **settings) as service:
            traffic.direct(service.client)
            assert_all_arrived(service, traffic)


def _begin(traffic: Traffic, client: Client) -> None:
    """Send, until something was loaded."""
    traffic.start()
    traffic.direct(client)
    wait_for_loads(client)


def _assert_refused(client: Client, body: bytes) -> None:
    """Assert that each transport refuses, and says when to try again."""
    event = json.dumps([{"timestamp": time.time(), "consumer_id": "c"}]).encode()
    for path, content in (("/v1/traces", body), ("/1/event/", event)):
        kind = {"Content-Type": "application/json"} if content is event else {}
        status, _, headers = client.request("POST", path, content, {**_PROTOBUF, **kind})
        assert status == 503
        assert int(headers["Retry-After"]) > 0
    with pytest.raises(grpc.RpcError) as caught:
        client.export(body)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    trailers = dict(caught.value.trailing_metadata())
    delay = RetryInfo.FromString(trailers["google.rpc.retryinfo-bin"]).retry_delay
    assert delay.ToMilliseconds() > 0


def _is_taken(client: Client, size: int = 0) -> bool:
    body = large_request(size)
    return client.request("POST", "/v1/traces", body, _PROTOBUF)[0] == 200


def _readiness(client: Client) -> tuple[int, Any]:
    status, body, _ = client.request("GET", "/health/ready")
    return status, body.get("reasons")


@contextmanager
def _small_disk(path: Path) -> Iterator[Path]:
    """Give a file system of its own, or skip the test."""
    path.mkdir()
    options = ["-t", "tmpfs", "-o", f"size={_TMPFS_MB}m", "tmpfs"]
    mounted = subprocess.run(["mount", *options, str(path)], capture_output=True, text=True)
    if mounted.returncode != 0:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    try:
        yield path
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


def _fill(path: Path) -> None:
    """Take all the space that is left, and what becomes free while this goes on."""
    with path.open("wb", buffering=0) as stream:
        for size in (1 << 20, 1 << 12):
            try:
                while True:
                    stream.write(bytes(size))
            except OSError as error:
                assert error.errno == errno.ENOSPC  # noqa: PT017 - which fault it is
