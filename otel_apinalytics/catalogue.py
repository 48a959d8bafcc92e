# SPDX-License-Identifier: Apache-2.0
"""The catalogue: every public field of an event, once.

The schema, the JSON codec, the query validation and the README table derive from it, or are tested
against it. Names are public and stay; the seven of 2014 keep their names and meaning.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Role(str, Enum):
    """What a field is for: to group and filter by, to aggregate, or to identify the event."""

    DIMENSION = "dimension"
    MEASURE = "measure"
    IDENTITY = "identity"


class FieldType(str, Enum):
    """The type of a field in JSON and in answers."""

    TEXT = "text"
    INTEGER = "integer"
    BOOLEAN = "boolean"
    TIME = "time"
    HEX = "hex"


@dataclass(frozen=True, slots=True)
class Field:
    """One field of an event.

    Args:
        name: Public name; also the column.
        type: Type in JSON and in answers.
        role: What the field may be used for in a query.
        column: Column type in the store. Text that is missing is empty, a number is null.
        description: One sentence for users.
        unit: Unit of a measure, else None.
        minimum: Smallest value accepted in a JSON event.
        maximum: Largest value accepted in a JSON event; for text the longest length.
        in_event: Whether a JSON event may carry it.
        required: Whether a JSON event must carry it.
    """

    name: str
    type: FieldType
    role: Role
    column: str
    description: str
    unit: str | None = None
    minimum: int | None = None
    maximum: int | None = None
    in_event: bool = True
    required: bool = False

    @property
    def nullable(self) -> bool:
        """Whether a missing value is null; otherwise it is empty text."""
        return self.column.startswith("Nullable")


_LABEL = "LowCardinality(String)"
# A request that lasts longer is a mistake of a clock, not a duration.
MAX_RESPONSE_US = 7 * 24 * 3600 * 1_000_000
MAX_URL_LENGTH = 2048
MAX_TEXT_LENGTH = 1024

_text, _int, _bool = FieldType.TEXT, FieldType.INTEGER, FieldType.BOOLEAN
_dimension, _measure, _identity = Role.DIMENSION, Role.MEASURE, Role.IDENTITY

FIELDS: tuple[Field, ...] = (
    Field(
        "timestamp",
        FieldType.TIME,
        _identity,
        "DateTime64(6, 'UTC')",
        "Event time: when the request began. Epoch seconds in JSON, a fraction is allowed.",
        unit="s",
        required=True,
    ),
    Field(
        "consumer_id", _text, _dimension, "String", "Who called the API.", maximum=MAX_TEXT_LENGTH
    ),
    Field(
        "consumer_source",
        _text,
        _dimension,
        _LABEL,
        "Where consumer_id was found: the attribute's name, or `event` for JSON events.",
        in_event=False,
    ),
    Field("method", _text, _dimension, _LABEL, "HTTP method, upper case.", maximum=64),
    Field(
        "url",
        _text,
        _dimension,
        "String",
        "Path and query as requested; values of secret parameters are redacted.",
        maximum=8 * MAX_URL_LENGTH,
    ),
    Field(
        "function",
        _text,
        _dimension,
        _LABEL,
        "What was called: a function's name, or method and route, or `unknown`.",
        maximum=MAX_TEXT_LENGTH,
    ),
    Field(
        "route",
        _text,
        _dimension,
        _LABEL,
        "Path template, such as `/users/{id}`.",
        maximum=MAX_TEXT_LENGTH,
    ),
    Field(
        "response_us",
        _int,
        _measure,
        "Nullable(Int64)",
        "Time from request to response.",
        unit="µs",
        minimum=0,
        maximum=MAX_RESPONSE_US,
    ),
    Field(
        "status_code",
        _int,
        _dimension,
        "Nullable(UInt16)",
        "HTTP status code.",
        minimum=100,
        maximum=599,
    ),
    Field(
        "is_error",
        _bool,
        _dimension,
        "Bool",
        "Whether the call failed: status 500 or more, or the span says so.",
    ),
    Field(
        "direction",
        _text,
        _dimension,
        _LABEL,
        "`inbound` for calls of our API, `outbound` for calls that we make.",
    ),
    Field(
        "service",
        _text,
        _dimension,
        _LABEL,
        "The program that served or made the call (`service.name`).",
        maximum=MAX_TEXT_LENGTH,
    ),
    Field(
        "host",
        _text,
        _dimension,
        _LABEL,
        "Host name that was called, without port.",
        maximum=MAX_TEXT_LENGTH,
    ),
    Field(
        "application",
        _text,
        _identity,
        _LABEL,
        "The tenant, from the key; never from the span.",
        in_event=False,
    ),
    Field(
        "event_id",
        _int,
        _identity,
        "UInt64",
        "Identity within application and hour, from trace and span id.",
        in_event=False,
    ),
    Field("trace_id", FieldType.HEX, _identity, "FixedString(16)", "Trace id.", maximum=16),
    Field("span_id", FieldType.HEX, _identity, "FixedString(8)", "Span id.", maximum=8),
    Field(
        "parent_span_id",
        FieldType.HEX,
        _identity,
        "FixedString(8)",
        "Id of the parent span; zero where there is none.",
        maximum=8,
    ),
    Field(
        "received_at",
        FieldType.TIME,
        _identity,
        "DateTime64(6, 'UTC')",
        "When the service received it.",
        in_event=False,
    ),
)

BY_NAME: dict[str, Field] = {field.name: field for field in FIELDS}
DIMENSIONS: tuple[str, ...] = tuple(f.name for f in FIELDS if f.role is Role.DIMENSION)
MEASURES: tuple[str, ...] = tuple(f.name for f in FIELDS if f.role is Role.MEASURE)

INBOUND = "inbound"
OUTBOUND = "outbound"
