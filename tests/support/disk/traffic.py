# SPDX-License-Identifier: Apache-2.0
"""Traffic that goes on through power cuts: each request is sent until it is acknowledged."""

from __future__ import annotations

import itertools
import json
import os
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import grpc
import urllib3

from tests.support.clients import WRITE_HEADERS, WRITE_KEY, Client
from tests.support.otlp import CALL, make_request, make_span

URL_PREFIX = "/calls/"
TRANSPORTS = ("grpc", "http", "json")
_PATHS = {
    "http": ("/v1/traces", "application/x-protobuf"),
    "json": ("/1/event/", "application/json"),
}
_RETRY_S = 0.02
_TIMEOUT_S = 10.0
_METADATA = (("x-auth-key", WRITE_KEY),)
_TEMPORARY = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,
)


@dataclass(frozen=True, slots=True)
class Call:
    """An API call that was reported; its url is its own.

    Args:
        url: By which it is found.
        consumer: Who made it.
    """

    url: str
    consumer: str


class _RefusedError(Exception):
    """A request was refused, and to try again is no use."""


class Traffic:
    """Senders of all transports, one thread each. Call `start` once, then `finish` once.

    Args:
        pause_s: Longest pause of a sender between two requests.
        max_calls: Most calls in a request.
    """

    def __init__(self, pause_s: float = 0.03, max_calls: int = 10) -> None:
        self.acknowledged: list[Call] = []
        self.attempts = 0
        self.refusals: list[str] = []
        self._pause_s = pause_s
        self._max_calls = max_calls
        self._numbers = itertools.count()
        self._client: Client | None = None
        self._changed = threading.Condition()
        self._paused = False
        self._finishing = False
        self._period = 0
        self._threads = [
            threading.Thread(target=self._run, args=(transport,), daemon=True, name=transport)
            for transport in TRANSPORTS
        ]

    def start(self) -> None:
        """Begin to send, as soon as there is somebody to send to."""
        for thread in self._threads:
            thread.start()

    def direct(self, client: Client | None) -> None:
        """Send to this service from now on, or to none; other consumers call from then on."""
        with self._changed:
            self._client = client
            self._period += 1
            self._changed.notify_all()

    @contextmanager
    def pause(self) -> Iterator[None]:
        """Begin no new request while the block lasts."""
        with self._changed:
            self._paused = True
        try:
            yield
        finally:
            with self._changed:
                self._paused = False
                self._changed.notify_all()

    def finish(self) -> None:
        """Begin no new request, and wait until all that were begun are acknowledged."""
        with self._changed:
            self._finishing = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(60)
            if thread.is_alive():
                raise TimeoutError(f"a request by {thread.name} is not acknowledged")

    def _run(self, transport: str) -> None:
        choice = random.Random(transport)
        while self._may_begin():
            calls = self._make_calls(transport, choice.randint(1, self._max_calls))
            body = _body(transport, calls)
            try:
                while not self._deliver(transport, body):
                    time.sleep(_RETRY_S)
            except _RefusedError as refusal:
                self.refusals.append(f"{transport}: {refusal}")
                continue
            with self._changed:
                self.acknowledged += calls
            time.sleep(choice.uniform(0, self._pause_s))

    def _may_begin(self) -> bool:
        with self._changed:
            self._changed.wait_for(
                lambda: self._finishing or not (self._paused or not self._client)
            )
            return not self._finishing

    def _make_calls(self, transport: str, number: int) -> list[Call]:
        consumer = f"{transport}-{self._period}"
        return [Call(f"{URL_PREFIX}{next(self._numbers)}", consumer) for _ in range(number)]

    def _deliver(self, transport: str, body: bytes) -> bool:
        """Send a body once; return whether it was acknowledged."""
        with self._changed:
            self._changed.wait_for(lambda: self._client)
            client = self._client
            self.attempts += 1
        assert client is not None
        return _send_grpc(client, body) if transport == "grpc" else _post(client, transport, body)


def _send_grpc(client: Client, body: bytes) -> bool:
    with client.exporter() as call:
        try:
            call(body, metadata=_METADATA, timeout=_TIMEOUT_S)
        except grpc.RpcError as error:
            if error.code() not in _TEMPORARY:
                raise _RefusedError(str(error)) from error
            return False
    return True


def _post(client: Client, transport: str, body: bytes) -> bool:
    path, kind = _PATHS[transport]
    try:
        status, answer, _ = client.request(
            "POST", path, body, {**WRITE_HEADERS, "Content-Type": kind}
        )
    except urllib3.exceptions.HTTPError:
        return False
    if status not in (200, 503):
        raise _RefusedError(f"{status} {answer!r}")
    return status == 200


def _body(transport: str, calls: list[Call]) -> bytes:
    if transport == "json":
        return json.dumps([_event(call) for call in calls]).encode()
    return make_request(
        *(make_span({**CALL, "url.path": call.url, "enduser.id": call.consumer}) for call in calls)
    )


def _event(call: Call) -> dict[str, object]:
    return {
        "timestamp": time.time(),
        "consumer_id": call.consumer,
        "method": "GET",
        "url": call.url,
        "function": "users",
        "response_us": 1200,
        "status_code": 200,
        "trace_id": os.urandom(16).hex(),
        "span_id": os.urandom(8).hex(),
    }
