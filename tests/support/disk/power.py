# SPDX-License-Identifier: Apache-2.0
"""The power: keeps account of what a process made durable, and cuts it off at any instant."""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import socketserver
import struct
import subprocess
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.support.disk.image import DurableImage
from tests.support.disk.shim import Shim

_CREDENTIALS = struct.Struct("iii")


class Power:
    """Power of a process that was started with `shim`'s environment.

    Args:
        data_dir: Its data directory; what stands there now is durable.
        scratch: Directory for the shim.
        choice: Decides what survives of what was not synced; None for nothing of it.
    """

    def __init__(self, data_dir: Path, scratch: Path, choice: random.Random | None = None) -> None:
        data_dir.mkdir(exist_ok=True)
        self._data_dir = data_dir
        self._choice = choice
        # An address of a socket must be short.
        self.socket = Path(tempfile.mkdtemp(prefix="power-")) / "syncs"
        self.shim = Shim(scratch, data_dir, self.socket)
        self.syncs: Counter[str] = Counter()
        self.cuts = 0
        self._lock = threading.Lock()
        self._image = DurableImage(data_dir)

    def cut(self, process: subprocess.Popen[str]) -> None:
        """End the process and put in place of its data what survived; the next start is a boot."""
        process.kill()
        self.cuts += 1
        with self._lock:
            process.wait()
            survived = self._image.mixed(self._choice) if self._choice else self._image.strict()
            shutil.rmtree(self._data_dir)
            survived.write(self._data_dir)
            self._image = DurableImage(self._data_dir)
        self.shim.reboot()

    def take_note(self, pid: int, name: str, descriptor: str) -> None:
        """Take note of a sync that a process is in; it waits for it."""
        with self._lock, suppress(FileNotFoundError):
            # Of a process that has ended nothing becomes durable any more: it has no program.
            os.readlink(f"/proc/{pid}/exe")
            self.syncs[name] += 1
            if name in ("syncfs", "sync"):
                with _stopped(pid):
                    self._image.sync_all()
            else:
                self._image.sync(f"/proc/{pid}/fd/{descriptor}")

    def close(self) -> None:
        """Remove what was made besides the data directory."""
        shutil.rmtree(self.socket.parent)


@contextmanager
def power_of(data_dir: Path, scratch: Path, choice: random.Random | None = None) -> Iterator[Power]:
    """Give the power of a process, and listen to its syncs; see `Power`."""
    power = Power(data_dir, scratch, choice)

    class Handler(socketserver.StreamRequestHandler):
        """Answers one sync."""

        def handle(self) -> None:
            credentials = self.connection.getsockopt(
                socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size
            )
            words = self.rfile.readline().decode().split()
            # Else the process was killed before it could say which.
            if len(words) == 2:
                power.take_note(_CREDENTIALS.unpack(credentials)[0], *words)
                with suppress(OSError):
                    self.connection.send(b".")

    class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
        daemon_threads = True
        request_queue_size = 128

    with Server(str(power.socket), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield power
        finally:
            server.shutdown()
            thread.join()
            power.close()


@contextmanager
def _stopped(pid: int) -> Iterator[None]:
    """Stop all threads of a child while the block lasts, so that it is at one instant."""
    os.kill(pid, signal.SIGSTOP)
    try:
        # Not taken away from whoever waits for the end of the process.
        os.waitid(os.P_PID, pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        yield
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
