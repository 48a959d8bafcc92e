# SPDX-License-Identifier: Apache-2.0
"""A look at protobuf's wire format without parsing: the fields of a message, where they lie.

Source: protobuf.dev, "Encoding".
"""

from __future__ import annotations

from collections.abc import Iterator

_VARINT, _FIXED64, _LENGTH_DELIMITED, _START_GROUP, _END_GROUP, _FIXED32 = range(6)
_LONGEST_VARINT = 10
_NOTHING = memoryview(b"")


def fields(message: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Yield number and content of each field; the content of numbers is left out.

    Groups, which OTLP does not have, parsers pass over; what is within one has the number 0 here,
    for whoever counts. It ends where the message is malformed: whoever parses it will say so.
    """
    position, end, open_groups = 0, len(message), 0
    while position < end:
        tag, position = _varint(message, position)
        kind, content = tag & 7, _NOTHING
        number = 0 if open_groups else tag >> 3
        if kind == _LENGTH_DELIMITED:
            length, position = _varint(message, position)
            if length > end - position:
                return
            content = message[position : position + length]
            position += length
        elif kind == _VARINT:
            _, position = _varint(message, position)
        elif kind == _FIXED64:
            position += 8
        elif kind == _FIXED32:
            position += 4
        elif kind == _START_GROUP:
            open_groups += 1
        elif kind == _END_GROUP and open_groups:
            open_groups -= 1
        else:
            return
        yield number, content


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    """Return a number and where it ends; what is cut or too long takes all that is left."""
    number = 0
    for index, byte in enumerate(message[position : position + _LONGEST_VARINT]):
        number |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return number, position + index + 1
    return 0, len(message)
