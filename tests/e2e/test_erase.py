# SPDX-License-Identifier: Apache-2.0
"""Erasures of a service that is killed, or loses its power: what has a receipt never comes back."""

from __future__ import annotations

import json
import random
import threading
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import urllib3

from tests.support.clients import ADMIN_HEADERS, Client
from tests.support.disk.power import power_of
from tests.support.disk.shim import why_not
from tests.support.service_process import service_process
from tests.support.waiting import wait_for

CONSUMERS = ("acme", "globex", "initech")
# Small segments, so that there are several parts.
SETTINGS = {"log_segment_bytes": str(1 << 16), "min_free_bytes": str(1 << 20)}


class Sent:
    """What was acknowledged of each consumer, and not erased."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def send(self, client: Client, events: int) -> None:
        """Send events of all consumers, of two days."""
        now = time.time()
        for consumer in CONSUMERS:
            batch = [
                {"timestamp": now - n % 2 * 86_400, "consumer_id": consumer, "response_us": n}
                for n in range(events)
            ]
            assert client.post_events(batch)[0] == 200
            self.counts[consumer] += events

    def assert_stored(self, client: Client) -> None:
        """Wait until all of it is there, and see that nothing else is, whoever is asked."""
        total = sum(self.counts.values())
        start, end = int(time.time()) - 3 * 86_400, int(time.time()) + 3600
        wait_for(lambda: len(client.raw_events(start, end)), until=lambda found: found >= total)
        raw = Counter(each["consumer_id"] for each in client.raw_events(start, end))
        assert raw == +self.counts
        groups = client.groups({"group": "consumer_id"}, start, end)
        assert {name: points[0][1] for name, points in groups.items()} == dict(+self.counts)


def erase(client: Client, consumer: str) -> dict[str, Any]:
    """Erase a consumer; ask again as long as the service says so."""
    body = json.dumps({"consumer": consumer}).encode()
    status, answer, headers = client.request("POST", "/1/erase/", body, ADMIN_HEADERS)
    while status == 202:
        status, answer, headers = client.request("GET", headers["location"], None, ADMIN_HEADERS)
    assert status == 200, answer
    receipt: dict[str, Any] = answer
    return receipt


def test_an_erasure_that_is_killed_is_completed_when_asked_again(tmp_path: Path) -> None:
    """Wherever it was: nothing of the consumer is left, and all of the others."""
    choice, sent = random.Random(11), Sent()
    for _ in range(4):
        with service_process(tmp_path / "data", **SETTINGS) as service:
            sent.send(service.client, 400)

            def begin(client: Client = service.client) -> None:
                with suppress(urllib3.exceptions.HTTPError, AssertionError):
                    erase(client, "acme")

            asking = threading.Thread(target=begin)
            asking.start()
            asking.join(choice.uniform(0, 3.0))
            service.kill()
            asking.join()
        with service_process(tmp_path / "data", **SETTINGS) as service:
            assert erase(service.client, "acme")["complete"]
            sent.counts["acme"] = 0
            sent.assert_stored(service.client)
            assert erase(service.client, "acme")["erased"]["events"] == 0
            service.kill()


@pytest.mark.skipif(bool(why_not()), reason=why_not())
def test_a_power_cut_after_the_receipt_brings_nothing_back(tmp_path: Path) -> None:
    """Neither from the log, which is loaded again after a boot, nor from parts of before."""
    sent = Sent()
    data_dir = tmp_path / "data"
    with power_of(data_dir, tmp_path / "shim") as power:
        variables = power.shim.environment()
        for consumer in ("acme", "globex"):
            with service_process(data_dir, None, None, variables, **SETTINGS) as service:
                # Acknowledged a moment ago, and not loaded.
                sent.send(service.client, 300)
                receipt = erase(service.client, consumer)
                power.cut(service.process)
            assert receipt["erased"]["events"] == sent.counts[consumer]
            sent.counts[consumer] = 0
            with service_process(data_dir, None, None, variables, **SETTINGS) as service:
                sent.assert_stored(service.client)
                assert erase(service.client, consumer)["erased"]["events"] == 0
                power.cut(service.process)
