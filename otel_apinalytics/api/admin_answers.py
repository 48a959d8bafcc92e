# SPDX-License-Identifier: Apache-2.0
"""Answers about applications and keys: their JSON, and its shape for the documentation."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, with_config
from typing_extensions import TypedDict

from otel_apinalytics.store.keys import Application, KeyRecord

_CLOSED = ConfigDict(extra="forbid")

Time = Annotated[str, Field(description="RFC 3339, UTC.")]
TimeOrNever = Annotated[str | None, Field(description="RFC 3339, UTC; null for never.")]
Limit = Annotated[int | None, Field(description="As it holds; null for no limit.")]
Secret = Annotated[str, Field(description="The key itself: it is shown only now.")]


@with_config(_CLOSED)
class ApplicationAnswer(TypedDict):
    """An application."""

    application: str
    name: str
    note: str
    created_at: Time
    removed_at: TimeOrNever
    is_operators: Annotated[
        bool,
        Field(description="Whether its admin keys are for all applications and for the service."),
    ]
    active_keys: Annotated[int, Field(description="Keys that let somebody in.")]


@with_config(_CLOSED)
class ApplicationList(TypedDict):
    """Applications, the oldest first."""

    applications: list[ApplicationAnswer]


@with_config(_CLOSED)
class HashKey(TypedDict):
    """What secrets and ids are hashed with, for exporters."""

    application: str
    hash_key: Annotated[str, Field(description="For `OTEL_EXPORTER_APINALYTICS_HASH_KEY`.")]


@with_config(_CLOSED)
class KeyAnswer(TypedDict):
    """A key, without its secret."""

    key_id: str
    application: str
    scope: Literal["write", "read", "admin"]
    state: Literal["active", "expired", "revoked"]
    name: str
    note: str
    bound_to: Annotated[
        dict[str, str] | None,
        Field(description="Field and value of the only events that it sees; null for all."),
    ]
    requests_per_minute: Limit
    rows_per_minute: Limit
    created_at: Time
    expires_at: TimeOrNever
    revoked_at: TimeOrNever
    last_used_at: Annotated[
        str | None, Field(description="RFC 3339, UTC; null for never. By a minute too early.")
    ]


@with_config(_CLOSED)
class KeyList(TypedDict):
    """Keys, the oldest first."""

    keys: list[KeyAnswer]


@with_config(_CLOSED)
class NewKeyAnswer(KeyAnswer):
    """A key that was made."""

    key: Secret


@with_config(_CLOSED)
class RotatedKey(NewKeyAnswer):
    """A key that was made in another's place."""

    old: Annotated[KeyAnswer, Field(description="The key that gives way.")]


def application_as_json(application: Application, active_keys: int) -> dict[str, Any]:
    """Return an `ApplicationAnswer`."""
    return {
        "application": application.application,
        "name": application.name,
        "note": application.note,
        "created_at": _text(application.created_at),
        "removed_at": _text(application.removed_at),
        "is_operators": application.is_operators,
        "active_keys": active_keys,
    }


def key_as_json(key: KeyRecord, now: datetime, last_used_at: datetime | None) -> dict[str, Any]:
    """Return a `KeyAnswer`."""
    return {
        "key_id": key.key_id,
        "application": key.application,
        "scope": key.scope.value,
        "state": key.state(now).value,
        "name": key.name,
        "note": key.note,
        "bound_to": {key.binding.field: key.binding.value} if key.binding else None,
        "requests_per_minute": key.effective_limits.requests,
        "rows_per_minute": key.effective_limits.rows,
        "created_at": _text(key.created_at),
        "expires_at": _text(key.expires_at),
        "revoked_at": _text(key.revoked_at),
        "last_used_at": _text(last_used_at),
    }


def _text(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat().replace("+00:00", "Z")
