# SPDX-License-Identifier: Apache-2.0
"""Attempts: notes beside a segment of loads that were in vain.

Which parts of it were being loaded when the process died is in a file that is there only while a
load runs. How often it was loaded and the disk lost that is in another one, and part of its tokens.
They are not synced: what ends a process leaves the page cache, and after a power cut all tokens are
new.
"""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias

SUFFIX = ".attempts"
_LOST_SUFFIX = ".lost"

# Numbers of the first record and of the one behind the last.
Place: TypeAlias = tuple[int, int]


class Attempts:
    """Counts the attempts at each part of a segment that did not end. Used by one thread.

    Args:
        segment: The segment's file.
    """

    def __init__(self, segment: Path) -> None:
        self._path = segment.with_suffix(SUFFIX)
        self._unended = Counter(_read(self._path))

    def unended(self, place: Place) -> int:
        """Return how many attempts at a part did not end."""
        return self._unended[place]

    @contextlib.contextmanager
    def begun(self, place: Place) -> Iterator[None]:
        """Mark an attempt for the length of the block, however it ends."""
        size = self._append(place)
        try:
            yield
        finally:
            if size is not None:
                with contextlib.suppress(OSError):
                    os.truncate(self._path, size)

    def forget(self, place: Place) -> None:
        """Forget the attempts at a part: they were ended by something else."""
        if not self._unended.pop(place, 0):
            return
        lines = [_line(*known) for known in self._unended.elements()]
        with contextlib.suppress(OSError):
            self._path.write_bytes(b"".join(lines))

    def clear(self) -> None:
        """Forget all attempts."""
        self._unended.clear()
        with contextlib.suppress(OSError):
            self._path.unlink()

    def _append(self, place: Place) -> int | None:
        """Write a mark; return the file's size before, or None where it cannot be written."""
        # On a full disk a load may still succeed, and it makes room.
        with contextlib.suppress(OSError), self._path.open("ab", buffering=0) as stream:
            size = stream.tell()
            stream.write(_line(*place))
            return size
        return None


def loads_lost(segment: Path) -> int:
    """Return how often a segment was loaded and the disk lost that."""
    try:
        return segment.with_suffix(_LOST_SUFFIX).stat().st_size
    except OSError:
        return 0


def note_lost_load(segment: Path) -> None:
    """Note that a segment was loaded and the disk lost that."""
    with contextlib.suppress(OSError), segment.with_suffix(_LOST_SUFFIX).open("ab") as stream:
        stream.write(b"+")


def forget_notes(segment: Path) -> None:
    """Delete the notes of a segment that is not loaded any more."""
    for suffix in (SUFFIX, _LOST_SUFFIX):
        with contextlib.suppress(OSError):
            segment.with_suffix(suffix).unlink()


def _line(first: int, end: int) -> bytes:
    return b"%d-%d\n" % (first, end)


def _read(path: Path) -> Iterator[Place]:
    """Yield the marks in a file; what is none is passed over."""
    try:
        lines = path.read_text("ascii", errors="replace").splitlines()
    except OSError:
        return
    for line in lines:
        first, _, end = line.partition("-")
        if first.isdigit() and end.isdigit():
            yield int(first), int(end)
