# SPDX-License-Identifier: Apache-2.0
"""Tests of compressed answers: what is chosen, what stays as it is, and that a stream stays one."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from collections.abc import Sequence
from typing import Any

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import Headers
from starlette.types import Message, Receive, Scope, Send

from otel_apinalytics.api.compression import CompressionMiddleware, choose_coding

JSON = "application/json"
LONG = b'{"name": "value"}, ' * 1000


class Answer:
    """What an application sends, through the middleware.

    Args:
        body: The parts of its body.
        headers: Its headers.
        status: Its status.
        accepted: What the request accepts; None for no such header.
        method: Of the request.
    """

    def __init__(
        self,
        body: Sequence[bytes] = (LONG,),
        headers: Sequence[tuple[str, str]] = (("content-type", JSON),),
        *,
        status: int = 200,
        accepted: str | Sequence[str] | None = "gzip",
        method: str = "GET",
    ) -> None:
        self._body, self._status = body, status
        self._headers = [(name.encode(), value.encode()) for name, value in headers]
        lines = [accepted] if isinstance(accepted, str) else accepted or ()
        self._scope = {
            "type": "http",
            "method": method,
            "headers": [(b"accept-encoding", line.encode()) for line in lines],
        }
        self.messages: list[Message] = []
        asyncio.run(self._run())
        self.headers = Headers(raw=self.messages[0]["headers"])
        self.parts = [message["body"] for message in self.messages[1:]]
        self.body = b"".join(self.parts)
        self.coding = self.headers.get("content-encoding")

    async def _run(self) -> None:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            start = {"type": "http.response.start", "status": self._status}
            await send({**start, "headers": self._headers})
            for part in self._body[:-1]:
                await send({"type": "http.response.body", "body": part, "more_body": True})
            await send({"type": "http.response.body", "body": self._body[-1]})

        async def send(message: Message) -> None:
            self.messages.append(message)

        async def receive() -> Message:
            raise AssertionError

        await CompressionMiddleware(app)(self._scope, receive, send)


def decoded(coding: str | None, data: bytes) -> bytes:
    """Return the body; it must be whole."""
    if coding == "gzip":
        return gzip.decompress(data)
    return zstandard.ZstdDecompressor().decompressobj().decompress(data) if coding else data


@pytest.mark.parametrize(
    ("accepted", "coding", "is_required"),
    [
        ("", "identity", False),
        ("gzip", "gzip", False),
        ("zstd", "zstd", False),
        ("gzip, deflate, br, zstd", "zstd", False),
        ("GZIP ; Q=1.0", "gzip", False),
        ("x-gzip", "gzip", False),
        ("zstd;q=0.5, gzip;q=0.8", "gzip", False),
        ("zstd;q=0.5, gzip;q=0.5", "zstd", False),
        ("zstd;q=0, gzip;q=0.001", "gzip", False),
        ("gzip;q=0", "identity", False),
        ("br", "identity", False),
        # A star is not all that could be there: who says it may know no zstd.
        ("*", "gzip", False),
        ("*;q=0", "identity", False),
        ("br, *;q=0.1", "gzip", False),
        ("gzip;q=0, *", "identity", False),
        ("gzip;q=0.2, identity", "identity", False),
        ("gzip;q=0.2, identity;q=0.1", "gzip", False),
        ("gzip;q=0.5, identity;q=0.5", "gzip", False),
        ("gzip, identity;q=0", "gzip", True),
        ("gzip, *;q=0", "gzip", True),
        ("gzip, *;q=0, identity;q=0.1", "gzip", False),
        ("identity;q=0", "identity", False),
        ("br, identity;q=0", "identity", False),
        ("identity;q=0, *", "gzip", True),
        # Malformed.
        ("gzip;q=2", "identity", False),
        ("gzip;q=-1", "identity", False),
        ("gzip;q=", "identity", False),
        ("gzip;level=9", "identity", False),
        (";q=1, ,,gzip", "gzip", False),
        ("gzipped", "identity", False),
    ],
)
def test_negotiation(accepted: str, coding: str, is_required: bool) -> None:
    """RFC 9110, section 12.5.3."""
    assert choose_coding(accepted) == (coding, is_required)


@given(st.text(alphabet="gzipstd,;q=01.* identy\t"))
def test_any_header_is_taken(accepted: str) -> None:
    """What is malformed chooses nothing, and never what was refused."""
    coding, is_required = choose_coding(accepted)
    assert coding in ("gzip", "zstd", "identity")
    assert not (coding == "identity" and is_required)
    assert coding == "identity" or coding in accepted or "*" in accepted


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
@pytest.mark.parametrize("body", [LONG, LONG * 100])
def test_a_whole_body(coding: str, body: bytes) -> None:
    """With its length, and what it depends on."""
    answer = Answer(
        [body], [("content-type", JSON), ("content-length", str(len(body)))], accepted=coding
    )
    assert answer.coding == coding
    assert decoded(coding, answer.body) == body
    assert answer.headers.getlist("content-length") == [str(len(answer.body))]
    assert len(answer.body) < len(body) / 10
    assert answer.headers["vary"] == "Accept-Encoding"


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
def test_a_stream_stays_one(coding: str) -> None:
    """Whatever was sent can be read before the next part comes."""
    parts = [b"", b"a\n", LONG * 10, b"", b"b\n", LONG * 10, b""]
    answer = Answer(parts, [("content-type", "application/x-ndjson")], accepted=coding)
    assert answer.coding == coding
    assert "content-length" not in answer.headers
    decoder = (
        zlib.decompressobj(16 + zlib.MAX_WBITS)
        if coding == "gzip"
        else zstandard.ZstdDecompressor().decompressobj()
    )
    assert [decoder.decompress(part) for part in answer.parts] == parts
    assert decoded(coding, answer.body) == b"".join(parts)
    assert [message.get("more_body", False) for message in answer.messages[1:]] == [True] * 6 + [
        False
    ]


def test_what_was_cut_off_is_not_whole() -> None:
    """A client that does not look at the connection sees it in the coding."""
    answer = Answer([LONG, LONG, LONG])
    with pytest.raises(EOFError):
        gzip.decompress(b"".join(answer.parts[:-1]))


@pytest.mark.parametrize(
    "changed",
    [
        {"body": [b"{}"]},
        {"body": [b""]},
        {"accepted": None},
        {"accepted": "br"},
        {"method": "POST"},
        {"headers": [("content-type", "application/x-tar")]},
        {"headers": [("content-type", "application/vnd.apache.parquet")]},
        {"headers": [("content-type", "application/octet-stream")]},
        {"headers": [("content-type", "image/png")]},
        {"headers": []},
        {"headers": [("content-type", JSON), ("content-encoding", "br")]},
        {"status": 304, "body": [b""]},
        {"status": 206},
    ],
)
def test_what_stays_as_it_is(changed: dict[str, Any]) -> None:
    """The tiny, what is compressed already, parts, and what is not asked for."""
    answer = Answer(**changed)
    assert answer.coding in (None, "br")
    assert answer.body == b"".join(changed.get("body", [LONG]))


@pytest.mark.parametrize(
    "changed",
    [{"body": [b"{}"]}, {"headers": [("content-type", "application/x-tar")]}, {"body": [b""]}],
)
def test_a_plain_body_is_not_sent_to_whoever_refuses_it(changed: dict[str, Any]) -> None:
    """Whatever it is worth."""
    answer = Answer(**changed, accepted="gzip, identity;q=0")
    assert answer.coding == "gzip"
    expected = b"".join(changed.get("body", [LONG]))
    assert gzip.decompress(answer.body) == expected


@pytest.mark.parametrize(
    "media_type",
    [
        "text/csv; charset=utf-8; header=present", "text/html", "text/plain; version=0.0.4",
        "application/x-ndjson", "application/problem+json", "APPLICATION/JSON", "image/svg+xml",
        "application/javascript",
    ],
)  # fmt: skip
def test_types_that_are_worth_it(media_type: str) -> None:
    """Text, whatever its parameters."""
    assert Answer(headers=[("content-type", media_type)]).coding == "gzip"


@pytest.mark.parametrize("accepted", [None, "gzip", "br"])
def test_caches_are_told_what_it_depends_on(accepted: str | None) -> None:
    """Also where nothing is compressed; other names stay."""
    answer = Answer(
        headers=[("content-type", JSON), ("vary", "Origin")], body=[b"{}"], accepted=accepted
    )
    assert answer.headers["vary"] == "Origin, Accept-Encoding"
    assert "vary" not in Answer(method="POST").headers


def test_several_lines_are_one_list() -> None:
    """RFC 9110, section 5.3."""
    assert Answer(accepted=["br", "zstd;q=0.1", "gzip;q=0.2"]).coding == "gzip"


def test_a_strong_validator_becomes_a_weak_one() -> None:
    """Other bytes than those that it was made of."""
    for tag, expected in (('"a"', 'W/"a"'), ('W/"a"', 'W/"a"')):
        headers = [("content-type", JSON), ("etag", tag)]
        assert Answer(headers=headers).headers["etag"] == expected
        assert Answer(headers=headers, accepted=None).headers["etag"] == tag


def test_other_messages_pass() -> None:
    """Such as those that are no HTTP."""
    seen: list[Scope] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope)

    async def nothing(*_: object) -> Message:
        return {}

    asyncio.run(
        CompressionMiddleware(app)({"type": "lifespan"}, nothing, nothing)  # type: ignore[arg-type]
    )
    assert seen == [{"type": "lifespan"}]
