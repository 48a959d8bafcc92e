# SPDX-License-Identifier: Apache-2.0
"""Senders that number what they send, by every way in, and send it again until it is acknowledged.

An item, a span or an event, is told from all others by its service (the sender), its consumer (the
request) and its URL (its place in the request).
"""

from __future__ import annotations

import contextlib
import gzip
import http.client
import json
import random
import threading
import time
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TypeAlias

import grpc

from otel_apinalytics.receiver.grpc_server import SERVICE
from tests.support.clients import APPLICATION, WRITE_HEADERS, WRITE_KEY, Client
from tests.support.otlp import INTERNAL, make_request, make_span

_METADATA = (("x-auth-user", APPLICATION), ("x-auth-key", WRITE_KEY))
_AGAIN_HTTP = frozenset({429, 502, 503, 504})
# OTLP specification, "OTLP/gRPC Response": a client may send again what failed with these.
_AGAIN_GRPC = frozenset(
    {
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.OUT_OF_RANGE,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DATA_LOSS,
    }
)
# A service that is started again is found at once.
_CHANNEL_OPTIONS = (
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 100),
    ("grpc.use_local_subchannel_pool", 1),
)
_TIMEOUT_S = 30
_PAUSE_S = 0.05
# Between two requests of a sender, at most: it decides how many items a second there are.
_THINK_S = 0.1
_FEW, _MANY = 20, 300
_SHARE_OF_LARGE = 0.05
_SHARE_SENT_TWICE = 0.03
_SHARE_GIVEN_UP = 0.1


@dataclass(frozen=True, slots=True)
class Message:
    """A request as it is sent, in each try the same.

    Args:
        body: Its bytes.
        headers: Of HTTP, beside the key.
    """

    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


# Sends a message; returns whether it was acknowledged, False if it may be sent again.
Send: TypeAlias = Callable[[Message], bool]


class Book:
    """What one sender sent and what was acknowledged; a few bytes for each request.

    Args:
        name: The sender's.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        #: Items of each request.
        self.items = array("H")
        #: Spans of each request that are no API calls.
        self.filtered = array("H")
        #: Whether each request was acknowledged.
        self.acknowledged = bytearray()
        #: Requests that were sent again after a try without an answer, and acknowledged then.
        self.recovered = 0
        #: Items of requests that were acknowledged, and once more when they were sent again.
        self.repeated = 0

    def add(self, items: int, filtered: int) -> int:
        """Take note of a request that is about to be sent, and return its number."""
        self.items.append(items)
        self.filtered.append(filtered)
        self.acknowledged.append(0)
        return len(self.items) - 1


class Sender(threading.Thread):
    """Sends by one way in, a request at a time, until it is told to finish.

    Most requests are sent until they are acknowledged, over any number of restarts of the service;
    of some the sender gives up at the first failure. Some that were acknowledged are sent again, as
    by a client that lost the answer: at once, and after each restart.

    Args:
        way: Name of the way in, one of `WAYS`.
        client: The service's addresses.
        seed: Decides what is sent, but for times.
    """

    def __init__(self, way: str, client: Client, seed: int) -> None:
        super().__init__(name=f"sender-{way}")
        self._way = WAYS[way]
        self._client = client
        self._choice = random.Random(seed)
        self._unpaused = threading.Event()
        self._unpaused.set()
        self._finishing = threading.Event()
        self._giving_up = threading.Event()
        #: Set while a request is under way.
        self.sending = threading.Event()
        self.book = Book(way)
        #: What ended the sender before it was told to.
        self.fault: BaseException | None = None

    def pause(self) -> None:
        """Let it begin no request until it is resumed."""
        self._unpaused.clear()

    def resume(self) -> None:
        """Let it go on."""
        self._unpaused.set()

    def finish(self) -> None:
        """Let it end once the request under way is acknowledged."""
        self._finishing.set()
        self.resume()

    def give_up(self) -> None:
        """Let it end even if the request under way is not acknowledged."""
        self._giving_up.set()
        self.finish()

    def run(self) -> None:
        """Send."""
        try:
            with self._way.connect(self._client) as send:
                self._send_all(send)
        except BaseException as error:
            self.fault = error

    def _send_all(self, send: Send) -> None:
        book, choice = self.book, self._choice
        last: tuple[int, Message] | None = None
        while not self._finishing.wait(choice.random() * _THINK_S):
            self._unpaused.wait()
            number, message = self._make()
            patient = choice.random() >= _SHARE_GIVEN_UP
            tries = self._deliver(send, message, patient=patient)
            if tries > 1 and last is not None:
                # The service was started again since.
                self._repeat(send, *last)
            if not tries:
                continue
            book.acknowledged[number] = 1
            book.recovered += tries > 1
            last = (number, message)
            if choice.random() < _SHARE_SENT_TWICE:
                self._repeat(send, number, message)

    def _make(self) -> tuple[int, Message]:
        choice = self._choice
        most = _MANY if choice.random() < _SHARE_OF_LARGE else _FEW
        items = choice.randrange(1, most)
        filtered = choice.randrange(3) if self._way.has_filtered else 0
        number = self.book.add(items, filtered)
        return number, self._way.make(self.book.name, number, items, filtered, choice)

    def _repeat(self, send: Send, number: int, message: Message) -> None:
        if self._deliver(send, message, patient=True):
            self.book.repeated += self.book.items[number] + self.book.filtered[number]

    def _deliver(self, send: Send, message: Message, *, patient: bool) -> int:
        """Send until it is acknowledged; return the number of tries, 0 if it was given up."""
        tries = 1
        while not self._try(send, message):
            if not patient or self._giving_up.is_set():
                return 0
            tries += 1
            time.sleep(_PAUSE_S)
        return tries

    def _try(self, send: Send, message: Message) -> bool:
        self.sending.set()
        try:
            return send(message)
        finally:
            self.sending.clear()


# ---- connections ----


@contextlib.contextmanager
def _grpc(client: Client) -> Iterator[Send]:
    with grpc.insecure_channel(client.grpc, options=_CHANNEL_OPTIONS) as channel:
        export = channel.unary_unary(f"/{SERVICE}/Export")

        def send(message: Message) -> bool:
            try:
                answer = export(message.body, metadata=_METADATA, timeout=_TIMEOUT_S)
            except grpc.RpcError as error:
                if error.code() not in _AGAIN_GRPC:
                    raise
                return False
            # Anything else is a partial success: nothing here is to be rejected.
            assert answer == b"", answer
            return True

        yield send


def _http(path: str) -> Callable[[Client], AbstractContextManager[Send]]:
    @contextlib.contextmanager
    def connect(client: Client) -> Iterator[Send]:
        connection = http.client.HTTPConnection(client.http, timeout=_TIMEOUT_S)

        def send(message: Message) -> bool:
            try:
                headers = {**WRITE_HEADERS, **message.headers}
                connection.request("POST", path, message.body, headers)
                answer = connection.getresponse()
                body = answer.read()
            except (OSError, http.client.HTTPException):
                # The next try connects again.
                connection.close()
                return False
            if answer.status in _AGAIN_HTTP:
                return False
            assert answer.status == 200, (answer.status, body)
            return True

        with contextlib.closing(connection):
            yield send

    return connect


# ---- what is sent ----


def _spans(name: str, number: int, items: int, filtered: int, choice: random.Random) -> Message:
    spans = [
        make_span(
            {
                "http.request.method": "GET",
                "url.path": f"/{place}",
                "http.response.status_code": 200,
                "enduser.id": f"{name}/{number}",
            },
            name="GET",
            trace_id=choice.randbytes(16),
            span_id=choice.randbytes(8),
        )
        for place in range(items)
    ]
    spans += [make_span({}, kind=INTERNAL, name="work") for _ in range(filtered)]
    choice.shuffle(spans)
    body = make_request(*spans, service=name)
    return Message(body, {"Content-Type": "application/x-protobuf"})


def _compressed_spans(
    name: str, number: int, items: int, filtered: int, choice: random.Random
) -> Message:
    plain = _spans(name, number, items, filtered, choice)
    headers = {**plain.headers, "Content-Encoding": "gzip"}
    return Message(gzip.compress(plain.body, 1), headers)


def _events(name: str, number: int, items: int) -> Sequence[dict[str, object]]:
    return [
        {
            "timestamp": time.time(),
            "service": name,
            "consumer_id": f"{name}/{number}",
            "url": f"/{place}",
            "method": "GET",
            "status_code": 200,
            "response_us": 1000 + place,
        }
        for place in range(items)
    ]


def _events_with_ids(
    name: str, number: int, items: int, filtered: int, choice: random.Random
) -> Message:
    events = [
        {**event, "trace_id": choice.randbytes(16).hex(), "span_id": choice.randbytes(8).hex()}
        for event in _events(name, number, items)
    ]
    return Message(json.dumps(events).encode(), {"Content-Type": "application/json"})


def _events_with_key(
    name: str, number: int, items: int, filtered: int, choice: random.Random
) -> Message:
    body = json.dumps(_events(name, number, items)).encode()
    headers = {"Content-Type": "application/json", "Idempotency-Key": f"{name}/{number}"}
    return Message(body, headers)


@dataclass(frozen=True, slots=True)
class _Way:
    """A way in.

    Args:
        connect: Opens a connection.
        make: Makes a request: sender, number, items, spans that are no API calls, what is random.
        has_filtered: Whether there can be what is no API call.
    """

    connect: Callable[[Client], AbstractContextManager[Send]]
    make: Callable[[str, int, int, int, random.Random], Message]
    has_filtered: bool = False


WAYS: Mapping[str, _Way] = {
    "grpc": _Way(_grpc, _spans, has_filtered=True),
    "http": _Way(_http("/v1/traces"), _spans, has_filtered=True),
    "http-gzip": _Way(_http("/v1/traces"), _compressed_spans, has_filtered=True),
    "events-ids": _Way(_http("/1/event/"), _events_with_ids),
    "events-key": _Way(_http("/1/event/"), _events_with_key),
}
