# SPDX-License-Identifier: Apache-2.0
"""Tests of bodies: what was compressed comes back, and nothing becomes larger than the limit."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import zlib
from collections.abc import Callable, Sequence

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request
from starlette.types import Message

from otel_apinalytics.errors import InvalidRequestError, RequestTooLargeError
from otel_apinalytics.receiver.bodies import decompress, read_body

LIMIT = 10_000
TEXT = b"GET /users/7 " * 100
COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "deflate": zlib.compress,
    "zstd": zstandard.compress,
}
each_encoding = pytest.mark.parametrize("encoding", COMPRESSORS)


class Sender:
    """The server's side of a request's body: gives parts, and counts those that were asked for."""

    def __init__(self, parts: Sequence[bytes]) -> None:
        self.parts = list(parts)
        self.taken = 0

    async def __call__(self) -> Message:
        """Give the next part."""
        body = self.parts[self.taken]
        self.taken += 1
        more_body = self.taken < len(self.parts)
        return {"type": "http.request", "body": body, "more_body": more_body}


def read(sender: Sender, encoding: str | None = None, limit: int = LIMIT) -> bytes:
    """Read a request's body."""
    headers = [] if encoding is None else [(b"content-encoding", encoding.encode())]
    scope = {"type": "http", "method": "POST", "headers": headers}
    return asyncio.run(read_body(Request(scope, sender), limit))


def halves(body: bytes) -> list[bytes]:
    """Return a body in two parts."""
    middle = len(body) // 2
    return [body[:middle], body[middle:]]


# ---- what is taken ----


@pytest.mark.parametrize("encoding", [None, "", "identity", "Identity"])
def test_a_plain_body_is_itself(encoding: str | None) -> None:
    """In however many parts it comes."""
    assert read(Sender(halves(TEXT)), encoding) == TEXT


@each_encoding
def test_a_compressed_body_comes_back(encoding: str) -> None:
    """In each encoding, named in any case, in however many parts."""
    sender = Sender(halves(COMPRESSORS[encoding](TEXT)))
    assert read(sender, f" {encoding.upper()} ") == TEXT


@each_encoding
def test_a_body_of_nothing(encoding: str) -> None:
    """Nothing at all and nothing compressed are nothing."""
    assert read(Sender([b""]), encoding) == b""
    assert read(Sender([COMPRESSORS[encoding](b"")]), encoding) == b""


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
def test_members_follow_each_other(encoding: str) -> None:
    """RFC 1952, 2.2 and RFC 8878, 3: what is put end to end is one body, empty members too."""
    compress = COMPRESSORS[encoding]
    body = b"".join([compress(b"one "), compress(b""), compress(TEXT), compress(b" end")])
    assert decompress(body, encoding, LIMIT) == b"one " + TEXT + b" end"


def test_zstd_without_its_size() -> None:
    """A stream does not say how large it becomes."""
    compressor = zstandard.ZstdCompressor(write_content_size=False).compressobj()
    body = compressor.compress(TEXT) + compressor.flush()
    assert decompress(body, "zstd", LIMIT) == TEXT


@pytest.mark.parametrize("encoding", COMPRESSORS)
@given(body=st.binary(max_size=5000))
def test_any_bytes_come_back(encoding: str, body: bytes) -> None:
    """Whatever they are."""
    assert decompress(COMPRESSORS[encoding](body), encoding, 5000) == body


# ---- what is too large ----


@each_encoding
@pytest.mark.parametrize("excess", [0, 1])
def test_the_limit_counts_what_comes_out(encoding: str, excess: int) -> None:
    """To the byte."""
    body = COMPRESSORS[encoding](bytes(LIMIT + excess))
    assert len(body) < LIMIT
    if excess:
        with pytest.raises(RequestTooLargeError, match=f"larger than {LIMIT} bytes"):
            read(Sender([body]), encoding)
    else:
        assert read(Sender([body]), encoding) == bytes(LIMIT)


@pytest.mark.parametrize("encoding", [None, *COMPRESSORS])
@pytest.mark.parametrize("excess", [0, 1])
def test_the_limit_counts_what_arrives(encoding: str | None, excess: int) -> None:
    """Of a compressed body as well, before anything is made of it."""
    sender = Sender([bytes(LIMIT), bytes(excess)])
    if excess:
        with pytest.raises(RequestTooLargeError):
            read(sender, encoding)
    elif encoding is None:
        assert read(sender) == bytes(LIMIT)
    else:
        with pytest.raises(InvalidRequestError) as refused:
            read(sender, encoding)
        assert not isinstance(refused.value, RequestTooLargeError)


def test_no_more_is_read_than_the_limit() -> None:
    """The first part beyond it is the last that is asked for."""
    sender = Sender([bytes(LIMIT // 2)] * 100)
    with pytest.raises(RequestTooLargeError):
        read(sender)
    assert sender.taken == 3


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
def test_the_limit_counts_all_members(encoding: str) -> None:
    """Many small ones are one large body."""
    body = COMPRESSORS[encoding](bytes(LIMIT // 4)) * 5
    with pytest.raises(RequestTooLargeError):
        decompress(body, encoding, LIMIT)


@each_encoding
def test_a_bomb_is_not_blown_up(encoding: str) -> None:
    """Of what would be a gigabyte, little more than the limit is ever made."""
    part = bytes(1 << 20)
    if encoding == "zstd":
        stream = zstandard.ZstdCompressor(write_content_size=False).compressobj()
        body = b"".join(stream.compress(part) for _ in range(1024)) + stream.flush()
    else:
        deflate = zlib.compressobj(wbits=15 if encoding == "deflate" else 31)
        body = b"".join(deflate.compress(part) for _ in range(1024)) + deflate.flush()
    with pytest.raises(RequestTooLargeError):
        decompress(body, encoding, LIMIT)


# ---- what is none ----


def test_a_client_that_goes_away_is_no_fault_of_ours() -> None:
    """What it sent is not the whole."""

    class Gone(Sender):
        async def __call__(self) -> Message:
            """Give the first part, and then the end."""
            return {"type": "http.disconnect"} if self.taken else await super().__call__()

    with pytest.raises(InvalidRequestError, match="the connection ended"):
        read(Gone([b"part", b"never"]))


@each_encoding
@pytest.mark.parametrize(
    "damage",
    [lambda body: body[:-1], lambda body: body[:5], lambda body: b"\xff" + body, lambda _: TEXT],
    ids=["cut by a byte", "cut", "shifted", "not compressed"],
)
def test_a_damaged_body_is_refused(encoding: str, damage: Callable[[bytes], bytes]) -> None:
    """What is cut must not pass for the whole; the error names the encoding."""
    with pytest.raises(InvalidRequestError, match=f"not valid {encoding}") as refused:
        decompress(damage(COMPRESSORS[encoding](TEXT)), encoding, LIMIT)
    assert (refused.value.parameter, refused.value.value) == ("Content-Encoding", encoding)


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_a_wrong_checksum_is_refused(encoding: str) -> None:
    """The last bytes of gzip are its length, those before it and of zlib a checksum."""
    body = bytearray(COMPRESSORS[encoding](TEXT))
    body[-6 if encoding == "gzip" else -1] ^= 1
    with pytest.raises(InvalidRequestError):
        decompress(bytes(body), encoding, LIMIT)


@pytest.mark.parametrize("encoding", ["br", "snappy", "gzip, gzip", "gzip;q=1", "x" * 5000])
def test_an_unknown_encoding_is_refused(encoding: str) -> None:
    """Before the body is read; the error says which there are."""
    sender = Sender([b"x"])
    with pytest.raises(InvalidRequestError, match="allowed: gzip, deflate, zstd") as refused:
        read(sender, encoding)
    assert refused.value.parameter == "Content-Encoding"
    assert sender.taken == 0


def test_a_large_window_is_refused() -> None:
    """It is memory that a sender asks for: zstd allows 2 GB of it."""
    parameters = zstandard.ZstdCompressionParameters(window_log=27, enable_ldm=True)
    stream = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    body = stream.compress(TEXT) + stream.flush()
    with pytest.raises(InvalidRequestError, match="not valid zstd"):
        decompress(body, "zstd", LIMIT)


@pytest.mark.parametrize("encoding", COMPRESSORS)
@given(data=st.data())
def test_damage_is_refused_or_found_out_by_whoever_parses(
    encoding: str, data: st.DataObject
) -> None:
    """Nothing but an invalid request is ever raised, and no more comes out than the limit."""
    body = bytearray(COMPRESSORS[encoding](TEXT))
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(body)))
        end = data.draw(st.integers(start, min(len(body), start + 4)))
        body[start:end] = data.draw(st.binary(max_size=4))
    with contextlib.suppress(InvalidRequestError):
        assert len(decompress(bytes(body), encoding, LIMIT)) <= LIMIT
