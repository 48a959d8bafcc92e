# SPDX-License-Identifier: Apache-2.0
"""Writing files so that they outlive a crash and a power cut."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

_BUFFERS_A_WRITE = 1024  # IOV_MAX


def write_all(descriptor: int, buffers: Sequence[bytes]) -> None:
    """Write all buffers, one after the other, without joining them first.

    Raises:
        OSError: A write failed; some of it may have been written.
    """
    for first in range(0, len(buffers), _BUFFERS_A_WRITE):
        some = buffers[first : first + _BUFFERS_A_WRITE]
        written = os.writev(descriptor, some)
        if written < sum(map(len, some)):
            rest = memoryview(b"".join(some))[written:]
            while rest:
                rest = rest[os.write(descriptor, rest) :]


def create_file(path: Path, content: bytes) -> None:
    """Create a file that only its owner may read; it is there whole and durable, or not at all.

    Raises:
        OSError: It cannot be created, written or synced.
    """
    scratch = path.with_name(f".{path.name}.new")
    descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        write_all(descriptor, [content])
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    os.replace(scratch, path)
    sync_directory(path.parent)


def free_bytes(directory: Path) -> int:
    """Return how much may be written where the directory is.

    Raises:
        OSError: It cannot be found out.
    """
    found = os.statvfs(directory)
    return found.f_bavail * found.f_frsize


def sync_directory(directory: Path) -> None:
    """Make the directory's entries durable.

    Raises:
        OSError: It cannot be opened or synced.
    """
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
