# SPDX-License-Identifier: Apache-2.0
"""The demo's traffic: several consumers call the demo's API, each request counted as it is sent."""

from __future__ import annotations

import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import urllib3

from otel_apinalytics.demo.api import CONSUMERS

_PAUSE_S = (0.005, 0.03)


@dataclass(slots=True)
class Sent:
    """What was sent and answered, counted by the caller.

    Args:
        by_consumer: Requests by consumer.
        by_status: Requests by status code.
    """

    by_consumer: Counter[str] = field(default_factory=Counter)
    by_status: Counter[int] = field(default_factory=Counter)

    @property
    def total(self) -> int:
        """All requests."""
        return sum(self.by_consumer.values())


def send_traffic(base_url: str, seconds: float, progress: Callable[[Sent], None]) -> Sent:
    """Let every consumer call the API for a while, and return what was sent.

    Args:
        base_url: Where the API listens.
        seconds: For how long.
        progress: Called about five times a second with what was sent so far.

    Raises:
        urllib3.exceptions.HTTPError: A request got no answer.
    """
    sent, lock = Sent(), threading.Lock()
    failures: list[Exception] = []
    deadline = time.monotonic() + seconds

    def call(number: int, key: str, consumer: str) -> None:
        choice = random.Random(number)  # noqa: S311 - load, not a secret
        with urllib3.PoolManager(retries=False, timeout=10.0) as http:
            while time.monotonic() < deadline and not failures:
                try:
                    status = _request(http, base_url, key, choice)
                except urllib3.exceptions.HTTPError as error:
                    failures.append(error)
                    return
                with lock:
                    sent.by_consumer[consumer] += 1
                    sent.by_status[status] += 1
                # Consumers differ in how much they call.
                time.sleep(choice.uniform(*_PAUSE_S) * (1 + number))

    threads = [
        threading.Thread(target=call, args=(number, key, consumer))
        for number, (key, consumer) in enumerate(CONSUMERS.items())
    ]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        with lock:
            progress(sent)
        time.sleep(0.2)
    if failures:
        raise failures[0]
    progress(sent)
    return sent


def _request(http: urllib3.PoolManager, base_url: str, key: str, choice: random.Random) -> int:
    headers = {"X-API-Key": key}
    method, path, body = choice.choices(
        (
            ("GET", "/items", None),
            ("GET", f"/items/{choice.randrange(1000)}", None),
            ("POST", "/orders", {"items": choice.randrange(1, 20)}),
            ("GET", f"/search?q=shoes&page={choice.randrange(9)}", None),
            ("GET", "/favicon.ico", None),
        ),
        weights=(30, 40, 15, 12, 3),
    )[0]
    if body is not None:
        headers["Content-Type"] = "application/json"
    data = json.dumps(body).encode() if body is not None else None
    return http.request(method, base_url + path, body=data, headers=headers).status
