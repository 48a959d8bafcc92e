# SPDX-License-Identifier: Apache-2.0
"""Tests of JSON events: valid ones are encoded as sent, others are refused with the reason."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_apinalytics.catalogue import (
    FIELDS,
    MAX_ENTRIES,
    MAX_ENTRY_NAME_LENGTH,
    MAX_INTEGER,
    MAX_RESPONSE_US,
    MAX_WEIGHT,
    Field,
    FieldType,
)
from otel_apinalytics.errors import InvalidRequestError
from otel_apinalytics.receiver import events_json
from otel_apinalytics.receiver.events_json import (
    EncodedEvents,
    encode_events,
    encode_valid_events,
)
from otel_apinalytics.wire.log_pb2 import Event, EventBatch

CLASSIC = {
    "timestamp": 1_400_000_000,
    "consumer_id": "alice",
    "method": "GET",
    "url": "/users/7?page=2",
    "function": "get_user",
    "response_us": 2500,
    "status_code": 200,
}


def encode(*events: Any) -> list[Event]:
    """Return events as they are encoded."""
    encoded = encode_events(json.dumps(events).encode())
    assert encoded.refused == ()
    assert encoded.count == len(events)
    return events_of(encoded)


def events_of(encoded: EncodedEvents) -> list[Event]:
    """Return the events of a batch."""
    events = list(EventBatch.FromString(encoded.batch).events)
    assert len(events) == encoded.count
    return events


def refusal(body: bytes) -> InvalidRequestError:
    """Return the error that a body gives."""
    with pytest.raises(InvalidRequestError) as caught:
        encode_events(body)
    return caught.value


# ---- valid events ----


def test_an_event_of_2014() -> None:
    """The seven fields of 2014 are encoded; nothing else is made up."""
    (event,) = encode(CLASSIC)
    event.ClearField("event_id")
    expected = Event(timestamp_us=1_400_000_000_000_000)
    for name in set(CLASSIC) - {"timestamp"}:
        setattr(expected, name, CLASSIC[name])
    assert event == expected


SENDABLE = [field for field in FIELDS if field.in_event]
LONGEST = "n" * MAX_ENTRY_NAME_LENGTH


def some_value(field: Field) -> Any:
    """Return a value that a field may have."""
    if field.type is FieldType.HEX:
        return "aF" * (field.maximum or 0)
    return {
        FieldType.TIME: 1_400_000_000.5,
        FieldType.TEXT: field.choices[-1] if field.choices else f"/{field.name}",
        FieldType.INTEGER: field.maximum,
        FieldType.NUMBER: 1.5,
        FieldType.BOOLEAN: True,
        FieldType.TEXT_MAP: {"plan": "gold", "é": ""},
        FieldType.NUMBER_MAP: {"tokens": 12, "cost": -0.5},
    }[field.type]


def test_all_fields() -> None:
    """Every field of the catalogue that can be sent arrives."""
    sent = {field.name: some_value(field) for field in SENDABLE}
    (event,) = encode(sent)
    for field in SENDABLE:
        value = sent[field.name]
        if field.name == "timestamp":
            assert event.timestamp_us == 1_400_000_000_500_000
        elif field.type is FieldType.HEX:
            assert getattr(event, field.name).hex() == value.lower()
        elif field.type in (FieldType.TEXT_MAP, FieldType.NUMBER_MAP):
            assert dict(getattr(event, field.name)) == value
        else:
            assert getattr(event, field.name) == value * field.scale


@pytest.mark.parametrize("field", SENDABLE, ids=lambda field: field.name)
def test_each_field_alone(field: Field) -> None:
    """Only the time is needed besides."""
    (event,) = encode({"timestamp": 1} | {field.name: some_value(field)})
    assert {name.name for name, _ in event.ListFields()} - {"timestamp_us", "event_id"} == (
        {field.name} - {"timestamp"}
    )


@pytest.mark.parametrize(
    ("weight", "thousandths"),
    [
        (1, 1000),
        (1.0, 1000),
        (2, 2000),
        (3.3333, 3333),
        (1.0004, 1000),
        (1.0005, 1001),
        (1.0015, 1002),
        (2.0025, 2003),
        (8.4999, 8500),
        (MAX_WEIGHT, 10**12),
    ],
)
def test_weight_is_in_thousandths(weight: float, thousandths: int) -> None:
    """Rounded as it is written: half goes up."""
    (event,) = encode({"timestamp": 1, "weight": weight})
    assert event.weight == thousandths


@pytest.mark.parametrize(
    ("timestamp", "timestamp_us"),
    [
        (0, 0),
        (1.5, 1_500_000),
        (1_400_000_000.123456, 1_400_000_000_123_456),
        (1_400_000_000.999999, 1_400_000_000_999_999),
        (-0.0, 0),
    ],
)
def test_time_is_in_seconds_with_a_fraction(timestamp: float, timestamp_us: int) -> None:
    """Microseconds of a time are kept."""
    (event,) = encode({"timestamp": timestamp})
    assert event.timestamp_us == timestamp_us


def test_what_is_null_or_left_out_is_missing() -> None:
    """Null is the same as left out, and not the same as zero."""
    nulls = {field.name: None for field in FIELDS if field.in_event and not field.required}
    null, left_out, zero = encode({"timestamp": 1} | nulls, {"timestamp": 1}, CLASSIC)
    for event in (null, left_out):
        event.ClearField("event_id")
    assert null == left_out == Event(timestamp_us=1_000_000)
    (zero,) = encode({"timestamp": 1, "response_us": 0, "is_error": False})
    assert zero.HasField("response_us")
    assert zero.HasField("is_error")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("response_us", 0),
        ("response_us", MAX_RESPONSE_US),
        ("status_code", 100),
        ("status_code", 599),
        ("consumer_id", ""),
        ("consumer_id", "é" * 1024),
        ("consumer_id", "a\0b\n\u2028😀"),
        ("url", "/" * 16_384),
        ("method", "x" * 64),
        ("request_bytes", 0),
        ("request_bytes", MAX_INTEGER),
        ("user_agent", "x" * 512),
        ("attributes", {}),
        ("attributes", {LONGEST: "é" * 1024, "x": "", "a\0b": "\n"}),
        ("attributes", {str(number): "x" for number in range(MAX_ENTRIES)}),
        ("metrics", {}),
        ("metrics", {"a": 0, "b": -1.5, "c": 1e308, "d": 5e-324}),
        ("metrics", {str(number): number for number in range(MAX_ENTRIES)}),
    ],
)
def test_values_at_their_limits(name: str, value: Any) -> None:
    """What is allowed is taken as it is."""
    (event,) = encode({"timestamp": 1, name: value})
    found = getattr(event, name)
    assert (dict(found) if isinstance(value, dict) else found) == value


def test_each_event_gets_an_id_of_its_own() -> None:
    """Two equal events are two."""
    ids = {event.event_id for event in encode(*[CLASSIC] * 100)}
    assert len(ids) == 100


def test_no_events() -> None:
    """An empty array is valid, and nothing."""
    assert events_of(encode_events(b"[]")) == events_of(encode_valid_events(b"[]")) == []


# ---- refused events ----


@pytest.mark.parametrize(
    ("field", "value", "allowed"),
    [
        ("timestamp", -1, "epoch seconds from 0"),
        ("timestamp", 4_294_967_296, "epoch seconds from 0"),
        ("timestamp", "1400000000", "epoch seconds from 0"),
        ("timestamp", None, "required"),
        ("timestamp", True, "epoch seconds from 0"),
        ("response_us", -1, f"an integer from 0 to {MAX_RESPONSE_US}"),
        ("response_us", MAX_RESPONSE_US + 1, "an integer from 0"),
        ("response_us", 1.5, "an integer from 0"),
        ("response_us", "5", "an integer from 0"),
        ("status_code", 99, "an integer from 100 to 599"),
        ("status_code", 600, "an integer from 100 to 599"),
        ("status_code", 2**70, "an integer from 100 to 599"),
        ("status_code", True, "an integer from 100 to 599"),
        ("is_error", 1, "true or false"),
        ("is_error", "true", "true or false"),
        ("direction", "sideways", "inbound or outbound"),
        ("direction", "", "inbound or outbound"),
        ("consumer_id", 7, "text of at most 1024 characters"),
        ("consumer_id", "x" * 1025, "text of at most 1024 characters"),
        ("consumer_id", ["x"], "text of at most 1024 characters"),
        ("consumer_id", {"a": 1}, "text of at most 1024 characters"),
        ("method", "x" * 65, "text of at most 64 characters"),
        ("trace_id", "xyz", "32 hexadecimal digits"),
        ("trace_id", "0" * 31, "32 hexadecimal digits"),
        ("trace_id", "0" * 32 + "\n", "32 hexadecimal digits"),
        ("span_id", "0" * 32, "16 hexadecimal digits"),
        ("parent_span_id", "", "16 hexadecimal digits"),
        ("route_source", "guessed", "attribute, name, derived or unmatched"),
        ("is_stream", 0, "true or false"),
        ("user_agent", "x" * 513, "text of at most 512 characters"),
        ("request_bytes", MAX_INTEGER + 1, f"an integer from 0 to {MAX_INTEGER}"),
        ("resend_count", -1, "an integer from 0"),
        ("quota_consumed", 1.5, "an integer from 0"),
        ("weight", 0.999, f"a number from 1 to {MAX_WEIGHT}"),
        ("weight", MAX_WEIGHT + 1, "a number from 1"),
        ("weight", "2", "a number from 1"),
        ("weight", True, "a number from 1"),
        ("attributes", "plan", "an object of at most 64 names of 1 to 128 characters"),
        ("attributes", ["plan"], "an object of at most 64 names"),
        ("attributes", {"plan": 1}, "each with text of at most 1024 characters"),
        ("attributes", {"plan": None}, "each with text"),
        ("attributes", {"plan": {"a": "b"}}, "each with text"),
        ("attributes", {"plan": "x" * 1025}, "each with text"),
        ("attributes", {"": "x"}, "names of 1 to 128 characters"),
        ("attributes", {LONGEST + "n": "x"}, "names of 1 to 128 characters"),
        ("attributes", {str(number): "x" for number in range(65)}, "at most 64 names"),
        ("metrics", [1], "an object of at most 64 names"),
        ("metrics", {"tokens": "1"}, "each with a number"),
        ("metrics", {"tokens": True}, "each with a number"),
        ("metrics", {"tokens": None}, "each with a number"),
        ("metrics", {"": 1}, "names of 1 to 128 characters"),
        ("metrics", {str(number): 1 for number in range(65)}, "at most 64 names"),
    ],
)
@pytest.mark.parametrize("index", [0, 2])
def test_a_bad_value_is_named(index: int, field: str, value: Any, allowed: str) -> None:
    """The error says which event, which field, what it had and what it may have."""
    events = [CLASSIC] * index + [CLASSIC | {field: value}, CLASSIC]
    error = refusal(json.dumps(events).encode())
    assert (error.index, error.parameter) == (index, field)
    assert f"event {index}" in str(error)
    assert repr(field) in str(error)
    assert error.value is not None
    assert allowed in (error.allowed or "")
    sent = json.dumps(value, separators=(",", ":"))
    assert error.value == sent if len(sent) <= 80 else error.value.endswith("…")


def test_a_missing_time_is_named() -> None:
    """The one required field."""
    error = refusal(b'[{"timestamp": 1}, {"consumer_id": "alice"}]')
    assert (error.index, error.parameter) == (1, "timestamp")
    assert "missing" in str(error)
    assert "required" in (error.allowed or "")


@pytest.mark.parametrize("name", ["consumer", "Timestamp", "application", "event_id", "", "é`$[0]"])
def test_an_unknown_field_is_named(name: str) -> None:
    """A misspelled field, or one that is ours to set, is refused with the list of fields."""
    error = refusal(json.dumps([{"timestamp": 1, name: "x"}]).encode())
    assert error.index == 0
    assert error.value is not None
    assert "unknown field" in str(error)
    for known in CLASSIC:
        assert known in (error.allowed or "")
    assert "application" not in (error.allowed or "")
    if name:
        assert (error.parameter, error.value) == (name, '"x"')


@pytest.mark.parametrize("item", ["1", '"x"', "null", "[]", "true"])
def test_an_event_must_be_an_object(item: str) -> None:
    """Anything else in the array is refused with its index."""
    error = refusal(f'[{{"timestamp": 1}}, {item}]'.encode())
    assert (error.index, error.value) == (1, item)
    assert "object" in (error.allowed or "")


@pytest.mark.parametrize("body", [b"{}", b'{"timestamp": 1}', b"null", b"1", b'"[]"', b"true"])
def test_the_body_must_be_an_array(body: bytes) -> None:
    """A single event is sent in an array too."""
    error = refusal(body)
    assert "must be a JSON array" in str(error)
    assert error.index is None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not json",
        b"[",
        b'[{"timestamp": 1}',
        b'[{"timestamp": 1}] tail',
        b'[{"timestamp": NaN}]',
        b'[{"timestamp": Infinity}]',
        b"[{'timestamp': 1}]",
        b'[{"timestamp": 1, "method": "\xff"}]',
        b'[{"timestamp": 1, "\xff": 1}]',
        b'\xef\xbb\xbf[{"timestamp": 1}]',
        '[{"timestamp": 1}]'.encode("utf-16"),
        rb'[{"timestamp": 1, "method": "\ud800"}]',
        rb'[{"timestamp": 1, "method": "\udc00x"}]',
        rb'[{"timestamp": 1, "\ud800": 1}]',
        rb'[{"timestamp": 1, "attributes": {"\ud800": "x"}}]',
        rb'[{"timestamp": 1, "attributes": {"x": "\ud800"}}]',
        b'[{"timestamp": 1, "metrics": {"x": NaN}}]',
        b'[{"timestamp": 1, "metrics": {"x": -Infinity}}]',
    ],
)
def test_what_is_no_json_is_refused(body: bytes) -> None:
    """Syntax, encoding, NaN and lone surrogates."""
    assert refusal(body).index is None


def test_too_many_events_are_refused() -> None:
    """A request has a largest number of events."""
    body = b"[" + b",".join([b'{"timestamp":1}'] * (events_json.MAX_EVENTS + 1)) + b"]"
    assert f"at most {events_json.MAX_EVENTS}" in str(refusal(body))


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 100_000,
        b'[{"timestamp": "x"}',
        b'[{"timestamp": "x"}, garbage',
        b'[{"timestamp": "x"}, ' + b"[" * 100_000,
        b'[{"timestamp": 1e999}]',
        b'[{"timestamp": 1, "other": 1e999}]',
        b'[{"timestamp": 1, "metrics": {"a": 1e999}}]',
        rb'[{"timestamp": 1, "method": {"\ud800": 1}}]',
    ],
)
def test_a_bad_value_before_what_is_no_json(body: bytes) -> None:
    """Two faults in one body are an invalid request all the same."""
    refusal(body)


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
sendable = st.sampled_from([field.name for field in FIELDS])


@given(events=st.lists(st.dictionaries(sendable | st.text(), json_values, max_size=4), max_size=3))
def test_any_array_of_objects_is_taken_or_refused(events: list[dict[str, Any]]) -> None:
    """Nothing but an invalid request is ever raised."""
    with contextlib.suppress(InvalidRequestError):
        assert encode_events(json.dumps(events).encode()).count == len(events)


@given(name=sendable, value=json_values)
def test_any_value_of_a_field_is_taken_or_refused(name: str, value: Any) -> None:
    """So is a valid event with any value in one field."""
    with contextlib.suppress(InvalidRequestError):
        encode(CLASSIC | {name: value})


@given(value=json_values)
def test_any_json_is_taken_or_refused(value: Any) -> None:
    """So is a body that is no array of objects."""
    with contextlib.suppress(InvalidRequestError):
        encode_events(json.dumps(value).encode())


@given(body=st.binary(max_size=60))
def test_any_bytes_are_taken_or_refused(body: bytes) -> None:
    """So are bytes that are no JSON."""
    with contextlib.suppress(InvalidRequestError):
        encode_events(body)


# ---- ids ----

IDS = {"trace_id": "0123456789abcdef0123456789abcdef", "span_id": "0123456789abcdef"}


@pytest.mark.parametrize(
    ("events", "have_ids"),
    [
        ([CLASSIC | IDS], True),
        ([CLASSIC | IDS, {"timestamp": 1} | IDS], True),
        ([CLASSIC | IDS, CLASSIC], False),
        ([CLASSIC | {"trace_id": IDS["trace_id"]}], False),
        ([CLASSIC | {"span_id": IDS["span_id"]}], False),
        ([CLASSIC], False),
    ],
)
def test_events_with_ids_are_told_apart(events: list[dict[str, Any]], have_ids: bool) -> None:
    """Only if each has both, the same request again is the same events."""
    body = json.dumps(events).encode()
    assert encode_events(body).have_ids is have_ids
    assert encode_valid_events(body).have_ids is have_ids


# ---- those that are valid ----

BAD = {"timestamp": -1}


def encode_partly(events: list[Any]) -> EncodedEvents:
    """Encode those that are valid."""
    return encode_valid_events(json.dumps(events).encode())


def test_all_are_valid() -> None:
    """Then it is the same as without asking for a part."""
    encoded = encode_partly([CLASSIC, {"timestamp": 1}])
    assert encoded.refused == ()
    first, second = events_of(encoded)
    assert (first.consumer_id, second.timestamp_us) == ("alice", 1_000_000)


def test_valid_ones_are_kept_and_the_others_named() -> None:
    """Each by its place in the request, the field, what it had and what it may have."""
    encoded = encode_partly([CLASSIC, BAD, {"timestamp": 2}, {"timestamp": 3, "oops": "x"}, 7])
    assert [event.timestamp_us for event in events_of(encoded)] == [
        1_400_000_000_000_000,
        2_000_000,
    ]
    assert [
        (error.index, error.parameter, error.value) for error in encoded.refused
    ] == [(1, "timestamp", "-1"), (3, "oops", '"x"'), (4, None, "7")]  # fmt: skip
    for error in encoded.refused:
        assert str(error).startswith(f"event {error.index}: ")
        assert error.allowed


def test_none_is_valid() -> None:
    """Then nothing is kept, and each is named."""
    encoded = encode_partly([BAD, BAD])
    assert events_of(encoded) == []
    assert [error.index for error in encoded.refused] == [0, 1]


def test_a_time_that_lies_ahead_costs_its_event() -> None:
    """As any other bad value."""
    encoded = encode_partly([CLASSIC, {"timestamp": 4_294_967_295}])
    assert encoded.count == 1
    (error,) = encoded.refused
    assert (error.index, error.parameter) == (1, "timestamp")


@pytest.mark.parametrize(
    "bad",
    [
        b'{"timestamp": 1, "method": "\xff"}',
        b'{"timestamp": 1e999}',
        b'{"timestamp": 1, "metrics": {"x": 1e999}}',
        b'{"timestamp": 1, "metrics": {"x": "1"}}',
        b"null",
        b"[]",
    ],
)
def test_what_is_wrong_in_one_event_costs_it_alone(bad: bytes) -> None:
    """Also text that is none, where the rest of the request is JSON."""
    body = b'[{"timestamp": 1},' + bad + b',{"timestamp": 2}]'
    encoded = encode_valid_events(body)
    assert [event.timestamp_us for event in events_of(encoded)] == [1_000_000, 2_000_000]
    assert [error.index for error in encoded.refused] == [1]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"null",
        b"1",
        b"[",
        b'[{"timestamp": 1}',
        b'[{"timestamp": 1}] x',
        b"[" * 100_000,
        rb'[{"timestamp": 1}, {"timestamp": 1, "method": "\ud800"}]',
    ],
)
def test_what_is_no_array_is_refused_as_a_whole(body: bytes) -> None:
    """There is nothing to take a part of."""
    with pytest.raises(InvalidRequestError) as refused:
        encode_valid_events(body)
    assert refused.value.index is None


def test_too_many_are_refused_as_a_whole() -> None:
    """Valid or not."""
    body = b"[" + b",".join([b"0"] * (events_json.MAX_EVENTS + 1)) + b"]"
    with pytest.raises(InvalidRequestError, match=f"at most {events_json.MAX_EVENTS}"):
        encode_valid_events(body)


@given(events=st.lists(st.dictionaries(sendable | st.text(), json_values, max_size=4), max_size=4))
def test_each_is_kept_or_refused(events: list[dict[str, Any]]) -> None:
    """None is lost, and nothing is raised; those that are refused alone are those refused here."""
    encoded = encode_partly(events)
    assert len(events_of(encoded)) + len(encoded.refused) == len(events)
    refused = {error.index: str(error) for error in encoded.refused}
    for index, event in enumerate(events):
        alone = json.dumps([event]).encode()
        if index in refused:
            message = refusal(alone)
            assert refused[index] == str(message).replace("event 0", f"event {index}", 1)
        else:
            assert encode_events(alone).count == 1


@given(body=st.binary(max_size=60))
def test_any_bytes_are_taken_in_part_or_refused(body: bytes) -> None:
    """Nothing but an invalid request is ever raised."""
    with contextlib.suppress(InvalidRequestError):
        encode_valid_events(body)
