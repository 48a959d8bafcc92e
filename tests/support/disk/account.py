# SPDX-License-Identifier: Apache-2.0
"""The account of calls that were acknowledged: which of them a service has, and how often."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from tests.support.clients import FAR_FUTURE, READ_HEADERS, Client
from tests.support.disk.traffic import URL_PREFIX, Call
from tests.support.door import consumer_request
from tests.support.waiting import wait_for

# On a busy machine a service with much to load takes minutes.
_LOADING_S = 300.0
_LOOK_EVERY_S = 0.2
_UNAVAILABLE = 503


@dataclass(frozen=True, slots=True)
class Account:
    """What became of calls.

    Args:
        acknowledged: Calls whose request was acknowledged.
        stored: Events that the raw read-out gives.
        lost: Calls that were acknowledged and are not there.
        doubled: Calls that are there more than once.
        unknown: Events of calls that were not acknowledged.
        counted: Events by a question about all.
        outcomes: What the ledger says.
    """

    acknowledged: int
    stored: int
    lost: list[str]
    doubled: list[str]
    unknown: list[str]
    counted: int
    outcomes: dict[str, int] = field(default_factory=dict)

    @property
    def closes(self) -> bool:
        """Whether the ledger closes."""
        parts = ("stored", "duplicate", "filtered", "rejected")
        return self.outcomes.get("received", 0) == sum(self.outcomes.get(part, 0) for part in parts)

    def faults(self) -> list[str]:
        """Return what is not as it must be, in words."""
        found = {"lost": self.lost, "doubled": self.doubled, "not acknowledged": self.unknown}
        faults = [f"{len(urls)} {name}: {urls[:5]}" for name, urls in found.items() if urls]
        return faults if self.closes else [*faults, f"the ledger does not close: {self.outcomes}"]


def take_stock(client: Client, calls: Iterable[Call], settling_s: float = 0.0) -> Account:
    """Return the account of calls that were acknowledged; no traffic is sent any more.

    Args:
        client: The service that has them.
        calls: The calls.
        settling_s: How long to wait until questions count each once: until merges.
    """
    calls = list(calls)
    expected, consumers = {call.url for call in calls}, {call.consumer for call in calls}
    wait_for_loads(client)
    settled = time.monotonic() + settling_s
    while (counted := _count(client, consumers)) != len(expected) and time.monotonic() < settled:
        time.sleep(_LOOK_EVERY_S)
    found = read_calls(client)
    return Account(
        acknowledged=len(expected),
        stored=sum(found.values()),
        lost=sorted(expected - found.keys()),
        doubled=sorted(url for url, number in found.items() if number > 1),
        unknown=sorted(found.keys() - expected),
        counted=counted,
        outcomes=_outcomes(client),
    )


def wait_for_loads(client: Client) -> None:
    """Wait until what was acknowledged before is loaded: loads are in order.

    Raises:
        TimeoutError: It takes too long.
    """
    deadline = time.monotonic() + _LOADING_S
    # The first may be there before the rest of its segment; the second is of a later one.
    for _ in range(2):
        # Of a consumer of its own, beside the traffic.
        consumer, body = consumer_request()
        client.export(body)
        while not is_there(client, consumer):
            if time.monotonic() > deadline:
                raise TimeoutError(f"what was acknowledged is not loaded within {_LOADING_S} s")
            time.sleep(_LOOK_EVERY_S)


def is_there(client: Client, consumer: str) -> bool:
    """Return whether a consumer has an event."""
    question = f"include=consumer_id:{consumer}&group=consumer_id"
    return consumer in _read(client, f"/1/timeseries/0/{FAR_FUTURE}/?{question}")["groups"]


def read_calls(client: Client, start: int = 0) -> Counter[str]:
    """Return how often the calls of the traffic are there, by url.

    Args:
        client: The service.
        start: Unix seconds; earlier ones are left out.
    """
    lines = _read(client, f"/1/events/{start}/{FAR_FUTURE}/?format=ndjson").splitlines()
    urls = (json.loads(line)["url"] for line in lines)
    return Counter(url for url in urls if url.startswith(URL_PREFIX))


def _count(client: Client, consumers: set[str]) -> int:
    """Return how many calls of some consumers a question counts."""
    groups = _read(client, f"/1/timeseries/0/{FAR_FUTURE}/?group=consumer_id")["groups"]
    return int(sum(value for name in consumers for _, value in groups.get(name, [])))


def _outcomes(client: Client) -> dict[str, int]:
    outcomes = _read(client, "/1/status/")["outcomes"]
    return {outcome: sum(reasons.values()) for outcome, reasons in outcomes.items()}


def _read(client: Client, path: str) -> Any:
    """Return an answer; a service that mends what its disk lost says for a time to come again."""
    status, body, _ = wait_for(
        lambda: client.request("GET", path, headers=READ_HEADERS),
        until=lambda answer: answer[0] != _UNAVAILABLE,
    )
    assert status == 200, body
    return body
