# SPDX-License-Identifier: Apache-2.0
"""The shim: builds it, preloads it into a process, and says at any time what it shall do."""

from __future__ import annotations

import atexit
import enum
import functools
import mmap
import os
import platform
import shutil
import struct
import subprocess
import sys
import tempfile
import uuid
from pathlib import Path

_SOURCE = Path(__file__).with_name("shim.c")
# As in shim.c: struct control, and in it struct rule.
_CLOCK = struct.Struct("<q")
_RULE = struct.Struct("<IiIIII232s")
_OPERATIONS = struct.Struct("<I")
_FAILED = struct.Struct("<I")
_FAILED_AT = 20
_RULES = 4
_SIZE = _CLOCK.size + _RULES * _RULE.size


class Operation(enum.IntFlag):
    """What a rule makes fail."""

    WRITE = 1
    SYNC = 2
    CREATE = 4
    ALL = 7


def why_not() -> str:
    """Return why there can be no shim here, or an empty string."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return "the shim is for Linux on x86-64"
    if shutil.which("gcc") is None:
        return "the shim needs gcc"
    return ""


@functools.cache
def _build() -> Path:
    """Compile the shim, once; it goes with this process."""
    directory = tempfile.mkdtemp(prefix="disk-shim-")
    atexit.register(shutil.rmtree, directory)
    library = Path(directory) / "shim.so"
    command = ["gcc", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
    subprocess.run([*command, "-o", str(library), str(_SOURCE), "-ldl"], check=True)
    return library


class Shim:
    """What a process is preloaded with.

    Args:
        directory: Where its files go; not below `root`.
        root: The process's data directory.
        socket: Where syncs are reported, or None to let them be.
    """

    def __init__(self, directory: Path, root: Path, socket: Path | None = None) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._root = root
        self._socket = socket
        self._boot_id = directory / "boot_id"
        self._control = directory / "control"
        self._control.write_bytes(bytes(_SIZE))
        with self._control.open("r+b") as stream:
            self._shared = mmap.mmap(stream.fileno(), _SIZE)
        self.reboot()

    def environment(self) -> dict[str, str]:
        """Return the variables that a process has to be started with."""
        variables = {
            "LD_PRELOAD": str(_build()),
            "DISK_SHIM_CONTROL": str(self._control),
            "DISK_SHIM_ROOT": str(self._root),
            "DISK_SHIM_BOOT_ID": str(self._boot_id),
        }
        if self._socket is not None:
            variables["DISK_SHIM_SOCKET"] = str(self._socket)
        return variables

    def reboot(self) -> None:
        """Give another boot id to processes that are started from now on."""
        self._boot_id.write_text(f"{uuid.uuid4()}\n")

    def set_clock(self, offset_s: float) -> None:
        """Set the wall clock so many seconds before or after the true time."""
        _CLOCK.pack_into(self._shared, 0, int(offset_s * 1e9))

    def fail(
        self,
        operation: Operation,
        below: Path,
        error: int,
        *,
        probability: float = 1.0,
        skip: int = 0,
        most: int = (1 << 32) - 1,
        rule: int = 0,
    ) -> None:
        """Make operations fail from now on.

        Args:
            operation: Which ones.
            below: Of files at or below this path.
            error: The error number that they fail with.
            probability: How many of them fail.
            skip: So many work before the first that fails.
            most: So many fail, then no more.
            rule: Which of the four rules to set.
        """
        self.mend(rule)
        prefix = os.fsencode(below)
        if len(prefix) >= 232:
            raise ValueError(f"the path {below} is longer than a rule takes")
        fields = (error, int(probability * 1e6), skip, most, 0, prefix)
        _RULE.pack_into(self._shared, self._at(rule), 0, *fields)
        # Last: from now on the rule counts.
        _OPERATIONS.pack_into(self._shared, self._at(rule), operation)

    def failed(self, rule: int = 0) -> int:
        """Return how many operations a rule made fail since it was set."""
        failed: int = _FAILED.unpack_from(self._shared, self._at(rule) + _FAILED_AT)[0]
        return failed

    def mend(self, rule: int = 0) -> None:
        """End a rule; what it counted stays."""
        _OPERATIONS.pack_into(self._shared, self._at(rule), 0)

    def _at(self, rule: int) -> int:
        return _CLOCK.size + rule * _RULE.size
