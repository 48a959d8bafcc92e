# SPDX-License-Identifier: Apache-2.0
"""The shapes of JSON about what is kept: the audit, limits of retention, erasures."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field, with_config
from typing_extensions import TypedDict

_CLOSED = ConfigDict(extra="forbid")
_Time = Annotated[str, Field(description="RFC 3339, UTC.")]


@with_config(_CLOSED)
class AuditParameter(TypedDict):
    """A parameter of a question, or a detail of a change."""

    name: str
    value: str


@with_config(_CLOSED)
class AuditEntry(TypedDict):
    """Who asked or changed something."""

    at: _Time
    application: Annotated[str, Field(description="Of the key.")]
    key_id: str
    key_name: str
    action: Annotated[str, Field(description="read, or what was changed, such as key.create.")]
    method: str
    route: str
    parameters: list[AuditParameter]
    status: int
    rows: Annotated[int | None, Field(description="Of the answer, where they are counted.")]
    bytes: Annotated[int, Field(description="Of the answer, before compression; 0 of a change.")]
    client_address: str


@with_config(_CLOSED)
class Audit(TypedDict):
    """Entries of the audit, newest first."""

    entries: list[AuditEntry]
    more: Annotated[bool, Field(description="Whether there are more than `limit`.")]


@with_config(_CLOSED)
class RetentionLimit(TypedDict):
    """A limit, and who set it."""

    value: Annotated[int, Field(description="Days; of rejected_rows, rows.")]
    source: Annotated[
        Literal["api", "settings", "default"],
        Field(description="Set here; in the settings for this application; there for all."),
    ]


@with_config(_CLOSED)
class Limits(TypedDict):
    """The limits of an application."""

    events_days: RetentionLimit
    rejected_days: RetentionLimit
    rejected_rows: RetentionLimit
    ledger_days: RetentionLimit
    audit_days: RetentionLimit


@with_config(_CLOSED)
class RetainedDay(TypedDict):
    """Rows of a day of one kind of data that go together."""

    table: Literal["events", "rejected", "ledger", "audit"]
    day: Annotated[str, Field(description="UTC.")]
    rows: int
    removed_after: Annotated[
        str,
        Field(
            description="RFC 3339: they go with the first deletion after that, within an hour; of "
            "dead letters that are too many, within a minute."
        ),
    ]


@with_config(_CLOSED)
class Retention(TypedDict):
    """The limits of an application, and what they will remove when."""

    application: str
    limits: Limits
    days: list[RetainedDay]


@with_config(_CLOSED)
class ErasedCounts(TypedDict):
    """How much was erased."""

    events: int
    rejected: int
    audit: Annotated[int, Field(description="Entries that named the consumer; they stay.")]


@with_config(_CLOSED)
class NotReached(TypedDict):
    """What may still name the consumer, beside backups."""

    segments_set_aside: Annotated[
        int, Field(description="Segments of the log that could not be loaded, or not whole.")
    ]
    bound_keys: Annotated[list[str], Field(description="Ids of keys that see only its rows.")]


@with_config(_CLOSED)
class Erased(TypedDict):
    """The receipt of an erasure."""

    erasure: str
    complete: Literal[True]
    application: str
    consumer: str
    received_before: Annotated[
        str, Field(description="RFC 3339: what was acknowledged before is erased.")
    ]
    completed_at: _Time
    copies_until: Annotated[
        str,
        Field(
            description="RFC 3339: until then, what was deleted may be on the disk in files that "
            "are not read."
        ),
    ]
    erased: ErasedCounts
    not_reached: NotReached


@with_config(_CLOSED)
class Erasing(TypedDict):
    """An erasure that is under way."""

    erasure: Annotated[str, Field(description="Its receipt will be at /1/erase/<erasure>/.")]
    complete: Literal[False]
