# SPDX-License-Identifier: Apache-2.0
"""Tests of OTLP in JSON: what is sent in JSON is what is sent in protobuf."""

from __future__ import annotations

import contextlib
import json
import math
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from otel_apinalytics.errors import InvalidRequestError
from otel_apinalytics.receiver.otlp_json import request_of_json

TRACE_ID, SPAN_ID = "0af7651916cd43dd8448eb211c80319c", "b9c7c989f97918e1"
IDS = {"traceId": TRACE_ID, "spanId": SPAN_ID}


def request(span: Any) -> bytes:
    """Return a request with one span, in JSON."""
    return json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}).encode()


def parsed(body: bytes) -> ExportTraceServiceRequest:
    """Return the message that a body in JSON stands for."""
    return ExportTraceServiceRequest.FromString(request_of_json(body))


def span_of(span: Any) -> Span:
    """Return the one span that is sent."""
    (resource_spans,) = parsed(span if isinstance(span, bytes) else request(span)).resource_spans
    return resource_spans.scope_spans[0].spans[0]


def value_of(value: Any) -> AnyValue:
    """Return the value of an attribute."""
    (attribute,) = span_of(IDS | {"attributes": [{"key": "k", "value": value}]}).attributes
    assert attribute.key == "k"
    return attribute.value


def refusal(body: bytes) -> InvalidRequestError:
    """Return the error that a body gives."""
    with pytest.raises(InvalidRequestError) as refused:
        request_of_json(body)
    return refused.value


# ---- whole requests ----


def test_all_that_the_rules_read_arrives() -> None:
    """The nesting, resource, scope, and each field of a span."""
    body = {
        "resourceSpans": [
            {
                "resource": {
                    "attributes": [{"key": "service.name", "value": {"stringValue": "s"}}]
                },
                "scopeSpans": [
                    {
                        "scope": {"name": "scope", "version": "1"},
                        "spans": [
                            {
                                **IDS,
                                "parentSpanId": "00f067aa0ba902b7",
                                "traceState": "ot=th:8",
                                "flags": 0x301,
                                "name": "GET /",
                                "kind": 2,
                                "startTimeUnixNano": "1544712660000000001",
                                "endTimeUnixNano": "1544712661000000002",
                                "attributes": [
                                    {"key": "s", "value": {"stringValue": "é"}},
                                    {"key": "b", "value": {"boolValue": True}},
                                    {"key": "i", "value": {"intValue": "-7"}},
                                    {"key": "d", "value": {"doubleValue": 0.5}},
                                    {
                                        "key": "a",
                                        "value": {
                                            "arrayValue": {
                                                "values": [{"stringValue": "x"}, {"intValue": 2}]
                                            }
                                        },
                                    },
                                ],
                                "events": [
                                    {
                                        "name": "exception",
                                        "attributes": [
                                            {"key": "exception.type", "value": {"stringValue": "E"}}
                                        ],
                                    }
                                ],
                                "status": {"code": 2, "message": "not read"},
                            },
                            IDS,
                        ],
                    },
                    {"spans": []},
                ],
            },
            {},
        ]
    }
    expected = ExportTraceServiceRequest()
    first = expected.resource_spans.add()
    first.resource.attributes.add(key="service.name").value.string_value = "s"
    scope_spans = first.scope_spans.add()
    scope_spans.scope.name = "scope"
    ids = {"trace_id": bytes.fromhex(TRACE_ID), "span_id": bytes.fromhex(SPAN_ID)}
    span = scope_spans.spans.add(
        **ids,
        parent_span_id=bytes.fromhex("00f067aa0ba902b7"),
        trace_state="ot=th:8",
        flags=0x301,
        name="GET /",
        kind=Span.SPAN_KIND_SERVER,
        start_time_unix_nano=1_544_712_660_000_000_001,
        end_time_unix_nano=1_544_712_661_000_000_002,
        attributes=[
            KeyValue(key="s", value=AnyValue(string_value="é")),
            KeyValue(key="b", value=AnyValue(bool_value=True)),
            KeyValue(key="i", value=AnyValue(int_value=-7)),
            KeyValue(key="d", value=AnyValue(double_value=0.5)),
            KeyValue(
                key="a",
                value=AnyValue(
                    array_value=ArrayValue(
                        values=[AnyValue(string_value="x"), AnyValue(int_value=2)]
                    )
                ),
            ),
        ],
    )
    span.status.code = 2  # type: ignore[assignment]
    event = span.events.add(name="exception")
    event.attributes.add(key="exception.type").value.string_value = "E"
    scope_spans.spans.add(**ids)
    first.scope_spans.add()
    expected.resource_spans.add()
    assert parsed(json.dumps(body).encode()) == expected


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b'{"resourceSpans":[]}',
        b'{"resourceSpans":null}',
        b'{"other":1}',
        # Only in lower camel case are keys OTLP's.
        b'{"resource_spans":[{"scope_spans":[]}]}',
    ],
)
def test_nothing_is_an_empty_request(body: bytes) -> None:
    """A request without spans is valid."""
    assert request_of_json(body) == b""


# ---- ids ----


@pytest.mark.parametrize("change", [str.lower, str.upper, str.swapcase])
def test_ids_are_hexadecimal_in_any_case(change: Any) -> None:
    """Each of the three; as base64 they would have other lengths."""
    trace_id, span_id = change("0aF7651916cd43dD8448eb211c80319C"), change("b9c7c989f97918E1")
    span = span_of({"traceId": trace_id, "spanId": span_id, "parentSpanId": span_id})
    assert span.trace_id == bytes.fromhex(TRACE_ID)
    assert span.span_id == span.parent_span_id == bytes.fromhex(SPAN_ID)


@pytest.mark.parametrize("sent", ["CvdlGRbNQ92ESOshHIAxnA==", "zz" * 16, "é" * 32, "0", " ", "0x"])
def test_an_id_that_is_none_stays_invalid(sent: str) -> None:
    """It is of no length that an id has, so that it costs its span alone."""
    span = span_of({"traceId": sent, "spanId": sent, "parentSpanId": sent})
    assert len(span.trace_id) not in (0, 16)
    assert len(span.span_id) not in (0, 8)


@pytest.mark.parametrize("sent", ["", None])
def test_no_id_is_no_id(sent: str | None) -> None:
    """A root has no parent."""
    assert span_of(IDS | {"parentSpanId": sent}).parent_span_id == b""


# ---- numbers ----

INTEGERS = [
    ("startTimeUnixNano", "start_time_unix_nano", 0, 2**64 - 1),
    ("endTimeUnixNano", "end_time_unix_nano", 0, 2**64 - 1),
    ("flags", "flags", 0, 2**32 - 1),
]


@pytest.mark.parametrize(("name", "field", "minimum", "maximum"), INTEGERS)
def test_integers_are_strings_or_numbers(name: str, field: str, minimum: int, maximum: int) -> None:
    """From the least to the greatest; a whole number with a fraction part is one, too."""
    for value in (minimum, 7, maximum - 1, maximum):
        for sent in (value, str(value)):
            assert getattr(span_of(IDS | {name: sent}), field) == value
    for same in (7.0, "7", 7):
        assert getattr(span_of(IDS | {name: same}), field) == 7


@pytest.mark.parametrize("value", [-(2**63), -1, 0, 7, 2**53 + 1, 2**63 - 1])
def test_an_integer_attribute(value: int) -> None:
    """All 64 bits, in both forms."""
    for sent in (value, str(value)):
        found = value_of({"intValue": sent})
        assert found.HasField("int_value")
        assert found.int_value == value


@pytest.mark.parametrize("value", [2**63, -(2**63) - 1, 10**20, 1e300])
def test_a_larger_integer_attribute_is_a_double(value: float) -> None:
    """JavaScript sends every whole number so; it must not cost the request."""
    for sent in (value, str(value)):
        assert value_of({"intValue": sent}).double_value == float(value)
    in_array = value_of({"arrayValue": {"values": [{"intValue": value}, {"intValue": 7}]}})
    assert [item.WhichOneof("value") for item in in_array.array_value.values] == [
        "double_value",
        "int_value",
    ]


@pytest.mark.parametrize("sent", ["abc", "1.5", 1.5, "0x10"])
def test_what_is_no_integer_costs_no_more_than_its_attribute(sent: Any) -> None:
    """Nothing is made up, and the request is taken."""
    assert value_of({"intValue": sent}).WhichOneof("value") in (None, "double_value")


def test_a_byte_order_mark_is_passed_over() -> None:
    """Some tools write one in front of UTF-8."""
    body = request({"name": "GET /a"})
    assert request_of_json(b"\xef\xbb\xbf" + body) == request_of_json(body)


@pytest.mark.parametrize(
    ("name", "sent"),
    [
        *[(name, value) for name, _, low, high in INTEGERS for value in (low - 1, high + 1, "x")],
        ("flags", 1.5),
        ("flags", "1.5"),
        ("kind", "SPAN_KIND_OTHER"),
        ("kind", 2**63),
    ],
)
def test_what_is_no_integer_is_named(name: str, sent: Any) -> None:
    """Field, value and what is allowed."""
    error = refusal(request(IDS | {name: sent}))
    assert error.parameter == name
    assert error.value == str(sent)
    assert "an integer from" in (error.allowed or "")


@pytest.mark.parametrize("sent", ["x" * 10**6, "1" * 10**6, "é" * 10**6])
def test_an_error_is_short_whatever_was_sent(sent: str) -> None:
    """A response has a limit."""
    error = refusal(request(IDS | {"startTimeUnixNano": sent}))
    assert len(str(error)) + len(error.value or "") < 1000


@pytest.mark.parametrize(
    ("sent", "value"),
    [
        (0.5, 0.5),
        (1, 1.0),
        (-0.0, -0.0),
        (1e308, 1e308),
        ("0.5", 0.5),
        ("NaN", math.nan),
        ("Infinity", math.inf),
        ("-Infinity", -math.inf),
        ("what", math.nan),
    ],
)
def test_doubles(sent: float | str, value: float) -> None:
    """What JSON has no number for is a string."""
    found = value_of({"doubleValue": sent})
    assert found.HasField("double_value")
    assert found.double_value == pytest.approx(value, nan_ok=True, rel=0)


# ---- enumerations ----


@pytest.mark.parametrize("kind", range(6))
def test_kinds_are_numbers_and_names_are_taken(kind: int) -> None:
    """Names are not valid, and yet sent."""
    for sent in (kind, str(kind), Span.SpanKind.Name(kind)):  # type: ignore[arg-type]
        assert span_of(IDS | {"kind": sent}).kind == kind


@pytest.mark.parametrize("sent", [-1, 6, 1000, 2**31 - 1])
def test_an_unknown_number_of_an_enumeration_passes(sent: int) -> None:
    """It must not cost the request."""
    assert span_of(IDS | {"kind": sent}).kind == sent
    assert span_of(IDS | {"status": {"code": sent}}).status.code == sent


@pytest.mark.parametrize("sent", [2**31, 2**62, -(2**40)])
def test_a_large_number_of_an_enumeration_passes(sent: int) -> None:
    """Also one that the library would cut."""
    assert span_of(IDS | {"kind": sent, "status": {"code": sent}}).trace_id


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (0, 0),
        (1, 1),
        (2, 2),
        ("2", 2),
        ("STATUS_CODE_UNSET", 0),
        ("STATUS_CODE_OK", 1),
        ("STATUS_CODE_ERROR", 2),
        (None, 0),
    ],
)
def test_status_codes(sent: Any, code: int) -> None:
    """As for kinds."""
    assert span_of(IDS | {"status": {"code": sent}}).status.code == code


# ---- attributes ----


@pytest.mark.parametrize(
    ("sent", "field"),
    [
        ({"stringValue": ""}, "string_value"),
        ({"boolValue": False}, "bool_value"),
        ({"intValue": 0}, "int_value"),
        ({"doubleValue": 0}, "double_value"),
        ({"arrayValue": {}}, "array_value"),
        ({"arrayValue": {"values": []}}, "array_value"),
        ({}, None),
        (None, None),
        ({"stringValue": None}, None),
        # The rules read none of these: they are as nothing.
        ({"bytesValue": "AAE="}, None),
        ({"kvlistValue": {"values": [{"key": "x", "value": {"intValue": 1}}]}}, None),
        ({"newValue": 1}, None),
    ],
)
def test_which_value_is_set(sent: Any, field: str | None) -> None:
    """A value that is zero or empty is not the same as none."""
    assert value_of(sent).WhichOneof("value") == field


def test_what_is_nested_costs_its_place() -> None:
    """The elements around it stay where they are."""
    nested = {"arrayValue": {"values": [{"stringValue": "deep"}]}}
    found = value_of({"arrayValue": {"values": [{"intValue": 1}, nested, {}, {"boolValue": True}]}})
    kinds = [item.WhichOneof("value") for item in found.array_value.values]
    assert kinds == ["int_value", None, None, "bool_value"]


@pytest.mark.parametrize("name", ["arrayValue", "kvlistValue"])
@pytest.mark.parametrize("depth", [10, 100, 200])
def test_deep_nesting_costs_its_attribute(name: str, depth: int) -> None:
    """Deeper than any library writes it."""
    value: Any = {"stringValue": "deep"}
    for _ in range(depth):
        value = {name: {"values": [value if name == "arrayValue" else {"value": value}]}}
    attributes = [{"key": "deep", "value": value}, {"key": "k", "value": {"intValue": 1}}]
    span = span_of(IDS | {"attributes": attributes})
    assert span.attributes[1].value.int_value == 1


@pytest.mark.parametrize("unit", [b"[", b'{"a":', b'{"resourceSpans":[', b'[{"arrayValue":'])
def test_endless_nesting_is_refused(unit: bytes) -> None:
    """It costs no stack."""
    refusal(b'{"other":' + unit * 100_000)
    refusal(unit * 100_000)


# ---- text ----


@pytest.mark.parametrize(
    ("sent", "text"),
    [
        (rb"\ud800", "\ufffd"),
        (rb"a\udc00b", "a\ufffdb"),
        (rb"\ud83d\ude00", "😀"),
        (rb"\uD83D\uDE00\uD83D", "😀\ufffd"),
        (rb"\ud83d\ud83d\ude00", "\ufffd😀"),
        (rb"\\ud800\ud800", "\\ud800\ufffd"),
        (rb"\\\ud800", "\\\ufffd"),
        (b"\xff", "\ufffd"),
        (b"a\xc3", "a\ufffd"),
        ("é😀\\u0000".encode(), "é😀\0"),
        ("é".encode() + rb"\ud800", "é\ufffd"),
        (b"\xff" + rb"\ud800", "\ufffd\ufffd"),
    ],
)
@pytest.mark.parametrize("field", ["name", "traceState", "key", "stringValue", "unknown"])
def test_what_is_no_text_gets_a_mark(field: str, sent: bytes, text: str) -> None:
    """It costs itself and nothing around it."""
    where = {
        "key": {"key": "@", "value": {}},
        "stringValue": {"key": "k", "value": {"stringValue": "@"}},
    }
    extra = {"attributes": [where[field]]} if field in where else {field: "@"}
    span = span_of(request(IDS | extra).replace(b"@", sent))
    assert span.trace_id.hex() == TRACE_ID
    found = {
        "name": span.name,
        "traceState": span.trace_state,
        "key": span.attributes[0].key if span.attributes else None,
        "stringValue": span.attributes[0].value.string_value if span.attributes else None,
        "unknown": text,
    }
    assert found[field] == text


def test_a_key_that_is_no_text_is_an_unknown_key() -> None:
    """Also of an object."""
    span = span_of(request(IDS | {"@": 1, "name": "n"}).replace(b"@", b"\xff"))
    assert (span.name, span.trace_id.hex()) == ("n", TRACE_ID)


# ---- what is none ----


@pytest.mark.parametrize(
    "body",
    [
        b"not json",
        b"[]",
        b"null",
        b"1",
        b'"x"',
        b"{",
        b"{} tail",
        b'{"resourceSpans":{}}',
        b'{"resourceSpans":[1]}',
        b'{"resourceSpans":[null]}',
        b'{"resourceSpans":[{"scopeSpans":[{"spans":[{"name":7}]}]}]}',
        b'{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":7}]}]}]}',
        b'{"resourceSpans":[{"scopeSpans":[{"spans":[{"flags":NaN}]}]}]}',
        b'{"resourceSpans":[{"scopeSpans":[{"spans":[{"flags":1e999}]}]}]}',
        b"\x0a\x00",
        b"\xff\xfe",
        '{"resourceSpans":[]}'.encode("utf-16"),
    ],
)
def test_what_is_no_request_is_refused(body: bytes) -> None:
    """With where it is, if it is JSON."""
    assert "OTLP ExportTraceServiceRequest in JSON" in str(refusal(body))


# ---- anything ----

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
span_fields = st.sampled_from(
    ["traceId", "spanId", "parentSpanId", "traceState", "flags", "name", "kind", "attributes",
     "startTimeUnixNano", "endTimeUnixNano", "events", "status", "links", "droppedEventsCount"]
)  # fmt: skip
any_values = st.recursive(
    st.fixed_dictionaries(
        {},
        optional={
            "stringValue": st.text(max_size=9),
            "boolValue": st.booleans(),
            "intValue": st.integers(-(2**63), 2**63 - 1) | st.integers(-9, 9).map(str),
            "doubleValue": st.floats(allow_nan=False, allow_infinity=False),
        },
    ),
    lambda inner: st.builds(lambda v: {"arrayValue": {"values": v}}, st.lists(inner, max_size=3)),
    max_leaves=6,
)


@given(value=json_values)
def test_any_json_is_taken_or_refused(value: Any) -> None:
    """Nothing but an invalid request is ever raised."""
    for body in (json.dumps(value).encode(), request(value)):
        with contextlib.suppress(InvalidRequestError):
            parsed(body)


@given(name=span_fields, value=json_values)
def test_any_value_of_a_field_is_taken_or_refused(name: str, value: Any) -> None:
    """So is a valid span with any value in one field."""
    with contextlib.suppress(InvalidRequestError):
        span_of(IDS | {name: value})


@given(value=any_values)
def test_any_value_of_an_attribute_is_taken(value: Any) -> None:
    """Whatever an attribute may have, it never costs the request."""
    value_of(value)


@given(body=st.binary(max_size=80))
def test_any_bytes_are_taken_or_refused(body: bytes) -> None:
    """So are bytes that are no JSON."""
    with contextlib.suppress(InvalidRequestError):
        parsed(body)


@given(
    names=st.lists(st.text(max_size=20), max_size=3),
    start=st.integers(0, 2**64 - 1),
    kind=st.integers(0, 5),
    number=st.floats(allow_nan=False),
)
def test_what_the_library_writes_is_read(
    names: list[str], start: int, kind: int, number: float
) -> None:
    """Only its ids are in base64, which is not OTLP's."""
    made = ExportTraceServiceRequest()
    spans = made.resource_spans.add().scope_spans.add().spans
    for name in names:
        span = spans.add(name=name, start_time_unix_nano=start, kind=kind)
        span.attributes.add(key=name).value.double_value = number
        span.attributes.add(key=name).value.int_value = start >> 1
    body = json.dumps(MessageToDict(made)).encode()
    assert parsed(body) == made
