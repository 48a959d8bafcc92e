# SPDX-License-Identifier: Apache-2.0
"""JSON events: validates the array of 2014 against the catalogue and encodes it for the log."""

from __future__ import annotations

import hashlib
import re
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from typing import Annotated, Any, Literal

import msgspec

from otel_apinalytics.catalogue import (
    BY_NAME,
    FIELDS,
    MAX_ENTRIES,
    MAX_ENTRY_NAME_LENGTH,
    MAX_TEXT_LENGTH,
    Field,
    FieldType,
)
from otel_apinalytics.errors import InvalidRequestError, RequestTooLargeError
from otel_apinalytics.wire.log_pb2 import Event, EventBatch

MAX_EVENTS = 65_536
# Between values; a value of one character would take some seventy bytes until it is counted.
_MAX_COMMAS = 64 * MAX_EVENTS

# An event may lie a day ahead of this clock, as a span may: clocks differ.
_DAY_S = 24 * 3600
# Where the store's time type ends; 32 bits of seconds.
_MAX_TIMESTAMP_S = 4_294_967_295
_EVENT_FIELDS = tuple(field for field in FIELDS if field.in_event)
# What follows the field is a place within it.
_WHERE = re.compile(
    r"(?:`key` in )?`\$(?:\[(?P<index>\d+)\])?(?:\.(?P<field>\w+)(?:\[\.\.\.\])*)?`"
)
_NAMED_FIELD = re.compile(r"(?:unknown|missing required) field `(.*)`", re.DOTALL)
_VALUE_LENGTH = 80
_REASON_LENGTH = 200
# To show a value the body is read once more, whatever is in it.
_SHOWN_BYTES = 1 << 20
_ALLOWED_MAP = (
    f"an object of at most {MAX_ENTRIES} names of 1 to {MAX_ENTRY_NAME_LENGTH} characters"
)


def _json_type(field: Field) -> Any:
    if field.choices:
        # A type that is made of values of the catalogue.
        return Literal[field.choices]
    if field.type is FieldType.TIME:
        return Annotated[float, msgspec.Meta(ge=0, le=_MAX_TIMESTAMP_S)]
    if field.type is FieldType.INTEGER:
        return Annotated[int, msgspec.Meta(ge=field.minimum, le=field.maximum)]
    if field.type is FieldType.BOOLEAN:
        return bool
    if field.type is FieldType.HEX:
        pattern = rf"^[0-9a-fA-F]{{{2 * (field.maximum or 0)}}}\Z"
        return Annotated[str, msgspec.Meta(pattern=pattern)]
    if field.type is FieldType.NUMBER:
        return Annotated[float, msgspec.Meta(ge=field.minimum, le=field.maximum)]
    if field.type is FieldType.TEXT_MAP:
        return _map_type(Annotated[str, msgspec.Meta(max_length=field.maximum)])
    if field.type is FieldType.NUMBER_MAP:
        return _map_type(float)
    return Annotated[str, msgspec.Meta(max_length=field.maximum)]


def _map_type(value_type: Any) -> Any:
    name = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_ENTRY_NAME_LENGTH)]
    return Annotated[dict[name, value_type], msgspec.Meta(max_length=MAX_ENTRIES)]


_SPAN_TEXT: Any = Annotated[str, msgspec.Meta(max_length=MAX_TEXT_LENGTH)]
# An event as the catalogue says that it may be sent.
_SentEvent = msgspec.defstruct(
    "_SentEvent",
    [
        (field.name, _json_type(field))
        if field.required
        else (field.name, _json_type(field) | None, None)
        for field in _EVENT_FIELDS
    ]
    # Of the span that an event was made of: then both have the same place in the store.
    + [(name, _SPAN_TEXT | None, None) for name in ("span_service", "span_name")]
    # The Go client of 2014 always sends it, as null: it never got a meaning.
    + [("data", dict[str, str] | None, None)],
    forbid_unknown_fields=True,
)


def _scaled(scale: int) -> Callable[[float], int]:
    """Return a function from a number to how often it has 1/scale in it; half is rounded up."""
    # The number as it was written: its binary fraction would be just below the half, or above.
    return lambda number: int((Decimal(repr(number)) * scale).to_integral_value(ROUND_HALF_UP))


# How a value that was sent becomes the message's, where it is another.
_ENCODERS: Mapping[str, Callable[[Any], Any]] = {
    **{field.name: bytes.fromhex for field in _EVENT_FIELDS if field.type is FieldType.HEX},
    **{field.name: _scaled(field.scale) for field in _EVENT_FIELDS if field.scale > 1},
}
# mypy takes a class that is made at run time for a variable.
_DECODER = msgspec.json.Decoder(list[_SentEvent])  # type: ignore[valid-type]
_RAW_DECODER = msgspec.json.Decoder(list[msgspec.Raw])


@dataclass(frozen=True, slots=True)
class EncodedEvents:
    """Events of a request, as they are kept.

    Args:
        batch: A serialized `EventBatch`.
        count: Events in it.
        refused: What is wrong with those that are left out, in their order.
        have_ids: Whether each event has a trace id and a span id.
    """

    batch: bytes
    count: int
    refused: tuple[InvalidRequestError, ...] = ()
    have_ids: bool = False


def encode_events(body: bytes, request: bytes | None = None) -> EncodedEvents:
    """Return a JSON array of events, encoded; all of them, or none.

    Args:
        body: The array.
        request: Names the request, equal in each try: then its events have the same identity.

    Raises:
        InvalidRequestError: The body is no JSON array, has too many events, or an event is not
            valid; the error then names its index, the field, and what is allowed.
        RequestTooLargeError: It has too many values.
    """
    _check_commas(body)
    try:
        events: list[Any] = _DECODER.decode(body)
    except msgspec.ValidationError as error:
        raise _invalid(body, str(error)) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequestError(f"the body is not JSON: {error}") from error
    _check_number(len(events))
    latest_s = time.time() + _DAY_S
    for index, event in enumerate(events):
        _check_time(event, index, latest_s)
    return _encoded([_encode(event, index, request) for index, event in enumerate(events)])


def encode_valid_events(body: bytes, request: bytes | None = None) -> EncodedEvents:
    """Return those events of a JSON array that are valid, encoded, and what is wrong with others.

    Args:
        body: The array.
        request: As for `encode_events`.

    Raises:
        InvalidRequestError: The body is no JSON array, or has too many events.
        RequestTooLargeError: It has too many values.
    """
    _check_commas(body)
    try:
        sent: list[msgspec.Raw] = _RAW_DECODER.decode(body)
    except msgspec.ValidationError as error:
        raise InvalidRequestError(f"the body must be a JSON array of events: {error}") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequestError(f"the body is not JSON: {error}") from error
    _check_number(len(sent))
    latest_s = time.time() + _DAY_S
    events, refused = [], []
    for index, raw in enumerate(sent):
        alone = b"[%b]" % bytes(raw)
        try:
            (event,) = _DECODER.decode(alone)
            _check_time(event, index, latest_s)
            events.append(_encode(event, index, request))
        except msgspec.ValidationError as error:
            refused.append(_invalid(alone, str(error), index))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            refused.append(InvalidRequestError(f"event {index}: not JSON: {error}", index=index))
        except InvalidRequestError as error:
            refused.append(error)
    return _encoded(events, refused)


def _encoded(events: list[Event], refused: Sequence[InvalidRequestError] = ()) -> EncodedEvents:
    have_ids = all(event.trace_id and event.span_id for event in events)
    batch = EventBatch(events=events).SerializeToString()
    return EncodedEvents(batch, len(events), tuple(refused), have_ids)


def _check_commas(body: bytes) -> None:
    """Refuse what would take too much memory to be read; it is not read for that."""
    if body.count(b",") > _MAX_COMMAS:
        raise RequestTooLargeError(
            f"the request has more than {_MAX_COMMAS} values: send smaller batches"
        )


def _check_number(events: int) -> None:
    if events > MAX_EVENTS:
        raise InvalidRequestError(
            f"the request has {events} events; at most {MAX_EVENTS} are allowed in one"
        )


def _check_time(event: Any, index: int, latest_s: float) -> None:
    if event.timestamp > latest_s:
        raise InvalidRequestError(
            f"event {index}: field 'timestamp': more than a day ahead",
            index=index,
            parameter="timestamp",
            value=str(event.timestamp),
            allowed=f"epoch seconds up to {latest_s:.0f}, a day from now",
        )


def _event_id(index: int, request: bytes | None) -> int:
    """Return an event's identity, for where it has no ids."""
    if request is None:
        return secrets.randbits(64)
    place = index.to_bytes(4, "big")
    return int.from_bytes(hashlib.blake2b(place, key=request, digest_size=8).digest(), "big")


def _encode(event: Any, index: int, request: bytes | None) -> Event:
    values = {
        name: value
        for name in event.__struct_fields__
        if name not in ("timestamp", "data") and (value := getattr(event, name)) is not None
    }
    for name in values.keys() & _ENCODERS.keys():
        values[name] = _ENCODERS[name](values[name])
    try:
        return Event(
            # Given here and kept in the log, so that loading the record again is the same event.
            event_id=_event_id(index, request),
            timestamp_us=round(event.timestamp * 1_000_000),
            **values,
        )
    except UnicodeEncodeError as error:
        raise InvalidRequestError(
            f"event {index}: text that is not valid Unicode: {error.reason}", index=index
        ) from error


def _invalid(body: bytes, problem: str, first: int = 0) -> InvalidRequestError:
    """Return the error that says what the decoder's message says.

    Args:
        body: The array that was decoded.
        problem: The message.
        first: Index of the array's first event in the request.
    """
    # Split from its end: before it there may be a name of the sender's, of any length.
    reason, _, place = problem.rpartition(" - at ")
    where = _WHERE.fullmatch(place)
    if where is None:
        reason = problem
    index = int(where["index"]) if where and where["index"] else None
    name = where["field"] if where else None
    if named := _NAMED_FIELD.search(reason):
        name = named[1][:_VALUE_LENGTH]
        reason = reason.replace(named[1], name)
    # Others name the value that was sent.
    reason = reason[:_REASON_LENGTH]
    if index is None:
        return InvalidRequestError(f"the body must be a JSON array of events: {reason}")
    field = BY_NAME.get(name or "")
    message = f"event {first + index}: " + (f"field {name!r}: {reason}" if name else reason)
    return InvalidRequestError(
        message,
        index=first + index,
        parameter=name,
        value=_value(body, index, name),
        allowed=_allowed(field) if field and field.in_event else _allowed_fields(),
    )


def _value(body: bytes, index: int, name: str | None) -> str | None:
    if len(body) > _SHOWN_BYTES:
        return None
    try:
        event = msgspec.json.decode(body)[index]
        value = event.get(name) if name and isinstance(event, dict) else event
        text = msgspec.json.encode(value).decode()
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        # What follows the first fault need not be JSON at all.
        return None
    return text if len(text) <= _VALUE_LENGTH else text[:_VALUE_LENGTH] + "…"


def _allowed(field: Field) -> str:
    if field.choices:
        return " or ".join((", ".join(field.choices[:-1]), field.choices[-1]))
    if field.type is FieldType.TIME:
        return f"epoch seconds from 0 to {_MAX_TIMESTAMP_S}, with or without a fraction; required"
    if field.type is FieldType.INTEGER:
        return f"an integer from {field.minimum} to {field.maximum}"
    if field.type is FieldType.BOOLEAN:
        return "true or false"
    if field.type is FieldType.HEX:
        return f"{2 * (field.maximum or 0)} hexadecimal digits"
    if field.type is FieldType.NUMBER:
        return f"a number from {field.minimum} to {field.maximum}"
    if field.type is FieldType.TEXT_MAP:
        return f"{_ALLOWED_MAP}, each with text of at most {field.maximum} characters"
    if field.type is FieldType.NUMBER_MAP:
        return f"{_ALLOWED_MAP}, each with a number"
    return f"text of at most {field.maximum} characters"


def _allowed_fields() -> str:
    return "an object with the fields " + ", ".join(field.name for field in _EVENT_FIELDS)
