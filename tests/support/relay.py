# SPDX-License-Identifier: Apache-2.0
"""A relay before a service, which holds the answer after so many bytes, and then cuts it off."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_PIECE_BYTES = 65_536


class Relay(threading.Thread):
    """Relays one connection.

    Args:
        upstream: The service's address, host:port.
        limit: Bytes of the answer that the client gets.
    """

    def __init__(self, upstream: str, limit: int) -> None:
        super().__init__(daemon=True)
        host, _, port = upstream.rpartition(":")
        self._upstream = (host, int(port))
        self._limit = limit
        self._listener = socket.create_server(("localhost", 0))
        self._cut = threading.Event()
        self.address = f"localhost:{self._listener.getsockname()[1]}"
        #: Set once the client has got all that it gets.
        self.holds = threading.Event()

    def cut(self) -> None:
        """End both connections."""
        self._cut.set()
        self._listener.close()
        self.join()

    def run(self) -> None:
        """Relay; the request fits into one piece."""
        client, _ = self._listener.accept()
        with client, socket.socket() as service:
            # The less it takes ahead, the less an answer needs to be held at all.
            service.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _PIECE_BYTES)
            service.connect(self._upstream)
            service.sendall(client.recv(_PIECE_BYTES))
            left = self._limit
            while left and (piece := service.recv(min(left, _PIECE_BYTES))):
                client.sendall(piece)
                left -= len(piece)
            self.holds.set()
            self._cut.wait()


@contextmanager
def relay(upstream: str, limit: int) -> Iterator[Relay]:
    """Give a relay that runs."""
    running = Relay(upstream, limit)
    running.start()
    try:
        yield running
    finally:
        running.cut()
