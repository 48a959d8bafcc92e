# SPDX-License-Identifier: Apache-2.0
"""The shapes of JSON answers, for the documentation: what the tests hold answers against.

Routes give answers as they come from the questions; nothing is checked on the way out.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, with_config
from typing_extensions import NotRequired, TypedDict

from otel_apinalytics.api.event_models import StoredEvent
from otel_apinalytics.catalogue import FieldType, Role
from otel_apinalytics.normalize import outcomes

_CLOSED = ConfigDict(extra="forbid")

Seconds = Annotated[float, Field(description="Unix seconds.")]
Point = Annotated[
    tuple[int, float | None],
    Field(description="Start of the bucket in Unix seconds, and the value; null with fill=null."),
]
Points = Annotated[list[Point], Field(description="In order of time.")]
_Granularity = Annotated[
    int | None, Field(description="Width of a bucket in milliseconds; null for a month.")
]
_Sampled = Annotated[
    Literal[True], Field(description="Some events stand for several requests: numbers are scaled.")
]


def _with_example(example: dict[str, Any]) -> ConfigDict:
    return ConfigDict(extra="forbid", json_schema_extra={"examples": [example]})


@with_config(_CLOSED)
class Problem(TypedDict):
    """What is wrong with a request."""

    code: Annotated[str, Field(description="A word for programs, such as `invalid_request`.")]
    message: Annotated[str, Field(description="A sentence for people.")]
    parameter: Annotated[str | None, Field(description="The parameter or field at fault, if one.")]
    value: Annotated[str | None, Field(description="Its value as received, shortened.")]
    allowed: Annotated[str | None, Field(description="What would be accepted, in words.")]
    index: NotRequired[Annotated[int, Field(description="Place of the event at fault, from 0.")]]


@with_config(
    _with_example(
        {
            "error": {
                "code": "invalid_request",
                "message": "granularity is not a width",
                "parameter": "granularity",
                "value": "fortnight",
                "allowed": "a positive number of seconds, or second, minute, hour, day, week, "
                "month",
            }
        }
    )
)
class Error(TypedDict):
    """The envelope of every error."""

    error: Problem


@with_config(_CLOSED)
class OtherGroup(TypedDict):
    """The groups that are folded into one by `limit`."""

    key: Annotated[str, Field(description="Their key in `groups`; no named group has it.")]
    groups: Annotated[int, Field(description="How many they are.")]


@with_config(
    _with_example(
        {
            "groups": {"acme": [[1795251600, 183], [1795255200, 40]], "other": [[1795255200, 7]]},
            "start": 1795251600,
            "end": 1795258800,
            "granularity": 3_600_000,
            "other": {"key": "other", "groups": 12},
        }
    )
)
class Timeseries(TypedDict):
    """A timeseries in the shape of 2014 (`format=json`)."""

    groups: Annotated[
        dict[str, Points],
        Field(
            description='Points by group. The key is the group\'s value, `""` a missing one; of '
            "several groups their values as JSON text; without `group` the application."
        ),
    ]
    start: Seconds
    end: Seconds
    granularity: _Granularity
    other: NotRequired[OtherGroup]
    sampled: NotRequired[_Sampled]


@with_config(_CLOSED)
class OtherSeries(TypedDict):
    """The groups that are folded into the series whose group is null."""

    groups: Annotated[int, Field(description="How many they are.")]


@with_config(_CLOSED)
class Series(TypedDict):
    """The points of one group."""

    group: Annotated[
        dict[str, str] | None,
        Field(description='Value by field, `""` a missing one; null for what is folded.'),
    ]
    points: Points


@with_config(
    _with_example(
        {
            "series": [{"group": {"route": "/users"}, "points": [[1795251600, 183]]}],
            "start": 1795251600,
            "end": 1795255200,
            "granularity": 3_600_000,
        }
    )
)
class SeriesList(TypedDict):
    """A timeseries as a list of series (`format=series`)."""

    series: list[Series]
    start: Seconds
    end: Seconds
    granularity: _Granularity
    other: NotRequired[OtherSeries]
    sampled: NotRequired[_Sampled]
    settled_until: NotRequired[
        Annotated[
            float,
            Field(description="All that was received before is counted, once; Unix seconds."),
        ]
    ]
    hint: NotRequired[Annotated[str, Field(description="Where there is no data: what to do.")]]


@with_config(_CLOSED)
class FieldDescription(TypedDict):
    """A field of events."""

    name: str
    type: FieldType
    role: Role
    unit: str | None
    nullable: Annotated[bool, Field(description="Whether a missing value is null, not empty.")]
    virtual: Annotated[bool, Field(description="Whether queries compute it; it is not stored.")]
    description: str
    choices: Annotated[list[str], Field(description="All values that it can have; empty for any.")]
    in_event: Annotated[bool, Field(description="Whether a JSON event may carry it.")]


@with_config(_CLOSED)
class FieldList(TypedDict):
    """The fields of events."""

    fields: list[FieldDescription]


@with_config(_CLOSED)
class FieldValue(TypedDict):
    """A value of a field."""

    value: Annotated[str, Field(description="Empty for a missing one.")]
    count: Annotated[float, Field(description="Requests that have it.")]


@with_config(
    _with_example(
        {
            "field": "consumer_id",
            "values": [{"value": "acme", "count": 183}, {"value": "", "count": 7}],
            "more": False,
            "start": 1795169243,
            "end": 1795255643,
        }
    )
)
class FieldValues(TypedDict):
    """The values of a field, the most frequent first."""

    field: str
    values: list[FieldValue]
    more: Annotated[bool, Field(description="Whether there are more than `limit`.")]
    start: Seconds
    end: Seconds
    sampled: NotRequired[_Sampled]


@with_config(_CLOSED)
class Refusal(TypedDict):
    """A request that was not let in."""

    at: Annotated[str, Field(description="RFC 3339; the minute, once the service has restarted.")]
    transport: str
    kind: Annotated[str, Field(description="A word for programs, such as `unauthenticated`.")]
    reason: Annotated[str, Field(description="A sentence for people.")]
    key_id: Annotated[str, Field(description="Empty where no known key came with it.")]


_Outcomes = Annotated[
    dict[str, dict[str, int]],
    Field(description="Outcome → reason → spans and events; of `refused`, requests."),
]
_LastReceived = Annotated[str | None, Field(description="The minute, RFC 3339; null for never.")]


@with_config(_CLOSED)
class Sender(TypedDict):
    """What came with one key by one transport within a day, and what became of it."""

    key_id: Annotated[str, Field(description="Empty where no known key came.")]
    transport: str
    last_received: _LastReceived
    last_refusal: Refusal | None
    outcomes: _Outcomes


@with_config(_CLOSED)
class StoredEvents(TypedDict):
    """The events that there are, by event time."""

    first: Annotated[str | None, Field(description="The hour of the first; null for none.")]
    last: Annotated[str | None, Field(description="The time of the last; null for none.")]
    inbound: Annotated[float, Field(description="Requests that the inbound ones stand for.")]
    outbound: Annotated[float, Field(description="Requests that the outbound ones stand for.")]


@with_config(_CLOSED)
class Status(TypedDict):
    """What arrived within a day, what became of it, and why there may be no data."""

    application: str
    hint: Annotated[
        str | None,
        Field(description="The likeliest reason why there is no data; null where there is some."),
    ]
    last_received: _LastReceived
    last_refusal: Refusal | None
    outcomes: _Outcomes
    senders: list[Sender]
    events: StoredEvents
    settled_until: Annotated[
        float, Field(description="All that was received before is loaded; Unix seconds.")
    ]
    pending_bytes: Annotated[
        int, Field(description="What waits to be loaded, of all applications.")
    ]


_OUTCOMES = (
    outcomes.RECEIVED, outcomes.STORED, outcomes.DUPLICATE, outcomes.FILTERED, outcomes.REJECTED,
    outcomes.REFUSED,
)  # fmt: skip
Outcome = Annotated[str, Field(json_schema_extra={"enum": list(_OUTCOMES)})]


@with_config(_CLOSED)
class Totals(TypedDict):
    """Spans and events of the whole range."""

    received: int
    stored: int
    duplicate: int
    filtered: int
    rejected: int
    difference: Annotated[
        int, Field(description="Received and not accounted for, in the minutes that are settled.")
    ]


@with_config(_CLOSED)
class LedgerRow(TypedDict):
    """Spans and events of one bucket, key, transport, outcome and reason."""

    time: Annotated[int, Field(description="Start of the bucket in Unix seconds.")]
    application: str
    key_id: str
    transport: str
    outcome: Outcome
    reason: str
    items: Annotated[int, Field(description="Spans and events; of `refused`, requests.")]


@with_config(_CLOSED)
class Ledger(TypedDict):
    """What was received, and what became of it."""

    start: Seconds
    end: Seconds
    granularity: Annotated[int, Field(description="Width of a bucket in seconds.")]
    settled_until: Annotated[
        float, Field(description="All that was received before is loaded; Unix seconds.")
    ]
    totals: Totals
    refused_requests: int
    rows: list[LedgerRow]


class DeadLetter(StoredEvent):
    """What was rejected, and why; fields that are not known are null."""

    key_id: str
    transport: str
    record_id: str
    reason: str


@with_config(_CLOSED)
class Rejected(TypedDict):
    """Dead letters, newest first."""

    rejected: list[DeadLetter]
    more: Annotated[bool, Field(description="Whether there are more than `limit`.")]


@with_config(_CLOSED)
class Live(TypedDict):
    """The process runs."""

    status: Literal["live"]
    version: Annotated[str, Field(description="Of the service.")]


@with_config(_CLOSED)
class Ready(TypedDict):
    """Data is taken."""

    status: Literal["ready"]


@with_config(_CLOSED)
class NotReady(TypedDict):
    """Data is not taken."""

    status: Literal["not ready"]
    reasons: list[str]


@with_config(_CLOSED)
class RefusedEvent(TypedDict):
    """What is wrong with an event that was left out."""

    index: int
    message: str
    parameter: str | None
    value: str | None
    allowed: str | None


@with_config(_with_example({"received": 2}))
class Received(TypedDict):
    """Events that are kept: on disk, and queried within seconds."""

    received: int
    refused: NotRequired[
        Annotated[list[int], Field(description="With partial=true: places of the others.")]
    ]
    errors: NotRequired[
        Annotated[list[RefusedEvent], Field(description="With partial=true: of the first 100.")]
    ]
