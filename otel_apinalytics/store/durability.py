# SPDX-License-Identifier: Apache-2.0
"""Durability of a whole file system: what was written to it outlives a power cut."""

from __future__ import annotations

import contextlib
import ctypes
import os
from pathlib import Path


class FileSystem:
    """The file system of a directory, to be synced again and again.

    The kernel reports a write that failed once to each that has opened the file system before, and
    then takes what was lost for written. One object for each purpose misses none.

    Args:
        directory: The directory.

    Raises:
        OSError: It cannot be opened.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._descriptor = os.open(directory, os.O_RDONLY)

    def sync(self) -> None:
        """Make durable all that was written before (syncfs(2)).

        Raises:
            OSError: It is not durable, or something since the last call is not.
        """
        if self._libc.syncfs(self._descriptor) != 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), str(self._directory))

    def close(self) -> None:
        """Let go of the directory."""
        os.close(self._descriptor)


def sync_file_system(directory: Path) -> None:
    """Make durable, once, all that was written to the file system of a directory.

    Raises:
        OSError: It cannot be opened or synced.
    """
    with contextlib.closing(FileSystem(directory)) as file_system:
        file_system.sync()
