# SPDX-License-Identifier: Apache-2.0
"""Requests that are nearly right: real ones, with something done to them that a sender might do."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from otel_apinalytics.receiver.records import varint
from tests.support.otlp import CALL, CLIENT, INTERNAL, SERVER, Value, make_request, make_span

EVENT = {
    "timestamp": 1_400_000_000,
    "consumer_id": "alice",
    "method": "GET",
    "url": "/users/7?page=2",
    "function": "get_user",
    "response_us": 2500,
    "status_code": 200,
}
_FAILED: Mapping[str, Value] = {
    **CALL, "http.response.status_code": 500, "list": ["a", "b"], "share": 0.5, "sampled": True,
}  # fmt: skip
_VARINT, _FIXED64, _BYTES, _GROUP, _END_GROUP, _FIXED32 = range(6)
_DEEPEST = 8
# What has become longer is not made longer still.
_LONGEST = 1 << 16
# Where numbers end, and what is no number.
_VARINTS = (
    b"\0", b"\1", b"\x7f", b"\x80\0", b"\xff" * 4 + b"\x0f", b"\xff" * 8 + b"\x7f",
    b"\xff" * 9 + b"\1", b"\xff" * 9 + b"\x7f", b"\xff" * 11, b"\x80" * 9 + b"\1",
)  # fmt: skip
_TEXTS = (
    b"",
    b"\0",
    b"\xff\xfe",
    b"\xed\xa0\x80",
    b"\xc3",
    "é\u2028\U0001f600".encode(),
    b"x" * 5000,
)
_JSON_VALUES: Sequence[Any] = (
    None, True, False, 0, -1, 1.5, 2**63, 2**64, -(2**63) - 1, 10**40, 1e308, "", "0", "-1", "NaN",
    "Infinity", "1e5", "\u0663", "zz", "\0", "\ud800", "x" * 5000, [], {}, [[]], [None], [{}],
    {"": None}, "SPAN_KIND_SERVER", "STATUS_CODE_ERROR", "00" * 16, "00" * 8,
    "4bf92f3577b34da6a3ce929d0e0e4736",
)  # fmt: skip
_JSON_NAMES = ("", " " * 2000, "\n" + "x" * 2000, "`$[0].x`", "timestamp", "spans", "\ud800")


def nested_value(levels: int) -> bytes:
    """Return an `AnyValue` that holds lists of pairs in each other, so many levels deep."""
    value = field(1, b"x")
    for _ in range(levels):
        value = field(6, field(1, field(1, b"k") + field(2, value)))
    return value


def field(number: int, content: bytes) -> bytes:
    """Return a length-delimited field."""
    return tag(number, _BYTES) + varint(len(content)) + content


def group(number: int, content: bytes) -> bytes:
    """Return a group: what protobuf had before messages within messages."""
    return tag(number, _GROUP) + content + tag(number, _END_GROUP)


def tag(number: int, kind: int) -> bytes:
    """Return what stands in front of a field."""
    return varint(number << 3 | kind)


def trace_requests() -> list[bytes]:
    """Return OTLP requests as they are sent, and a few as nobody should."""
    ids = random.Random(0)
    server, client, child, failed = (
        make_span(attributes, kind=kind, trace_id=ids.randbytes(16), span_id=ids.randbytes(8))
        for attributes, kind in (
            (CALL, SERVER),
            (CALL, CLIENT),
            (CALL, INTERNAL),
            (_FAILED, SERVER),
        )
    )
    child.trace_id = server.trace_id
    child.parent_span_id = server.span_id
    child.flags = 0x100
    failed.events.add(name="exception").attributes.add(
        key="exception.type"
    ).value.string_value = "E"
    span = failed.SerializeToString()
    nested = span + field(9, field(1, b"deep") + field(2, nested_value(20)))
    return [
        make_request(server),
        make_request(server, child, client),
        make_request(failed),
        make_request(),
        b"",
        field(1, field(2, field(2, nested))),
        field(1, group(1000, field(1, b"x")) + field(2, group(7, b"") + field(2, span))),
        # The spans of senders before OTLP 0.15.
        field(1, field(1000, field(2, span))),
    ]


def json_requests() -> list[bytes]:
    """Return OTLP requests in JSON."""
    span = {
        "traceId": "5b8efff798038103d269b633813fc60c",
        "spanId": "eee19b7ec3c1b174",
        "parentSpanId": "eee19b7ec3c1b173",
        "name": "GET /users/{id}",
        "kind": 2,
        "flags": 257,
        "startTimeUnixNano": "1544712660000000000",
        "endTimeUnixNano": "1544712661000000000",
        "attributes": [
            {"key": "http.route", "value": {"stringValue": "/users/{id}"}},
            {"key": "http.response.status_code", "value": {"intValue": "200"}},
            {"key": "share", "value": {"doubleValue": 0.5}},
            {"key": "list", "value": {"arrayValue": {"values": [{"boolValue": True}]}}},
        ],
        "events": [
            {
                "name": "exception",
                "attributes": [{"key": "exception.type", "value": {"stringValue": "E"}}],
            }
        ],
        "status": {"code": "STATUS_CODE_ERROR"},
    }
    service = [{"key": "service.name", "value": {"stringValue": "svc"}}]
    request = {
        "resourceSpans": [
            {
                "resource": {"attributes": service},
                "scopeSpans": [{"scope": {"name": "scope"}, "spans": [span]}],
            }
        ]
    }
    return [json.dumps(request).encode(), b"{}", b""]


def event_requests() -> list[bytes]:
    """Return arrays of JSON events."""
    full = {
        **EVENT,
        "trace_id": "5b8efff798038103d269b633813fc60c",
        "span_id": "eee19b7ec3c1b174",
        "weight": 2.5,
        "is_error": True,
        "attributes": {"tenant": "a"},
        "metrics": {"rows": 2.5},
        "data": None,
    }
    return [json.dumps([EVENT]).encode(), json.dumps([EVENT, full, {}]).encode(), b"[]"]


def mutate_message(body: bytes, choose: random.Random) -> bytes:
    """Return a protobuf message with one to four things done to it."""
    for _ in range(choose.randint(1, 4)):
        if len(body) > _LONGEST:
            break
        if choose.random() < 0.3:
            body = _mutate_bytes(body, choose)
        else:
            body = _mutate_fields(body, choose, 0)
    return body


def mutate_json(body: bytes, choose: random.Random) -> bytes:
    """Return a text in JSON with one to four things done to it."""
    for _ in range(choose.randint(1, 4)):
        if len(body) > _LONGEST:
            break
        try:
            value = json.loads(body)
        except (ValueError, RecursionError):
            body = _mutate_bytes(body, choose)
            continue
        if choose.random() < 0.2:
            body = _mutate_bytes(body, choose)
        else:
            text = json.dumps(_mutate_value(value, choose), ensure_ascii=choose.random() < 0.7)
            body = text.encode("utf-8", "surrogatepass")
    return body


# ---- bytes ----


def _mutate_bytes(body: bytes, choose: random.Random) -> bytes:
    start, end = sorted((choose.randint(0, len(body)), choose.randint(0, len(body))))
    end = min(end, start + 64)
    change: Callable[[], bytes] = choose.choice(
        (
            lambda: body[:start],
            lambda: body[start:],
            lambda: body[:start] + body[end:],
            lambda: body[:start] + body[start:end] * 2 + body[end:],
            lambda: body[:start] + choose.randbytes(end - start) + body[end:],
            lambda: body[:start] + choose.choice(_VARINTS + _TEXTS) + body[end:],
            lambda: _flipped(body, choose),
        )
    )
    return change()


def _flipped(body: bytes, choose: random.Random) -> bytes:
    changed = bytearray(body)
    for _ in range(min(len(body), choose.randint(1, 4))):
        changed[choose.randrange(len(body))] ^= 1 << choose.randrange(8)
    return bytes(changed)


# ---- fields of messages ----


def _mutate_fields(message: bytes, choose: random.Random, depth: int) -> bytes:
    parts = _split(message)
    if parts is None:
        return _mutate_bytes(message, choose)
    if not parts:
        return _odd_field(choose, 1, b"")
    place = choose.randrange(len(parts))
    number, kind, content, whole = parts[place]
    if kind == _BYTES and content and depth < _DEEPEST and choose.random() < 0.75:
        changed = field(number, _mutate_fields(content, choose, depth + 1))
    else:
        changed = choose.choice(
            (
                b"",
                whole * choose.choice((2, 3, 50)),
                _odd_field(choose, number, content),
                whole + _odd_field(choose, number, content),
                whole + choose.choice(parts)[3],
                whole + group(choose.choice((number, 500)), choose.choice((b"", whole, b"\x0b"))),
                field(choose.randint(1, 16), content),
            )
        )
    pieces = [part[3] for part in parts]
    pieces[place] = changed
    return b"".join(pieces)


def _odd_field(choose: random.Random, number: int, content: bytes) -> bytes:
    """Return a field of the wrong type, with odd content, or that nobody knows."""
    number = choose.choice((number, number, 0, 19_000, 2**29 - 1, 2**31))
    made: Callable[[], bytes] = choose.choice(
        (
            lambda: tag(number, _VARINT) + choose.choice(_VARINTS),
            lambda: tag(number, _FIXED64) + choose.randbytes(8),
            lambda: tag(number, _FIXED32) + choose.randbytes(4),
            lambda: field(number, choose.choice(_TEXTS)),
            lambda: tag(number, _BYTES) + choose.choice(_VARINTS) + content,
            lambda: tag(number, choose.choice((_END_GROUP, 6, 7))),
            lambda: group(number, content),
            lambda: field(number, nested_value(choose.choice((1, 30, 50, 99, 150)))),
            lambda: tag(number, _GROUP) * choose.choice((1, 99, 200)),
        )
    )
    return made()


def _split(message: bytes) -> list[tuple[int, int, bytes, bytes]] | None:
    """Return number, kind, content and all bytes of each field; None if it is no message."""
    parts, position = [], 0
    while position < len(message):
        start = position
        found = _read_varint(message, position)
        if found is None:
            return None
        number, kind, position = found[0] >> 3, found[0] & 7, found[1]
        content = b""
        if kind == _VARINT:
            found = _read_varint(message, position)
            if found is None:
                return None
            position = found[1]
        elif kind == _BYTES:
            found = _read_varint(message, position)
            if found is None or found[0] > len(message) - found[1]:
                return None
            position = found[1] + found[0]
            content = message[found[1] : position]
        elif kind in (_FIXED64, _FIXED32):
            position += 8 if kind == _FIXED64 else 4
        elif kind not in (_GROUP, _END_GROUP):
            return None
        if position > len(message) or not number:
            return None
        parts.append((number, kind, content, message[start:position]))
    return parts


def _read_varint(message: bytes, position: int) -> tuple[int, int] | None:
    number = 0
    for index, byte in enumerate(message[position : position + 10]):
        number |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return number, position + index + 1
    return None


# ---- values of JSON ----


def _mutate_value(value: Any, choose: random.Random) -> Any:
    if isinstance(value, dict) and value and choose.random() < 0.85:
        name = choose.choice(list(value))
        kind = choose.random()
        if kind < 0.1:
            return {choose.choice(_JSON_NAMES): 1, **value}
        if kind < 0.15:
            return {key: item for key, item in value.items() if key != name}
        return {**value, name: _mutate_value(value[name], choose)}
    if isinstance(value, list) and value and choose.random() < 0.85:
        place = choose.randrange(len(value))
        kind = choose.random()
        if kind < 0.1:
            return value * choose.choice((0, 2, 20))
        return [*value[:place], _mutate_value(value[place], choose), *value[place + 1 :]]
    return choose.choice(_JSON_VALUES)
