# SPDX-License-Identifier: Apache-2.0
"""Compressed answers: gzip and zstd, for whoever asks for them."""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping
from typing import Protocol

import zstandard
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

# Smaller ones fit into a packet as they are.
_MIN_BYTES = 1000
# What takes longer than to hand it to a thread.
_MIN_THREAD_BYTES = 16 * 1024
# Fast ones: half an hour of raw events is not to cost a core.
_GZIP_LEVEL = 4
_ZSTD_LEVEL = 3
_GZIP_WINDOW = 16 + zlib.MAX_WBITS
# What is left out is compressed already, as a backup and Parquet are.
_TYPES = re.compile(r"text/.*|application/(.*\+)?(json|x-ndjson|javascript|xml)|image/svg\+xml")
# They have no body, or a part of one.
_STATUSES_WITHOUT = (204, 206, 304)
_QUALITY = re.compile(r"q=(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)", re.IGNORECASE)
_ALIASES = {"x-gzip": "gzip"}

IDENTITY = "identity"


class _Compressor(Protocol):
    def compress(self, data: bytes, /) -> bytes: ...

    def flush(self, mode: int = ..., /) -> bytes: ...


class _Coding:
    """A coding of one answer: what goes in comes out at once, so that a stream stays one."""

    def __init__(self, name: str) -> None:
        if name == "zstd":
            self._compressor: _Compressor = zstandard.ZstdCompressor(_ZSTD_LEVEL).compressobj()
            self._flush = zstandard.COMPRESSOBJ_FLUSH_BLOCK
            self._finish = zstandard.COMPRESSOBJ_FLUSH_FINISH
        else:
            self._compressor = zlib.compressobj(_GZIP_LEVEL, zlib.DEFLATED, _GZIP_WINDOW)
            self._flush, self._finish = zlib.Z_SYNC_FLUSH, zlib.Z_FINISH

    def code(self, data: bytes, *, is_last: bool) -> bytes:
        """Return what has to be sent of it."""
        coded = self._compressor.compress(data)
        return coded + self._compressor.flush(self._finish if is_last else self._flush)


class CompressionMiddleware:
    """Compresses answers to GET as the request's Accept-Encoding says.

    Answers that are tiny or of a type that is compressed already stay as they are, unless that is
    refused. So are those that are coded already.

    Args:
        app: The application.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] == "http" and scope["method"] == "GET":
            accepted = Headers(scope=scope).getlist("accept-encoding")
            send = _Answer(choose_coding(",".join(accepted)), send)
        await self._app(scope, receive, send)


class _Answer:
    """Sends one answer; its head waits for the first part of the body.

    Args:
        choice: Name of the coding, and whether the plain body is refused.
        send: Where to.
    """

    def __init__(self, choice: tuple[str, bool], send: Send) -> None:
        self._name, self._is_required = choice
        self._send = send
        self._head: Message = {}
        self._coding: _Coding | None = None

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._head = message
            return
        if message["type"] != "http.response.body":
            await self._send(message)
            return
        body, more = message.get("body", b""), message.get("more_body", False)
        if self._head:
            head, self._head = self._head, {}
            headers = MutableHeaders(raw=head["headers"])
            headers.add_vary_header("Accept-Encoding")
            if self._is_to_be_coded(head["status"], headers, body, more):
                self._coding = _Coding(self._name)
                body = await self._code(body, more)
                _set_coding(headers, self._name, None if more else len(body))
            await self._send(head)
        elif self._coding:
            body = await self._code(body, more)
        await self._send({**message, "body": body})

    def _is_to_be_coded(self, status: int, headers: Headers, body: bytes, more: bool) -> bool:
        if self._name == IDENTITY or status in _STATUSES_WITHOUT or "content-encoding" in headers:
            return False
        media_type = headers.get("content-type", "").partition(";")[0].strip().lower()
        is_worth_it = _TYPES.fullmatch(media_type) and (more or len(body) >= _MIN_BYTES)
        return self._is_required or bool(is_worth_it)

    async def _code(self, body: bytes, more: bool) -> bytes:
        coding = self._coding
        if coding is None or (more and not body):
            return body
        if len(body) < _MIN_THREAD_BYTES:
            return coding.code(body, is_last=not more)
        return await run_in_threadpool(coding.code, body, is_last=not more)


def choose_coding(accepted: str) -> tuple[str, bool]:
    """Return the coding that a client likes best, and whether it refuses the plain body.

    RFC 9110, section 12.5.3. Where it refuses all that there is, the plain body is sent, as
    section 12.4.1 allows.

    Args:
        accepted: The value of Accept-Encoding; empty if there is none.
    """
    qualities = _qualities(accepted)
    rest = qualities.get("*", 0.0)
    # Of two that it likes as much, zstd takes less time. A star may be said by who knows it not.
    offers = {"zstd": qualities.get("zstd", 0.0), "gzip": qualities.get("gzip", rest)}
    # It is acceptable as long as nothing is said against it, and then the last resort.
    plain = qualities.get(IDENTITY, rest if "*" in qualities else None)
    best = max(offers, key=lambda name: offers[name])
    if not offers[best] or (plain is not None and plain > offers[best]):
        return IDENTITY, False
    return best, plain == 0


def _qualities(accepted: str) -> Mapping[str, float]:
    """Return the codings of Accept-Encoding with their qualities; what is malformed is left out."""
    found = {}
    for item in accepted.split(","):
        name, *parameters = (part.strip() for part in item.split(";"))
        quality = _QUALITY.fullmatch(parameters[0]) if parameters else None
        if name and len(parameters) <= 1 and (quality or not parameters):
            name = name.lower()
            found[_ALIASES.get(name, name)] = float(quality[1]) if quality else 1.0
    return found


def _set_coding(headers: MutableHeaders, name: str, length: int | None) -> None:
    headers["Content-Encoding"] = name
    del headers["Content-Length"]
    if length is not None:
        headers["Content-Length"] = str(length)
    etag = headers.get("etag", "")
    if etag.startswith('"'):
        # It is of other bytes now.
        headers["ETag"] = f"W/{etag}"
