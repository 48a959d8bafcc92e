# SPDX-License-Identifier: Apache-2.0
"""A segment: one file of the request log.

    header   magic (8 bytes), wrapped segment key
    frame    length of what follows (4 bytes, little endian), sealed record
    frame    …

A frame is complete once its seal opens: the seal's tag is the checksum.
"""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from otel_apinalytics.receiver import sealing
from otel_apinalytics.receiver.sealing import Seal, SealError

_MAGIC = b"APILOG01"
_HEADER_BYTES = len(_MAGIC) + sealing.WRAPPED_KEY_BYTES
_LENGTH = struct.Struct("<I")
_BUFFERS_A_WRITE = 1024  # IOV_MAX
_READ_BUFFER_BYTES = 1 << 20
SUFFIX = ".log"


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
    """What a segment holds.

    Args:
        records: Its records in order, opened.
        digest: Names the content; equal for equal content only. 32 hex digits.
        good_bytes: Length of the file up to the end of the last good frame.
        damaged: Frames that do not open although good ones follow: corruption, not a torn tail.
    """

    records: list[bytes]
    digest: str
    good_bytes: int
    damaged: int


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
            self._records += 1
            frames += (_LENGTH.pack(len(sealed)), sealed)
        try:
            write_all(self._descriptor, frames)
            os.fdatasync(self._descriptor)
        except OSError:
            os.ftruncate(self._descriptor, self.size)
            raise
        self.size += sum(map(len, frames))

    def close(self) -> None:
        """Close the file. Idempotent."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def read_segment(path: Path, sequence: int, identity: LogIdentity) -> Content:
    """Return what a segment holds; a torn tail is left out.

    Raises:
        OSError: The file cannot be read.
        SealError: Its header is damaged, or of another log.
    """
    with path.open("rb", buffering=_READ_BUFFER_BYTES) as stream:
        return _read_content(stream, sequence, identity)


def _read_content(stream: BinaryIO, sequence: int, identity: LogIdentity) -> Content:
    header = stream.read(_HEADER_BYTES)
    if len(header) < _HEADER_BYTES:
        # The process died while it created the file; nothing in it was acknowledged.
        return Content([], digest="", good_bytes=0, damaged=0)
    if not header.startswith(_MAGIC):
        raise SealError("not a segment")
    context = identity.context(sequence)
    wrapped = header[len(_MAGIC) :]
    seal = Seal(sealing.unwrap_segment_key(identity.master_key, wrapped, context), context)
    records: list[bytes] = []
    digest = hashlib.sha256()
    damaged = suspect = 0
    good_bytes = _HEADER_BYTES
    for number, sealed in enumerate(_frames(stream)):
        try:
            records.append(seal.open(number, sealed))
        except SealError:
            suspect += 1
        else:
            # Frames that failed before one that opens are corruption, not a tail.
            damaged, suspect = damaged + suspect, 0
            digest.update(sealed[-sealing.TAG_BYTES :])
            good_bytes = stream.tell()
    return Content(records, digest.hexdigest()[:32], good_bytes, damaged)


def _frames(stream: BinaryIO) -> Iterator[bytes]:
    while len(prefix := stream.read(_LENGTH.size)) == _LENGTH.size:
        (length,) = _LENGTH.unpack(prefix)
        sealed = stream.read(length)
        if len(sealed) < length or length < sealing.TAG_BYTES:
            return
        yield sealed


def destroy_segment(path: Path) -> None:
    """Delete a segment; its key first, so that its blocks on disk stay sealed.

    Raises:
        OSError: The file cannot be opened or deleted.
    """
    descriptor = os.open(path, os.O_WRONLY)
    try:
        os.pwrite(descriptor, bytes(_HEADER_BYTES), 0)
    finally:
        os.close(descriptor)
    path.unlink()


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
