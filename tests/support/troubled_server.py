# SPDX-License-Identifier: Apache-2.0
"""A service in trouble: an HTTP server that does to each request what a test says."""

from __future__ import annotations

import contextlib
import gzip
import json
import socket
import ssl
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

_ACCEPT_S = 0.05


@dataclass(frozen=True)
class Received:
    """A request, as it came.

    Args:
        headers: By name in lower case.
        names: Their names, each as often as it came.
        body: Decompressed.
        at_s: When, by the monotonic clock.
        connection: Number of its connection.
    """

    headers: Mapping[str, str]
    names: tuple[str, ...]
    body: bytes
    at_s: float
    connection: int

    @property
    def events(self) -> list[dict[str, Any]]:
        """The events in it."""
        events: list[dict[str, Any]] = json.loads(self.body)
        return events


# What is done to a request; returns whether the connection stays.
Trouble = Callable[[socket.socket, Received], bool]


def good(connection: socket.socket, request: Received) -> bool:
    """Take all."""
    body = json.dumps({"received": len(request.events), "refused": [], "errors": []})
    return answer(200, body)(connection, request)


def answer(status: int, body: str = "", /, **headers: str) -> Trouble:
    """Return what answers with a status; headers are written with `_` for `-`."""

    def act(connection: socket.socket, request: Received) -> bool:
        lines = [f"HTTP/1.1 {status} Whatever", f"Content-Length: {len(body.encode())}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        connection.sendall(("\r\n".join(lines) + "\r\n\r\n" + body).encode())
        return True

    return act


def garbage(connection: socket.socket, request: Received) -> bool:
    """Answer what is not HTTP."""
    connection.sendall(bytes(range(256)) * 4)
    return False


def close(connection: socket.socket, request: Received) -> bool:
    """End the connection without an answer."""
    return False


def reset(connection: socket.socket, request: Received) -> bool:
    """Reset the connection."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return False


def good_and_close(connection: socket.socket, request: Received) -> bool:
    """Take all, and end the connection, without having said so."""
    good(connection, request)
    return False


class TroubledServer:
    """Serves until it is closed.

    Args:
        port: Where; 0 for any.
        tls: For a server with TLS.
    """

    def __init__(self, port: int = 0, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls
        self._listener = socket.create_server(("127.0.0.1", port))
        self._listener.settimeout(_ACCEPT_S)
        self.port = self._listener.getsockname()[1]
        scheme = "https" if tls else "http"
        self.url = f"{scheme}://localhost:{self.port}"
        #: What is done to the next requests, in order.
        self.script: deque[Trouble] = deque()
        #: What is done to those after them.
        self.otherwise: Trouble = good
        self.requests: list[Received] = []
        #: Set when it is closed; what hangs waits for it.
        self.closed = threading.Event()
        self._connections = 0
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def hang(self, connection: socket.socket, request: Received) -> bool:
        """Answer nothing until the server is closed."""
        self.closed.wait()
        return False

    def drip(self, connection: socket.socket, request: Received) -> bool:
        """Begin an answer, and go on with it forever, a byte at a time."""
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
        while not self.closed.wait(_ACCEPT_S):
            connection.sendall(b" ")
        return False

    def events(self) -> list[dict[str, Any]]:
        """Return the events of all requests."""
        return [event for request in list(self.requests) for event in request.events]

    def close(self) -> None:
        """End it, and all connections."""
        self.closed.set()
        for thread in list(self._threads):
            thread.join()
        self._listener.close()

    def _accept(self) -> None:
        while not self.closed.is_set():
            with contextlib.suppress(TimeoutError):
                connection, _ = self._listener.accept()
                self._connections += 1
                arguments = (connection, self._connections)
                thread = threading.Thread(target=self._serve, args=arguments, daemon=True)
                self._threads.append(thread)
                thread.start()

    def _serve(self, connection: socket.socket, number: int) -> None:
        connection.settimeout(_ACCEPT_S)
        # Whoever was served may be gone.
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            stack.enter_context(connection)
            if self._tls:
                connection.settimeout(None)
                connection = stack.enter_context(
                    self._tls.wrap_socket(connection, server_side=True)
                )
                connection.settimeout(_ACCEPT_S)
            while (request := self._read(connection, number)) is not None:
                self.requests.append(request)
                trouble = self.script.popleft() if self.script else self.otherwise
                if not trouble(connection, request):
                    return

    def _read(self, connection: socket.socket, number: int) -> Received | None:
        data = head = b""
        length: int | None = None
        while length is None or len(data) < length:
            try:
                piece = connection.recv(1 << 16)
            except TimeoutError:
                if self.closed.is_set():
                    return None
                continue
            if not piece:
                return None
            data += piece
            if length is None and b"\r\n\r\n" in data:
                head, _, data = data.partition(b"\r\n\r\n")
                headers = _headers(head)
                length = int(headers["content-length"])
        body = gzip.decompress(data) if headers.get("content-encoding") == "gzip" else data
        return Received(headers, _names(head), body, time.monotonic(), number)


def _headers(head: bytes) -> dict[str, str]:
    first, *lines = head.decode("latin-1").split("\r\n")
    pairs = (line.partition(": ") for line in lines)
    return {"request": first, **{name.lower(): value for name, _, value in pairs}}


def _names(head: bytes) -> tuple[str, ...]:
    _, *lines = head.decode("latin-1").lower().split("\r\n")
    return tuple(line.partition(": ")[0] for line in lines)


@contextmanager
def troubled_server(port: int = 0, tls: ssl.SSLContext | None = None) -> Iterator[TroubledServer]:
    """Give a server for the length of a block."""
    server = TroubledServer(port, tls)
    try:
        yield server
    finally:
        server.close()


@contextmanager
def early_proxy(max_body_bytes: int) -> Iterator[tuple[str, list[int]]]:
    """Give the address of what answers by the head of a request and ends the connection.

    It reads nothing of a body that is too large. And a list, with the status of each answer.

    Args:
        max_body_bytes: What is larger is refused.
    """
    answered: list[int] = []

    def serve(connection: socket.socket) -> None:
        with connection:
            data = b""
            while b"\r\n\r\n" not in data and (piece := connection.recv(1024)):
                data += piece
            head, _, data = data.partition(b"\r\n\r\n")
            length = int(_headers(head)["content-length"])
            answered.append(413 if length > max_body_bytes else 200)
            body = b""
            if answered[-1] == 200:
                while len(data) < length:
                    data += connection.recv(1 << 16)
                events = len(json.loads(data))
                body = json.dumps({"received": events, "refused": [], "errors": []}).encode()
            lines = [f"HTTP/1.1 {answered[-1]} Whatever", f"Content-Length: {len(body)}"]
            head = "\r\n".join([*lines, "Connection: close", "", ""]).encode()
            connection.sendall(head + body)

    def accept() -> None:
        # Until it is shut down.
        with contextlib.suppress(OSError):
            while True:
                serve(listener.accept()[0])

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}", answered
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()
