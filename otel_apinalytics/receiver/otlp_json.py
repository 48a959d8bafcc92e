# SPDX-License-Identifier: Apache-2.0
"""OTLP in JSON: from text to the same bytes that protobuf senders send.

Only what the rules read is kept. Ids are hexadecimal here, not base64 (OTLP specification,
"JSON Protobuf Encoding"); an id that is none stays invalid, and costs its span only.
"""

from __future__ import annotations

import binascii
import codecs
import math
import re
from collections.abc import Sequence
from typing import Any

import msgspec

from otel_apinalytics.errors import InvalidRequestError, RequestTooLargeError
from otel_apinalytics.receiver.gate import MAX_SPANS
from otel_apinalytics.wire import log_pb2

# Integers of 64 bits are decimal strings; numbers are accepted as well.
_Integer = int | str | float
_MAX_SIGNED, _MAX_UNSIGNED = 2**63 - 1, 2**64 - 1
_MAX_FLAGS = 2**32 - 1
# An object of two characters takes hundreds of bytes, and a microsecond or more, to be read.
_MAX_OBJECTS = 1 << 21
# Of a wrong value, in an error: it may be as long as the request.
_VALUE_LENGTH = 80


class _Message(msgspec.Struct, rename="camel"):
    """What is not named is passed over, as the specification demands."""


class _ArrayItem(_Message):
    string_value: str | None = None
    bool_value: bool | None = None
    int_value: _Integer | None = None
    double_value: float | str | None = None


class _Array(_Message):
    values: list[_ArrayItem | None] | None = None


class _AnyValue(_ArrayItem):
    array_value: _Array | None = None


class _KeyValue(_Message):
    key: str | None = None
    value: _AnyValue | None = None


_Attributes = list[_KeyValue] | None


class _Event(_Message):
    name: str | None = None
    attributes: _Attributes = None


class _Status(_Message):
    code: _Integer | None = None


class _Span(_Message):
    trace_id: str | None = None
    span_id: str | None = None
    parent_span_id: str | None = None
    trace_state: str | None = None
    flags: _Integer | None = None
    name: str | None = None
    kind: _Integer | None = None
    start_time_unix_nano: _Integer | None = None
    end_time_unix_nano: _Integer | None = None
    attributes: _Attributes = None
    events: list[_Event] | None = None
    status: _Status | None = None


class _Scope(_Message):
    name: str | None = None


class _ScopeSpans(_Message):
    scope: _Scope | None = None
    spans: list[_Span] | None = None


class _Resource(_Message):
    attributes: _Attributes = None


class _ResourceSpans(_Message):
    resource: _Resource | None = None
    scope_spans: list[_ScopeSpans] | None = None


class _Request(_Message):
    resource_spans: list[_ResourceSpans] | None = None


_decoder = msgspec.json.Decoder(_Request)


def request_of_json(body: bytes) -> bytes:
    """Return the `ExportTraceServiceRequest` in protobuf that a body in JSON stands for.

    Raises:
        InvalidRequestError: It is not JSON, or a field has a value that it cannot have; where.
        RequestTooLargeError: It has too many objects, or spans.
    """
    if not body:
        # As in protobuf: a request without anything.
        return b""
    if body.count(b"{") > _MAX_OBJECTS:
        raise RequestTooLargeError(
            f"the request has more than {_MAX_OBJECTS} objects: send smaller batches"
        )
    sent = _decode(body.removeprefix(codecs.BOM_UTF8))
    _check_spans(sent)
    request = log_pb2.TraceRequest()
    for resource_spans in sent.resource_spans or ():
        _add_resource_spans(request.resource_spans.add(), resource_spans)
    return request.SerializeToString()


def _check_spans(sent: _Request) -> None:
    """Refuse what the gate will refuse, before the time is spent to write it."""
    spans = sum(
        len(scope_spans.spans or ())
        for resource_spans in sent.resource_spans or ()
        for scope_spans in resource_spans.scope_spans or ()
    )
    if spans > MAX_SPANS:
        raise RequestTooLargeError(
            f"the request has {spans} spans; at most {MAX_SPANS} are allowed: send smaller batches"
        )


def _decode(body: bytes) -> _Request:
    try:
        try:
            return _decoder.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError):
            repaired = _with_valid_text(body)
            if repaired == body:
                raise
            return _decoder.decode(repaired)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequestError(
            f"the body is not an OTLP ExportTraceServiceRequest in JSON: {error}"
        ) from error


# An escaped backslash, a surrogate pair, or half of one.
_SURROGATES = re.compile(
    rb"\\\\|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
    rb"|(\\u[dD][89a-fA-F][0-9a-fA-F]{2})"
)


def _with_valid_text(body: bytes) -> bytes:
    """Return a body with a mark in place of what is no text: it must not cost the request.

    JavaScript writes half of a surrogate pair as an escape; others send bytes that are no UTF-8.
    """
    valid = body.decode("utf-8", "replace").encode()
    return _SURROGATES.sub(lambda found: b"\\ufffd" if found[1] else found[0], valid)


def _add_resource_spans(made: log_pb2.ResourceSpans, sent: _ResourceSpans) -> None:
    if sent.resource:
        _add_attributes(made.resource, sent.resource.attributes)
    for scope_spans in sent.scope_spans or ():
        of_scope = made.scope_spans.add()
        if scope_spans.scope:
            of_scope.scope.name = _bytes(scope_spans.scope.name)
        for span in scope_spans.spans or ():
            _add_span(of_scope.spans.add(), span)


def _add_span(made: log_pb2.Span, sent: _Span) -> None:
    made.trace_id = _id(sent.trace_id)
    made.span_id = _id(sent.span_id)
    made.parent_span_id = _id(sent.parent_span_id)
    made.trace_state = _bytes(sent.trace_state)
    made.name = _bytes(sent.name)
    made.flags = _integer(sent.flags, "flags", 0, _MAX_FLAGS) or 0
    made.kind = _enum(sent.kind, _KINDS, "kind")
    made.start_time_unix_nano = _nanoseconds(sent.start_time_unix_nano, "startTimeUnixNano")
    made.end_time_unix_nano = _nanoseconds(sent.end_time_unix_nano, "endTimeUnixNano")
    if sent.status:
        made.status.code = _enum(sent.status.code, _CODES, "status.code")
    _add_attributes(made, sent.attributes)
    for event in sent.events or ():
        of_event = made.events.add(name=_bytes(event.name))
        for attribute in event.attributes or ():
            text = attribute.value.string_value if attribute.value else None
            of_event.attributes.add(key=_bytes(attribute.key)).value.string_value = _bytes(text)


def _add_attributes(made: Any, sent: Sequence[_KeyValue] | None) -> None:
    for attribute in sent or ():
        added = made.attributes.add(key=_bytes(attribute.key))
        value = attribute.value
        if value is None:
            continue
        _set_value(added.value, value)
        if value.array_value:
            # Also an empty one is an array.
            added.value.array_value.SetInParent()
            for item in value.array_value.values or ():
                _set_value(added.value.array_value.values.add(), item or _ArrayItem())


def _set_value(made: Any, sent: _ArrayItem) -> None:
    if sent.string_value is not None:
        made.string_value = _bytes(sent.string_value)
    elif sent.bool_value is not None:
        # A number in the log's view of it.
        made.bool_value = int(sent.bool_value)
    elif sent.int_value is not None:
        _set_integer(made, sent.int_value)
    elif sent.double_value is not None:
        made.double_value = _double(sent.double_value)


def _set_integer(made: Any, sent: _Integer) -> None:
    """Set an integer, or a double where it has more than 64 bits: JavaScript knows no other."""
    try:
        made.int_value = _integer(sent, "intValue", -_MAX_SIGNED - 1, _MAX_SIGNED) or 0
    except InvalidRequestError:
        number = _double(sent)
        if not math.isnan(number):
            made.double_value = number


def _bytes(text: str | None) -> bytes:
    return text.encode() if text else b""


def _id(text: str | None) -> bytes:
    """Return an id; what is none becomes one that the gate counts as invalid, unless empty."""
    if not text:
        return b""
    try:
        return binascii.unhexlify(text)
    except ValueError:
        return b"\0"


def _integer(sent: _Integer | None, name: str, minimum: int, maximum: int) -> int | None:
    if sent is None or sent == "":
        return None
    try:
        # A double loses digits; only a whole one can stand for an integer.
        found = int(sent) if not isinstance(sent, float) or sent.is_integer() else None
    except ValueError:
        found = None
    if found is None or not minimum <= found <= maximum:
        shown = str(sent)[:_VALUE_LENGTH]
        raise InvalidRequestError(
            f"{name} is {shown!r}; allowed is an integer from {minimum} to {maximum}",
            parameter=name,
            value=shown,
            allowed=f"an integer from {minimum} to {maximum}",
        )
    return found


def _nanoseconds(sent: _Integer | None, name: str) -> int:
    return _integer(sent, name, 0, _MAX_UNSIGNED) or 0


def _double(sent: _Integer) -> float:
    """Return a double; `"NaN"` and the infinities are strings, other strings are no number."""
    try:
        return float(sent)
    except (ValueError, OverflowError):
        return math.nan


_KINDS = ("UNSPECIFIED", "INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER")
_CODES = ("UNSET", "OK", "ERROR")


def _enum(sent: _Integer | None, names: Sequence[str], field: str) -> int:
    """Return an enumeration's number; names are not valid, and yet sent."""
    if isinstance(sent, str):
        name = sent.removeprefix("SPAN_KIND_").removeprefix("STATUS_CODE_")
        if name in names:
            return names.index(name)
    return _integer(sent, field, -_MAX_SIGNED - 1, _MAX_SIGNED) or 0
