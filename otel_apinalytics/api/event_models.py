# SPDX-License-Identifier: Apache-2.0
"""Events in JSON as the catalogue has them, for the documentation: as they are sent and stored."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, create_model

from otel_apinalytics.catalogue import (
    FIELDS,
    MAX_ENTRIES,
    MAX_ENTRY_NAME_LENGTH,
    VIRTUAL_FIELDS,
    FieldType,
)
from otel_apinalytics.catalogue import Field as EventField

_EXAMPLE: dict[str, Any] = {
    "timestamp": 1795251600.25,
    "consumer_id": "acme",
    "method": "GET",
    "url": "/users/7?page=2",
    "function": "get_user",
    "response_us": 2500,
    "status_code": 200,
    "attributes": {"plan": "gold"},
    "metrics": {"tokens": 12},
}
_PLAIN: dict[FieldType, Any] = {
    FieldType.TEXT: str,
    FieldType.INTEGER: int,
    FieldType.NUMBER: float,
    FieldType.BOOLEAN: bool,
    FieldType.TIME: float,
    FieldType.HEX: str,
    FieldType.TEXT_MAP: dict[str, str],
    FieldType.NUMBER_MAP: dict[str, float],
}


def _sent(field: EventField) -> Any:
    """Return the type of a field in an event that is sent."""
    if field.choices:
        return Literal[field.choices]
    plain = _PLAIN[field.type]
    if field.type is FieldType.HEX:
        digits = 2 * (field.maximum or 0)
        return Annotated[plain, Field(pattern=f"^[0-9a-fA-F]{{{digits}}}$")]
    if field.type in (FieldType.TEXT_MAP, FieldType.NUMBER_MAP):
        name = Annotated[str, Field(min_length=1, max_length=MAX_ENTRY_NAME_LENGTH)]
        entry: Any = float
        if field.type is FieldType.TEXT_MAP:
            entry = Annotated[str, Field(max_length=field.maximum)]
        return Annotated[dict[name, entry], Field(max_length=MAX_ENTRIES)]
    if field.type is FieldType.TEXT:
        return Annotated[plain, Field(max_length=field.maximum)]
    return Annotated[plain, Field(ge=field.minimum, le=field.maximum)]


def _stored(field: EventField) -> Any:
    """Return the type of a field in an answer; of what was rejected it may not be known."""
    # Numbers of JSON have 53 bits in most programs.
    is_wide = field.column == "UInt64" and field.type is FieldType.INTEGER
    return (str if is_wide else _PLAIN[field.type]) | None


def _described(field: EventField, default: Any) -> Any:
    return Field(default, description=field.description)


_SENT: dict[str, Any] = {
    field.name: (_sent(field), _described(field, ...))
    if field.required
    else (_sent(field) | None, _described(field, None))
    for field in FIELDS
    if field.in_event
}
# The Go client sends it.
_OF_2014: Any = (dict[str, str] | None, Field(None, description="Of 2014; it never had a meaning."))
_STORED: dict[str, Any] = {field.name: (_stored(field), _described(field, ...)) for field in FIELDS}
_READ: dict[str, Any] = {
    **{f.name: (_stored(f), _described(f, None)) for f in (*FIELDS, *VIRTUAL_FIELDS)},
    "cursor": (str | None, Field(None, description="Its place, for the parameter `cursor`.")),
}

SentEvent: type[BaseModel] = create_model(
    "SentEvent",
    __config__=ConfigDict(extra="forbid", json_schema_extra={"examples": [_EXAMPLE]}),
    __doc__="An event as it is sent. Only `timestamp` is required; null is as if it were left out.",
    **_SENT,
    data=_OF_2014,
)
StoredEvent: type[BaseModel] = create_model(
    "StoredEvent",
    __config__=ConfigDict(extra="forbid"),
    __doc__="An event as it is stored: every field, what is missing as null.",
    **_STORED,
)
ReadEvent: type[BaseModel] = create_model(
    "ReadEvent",
    # Entries of maps, such as `attributes.plan`, under their names.
    __config__=ConfigDict(extra="allow"),
    __doc__="An event as it is read: all stored fields and `cursor`, or those that `fields` names; "
    "what is missing as null.",
    **_READ,
)
