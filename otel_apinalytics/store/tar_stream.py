# SPDX-License-Identifier: Apache-2.0
"""A tar archive as blocks of bytes, made while it is sent: memory does not grow with its files."""

from __future__ import annotations

import os
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

_BLOCK_BYTES = 1 << 20
END = bytes(2 * tarfile.BLOCKSIZE)


class TarStream:
    """Turns members into bytes, and counts them. Used by one thread at a time."""

    def __init__(self) -> None:
        self.files = 0
        self.size = 0
        # Of all members alike: when the archive was made.
        self._time_s = int(time.time())

    def file(self, name: str, path: Path) -> Iterator[bytes]:
        """Yield a file that does not change meanwhile.

        Raises:
            OSError: It cannot be read, or changed all the same.
        """
        with path.open("rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            yield self._header(name, size)
            left = size
            while left:
                block = stream.read(min(left, _BLOCK_BYTES))
                if not block:
                    raise OSError(f"{path} became shorter while it was read")
                left -= len(block)
                yield block
        yield bytes(-size % tarfile.BLOCKSIZE)

    def content(self, name: str, content: bytes) -> bytes:
        """Return a file with this content."""
        padding = bytes(-len(content) % tarfile.BLOCKSIZE)
        return self._header(name, len(content)) + content + padding

    def link(self, name: str, target: str) -> bytes:
        """Return a symbolic link."""
        return self._header(name, 0, target)

    def _header(self, name: str, size: int, target: str = "") -> bytes:
        member = tarfile.TarInfo(name)
        member.mode, member.mtime, member.size = 0o600, self._time_s, size
        if target:
            member.type, member.linkname, member.mode = tarfile.SYMTYPE, target, 0o777
        self.files += 1
        self.size += size
        return member.tobuf(tarfile.PAX_FORMAT)
