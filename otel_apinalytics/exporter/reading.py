# SPDX-License-Identifier: Apache-2.0
"""Reading an answer for as long as there is time, in calls that are short."""

from __future__ import annotations

import io
import socket
from typing import Any

from otel_apinalytics.exporter.patience import STEP_S, Patience


class Reading(io.RawIOBase):
    """What comes from a socket. A file of Python's sockets cannot be read on after a timeout.

    Over TLS that something can be read does not say that it is data: it may be a session's ticket.

    Args:
        sock: The socket.
        patience: How long.
    """

    def __init__(self, sock: socket.socket, patience: Patience) -> None:
        super().__init__()
        self._sock = sock
        self._patience = patience
        # Whoever has the head of an answer may close the socket; it stays open for this.
        self._holding = sock.makefile("rb", buffering=0)
        sock.settimeout(STEP_S)

    def makefile(self, mode: str) -> io.BufferedReader:
        """Return what `http.client` reads from, as a socket does."""
        return io.BufferedReader(self)

    def readable(self) -> bool:
        """Return that it can be read."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Wait for data, and return how much there is.

        Raises:
            TimeoutError: There was none in time.
        """
        while self._patience.left_s() > 0:
            try:
                return self._sock.recv_into(buffer)
            except TimeoutError:
                continue
        raise TimeoutError("no answer in time")

    def close(self) -> None:
        """Let the socket go."""
        self._holding.close()
        super().close()
