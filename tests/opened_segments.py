# SPDX-License-Identifier: Apache-2.0
"""What is in a segment, and in what the engine reads of it, all at once."""

from __future__ import annotations

from pathlib import Path

from otel_apinalytics.receiver.segment import Content, LogIdentity, read_segment


def open_segment(path: Path, sequence: int, identity: LogIdentity) -> tuple[list[bytes], Content]:
    """Return a segment's records, and what else was found in it."""
    records: list[bytes] = []
    content = read_segment(path, sequence, identity, records.append)
    return records, content


def messages_in(stream: bytes) -> list[bytes]:
    """Return the messages of a stream, each behind its length as a varint."""
    found, position = [], 0
    while position < len(stream):
        length, shift = 0, 0
        while True:
            byte = stream[position]
            position += 1
            length |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        found.append(stream[position : position + length])
        position += length
    return found
