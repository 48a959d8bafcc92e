# SPDX-License-Identifier: Apache-2.0
"""A segment: one file of the request log.

    header   magic (8 bytes), wrapped segment key
    frame    mark (4 bytes), number and length (4 bytes each, little endian), sealed record
    frame    …

A frame is complete once its seal opens: the seal's tag is the checksum.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from otel_apinalytics.receiver import sealing
from otel_apinalytics.receiver.files import sync_directory, write_all
from otel_apinalytics.receiver.sealing import Seal, SealError

_MAGIC = b"APILOG01"
_HEADER_BYTES = len(_MAGIC) + sealing.WRAPPED_KEY_BYTES
_MARK = b"\xa9rec"
_PREFIX = struct.Struct("<4sII")
SUFFIX = ".log"
_BUFFER_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class LogIdentity:
    """Which log a segment belongs to, and the key that opens it.

    Args:
        log_id: Random name of the log, 32 hex digits.
        master_key: Wraps the segments' keys. Never shown.
    """

    log_id: str
    master_key: bytes

    def __repr__(self) -> str:
        return f"LogIdentity({self.log_id!r})"

    def context(self, sequence: int) -> bytes:
        """Return what the seals of a segment are bound to."""
        return f"{self.log_id}/{sequence}".encode()


@dataclass(frozen=True, slots=True)
class Content:
    """What was found in a segment.

    Args:
        digest: Names the content; equal for equal content only. 32 hex digits.
        good_bytes: Length of the file up to the end of the last good frame.
        torn_bytes: What stands behind it: a frame that was not written to its end.
        damaged: Records that are lost although later ones are there: corruption, not a torn tail.
    """

    digest: str
    good_bytes: int
    torn_bytes: int
    damaged: int


_NOTHING = Content(digest="", good_bytes=0, torn_bytes=0, damaged=0)


def segment_path(directory: Path, sequence: int) -> Path:
    """Return the path of the segment with this sequence number."""
    return directory / f"{sequence:016d}{SUFFIX}"


class SegmentWriter:
    """Appends records to a new segment. Used by one thread.

    Args:
        directory: Where the log lives.
        sequence: Number of the segment; its file must not exist.
        identity: The log that it belongs to.

    Raises:
        OSError: The file cannot be created, written or synced.
    """

    def __init__(self, directory: Path, sequence: int, identity: LogIdentity) -> None:
        self.path = segment_path(directory, sequence)
        self.sequence = sequence
        self.size = _HEADER_BYTES
        self._records = 0
        context = identity.context(sequence)
        key, wrapped = sealing.new_segment_key(identity.master_key, context)
        self._seal = Seal(key, context)
        self._descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            write_all(self._descriptor, [_MAGIC, wrapped])
            # The file's name must outlive a power cut as surely as its first record.
            sync_directory(directory)
        except OSError:
            os.close(self._descriptor)
            self.path.unlink(missing_ok=True)
            raise

    @property
    def is_empty(self) -> bool:
        """Whether no record is in it."""
        return self.size == _HEADER_BYTES

    def append(self, records: Iterable[bytes]) -> None:
        """Write records and sync them to disk, all or nothing.

        Raises:
            OSError: A write or the sync failed. The file is cut back to what was synced before, and
                the writer must not be used again: after a failed sync the kernel may have dropped
                the pages and reports success on the next one.
        """
        frames: list[bytes] = []
        for record in records:
            sealed = self._seal.seal(self._records, record)
            prefix = _PREFIX.pack(_MARK, self._records, len(sealed))
            self._records += 1
            frames += (prefix, sealed)
        try:
            write_all(self._descriptor, frames)
            os.fdatasync(self._descriptor)
        except OSError:
            os.ftruncate(self._descriptor, self.size)
            raise
        self.size += sum(map(len, frames))

    def close(self) -> None:
        """Close the file. Idempotent; all that was appended is synced already."""
        if self._descriptor >= 0:
            with contextlib.suppress(OSError):
                os.close(self._descriptor)
            self._descriptor = -1


def read_segment(
    path: Path, sequence: int, identity: LogIdentity, take: Callable[[bytes], None]
) -> Content:
    """Open a segment's records, and return what was found; a torn tail is left out.

    Args:
        path: The segment's file.
        sequence: Its number.
        identity: The log that it belongs to.
        take: Called with each record, in order.

    Raises:
        OSError: The file cannot be read.
        SealError: Its header is damaged, or of another log.
    """
    # Not mapped: a fault of the disk must be an error, not the end of the process.
    with path.open("rb", buffering=_BUFFER_BYTES) as stream:
        header = stream.read(_HEADER_BYTES)
        if len(header) < _HEADER_BYTES:
            # The process died while it created the file; nothing in it was acknowledged.
            return _NOTHING
        if not any(header):
            # It died while it destroyed the file: all of it is loaded.
            return _NOTHING
        if not header.startswith(_MAGIC):
            raise SealError("not a segment")
        context = identity.context(sequence)
        key = sealing.unwrap_segment_key(identity.master_key, header[len(_MAGIC) :], context)
        return _read_frames(stream, Seal(key, context), take)


def _read_frames(stream: BinaryIO, seal: Seal, take: Callable[[bytes], None]) -> Content:
    digest = hashlib.sha256()
    size = os.fstat(stream.fileno()).st_size
    damaged = expected = 0
    good_bytes = offset = _HEADER_BYTES
    while offset <= size - _PREFIX.size:
        number, sealed = _read_frame(stream, offset, size, expected)
        record = None
        if sealed:
            with contextlib.suppress(SealError):
                record = seal.open(number, sealed)
        if record is None:
            # After damage the next mark is looked for: it costs the frame, not those behind it.
            offset = _next_mark(stream, offset + 1, size)
            continue
        take(record)
        digest.update(sealed[-sealing.TAG_BYTES :])
        # Numbers that were passed over, and then one that opens: corruption, not a torn tail.
        damaged += number - expected
        expected = number + 1
        good_bytes = offset = offset + _PREFIX.size + len(sealed)
    return Content(digest.hexdigest()[:32], good_bytes, size - good_bytes, damaged)


def _read_frame(stream: BinaryIO, offset: int, size: int, expected: int) -> tuple[int, bytes]:
    """Return number and content of the frame at `offset`; no content if there is none."""
    if stream.tell() != offset:
        stream.seek(offset)
    mark, number, length = _PREFIX.unpack(stream.read(_PREFIX.size))
    if mark != _MARK or number < expected or offset + _PREFIX.size + length > size:
        return number, b""
    return number, stream.read(length)


def _next_mark(stream: BinaryIO, offset: int, size: int) -> int:
    """Return where the next mark is, from `offset` on; `size` if there is none."""
    while offset < size:
        stream.seek(offset)
        found = (chunk := stream.read(_BUFFER_BYTES)).find(_MARK)
        if found >= 0:
            return offset + found
        # A mark may lie across the end of what was read.
        offset += max(1, len(chunk) - len(_MARK) + 1)
    return size


def destroy_segment(path: Path) -> None:
    """Delete a segment; its key first, so that its blocks on disk stay sealed.

    Raises:
        OSError: The file cannot be opened or deleted.
    """
    descriptor = os.open(path, os.O_WRONLY)
    try:
        os.pwrite(descriptor, bytes(_HEADER_BYTES), 0)
        # Before the name goes: the page of a deleted file need never be written.
        os.fdatasync(descriptor)
    finally:
        os.close(descriptor)
    path.unlink()
