# SPDX-License-Identifier: Apache-2.0
"""The end of a test with traffic: all that was acknowledged is there, once."""

from __future__ import annotations

from tests.support.disk.account import take_stock
from tests.support.disk.traffic import Traffic
from tests.support.service_process import ServiceProcess


def assert_all_arrived(service: ServiceProcess, traffic: Traffic) -> None:
    """Let what was begun arrive, compare it with what is there, and stop the service."""
    traffic.finish()
    account = take_stock(service.client, traffic.acknowledged)
    assert account.faults() == []
    assert traffic.refusals == []
    assert service.stop() == 0
