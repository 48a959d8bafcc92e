# SPDX-License-Identifier: Apache-2.0
"""Bodies of HTTP requests: read and decompressed, never beyond the limit.

The limit counts what arrives and what comes out of it: a body that would become larger
is dropped as soon as that is seen.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import zstandard
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request

from otel_apinalytics.errors import InvalidRequestError, RequestTooLargeError

_IDENTITY = ("", "identity")
# What a zstd decoder has to support (RFC 8878, section 3.1.1.1.2); a larger window is memory that
# the sender asks for.
_MAX_WINDOW_BYTES = 8 << 20
# A block of zstd has at least four bytes and gives at most 128 kB, gzip gives a thousandfold: the
# most by which the limit is passed before it is looked at is 32 MB.
_STEP_BYTES = 1 << 10
# An empty member has ten bytes and more, and costs microseconds: a body of them would cost half a
# minute. Senders write one, or one for each part that they had.
_MAX_MEMBERS = 1 << 12
# RFC 1952 with its header and checksum, in zlib's words.
_GZIP_FORMAT = zlib.MAX_WBITS | 16


async def read_body(request: Request, limit: int) -> bytes:
    """Return a request's body, decompressed.

    Args:
        request: The request.
        limit: Largest size in bytes, before and after decompression.

    Raises:
        RequestTooLargeError: It is larger.
        InvalidRequestError: Its encoding is not supported, it does not decompress, or it is cut.
    """
    encoding = request.headers.get("content-encoding", "").strip().lower()
    if encoding not in _IDENTITY and encoding not in _DECOMPRESSORS:
        raise InvalidRequestError(
            f"content encoding {encoding!r} is not supported; allowed: {_ALLOWED}",
            parameter="Content-Encoding",
            value=encoding,
            allowed=_ALLOWED,
        )
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > limit:
                raise _too_large(limit)
    except ClientDisconnect:
        raise InvalidRequestError("the connection ended before the body did") from None
    if encoding in _IDENTITY or not body:
        return bytes(body)
    return await run_in_threadpool(decompress, bytes(body), encoding, limit)


def decompress(body: bytes, encoding: str, limit: int) -> bytes:
    """Return a compressed body as it was.

    Args:
        body: All of it.
        encoding: `gzip`, `deflate` or `zstd`.
        limit: Largest size in bytes of what comes out.

    Raises:
        RequestTooLargeError: More would come out.
        InvalidRequestError: It is not of this encoding, damaged, or cut.
    """
    try:
        found = _DECOMPRESSORS[encoding](body, limit)
    except (EOFError, zlib.error, zstandard.ZstdError) as error:
        raise InvalidRequestError(
            f"the body is not valid {encoding}: {error}",
            parameter="Content-Encoding",
            value=encoding,
        ) from error
    if len(found) > limit:
        raise _too_large(limit)
    return found


def _gunzip(body: bytes, limit: int) -> bytes:
    return _joined(body, limit, lambda: zlib.decompressobj(_GZIP_FORMAT))


def _inflate(body: bytes, limit: int) -> bytes:
    decoder = zlib.decompressobj()
    found = decoder.decompress(body, limit + 1)
    if len(found) <= limit and not decoder.eof:
        raise EOFError("it ends too early")
    return found


def _unzstd(body: bytes, limit: int) -> bytes:
    frames = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW_BYTES)
    return _joined(body, limit, frames.decompressobj)


def _joined(body: bytes, limit: int, new_decoder: Callable[[], Any]) -> bytes:
    """Return what members, or frames, that follow each other give together."""
    decoder, members = new_decoder(), 1
    found = bytearray()
    for start in range(0, len(body), _STEP_BYTES):
        rest = body[start : start + _STEP_BYTES]
        while rest and len(found) <= limit:
            if decoder.eof:
                decoder, members = new_decoder(), members + 1
            if members > _MAX_MEMBERS:
                raise EOFError(f"it has more than {_MAX_MEMBERS} members")
            found += decoder.decompress(rest)
            rest = decoder.unused_data
    if len(found) <= limit and not decoder.eof:
        raise EOFError("it ends too early")
    return bytes(found)


_DECOMPRESSORS: Mapping[str, Callable[[bytes, int], bytes]] = MappingProxyType(
    {"gzip": _gunzip, "x-gzip": _gunzip, "deflate": _inflate, "zstd": _unzstd}
)
_ALLOWED = "gzip, deflate, zstd, identity"


def _too_large(limit: int) -> RequestTooLargeError:
    return RequestTooLargeError(
        f"the body is larger than {limit} bytes, decompressed: send smaller batches"
    )
