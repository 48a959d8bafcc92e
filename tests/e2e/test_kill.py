# SPDX-License-Identifier: Apache-2.0
"""kill -9 in the middle of traffic: what was acknowledged is there, once."""

from __future__ import annotations

import random
import threading
from pathlib import Path

import grpc

from tests.support.clients import APPLICATION, READ_HEADERS, WRITE_KEY, Client
from tests.support.otlp import CALL, make_request, make_span
from tests.support.service_process import service_process
from tests.support.waiting import wait_for

_METADATA = (("x-auth-key", WRITE_KEY),)
_SPANS = 20
_KILLS = 4


class Sender(threading.Thread):
    """Sends requests, each a consumer of its own, until it is refused.

    Args:
        client: The service.
        name: Prefix of the consumers.
    """

    def __init__(self, client: Client, name: str) -> None:
        super().__init__()
        self._client = client
        self._prefix = name
        self.sent: list[str] = []
        self.acknowledged: list[str] = []

    def run(self) -> None:
        """Send until the connection breaks."""
        with self._client.exporter() as call:
            while True:
                consumer = f"{self._prefix}-{len(self.sent)}"
                spans = [make_span({**CALL, "enduser.id": consumer}) for _ in range(_SPANS)]
                self.sent.append(consumer)
                try:
                    call(make_request(*spans), metadata=_METADATA, timeout=30)
                except grpc.RpcError:
                    return
                self.acknowledged.append(consumer)


def test_kills_lose_and_double_nothing(tmp_path: Path) -> None:
    """Every acknowledged request is stored whole and once; any other at most once."""
    acknowledged: list[str] = []
    sent: list[str] = []
    choice = random.Random(7)
    for round_number in range(_KILLS):
        with service_process(tmp_path) as service:
            senders = [Sender(service.client, f"r{round_number}-{n}") for n in range(3)]
            for sender in senders:
                sender.start()
            # Somewhere between the first acknowledgement and a few loads.
            enough = choice.randrange(1, 400)
            wait_for(lambda: sum(len(s.acknowledged) for s in senders) >= enough)  # noqa: B023
            service.kill()
            for sender in senders:
                sender.join()
                acknowledged += sender.acknowledged
                sent += sender.sent
    with service_process(tmp_path) as service:
        total = len(acknowledged) * _SPANS
        wait_for(lambda: service.client.groups()[APPLICATION][0][1], until=lambda n: n >= total)
        groups = service.client.groups({"group": "consumer_id"})
        status = service.client.request("GET", "/1/status/", None, READ_HEADERS)[1]
        assert service.stop() == 0
    assert not (tmp_path / "log" / "set-aside").exists()
    assert status["outcomes"]["received"] == status["outcomes"]["stored"]
    counted = {consumer: points[0][1] for consumer, points in groups.items()}
    assert {consumer: counted.get(consumer) for consumer in acknowledged} == dict.fromkeys(
        acknowledged, _SPANS
    )
    assert set(counted.values()) == {_SPANS}
    assert set(counted) <= set(sent)
