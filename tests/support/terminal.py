# SPDX-License-Identifier: Apache-2.0
"""A command of the command line on a terminal."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.support.service_process import environment

# Of ECMA-48: what colours text and moves the cursor.
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@dataclass
class Terminal:
    """A command that runs on a terminal of its own.

    Args:
        process: The command.
        descriptor: The other side of the terminal.
    """

    process: subprocess.Popen[bytes]
    descriptor: int
    _shown: bytes = field(default=b"", init=False)

    def read_until(self, text: str, times: int = 1) -> str:
        """Return what is shown so far, once a text came so many times, or all at the end."""
        while self._shown.decode("utf-8", "replace").count(text) < times:
            # On Linux it is an error if nobody has the other side open any more.
            block = b""
            with contextlib.suppress(OSError):
                block = os.read(self.descriptor, 4096)
            if not block:
                break
            self._shown += block
        return _CONTROL.sub("", self._shown.decode("utf-8", "replace"))

    def read(self) -> str:
        """Return all that is shown until the command ends."""
        return self.read_until("\0")

    def interrupt(self) -> int:
        """Press Ctrl-C, and return the exit code."""
        self.process.send_signal(signal.SIGINT)
        self.read()
        return self.process.wait(60)


@contextlib.contextmanager
def on_terminal(*arguments: str, columns: int = 100, **settings: str) -> Iterator[Terminal]:
    """Run a command on a terminal; end it with the block.

    Args:
        arguments: The command's arguments.
        columns: Width of the terminal.
        settings: Settings, by variables; `encoding` is that of Python's streams.
    """
    variables = {
        "TERM": "xterm-256color",
        "PYTHONIOENCODING": settings.pop("encoding", "utf-8"),
        # It would be believed before the terminal.
        "COLUMNS": str(columns),
    }
    ours, theirs = pty.openpty()
    try:
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
        with subprocess.Popen(
            [sys.executable, "-m", "otel_apinalytics", *arguments],
            env=environment(**settings) | variables,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
        ) as process:
            os.close(theirs)
            try:
                yield Terminal(process, ours)
            finally:
                if process.poll() is None:
                    process.kill()
    finally:
        os.close(ours)
