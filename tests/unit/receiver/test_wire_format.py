# SPDX-License-Identifier: Apache-2.0
"""Tests of the walk over protobuf's wire format: it sees what the library sees."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import DecodeError
from google.protobuf.unknown_fields import UnknownFieldSet
from hypothesis import example, given
from hypothesis import strategies as st

from otel_apinalytics.receiver.records import varint
from otel_apinalytics.receiver.wire_format import fields

VARINT, FIXED64, LENGTH_DELIMITED, START_GROUP, END_GROUP, FIXED32 = range(6)
MAX_NUMBER = 2**29 - 1

Found = list[tuple[int, bytes]]

numbers = st.one_of(st.integers(1, 20), st.integers(1, MAX_NUMBER))


def found(message: bytes) -> Found:
    """Return what the walk gives, in full."""
    return [(number, bytes(content)) for number, content in fields(memoryview(message))]


def numbered(message: bytes) -> Found:
    """Return what the walk gives at the top level: no field has the number 0."""
    return [field for field in found(message) if field[0]]


def of_the_library(message: bytes) -> Found | None:
    """Return what the protobuf library finds in a message; None if it finds it malformed.

    It passes over the number 0 in places, although it is none.
    """
    parsed = Empty()
    try:
        parsed.ParseFromString(message)
    except DecodeError:
        return None
    return [
        (field.field_number, field.data if field.wire_type == LENGTH_DELIMITED else b"")
        # The stubs do not know that it is a sequence.
        for field in cast("Iterable[Any]", UnknownFieldSet(parsed))
        if field.field_number
    ]


def tag(number: int, kind: int) -> bytes:
    """Return the bytes in front of a field."""
    return varint(number << 3 | kind)


def padded(number: int, length: int) -> bytes:
    """Return a varint that is longer than it need be."""
    digits = [(number >> (7 * index)) & 0x7F | 0x80 for index in range(length)]
    digits[-1] &= 0x7F
    return bytes(digits)


@st.composite
def messages(draw: st.DrawFn) -> bytes:
    """Make well-formed messages, groups and varints of odd lengths included."""
    made = []
    for number in draw(st.lists(numbers, max_size=8)):
        kind = draw(st.sampled_from([VARINT, FIXED64, LENGTH_DELIMITED, START_GROUP, FIXED32]))
        content = draw(st.binary(min_size=8, max_size=12))
        made.append(tag(number, kind))
        if kind == VARINT:
            made.append(padded(draw(st.integers(0, 2**64 - 1)), 10))
        elif kind == LENGTH_DELIMITED:
            content = content[draw(st.integers(0, 8)) :]
            made.append(padded(len(content), draw(st.integers(1, 4))) + content)
        elif kind == START_GROUP:
            made.append(draw(messages()) + tag(number, END_GROUP))
        else:
            made.append(content[: 8 if kind == FIXED64 else 4])
    return b"".join(made)


def test_fields_of_each_kind() -> None:
    """Numbers have no content; a group is one field, and what is in it has the number 0."""
    message = (
        tag(1, VARINT) + b"\x96\x01"
        + tag(2, FIXED64) + bytes(8)
        + tag(3, LENGTH_DELIMITED) + b"\x02hi"
        + tag(4, START_GROUP) + tag(3, LENGTH_DELIMITED) + b"\x01x" + tag(4, END_GROUP)
        + tag(5, FIXED32) + bytes(4)
        + tag(MAX_NUMBER, LENGTH_DELIMITED) + b"\0"
    )  # fmt: skip
    assert found(message) == [
        (1, b""), (2, b""), (3, b"hi"), (4, b""), (0, b"x"), (0, b""), (5, b""), (MAX_NUMBER, b""),
    ]  # fmt: skip


def test_an_empty_message_has_no_fields() -> None:
    """Nothing is in nothing."""
    assert found(b"") == []


def test_it_goes_no_further_than_a_fault() -> None:
    """Fields before it are given; whoever parses the message refuses it."""
    good = tag(2, LENGTH_DELIMITED) + b"\x01x"
    for bad in (tag(2, LENGTH_DELIMITED) + b"\x7f" + good, tag(2, 6) + good, tag(2, 7) + good):
        assert found(good + bad) == [(2, b"x")]
        assert of_the_library(good + bad) is None


@given(message=messages())
def test_it_sees_the_fields_that_the_library_sees(message: bytes) -> None:
    """All of them, in order, and no others."""
    expected = of_the_library(message)
    assert expected is not None
    assert numbered(message) == expected


@given(message=st.binary(max_size=100))
@example(b"\xff" * 100)
@example(b"\x0b" * 100)
@example(b"\x80" * 100)
def test_whatever_the_library_takes_it_sees_in_full(message: bytes) -> None:
    """Junk that happens to parse has the same fields; other junk is no reason to raise."""
    seen = numbered(message)
    expected = of_the_library(message)
    if expected is not None:
        assert seen == expected


@given(data=st.data())
def test_damaged_messages_are_no_other(data: st.DataObject) -> None:
    """So it is for messages of which some bytes are others."""
    message = bytearray(data.draw(messages()))
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(message)))
        end = data.draw(st.integers(start, min(len(message), start + 3)))
        message[start:end] = data.draw(st.binary(max_size=3))
    seen = numbered(bytes(message))
    expected = of_the_library(bytes(message))
    if expected is not None:
        assert seen == expected


@given(message=st.binary(max_size=200))
def test_each_field_costs_a_byte_at_least(message: bytes) -> None:
    """So that a walk ends after as many steps as there are bytes, whatever they are."""
    assert len(found(message)) <= len(message)
