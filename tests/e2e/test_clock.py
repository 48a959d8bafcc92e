# SPDX-License-Identifier: Apache-2.0
"""A wall clock that jumps while the service runs, or between two runs: nothing depends on it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.clients import READ_HEADERS
from tests.support.disk.account import wait_for_loads
from tests.support.disk.arrival import assert_all_arrived
from tests.support.disk.shim import Shim, why_not
from tests.support.disk.traffic import Traffic
from tests.support.service_process import ServiceProcess, service_process

pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not())

_HOUR_S = 3600.0
_DAY_S = 24 * _HOUR_S
_SETTINGS = {"log_segment_bytes": str(1 << 16), "min_free_bytes": str(1 << 20)}


def test_a_clock_that_jumps_loses_and_doubles_nothing(tmp_path: Path) -> None:
    """Hours back and forward, days forward, and back to the true time, under load."""
    traffic = Traffic(pause_s=0.1)
    shim = Shim(tmp_path / "shim", tmp_path / "data")
    with _service(tmp_path, shim) as service:
        traffic.start()
        traffic.direct(service.client)
        for offset_s in (-5 * _HOUR_S, 5 * _HOUR_S, 3 * _DAY_S, -_HOUR_S, 0.0):
            shim.set_clock(offset_s)
            wait_for_loads(service.client)
        assert_all_arrived(service, traffic)


def test_a_clock_that_jumps_between_two_runs_loses_and_doubles_nothing(tmp_path: Path) -> None:
    """It stops and starts at any time, with what the run before left in the log."""
    traffic = Traffic(pause_s=0.1)
    shim = Shim(tmp_path / "shim", tmp_path / "data")
    traffic.start()
    for offset_s in (0.0, 2 * _DAY_S, -5 * _HOUR_S):
        shim.set_clock(offset_s)
        with _service(tmp_path, shim) as service:
            traffic.direct(service.client)
            wait_for_loads(service.client)
            # With something in the log, or in order with nothing.
            if offset_s:
                service.kill()
            else:
                assert service.stop() == 0
            traffic.direct(None)
    shim.set_clock(0.0)
    with _service(tmp_path, shim) as service:
        traffic.direct(service.client)
        assert_all_arrived(service, traffic)


def test_log_and_engine_follow_the_clock_that_is_set(tmp_path: Path) -> None:
    """Else the tests above would say nothing."""
    shim = Shim(tmp_path / "shim", tmp_path / "data")
    shim.set_clock(3 * _DAY_S)
    with _service(tmp_path, shim) as service:
        wait_for_loads(service.client)
        event = service.client.raw_events()[0]
        # The engine's clock: what is of the last day now is not of the last day then.
        _, status, _ = service.client.request("GET", "/1/status/", headers=READ_HEADERS)
        shim.set_clock(6 * _DAY_S)
        _, later, _ = service.client.request("GET", "/1/status/", headers=READ_HEADERS)
    assert event["received_at"] - time.time() == pytest.approx(3 * _DAY_S, abs=_HOUR_S)
    assert status["outcomes"]["received"]
    assert later["outcomes"] == {}


@contextmanager
def _service(directory: Path, shim: Shim) -> Iterator[ServiceProcess]:
    """Run a service whose clock is the shim's."""
    variables = shim.environment()
    with service_process(directory / "data", None, None, variables, **_SETTINGS) as service:
        yield service
