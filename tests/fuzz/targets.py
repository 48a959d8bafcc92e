# SPDX-License-Identifier: Apache-2.0
"""What is fuzzed: functions from bytes to nothing, each of which asserts what must hold.

Of errors only those come out of an entry that its documentation names; they are taken here. A
finding is any other exception.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, cast

import msgspec
import zstandard
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import DecodeError
from google.protobuf.unknown_fields import UnknownFieldSet

from otel_apinalytics.errors import ApinalyticsError, InvalidRequestError, RequestTooLargeError
from otel_apinalytics.receiver import gate, wire_format
from otel_apinalytics.receiver.bodies import decompress
from otel_apinalytics.receiver.events_json import (
    EncodedEvents,
    encode_events,
    encode_valid_events,
)
from otel_apinalytics.receiver.otlp_json import request_of_json
from otel_apinalytics.store.keys import read_credentials
from otel_apinalytics.wire.log_pb2 import EventBatch, TraceRequest

Target = Callable[[bytes], None]

LIMIT_BYTES = 1 << 16
# An error is kept for a while and shown: what was sent must not make it large.
MAX_MESSAGE = 1000
_ENCODERS: Mapping[str, Callable[[bytes], bytes]] = MappingProxyType(
    {"gzip": gzip.compress, "deflate": zlib.compress, "zstd": zstandard.compress}
)
_BYTES = 2


def inspect_request(body: bytes) -> None:
    """The gate counts the spans that are there, or refuses."""
    try:
        counts = gate.inspect(body)
    except InvalidRequestError as error:
        assert_fit_to_tell(error)
        return
    assert 0 <= counts.invalid <= counts.spans <= gate.MAX_SPANS
    walked = sum(
        number == 2
        for resource_spans in _contents(memoryview(body), 1)
        for scope_spans in _contents(resource_spans, 2)
        for number, _ in wire_format.fields(scope_spans)
    )
    # The walk looks at no types: of what is not length-delimited, it may see more.
    assert counts.spans <= walked, "spans are hidden from the walk that checks sizes"


def read_json(body: bytes) -> None:
    """What JSON becomes is a request that the gate lets in, but for its size."""
    try:
        request = request_of_json(body)
    except InvalidRequestError as error:
        assert_fit_to_tell(error)
        return
    TraceRequest.FromString(request)
    try:
        gate.inspect(request)
    except RequestTooLargeError as error:
        assert_fit_to_tell(error)


def decompress_body(body: bytes) -> None:
    """No encoding gives more than the limit; what was compressed comes out as it was."""
    for encoding, encoder in _ENCODERS.items():
        try:
            assert len(decompress(body, encoding, LIMIT_BYTES)) <= LIMIT_BYTES
        except InvalidRequestError as error:
            assert_fit_to_tell(error)
        if len(body) <= LIMIT_BYTES // 2:
            compressed = encoder(body)
            assert decompress(compressed, encoding, LIMIT_BYTES) == body
            if encoding != "deflate":
                assert decompress(compressed * 2, encoding, LIMIT_BYTES) == body * 2
            if body:
                _assert_refused(compressed[:-1], encoding)


def read_events(body: bytes) -> None:
    """Each event that is taken is encoded, each other one is refused with its index."""
    try:
        every: EncodedEvents | None = encode_events(body)
    except InvalidRequestError as error:
        every = None
        assert_fit_to_tell(error)
    try:
        valid = encode_valid_events(body)
    except InvalidRequestError as error:
        assert_fit_to_tell(error)
        assert every is None, "all are taken, and none are"
        return
    sent = len(msgspec.json.decode(body, type=list[msgspec.Raw]))
    assert valid.count + len(valid.refused) == sent
    assert len(EventBatch.FromString(valid.batch).events) == valid.count
    indices = [refusal.index for refusal in valid.refused]
    assert indices == sorted({index for index in indices if index is not None and index < sent})
    for refusal in valid.refused:
        assert_fit_to_tell(refusal)
    if every is not None:
        assert not valid.refused
        assert every.count == valid.count == len(EventBatch.FromString(every.batch).events)
        assert every.have_ids == valid.have_ids


def walk_fields(body: bytes) -> None:
    """The walk sees what a parser sees, wherever that one finds a message."""
    walked = list(wire_format.fields(memoryview(body)))
    assert sum(len(content) for _, content in walked) <= len(body)
    try:
        message = Empty.FromString(body)
    except DecodeError:
        return
    # A number 0 is of no field, or of a part of a group.
    seen = [(number, bytes(content)) for number, content in walked if number]
    # The type that is published has no iterator.
    parsed: Iterable[Any] = cast(Any, UnknownFieldSet(message))
    assert seen == [
        (part.field_number, part.data if part.wire_type == _BYTES else b"")
        for part in parsed
        if part.field_number
    ]


def find_credentials(body: bytes) -> None:
    """Whatever the headers say, credentials are text or nothing; a key is never empty."""
    names = ("authorization", "x-auth-key", "x-auth-user")
    values = body.decode("latin-1").split("\n")
    application, secret = read_credentials(dict(zip(names, values, strict=False)))
    assert application is None or isinstance(application, str)
    assert secret is None or (isinstance(secret, str) and secret)


TARGETS: Mapping[str, Target] = MappingProxyType(
    {
        "gate": inspect_request,
        "json": read_json,
        "decompress": decompress_body,
        "events": read_events,
        "wire_format": walk_fields,
        "credentials": find_credentials,
    }
)


def assert_fit_to_tell(error: ApinalyticsError) -> None:
    """Assert that an error can be shown: it is short, and its texts can be encoded."""
    told: Sequence[object] = (str(error),)
    if isinstance(error, InvalidRequestError):
        told = (str(error), error.parameter, error.value, error.allowed)
    for text in told:
        assert text is None or isinstance(text, str)
        assert len(text or "") <= MAX_MESSAGE, f"{len(text or '')} characters: {text!r:.200}"
    json.dumps(told, ensure_ascii=False).encode()


def _contents(message: memoryview, wanted: int) -> list[memoryview]:
    return [content for number, content in wire_format.fields(message) if number == wanted]


def _assert_refused(body: bytes, encoding: str) -> None:
    try:
        decompress(body, encoding, LIMIT_BYTES)
    except InvalidRequestError:
        return
    raise AssertionError(f"{encoding} that was cut is taken")
