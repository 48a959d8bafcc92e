# SPDX-License-Identifier: Apache-2.0
"""JSON events: validates the array of 2014 against the catalogue and encodes it for the log."""

from __future__ import annotations

import re
import secrets
import time
from typing import Annotated, Any, Literal, NoReturn

import msgspec

from otel_apinalytics.catalogue import BY_NAME, FIELDS, INBOUND, OUTBOUND, Field, FieldType
from otel_apinalytics.errors import InvalidRequestError
from otel_apinalytics.wire.log_pb2 import Event, EventBatch

MAX_EVENTS = 65_536

# An event may lie a day ahead of this clock, as a span may: clocks differ.
_DAY_S = 24 * 3600
# Where the store's time type ends; 32 bits of seconds.
_MAX_TIMESTAMP_S = 4_294_967_295
_EVENT_FIELDS = tuple(field for field in FIELDS if field.in_event)
_WHERE = re.compile(r"\s*- at `\$(?:\[(?P<index>\d+)\])?(?:\.(?P<field>\w+))?`$")
_NAMED_FIELD = re.compile(r"(?:unknown|missing required) field `(.*)`")
_VALUE_LENGTH = 80


def _json_type(field: Field) -> Any:
    if field.name == "direction":
        return Literal["inbound", "outbound"]
    if field.type is FieldType.TIME:
        return Annotated[float, msgspec.Meta(ge=0, le=_MAX_TIMESTAMP_S)]
    if field.type is FieldType.INTEGER:
        return Annotated[int, msgspec.Meta(ge=field.minimum, le=field.maximum)]
    if field.type is FieldType.BOOLEAN:
        return bool
    if field.type is FieldType.HEX:
        pattern = rf"^[0-9a-fA-F]{{{2 * (field.maximum or 0)}}}\Z"
        return Annotated[str, msgspec.Meta(pattern=pattern)]
    return Annotated[str, msgspec.Meta(max_length=field.maximum)]


# An event as the catalogue says that it may be sent.
_SentEvent = msgspec.defstruct(
    "_SentEvent",
    [
        (field.name, _json_type(field))
        if field.required
        else (field.name, _json_type(field) | None, None)
        for field in _EVENT_FIELDS
    ]
    # The Go client of 2014 always sends it, as null: it never got a meaning.
    + [("data", dict[str, str] | None, None)],
    forbid_unknown_fields=True,
)
# mypy takes a class that is made at run time for a variable.
_DECODER = msgspec.json.Decoder(list[_SentEvent])  # type: ignore[valid-type]


def encode_events(body: bytes) -> tuple[bytes, int]:
    """Return a JSON array of events as a serialized `EventBatch`, and their number.

    Raises:
        InvalidRequestError: The body is no JSON array, has too many events, or an event is not
            valid; the error then names its index, the field, and what is allowed.
    """
    try:
        events: list[Any] = _DECODER.decode(body)
    except msgspec.ValidationError as error:
        _raise_invalid(body, str(error))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequestError(f"the body is not JSON: {error}") from error
    if len(events) > MAX_EVENTS:
        raise InvalidRequestError(
            f"the request has {len(events)} events; at most {MAX_EVENTS} are allowed in one"
        )
    latest_s = time.time() + _DAY_S
    for index, event in enumerate(events):
        if event.timestamp > latest_s:
            raise InvalidRequestError(
                f"event {index}: field 'timestamp': more than a day ahead",
                index=index,
                parameter="timestamp",
                value=str(event.timestamp),
                allowed=f"epoch seconds up to {latest_s:.0f}, a day from now",
            )
    try:
        batch = EventBatch(events=[_encode(event) for event in events])
        return batch.SerializeToString(), len(events)
    except UnicodeEncodeError as error:
        raise InvalidRequestError(f"text that is not valid Unicode: {error.reason}") from error


def _encode(event: Any) -> Event:
    values = {
        name: value
        for name in event.__struct_fields__
        if name not in ("timestamp", "data") and (value := getattr(event, name)) is not None
    }
    for name in ("trace_id", "span_id", "parent_span_id"):
        if name in values:
            values[name] = bytes.fromhex(values[name])
    return Event(
        # Given here and kept in the log, so that loading the record again is the same event.
        event_id=secrets.randbits(64),
        timestamp_us=round(event.timestamp * 1_000_000),
        **values,
    )


def _raise_invalid(body: bytes, problem: str) -> NoReturn:
    where = _WHERE.search(problem)
    index = int(where["index"]) if where and where["index"] else None
    name = where["field"] if where else None
    reason = _WHERE.sub("", problem)
    if named := _NAMED_FIELD.search(reason):
        name = named[1][:_VALUE_LENGTH]
        reason = reason.replace(named[1], name)
    if index is None:
        raise InvalidRequestError(f"the body must be a JSON array of events: {reason}")
    field = BY_NAME.get(name or "")
    message = f"event {index}: " + (f"field {name!r}: {reason}" if name else reason)
    raise InvalidRequestError(
        message,
        index=index,
        parameter=name,
        value=_value(body, index, name),
        allowed=_allowed(field) if field and field.in_event else _allowed_fields(),
    )


def _value(body: bytes, index: int, name: str | None) -> str | None:
    try:
        event = msgspec.json.decode(body)[index]
        value = event.get(name) if name and isinstance(event, dict) else event
        text = msgspec.json.encode(value).decode()
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        # What follows the first fault need not be JSON at all.
        return None
    return text if len(text) <= _VALUE_LENGTH else text[:_VALUE_LENGTH] + "…"


def _allowed(field: Field) -> str:
    if field.name == "direction":
        return f"{INBOUND} or {OUTBOUND}"
    if field.type is FieldType.TIME:
        return f"epoch seconds from 0 to {_MAX_TIMESTAMP_S}, with or without a fraction; required"
    if field.type is FieldType.INTEGER:
        return f"an integer from {field.minimum} to {field.maximum}"
    if field.type is FieldType.BOOLEAN:
        return "true or false"
    if field.type is FieldType.HEX:
        return f"{2 * (field.maximum or 0)} hexadecimal digits"
    return f"text of at most {field.maximum} characters"


def _allowed_fields() -> str:
    return "an object with the fields " + ", ".join(field.name for field in _EVENT_FIELDS)
