# SPDX-License-Identifier: Apache-2.0
"""Tests of segments: what was appended reads back; what is torn, damaged or moved does not."""

from __future__ import annotations

import errno
import os
import stat
import struct
import tempfile
import tracemalloc
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_apinalytics.receiver.sealing import TAG_BYTES, SealError
from otel_apinalytics.receiver.segment import (
    LogIdentity,
    SegmentWriter,
    destroy_segment,
    segment_path,
)
from tests.opened_segments import open_segment

IDENTITY = LogIdentity("ab" * 16, bytes(range(32)))
RECORDS = [b"first", b"", b"third record", b"fourth", b"the last"]
# Mark, number and length in front of a sealed record.
PREFIX_BYTES = 12


def write(directory: Path, records: Sequence[bytes], sequence: int = 1) -> Path:
    """Write a segment, each record by an append of its own."""
    writer = SegmentWriter(directory, sequence, IDENTITY)
    for record in records:
        writer.append([record])
    writer.close()
    return writer.path


def header_bytes(directory: Path) -> int:
    """Return the length of a segment's header."""
    writer = SegmentWriter(directory, 999, IDENTITY)
    writer.close()
    assert writer.path.stat().st_size == writer.size
    writer.path.unlink()
    return writer.size


def frame_ends(directory: Path, records: Sequence[bytes]) -> list[int]:
    """Return where each record's frame ends in a segment."""
    ends = [header_bytes(directory)]
    for record in records:
        ends.append(ends[-1] + PREFIX_BYTES + len(record) + TAG_BYTES)
    return ends[1:]


def flip(path: Path, position: int, mask: int = 1) -> None:
    """Change a byte of a file."""
    data = bytearray(path.read_bytes())
    data[position] ^= mask
    path.write_bytes(data)


@given(groups=st.lists(st.lists(st.binary(max_size=100), max_size=4), max_size=4))
def test_round_trip(groups: list[list[bytes]]) -> None:
    """Records of all appends read back in order, and `size` is the file's."""
    with tempfile.TemporaryDirectory() as directory:
        writer = SegmentWriter(Path(directory), 7, IDENTITY)
        for group in groups:
            writer.append(group)
        writer.close()
        found, content = open_segment(writer.path, 7, IDENTITY)
        assert found == [record for group in groups for record in group]
        assert content.damaged == 0
        assert content.good_bytes == writer.size == writer.path.stat().st_size


def test_records_are_on_disk_after_each_append(tmp_path: Path) -> None:
    """A reader sees them before the segment is closed."""
    writer = SegmentWriter(tmp_path, 1, IDENTITY)
    writer.append([b"a", b"b"])
    assert open_segment(writer.path, 1, IDENTITY)[0] == [b"a", b"b"]
    writer.close()


def test_the_file_is_unreadable_in_clear(tmp_path: Path) -> None:
    """Neither a record nor a key shows in the file, and others may not read it."""
    marker = b"consumer alice paid 7 euros"
    path = write(tmp_path, [marker, marker * 10])
    data = path.read_bytes()
    assert marker not in data
    assert IDENTITY.master_key not in data
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_master_key_does_not_show() -> None:
    """The identity's repr names the log only."""
    assert repr(IDENTITY) == f"LogIdentity('{'ab' * 16}')"


def test_the_digest_names_the_content(tmp_path: Path) -> None:
    """It is stable for one file, and differs with records, their order and their number."""
    paths = [
        write(tmp_path, records, sequence)
        for sequence, records in enumerate([[b"a", b"b"], [b"b", b"a"], [b"a"], [b"a", b"b", b""]])
    ]
    digests = [open_segment(path, number, IDENTITY)[1].digest for number, path in enumerate(paths)]
    assert len(set(digests)) == len(digests)
    assert digests[0] == open_segment(paths[0], 0, IDENTITY)[1].digest
    assert {len(digest) for digest in digests} == {32}


def test_a_sequence_number_is_used_once(tmp_path: Path) -> None:
    """An existing segment is never written to."""
    path = write(tmp_path, [b"a"])
    before = path.read_bytes()
    with pytest.raises(FileExistsError):
        SegmentWriter(tmp_path, 1, IDENTITY)
    assert path.read_bytes() == before


def test_paths_sort_like_numbers(tmp_path: Path) -> None:
    """The order of names is the order of segments."""
    numbers = [1, 2, 9, 10, 11, 100, 10**15]
    paths = [segment_path(tmp_path, number) for number in numbers]
    assert sorted(paths) == paths


# ---- torn and damaged files ----


def test_a_torn_tail_costs_the_incomplete_record_only(tmp_path: Path) -> None:
    """Cut anywhere, a segment gives exactly the records that are complete."""
    path = write(tmp_path, RECORDS)
    data = path.read_bytes()
    start, ends = header_bytes(tmp_path), frame_ends(tmp_path, RECORDS)
    assert ends[-1] == len(data)
    for cut in range(len(data) + 1):
        path.write_bytes(data[:cut])
        found, content = open_segment(path, 1, IDENTITY)
        complete = sum(end <= cut for end in ends)
        assert found == RECORDS[:complete]
        assert content.damaged == 0
        assert content.good_bytes == max((end for end in [start, *ends] if end <= cut), default=0)


@given(tail=st.binary(max_size=40))
def test_what_follows_the_last_record_is_left_out(tail: bytes) -> None:
    """Bytes that no append finished cost nothing."""
    with tempfile.TemporaryDirectory() as directory:
        path = write(Path(directory), RECORDS)
        good_bytes = path.stat().st_size
        with path.open("ab") as stream:
            stream.write(tail)
        found, content = open_segment(path, 1, IDENTITY)
        assert found == RECORDS
        assert (content.good_bytes, content.damaged) == (good_bytes, 0)


def test_a_flipped_byte_costs_one_record(tmp_path: Path) -> None:
    """A record that does not open is counted as damaged where good ones follow; they are kept."""
    path = write(tmp_path, RECORDS)
    data = path.read_bytes()
    ends = frame_ends(tmp_path, RECORDS)
    for number in range(1, len(RECORDS) - 1):
        for position in range(ends[number - 1], ends[number]):
            path.write_bytes(data)
            flip(path, position)
            found, content = open_segment(path, 1, IDENTITY)
            assert found == RECORDS[:number] + RECORDS[number + 1 :]
            assert content.damaged == 1
            assert content.good_bytes == len(data)


@pytest.mark.parametrize("byte", range(PREFIX_BYTES))
def test_a_damaged_prefix_does_not_pass_for_a_torn_tail(tmp_path: Path, byte: int) -> None:
    """Where an acknowledged record is lost because its length is damaged, the damage is counted."""
    path = write(tmp_path, RECORDS)
    flip(path, frame_ends(tmp_path, RECORDS)[0] + byte)
    found, content = open_segment(path, 1, IDENTITY)
    assert found == [RECORDS[0], *RECORDS[2:]]
    assert content.damaged == 1


def test_a_record_out_of_order_does_not_open(tmp_path: Path) -> None:
    """Numbers only rise: what comes after its successor is lost, and counted so."""
    records = [b"one", b"two", b"end"]
    path = write(tmp_path, records)
    data = path.read_bytes()
    start, (first, second, _) = header_bytes(tmp_path), frame_ends(tmp_path, records)
    path.write_bytes(data[:start] + data[first:second] + data[start:first] + data[second:])
    found, content = open_segment(path, 1, IDENTITY)
    assert (found, content.damaged) == ([b"two", b"end"], 1)


def test_a_frame_of_another_segment_does_not_open(tmp_path: Path) -> None:
    """A record is bound to its segment."""
    records = [b"one", b"end"]
    path, other = write(tmp_path, records), write(tmp_path, records, sequence=2)
    start, (first, _) = header_bytes(tmp_path), frame_ends(tmp_path, records)
    data = path.read_bytes()
    path.write_bytes(data[:start] + other.read_bytes()[start:first] + data[first:])
    found, content = open_segment(path, 1, IDENTITY)
    assert (found, content.damaged) == ([b"end"], 1)


@pytest.mark.parametrize(
    ("sequence", "identity"),
    [
        (2, IDENTITY),
        (1, LogIdentity("cd" * 16, IDENTITY.master_key)),
        (1, LogIdentity(IDENTITY.log_id, bytes(32))),
    ],
    ids=["sequence", "log", "master key"],
)
def test_a_segment_opens_in_its_own_place_only(
    tmp_path: Path, sequence: int, identity: LogIdentity
) -> None:
    """Another number, another log or another master key: refused."""
    path = write(tmp_path, RECORDS)
    with pytest.raises(SealError):
        open_segment(path, sequence, identity)


def test_a_damaged_header_is_told_apart(tmp_path: Path) -> None:
    """A header that was changed anywhere is an error, never an empty segment."""
    path = write(tmp_path, RECORDS)
    data = path.read_bytes()
    for position in range(header_bytes(tmp_path)):
        path.write_bytes(data)
        flip(path, position)
        with pytest.raises(SealError):
            open_segment(path, 1, IDENTITY)


@pytest.mark.parametrize("length", [0, TAG_BYTES - 1, 100])
def test_an_impossible_length_is_no_record(tmp_path: Path, length: int) -> None:
    """Shorter than a seal, or longer than the file: the tail is left out."""
    path = write(tmp_path, RECORDS)
    with path.open("ab") as stream:
        stream.write(struct.pack("<I", length) + bytes(50))
    assert open_segment(path, 1, IDENTITY)[0] == RECORDS


def test_a_large_length_wants_no_memory(tmp_path: Path) -> None:
    """A tail that seems to be gigabytes long does not end a start for lack of memory."""
    path = write(tmp_path, RECORDS)
    with path.open("ab") as stream:
        stream.write(struct.pack("<I", 2**30) + bytes(50))
    tracemalloc.start()
    try:
        assert open_segment(path, 1, IDENTITY)[0] == RECORDS
        assert tracemalloc.get_traced_memory()[1] < 64 << 20
    finally:
        tracemalloc.stop()


# ---- writes that fail ----


def fail(code: int) -> None:
    """Fail as the operating system does."""
    raise OSError(code, os.strerror(code))


class Disk:
    """A disk with little room, or that takes little at a time, behind the calls that write."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, *, room: int = 1 << 30, at_once: int = 1 << 30
    ) -> None:
        self.room = room
        self._at_once = at_once
        self._write = os.write
        monkeypatch.setattr(os, "write", self.write)
        monkeypatch.setattr(os, "writev", lambda fd, parts: self.write(fd, b"".join(parts)))

    def write(self, descriptor: int, data: bytes) -> int:
        """Write what there is room for."""
        if data and not self.room:
            fail(errno.ENOSPC)
        written = self._write(descriptor, data[: min(self.room, self._at_once)])
        self.room -= written
        return written


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC])
def test_a_failed_sync_cuts_the_file_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """The file holds what was acknowledged, and nothing of the append that failed."""
    writer = SegmentWriter(tmp_path, 1, IDENTITY)
    writer.append([b"acknowledged"])
    good_bytes = writer.size
    monkeypatch.setattr(os, "fdatasync", lambda descriptor: fail(code))
    with pytest.raises(OSError, match=os.strerror(code)):
        writer.append([b"not acknowledged", b"either"])
    assert writer.size == writer.path.stat().st_size == good_bytes
    writer.close()
    assert open_segment(writer.path, 1, IDENTITY)[0] == [b"acknowledged"]


def test_a_full_disk_cuts_the_file_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that is full in the middle of a record leaves no half of it."""
    writer = SegmentWriter(tmp_path, 1, IDENTITY)
    writer.append([b"acknowledged"])
    disk = Disk(monkeypatch, room=10)
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        writer.append([b"not acknowledged"])
    assert disk.room == 0
    assert writer.path.stat().st_size == writer.size
    writer.close()
    assert open_segment(writer.path, 1, IDENTITY)[0] == [b"acknowledged"]


@pytest.mark.parametrize("at_once", [1, 3, 50])
def test_short_writes_are_continued(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    """The operating system may take a few bytes at a time."""
    Disk(monkeypatch, at_once=at_once)
    writer = SegmentWriter(tmp_path, 1, IDENTITY)
    writer.append(RECORDS)
    writer.close()
    assert open_segment(writer.path, 1, IDENTITY)[0] == RECORDS


def test_an_append_of_many_records(tmp_path: Path) -> None:
    """A group may be larger than what one call of the operating system takes."""
    records = [b"%d" % number for number in range(5000)]
    writer = SegmentWriter(tmp_path, 1, IDENTITY)
    writer.append(records)
    writer.close()
    assert open_segment(writer.path, 1, IDENTITY)[0] == records


@pytest.mark.parametrize("fault", ["no room", "no sync"])
def test_a_segment_that_cannot_be_begun_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    """A header that could not be written, or a name that is not durable, is taken back."""
    descriptors = len(os.listdir("/proc/self/fd"))
    with monkeypatch.context() as patch:
        if fault == "no room":
            Disk(patch, room=0)
        else:
            patch.setattr(os, "fsync", lambda descriptor: fail(errno.EIO))
        with pytest.raises(OSError, match=r"No space|Input/output"):
            SegmentWriter(tmp_path, 1, IDENTITY)
    assert list(tmp_path.iterdir()) == []
    assert len(os.listdir("/proc/self/fd")) == descriptors


def test_closing_twice_is_harmless(tmp_path: Path) -> None:
    """The second call does not close a descriptor that is somebody else's by now."""
    writer = SegmentWriter(tmp_path, 1, IDENTITY)
    writer.close()
    descriptor = os.open(tmp_path, os.O_RDONLY)
    writer.close()
    os.fstat(descriptor)
    os.close(descriptor)


# ---- the end of a segment ----


def test_destroying_overwrites_the_key_first(tmp_path: Path) -> None:
    """The name is gone, and blocks that remain on disk have no key."""
    path = write(tmp_path, RECORDS)
    start = header_bytes(tmp_path)
    before = path.read_bytes()
    remains = tmp_path / "remains"
    os.link(path, remains)
    destroy_segment(path)
    assert not path.exists()
    assert remains.read_bytes() == bytes(start) + before[start:]
    # The process may die in between; the next one then finds nothing that is left to load.
    assert open_segment(remains, 1, IDENTITY)[0] == []


def test_the_key_is_overwritten_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The zeros are synced before the name goes, or they might never leave memory."""
    path = write(tmp_path, RECORDS)
    calls: list[str] = []
    for name in ("pwrite", "fsync", "fdatasync"):
        real = getattr(os, name)

        def called(*arguments: Any, name: str = name, real: Callable[..., Any] = real) -> Any:
            calls.append(f"{name} {path.exists()}")
            return real(*arguments)

        monkeypatch.setattr(os, name, called)
    destroy_segment(path)
    assert calls[0] == "pwrite True"
    assert calls[1] in ("fsync True", "fdatasync True")


def test_destroying_a_missing_segment_is_an_error(tmp_path: Path) -> None:
    """Nothing is created on the way."""
    with pytest.raises(FileNotFoundError):
        destroy_segment(tmp_path / "missing.log")
    assert list(tmp_path.iterdir()) == []
