# SPDX-License-Identifier: Apache-2.0
"""Events as the service takes them: JSON objects, and arrays of them of a bounded size."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from json.encoder import encode_basestring_ascii

from otel_apinalytics.catalogue import FIELDS, INBOUND, MAX_INTEGER, MAX_TEXT_LENGTH, FieldType
from otel_apinalytics.normalize import urls
from otel_apinalytics.normalize.call import Fields, Value

# Far below what the service takes in one request, 64 MiB unless it is set otherwise.
MAX_BODY_BYTES = 2 << 20
_MAX_BODY_EVENTS = 8192
# What the service takes for granted.
_DEFAULTS: Fields = {"direction": INBOUND, "weight": 1.0}
_NAMES = {field.name: f',"{field.name}":' for field in FIELDS}
# What is longer, the service refuses.
_MAXIMA = {field.name: field.maximum for field in FIELDS if field.type is FieldType.TEXT}
_SHORTEST_MAXIMUM = min(filter(None, _MAXIMA.values()))


def head(
    timestamp_us: int, trace_id: str, span_id: str, parent_span_id: str, response_us: int | None
) -> str:
    """Return how an event begins: its times and its ids, which no two have in common."""
    parent = f',"parent_span_id":"{parent_span_id}"' if parent_span_id else ""
    took = f',"response_us":{response_us}' if response_us is not None else ""
    return (
        f'{{"timestamp":{timestamp_us // 1_000_000}.{timestamp_us % 1_000_000:06d},'
        f'"trace_id":"{trace_id}","span_id":"{span_id}"{parent}{took}'
    )


def place(service: str, span_name: str) -> str:
    """Return what gives an event the place in the store that its span would have.

    Args:
        service: The resource's service name, before any rule.
        span_name: The span's name; a secret in it is redacted, there as here.
    """
    service, name = service[:MAX_TEXT_LENGTH], urls.redacted.python(span_name)[:MAX_TEXT_LENGTH]
    return f',"span_service":{quoted(service)},"span_name":{quoted(name)}'


def members(fields: Fields) -> str:
    """Return fields as they follow the head of an event, without those that have no value."""
    parts = []
    for name, value in fields.items():
        if type(value) is str:
            if value:
                if len(value) > _SHORTEST_MAXIMUM:
                    value = value[: _MAXIMA[name]]
                text = encode_basestring_ascii(value) if value.isascii() else quoted(value)
                parts.append(_NAMES[name] + text)
        elif value is not None and value is not False:
            parts.append(_member(name, value))
    return "".join(parts)


def without_defaults(fields: Fields) -> Fields:
    """Return the fields that have another value than the service takes for granted."""
    return {name: value for name, value in fields.items() if value != _DEFAULTS.get(name)}


def quoted(text: str) -> str:
    """Return a text as JSON; half of a surrogate pair, which no encoding has, as a mark."""
    if not text.isascii():
        text = text.encode("utf-8", "replace").decode("utf-8")
    return encode_basestring_ascii(text)


def _member(name: str, value: Value) -> str:
    if value is True:
        return f"{_NAMES[name]}true"
    if isinstance(value, dict):
        entries = ",".join(f"{quoted(key)}:{_entry(one)}" for key, one in value.items())
        return f"{_NAMES[name]}{{{entries}}}" if entries else ""
    is_too_large = isinstance(value, int) and value > MAX_INTEGER
    return "" if is_too_large else f"{_NAMES[name]}{value!r}"


def _entry(value: str | float) -> str:
    return quoted(value) if isinstance(value, str) else repr(value)


def bodies(events: Iterable[str]) -> Iterator[list[str]]:
    """Give the events in groups, each of which makes a body within the limits."""
    group: list[str] = []
    size = 0
    for event in events:
        if group and (size + len(event) > MAX_BODY_BYTES or len(group) >= _MAX_BODY_EVENTS):
            yield group
            group, size = [], 0
        group.append(event)
        size += len(event) + 1
    if group:
        yield group


def body_of(events: Sequence[str]) -> bytes:
    """Return the body that has these events."""
    return f"[{','.join(events)}]".encode("ascii")
