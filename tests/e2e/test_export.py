# SPDX-License-Identifier: Apache-2.0
"""Raw events out of `apinalytics serve`: a stop in the middle of an answer."""

from __future__ import annotations

from pathlib import Path

import pytest
import urllib3

from tests.support.clients import APPLICATION, READ_HEADERS
from tests.support.service_process import service_process
from tests.support.waiting import wait_for

START = 1_000_000_000
EVENTS = 10_000


def test_an_unfinished_answer_does_not_hold_up_a_stop(tmp_path: Path) -> None:
    """The service ends as usual, and the client is not told that it got all."""
    events = [{"timestamp": START + n, "url": "/" + "x" * 2000} for n in range(EVENTS)]
    with service_process(tmp_path / "data") as running, urllib3.PoolManager(retries=False) as pool:
        client = running.client
        assert client.post_events(events)[0] == 200
        wait_for(
            lambda: client.groups(start=START, end=START + EVENTS)[APPLICATION][0][1],
            until=lambda count: count == EVENTS,
        )
        url = f"http://{client.http}/1/events/{START}/{START + EVENTS}/"
        # More than what is on its way between the two: the service cannot send all of it.
        answer = pool.request("GET", url, headers=READ_HEADERS, preload_content=False)
        assert answer.status == 200
        assert answer.read(1000)
        assert running.stop() == 0
        with pytest.raises(urllib3.exceptions.ProtocolError):
            answer.read()
