# SPDX-License-Identifier: Apache-2.0
"""The catalogue: every public field of an event, once.

The schema, the JSON codec, the query validation, `GET /1/fields/` and the README table derive from
it, or are tested against it. Names are public and stay; the seven of 2014 keep their names and
meaning.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any


class Role(str, Enum):
    """What a field is for: to group and filter by, to aggregate, or to identify the event."""

    DIMENSION = "dimension"
    MEASURE = "measure"
    IDENTITY = "identity"


class FieldType(str, Enum):
    """The type of a field in JSON and in answers."""

    TEXT = "text"
    INTEGER = "integer"
    NUMBER = "number"
    BOOLEAN = "boolean"
    TIME = "time"
    HEX = "hex"
    TEXT_MAP = "text map"
    NUMBER_MAP = "number map"


@dataclass(frozen=True, slots=True)
class Field:
    """One field of an event.

    Args:
        name: Public name; also the column.
        type: Type in JSON and in answers.
        role: What the field may be used for in a query.
        column: Column type in the store; empty for a virtual field. Text that is missing is empty,
            a number is null.
        description: One sentence for users.
        unit: Unit of a measure, else None.
        minimum: Smallest value accepted in a JSON event.
        maximum: Largest value accepted in a JSON event; for text the longest length.
        choices: The only texts that it can have, or empty for any.
        scale: What is stored is the public value times this.
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
    choices: tuple[str, ...] = ()
    scale: int = 1
    in_event: bool = True
    required: bool = False

    @property
    def nullable(self) -> bool:
        """Whether a missing value is null; otherwise it is empty text, or there is always one."""
        return self.column.startswith("Nullable")

    @property
    def virtual(self) -> bool:
        """Whether queries compute the field from others; it is not stored."""
        return not self.column


# A request that lasts longer is a mistake of a clock, not a duration.
MAX_RESPONSE_US = 7 * 24 * 3600 * 1_000_000
MAX_URL_LENGTH = 2048
MAX_TEXT_LENGTH = 1024
MAX_USER_AGENT_LENGTH = 512
# Entries in `attributes` and in `metrics` of one event.
MAX_ENTRIES = 64
MAX_ENTRY_NAME_LENGTH = 128
# Requests that one event may stand for; rarer sampling than one in a billion is a mistake.
MAX_WEIGHT = 10**9
WEIGHT_SCALE = 1000
MAX_INTEGER = 2**53 - 1

INBOUND = "inbound"
OUTBOUND = "outbound"

_TEXT = "String"
# With a dictionary: grouping is twice as fast, a merge of the column costs ten times as much. For
# the dimensions that most questions group by.
_LABEL = "LowCardinality(String)"
_INT = "Nullable(Int64)"
_DIMENSION, _MEASURE, _IDENTITY = Role.DIMENSION, Role.MEASURE, Role.IDENTITY


def _text(name: str, description: str, column: str = _TEXT, **more: Any) -> Field:
    options = {"maximum": MAX_TEXT_LENGTH, **more}
    return Field(name, FieldType.TEXT, _DIMENSION, column, description, **options)


def _count(name: str, unit: str, description: str, maximum: int = MAX_INTEGER) -> Field:
    return Field(
        name, FieldType.INTEGER, _MEASURE, _INT, description, unit=unit, minimum=0, maximum=maximum
    )


def _flag(name: str, description: str, column: str = "Bool", **more: Any) -> Field:
    return Field(name, FieldType.BOOLEAN, _DIMENSION, column, description, **more)


def _id(name: str, length: int, description: str) -> Field:
    column = f"FixedString({length})"
    return Field(name, FieldType.HEX, _IDENTITY, column, description, maximum=length)


FIELDS: tuple[Field, ...] = (
    Field(
        "timestamp",
        FieldType.TIME,
        _IDENTITY,
        "DateTime64(6, 'UTC')",
        "Event time: when the request began. Epoch seconds in JSON, a fraction is allowed.",
        unit="s",
        required=True,
    ),
    # Who called.
    _text("consumer_id", "Who called the API."),
    _text("consumer_source", "Where consumer_id was found: the attribute's name, or `event`."),
    _text("developer_id", "Developer who owns the calling application."),
    _text("app_id", "Calling application, as registered by its developer."),
    _text("organization_id", "Organisation, tenant or account of the consumer."),
    _text("plan_id", "Plan or product that the call is billed under."),
    _text("client_id", "OAuth client."),
    # What was called.
    _text("direction", "`inbound` for calls of our API, `outbound` for calls that we make.",
          choices=(INBOUND, OUTBOUND)),
    _text("service", "The program that served or made the call (`service.name`).", _LABEL),
    _text("service_version", "Version of the program."),
    _text("environment", "Deployment environment, such as `production`."),
    _text("region", "Where the program runs."),
    _text("host", "Host name that was called, without port.", _LABEL),
    _text("method", "HTTP method, upper case; none for RPC.", _LABEL, maximum=64),
    _text("url", "Path and query as requested; values of secret parameters are redacted.",
          maximum=8 * MAX_URL_LENGTH),
    _text("route", "Path template, such as `/users/{id}`, or `(unmatched)`.", _LABEL),
    _text("route_source",
          "How good `route` is: said by an `attribute`, taken from the span's `name`, `derived` "
          "from the path, or `unmatched`.",
          choices=("attribute", "name", "derived", "unmatched")),
    _text("function", "What was called: a function's name, or method and route, or `unknown`.",
          _LABEL),
    _text("api_version", "Version of the API that was called."),
    # What became of it.
    Field("status_code", FieldType.INTEGER, _DIMENSION, "Nullable(UInt16)",
          "HTTP status code; an RPC status is mapped to one.", minimum=100, maximum=599),
    _flag("is_error", "Whether the call failed: status 500 or more, or the span says so."),
    _text("error_type", "Class of the error: an exception, a status, a proxy's flags."),
    _text("rpc_status", "Status of an RPC, such as `NOT_FOUND`."),
    _text("cache_status", "What a cache said, such as `hit` or `miss`."),
    _flag("is_stream",
          "WebSocket, server-sent events and the like: counted, but not in percentiles of time."),
    # How much.
    _count("response_us", "µs", "Time from request to response.", MAX_RESPONSE_US),
    _count("upstream_us", "µs", "Of it, time spent waiting for what is behind a proxy.",
           MAX_RESPONSE_US),
    _count("queue_us", "µs", "Time that the request waited before it was served.",
           MAX_RESPONSE_US),
    _count("request_bytes", "B", "Size of the request's body."),
    _count("response_bytes", "B", "Size of the response's body."),
    _count("resend_count", "retries", "Which repetition of a request this is; the first is 0."),
    _count("quota_consumed", "units", "What the call took off the consumer's quota."),
    Field("weight", FieldType.NUMBER, _MEASURE, "UInt64",
          "Requests that this event stands for: the inverse of the sampling probability.",
          unit="requests", minimum=1, maximum=MAX_WEIGHT, scale=WEIGHT_SCALE),
    # With what.
    _text("user_agent", "User agent of the client.", maximum=MAX_USER_AGENT_LENGTH),
    _text("client_name", "Product in the user agent, such as `python-requests`."),
    _text("client_version", "Version of that product."),
    _text("client_ip_hash", "Hash of the client's address; the address itself is not stored."),
    _text("protocol_version", "Version of HTTP, such as `1.1` or `2`.", maximum=64),
    _text("sdk_language", "Language of the SDK that sent the span.", maximum=64),
    _text("synthetic", "`bot` or `test` where the sender says that no user is behind it.",
          maximum=64),
    # Experiments and jobs.
    _text("experiment", "Experiment or feature flag."),
    _text("variant", "Variant of it that the call saw."),
    _text("job_type", "Kind of the job that the call belongs to."),
    # The owner's own.
    Field("attributes", FieldType.TEXT_MAP, _DIMENSION,
          "Map(LowCardinality(String), String)", "Dimensions of your own, by name.",
          maximum=MAX_TEXT_LENGTH),
    Field("metrics", FieldType.NUMBER_MAP, _MEASURE,
          "Map(LowCardinality(String), Float64)", "Numbers of your own, by name."),
    # Which.
    Field("application", FieldType.TEXT, _IDENTITY, _LABEL,
          "The tenant, from the key; never from the span.", in_event=False),
    Field("event_id", FieldType.INTEGER, _IDENTITY, "UInt64",
          "Identity within application and hour, from trace and span id.", in_event=False),
    _id("trace_id", 16, "Trace id."),
    _id("span_id", 8, "Span id."),
    _id("parent_span_id", 8, "Id of the parent span; missing where there is none."),
    Field("received_at", FieldType.TIME, _IDENTITY, "DateTime64(6, 'UTC')",
          "When the service received it.", in_event=False),
)  # fmt: skip

# Computed by queries, stored nowhere.
VIRTUAL_FIELDS: tuple[Field, ...] = (
    _text("status_class", "Class of the status: `1xx` to `5xx`.", "", in_event=False),
    _flag("is_edge", "Whether no other event here is its parent: a call from outside.", "",
          in_event=False),
    _text("hour_of_day", "Hour of event time, `0` to `23`, in `tz`.", "", in_event=False),
    _text("weekday", "Day of event time, `1` (Monday) to `7`, in `tz`.", "", in_event=False),
)  # fmt: skip

BY_NAME: dict[str, Field] = {field.name: field for field in (*FIELDS, *VIRTUAL_FIELDS)}
DIMENSIONS: tuple[str, ...] = tuple(n for n, f in BY_NAME.items() if f.role is _DIMENSION)
MEASURES: tuple[str, ...] = tuple(n for n, f in BY_NAME.items() if f.role is _MEASURE)
