# SPDX-License-Identifier: Apache-2.0
"""Contract of OTLP in JSON: each rule of the encoding, from the request to the event.

What is stored is compared: a wrong reading may parse well.
"""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Mapping
from typing import Any

import pytest

from tests.contracts.test_otlp_http import JSON, Answer, post
from tests.support.clients import Client
from tests.support.waiting import wait_for


class Call:
    """A call as a span in JSON, that is found by a consumer of its own."""

    def __init__(self) -> None:
        self.consumer = f"c-{uuid.uuid4()}"
        self.trace_id, self.span_id = os.urandom(16).hex(), os.urandom(8).hex()
        start_ns = time.time_ns()
        self.span: dict[str, Any] = {
            "traceId": self.trace_id,
            "spanId": self.span_id,
            "name": "GET /users/{id}",
            "kind": 2,
            "startTimeUnixNano": str(start_ns),
            "endTimeUnixNano": str(start_ns + 12_345_678),
            "attributes": [
                attribute("http.request.method", {"stringValue": "GET"}),
                attribute("url.path", {"stringValue": "/users/7"}),
                attribute("http.route", {"stringValue": "/users/{id}"}),
                attribute("http.response.status_code", {"intValue": "200"}),
                attribute("enduser.id", {"stringValue": self.consumer}),
            ],
        }

    def body(self, *others: Any) -> bytes:
        """Return a request with it and other spans."""
        return body_of(self.span, *others)


def attribute(key: str, value: Any) -> dict[str, Any]:
    """Return an attribute in JSON."""
    return {"key": key, "value": value}


def body_of(*spans: Any) -> bytes:
    """Return a request in JSON."""
    resource = {"attributes": [attribute("service.name", {"stringValue": "svc"})]}
    scope_spans = [{"scope": {"name": "test", "version": "1"}, "spans": list(spans)}]
    return json.dumps(
        {"resourceSpans": [{"resource": resource, "scopeSpans": scope_spans}]}
    ).encode()


def send(client: Client, body: bytes) -> Answer:
    """Send a request that is taken."""
    answer = post(client, body, JSON)
    assert answer.status == 200, answer
    assert answer.media_type == JSON
    return answer


def event_of(client: Client, call: Call) -> dict[str, Any]:
    """Return the one event of a call."""
    now = int(time.time())

    def mine() -> list[dict[str, Any]]:
        found = client.raw_events(now - 1800, now + 1800)
        return [event for event in found if event["consumer_id"] == call.consumer]

    (event,) = wait_for(mine)
    return event


def stored(client: Client, call: Call, body: bytes | None = None) -> dict[str, Any]:
    """Send a call, with full success, and return its event."""
    assert send(client, call.body() if body is None else body).body == b"{}"
    return event_of(client, call)


# ---- ids ----


@pytest.mark.parametrize("change", [str.lower, str.upper])
def test_ids_are_hex_in_any_case(client: Client, change: Any) -> None:
    """Not base64: 32 digits of it would be 24 bytes, which no store could take for an id."""
    call, parent = Call(), os.urandom(8).hex()
    call.span |= {
        "traceId": change(call.trace_id),
        "spanId": change(call.span_id),
        "parentSpanId": change(parent),
    }
    event = stored(client, call)
    assert event["trace_id"] == call.trace_id
    assert event["span_id"] == call.span_id
    assert event["parent_span_id"] == parent


@pytest.mark.parametrize(
    "ids",
    [
        {"traceId": "CvdlGRbNQ92ESOshHIAxnA=="},
        {"traceId": "0" * 32},
        {"traceId": "ab" * 15},
        {"traceId": "zz" * 16},
        {"traceId": None},
        {"spanId": "ucfJiflbGOE="},
        {"spanId": "0" * 16},
        {"spanId": "ab" * 7},
        {"spanId": ""},
        {"spanId": "é" * 16},
    ],
)
def test_a_bad_id_costs_its_span(client: Client, ids: Mapping[str, Any]) -> None:
    """Partial success; the other span is stored."""
    call = Call()
    partial = json.loads(send(client, call.body({**Call().span, **ids})).body)["partialSuccess"]
    assert int(partial["rejectedSpans"]) == 1
    assert ("trace id" if "traceId" in ids else "span id") in partial["errorMessage"]
    assert event_of(client, call)["trace_id"] == call.trace_id


# ---- keys ----


def test_unknown_keys_are_ignored(client: Client) -> None:
    """At each level, whatever they hold."""
    call, new = Call(), {"new": {"a": [1, None, {"b": "c"}]}, "newer": 1.5, "newest": None}
    call.span |= new
    call.span["status"] = {"code": 0, **new}
    call.span["attributes"][0] |= new
    call.span["attributes"][0]["value"] |= new
    sent = json.loads(call.body())
    for level in (
        sent,
        sent["resourceSpans"][0],
        sent["resourceSpans"][0]["resource"],
        sent["resourceSpans"][0]["scopeSpans"][0],
        sent["resourceSpans"][0]["scopeSpans"][0]["scope"],
    ):
        level.update(new)
    event = stored(client, call, json.dumps(sent).encode())
    assert (event["method"], event["service"]) == ("GET", "svc")


def test_keys_in_snake_case_are_unknown(client: Client) -> None:
    """They are not OTLP's."""
    call = Call()
    body = call.body().replace(b"resourceSpans", b"resource_spans")
    assert send(client, body).body == b"{}"


def test_instrumentation_library_spans_get_a_warning(client: Client) -> None:
    """Senders before OTLP 0.15 would lose their spans without a word."""
    body = Call().body().replace(b"scopeSpans", b"instrumentationLibrarySpans")
    partial = json.loads(send(client, body).body)["partialSuccess"]
    assert "rejectedSpans" not in partial
    assert "instrumentationLibrarySpans" in partial["errorMessage"]


def test_missing_and_null_are_the_same(client: Client) -> None:
    """A field may be left out, and `null` is as if it were."""
    names = (
        "parentSpanId", "traceState", "flags", "events", "links", "status",
        "droppedAttributesCount", "droppedEventsCount",
    )  # fmt: skip
    missing, null = Call(), Call()
    null.span |= dict.fromkeys(names)
    null.span["attributes"].append(attribute("x", None))
    null.span["attributes"].append(attribute("y", {"stringValue": None}))
    different = {
        "consumer_id", "trace_id", "span_id", "timestamp", "event_id", "received_at", "cursor",
    }  # fmt: skip
    first, second = (stored(client, call) for call in (missing, null))
    assert {k: v for k, v in first.items() if k not in different} == {
        k: v for k, v in second.items() if k not in different
    }


# ---- values ----


@pytest.mark.parametrize("as_sent", [int, str])
def test_64_bit_integers_are_strings_or_numbers(client: Client, as_sent: Any) -> None:
    """Times to the microsecond, sizes beyond what a double can hold."""
    call = Call()
    start_ns = int(call.span["startTimeUnixNano"])
    call.span |= {
        "startTimeUnixNano": as_sent(start_ns),
        "endTimeUnixNano": as_sent(start_ns + 2_500_000),
    }
    call.span["attributes"][3] = attribute("http.response.status_code", {"intValue": as_sent(503)})
    call.span["attributes"].append(
        attribute("http.request.body.size", {"intValue": as_sent(2**53 - 1)})
    )
    event = stored(client, call)
    assert event["timestamp"] == pytest.approx(start_ns / 1e9, abs=2e-6)
    assert event["response_us"] == 2500
    assert event["status_code"] == 503
    assert event["request_bytes"] == 2**53 - 1


@pytest.mark.parametrize(
    ("kind", "direction"),
    [
        (2, "inbound"),
        (3, "outbound"),
        ("SPAN_KIND_SERVER", "inbound"),
        ("SPAN_KIND_CLIENT", "outbound"),
    ],
)
def test_enums_are_numbers_and_names_are_taken(
    client: Client, kind: int | str, direction: str
) -> None:
    """Names are not valid, and yet sent."""
    call = Call()
    call.span["kind"] = kind
    assert stored(client, call)["direction"] == direction


@pytest.mark.parametrize("code", [2, "STATUS_CODE_ERROR"])
def test_a_status_is_a_number_and_a_name_is_taken(client: Client, code: int | str) -> None:
    """As kinds."""
    call = Call()
    call.span["status"] = {"code": code, "message": "no"}
    assert stored(client, call)["is_error"] is True


@pytest.mark.parametrize("kind", [-1, 6, 99, 2**31, 2**62])
def test_an_unknown_kind_costs_nothing_else(client: Client, kind: int) -> None:
    """Its span is no call; the other is stored."""
    call = Call()
    body = call.body({**Call().span, "kind": kind, "status": {"code": kind}})
    assert stored(client, call, body)["method"] == "GET"


VALUES: list[Any] = [
    {"doubleValue": "NaN"},
    {"doubleValue": "Infinity"},
    {"doubleValue": "-Infinity"},
    {"doubleValue": 1e308},
    {"doubleValue": "0.5"},
    {"bytesValue": "AAECAw=="},
    {"bytesValue": "no base64"},
    {"boolValue": True},
    {"boolValue": False},
    {"intValue": "-9223372036854775808"},
    {"arrayValue": {}},
    {"arrayValue": {"values": [{"stringValue": "a"}, {"intValue": "1"}, {"boolValue": True}]}},
    {"kvlistValue": {"values": [{"key": "a", "value": {"stringValue": "b"}}]}},
    {"kvlistValue": {}},
    {},
    None,
    {"newValue": [1]},
]


@pytest.mark.parametrize("key", ["x", "http.request.body.size", "http.response.status_code"])
def test_a_value_of_any_kind_costs_at_most_its_attribute(client: Client, key: str) -> None:
    """Wherever it is, the call is stored with all else."""
    calls = [Call() for _ in VALUES]
    for call, value in zip(calls, VALUES, strict=True):
        call.span["attributes"].append(attribute(key, value))
        assert send(client, call.body()).body == b"{}"
    for call in calls:
        event = event_of(client, call)
        assert (event["method"], event["route"]) == ("GET", "/users/{id}")


def test_a_header_is_an_array(client: Client) -> None:
    """Arrays of text are read."""
    call = Call()
    call.span["attributes"][4] = attribute(
        "http.request.header.x-consumer-id",
        {"arrayValue": {"values": [{"stringValue": call.consumer}]}},
    )
    assert stored(client, call)["consumer_id"] == call.consumer


@pytest.mark.parametrize("name", ["arrayValue", "kvlistValue"])
@pytest.mark.parametrize("depth", [5, 50, 200])
def test_deep_nesting_costs_its_attribute(client: Client, name: str, depth: int) -> None:
    """Deeper than any library writes."""
    value: Any = {"stringValue": "deep"}
    for _ in range(depth):
        value = {name: {"values": [value if name == "arrayValue" else attribute("k", value)]}}
    call = Call()
    call.span["attributes"].insert(0, attribute("deep", value))
    assert stored(client, call)["method"] == "GET"


@pytest.mark.parametrize(
    ("sent", "text"),
    [
        (rb"\ud800", "\ufffd"),
        (rb"a\udc00b", "a\ufffdb"),
        (rb"\ud83d\ude00", "😀"),
        (b"a\xffb", "a\ufffdb"),
        ("é😀".encode(), "é😀"),
    ],
)
def test_what_is_no_text_costs_itself(client: Client, sent: bytes, text: str) -> None:
    """Halves of surrogate pairs, as JavaScript writes them, and bytes that are no UTF-8."""
    call = Call()
    call.span["attributes"][2] = attribute("http.route", {"stringValue": "/@route"})
    event = stored(client, call, call.body().replace(b"@route", sent))
    assert event["route"] == f"/{text}"


@pytest.mark.parametrize("sent", [rb"\ud800", b"\xff"])
def test_a_key_that_is_no_text_costs_its_attribute(client: Client, sent: bytes) -> None:
    """The others are read."""
    call = Call()
    call.span["attributes"].insert(0, attribute("@key", {"stringValue": "x"}))
    assert stored(client, call, call.body().replace(b"@key", sent))["method"] == "GET"


# ---- what cannot be ----


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("startTimeUnixNano", "soon"),
        ("startTimeUnixNano", -1),
        ("endTimeUnixNano", 2**64),
        ("flags", 1.5),
        ("kind", "SPAN_KIND_NEW"),
    ],
)
def test_a_field_that_cannot_be_is_named(client: Client, name: str, value: Any) -> None:
    """400: no receiver could take it, and the sender learns which it is."""
    call = Call()
    call.span[name] = value
    answer = post(client, call.body(), JSON)
    assert answer.status == 400
    assert name in answer.error().message


def test_an_answer_is_small_whatever_was_sent(client: Client) -> None:
    """A response has a limit."""
    call = Call()
    call.span["startTimeUnixNano"] = "x" * (8 << 20)
    answer = post(client, call.body(), JSON)
    assert answer.status == 400
    assert len(answer.body) < 10_000
