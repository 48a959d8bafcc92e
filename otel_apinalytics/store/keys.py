# SPDX-License-Identifier: Apache-2.0
"""What keys and applications are: their values, without where they are kept or looked up."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum
from typing import Any, Literal, get_args

DEFAULT_APPLICATION = "default"
# What a read key may be bound to: the fields that say who calls.
BoundField = Literal["consumer_id", "app_id", "organization_id", "plan_id"]
BOUND_FIELDS: tuple[str, ...] = get_args(BoundField)
# 256 bits: cannot be guessed, and its plain SHA-256 cannot be reversed.
_KEY_BYTES = 32
_KEY_ID_BYTES = 6


class Scope(str, Enum):
    """What a key may do."""

    WRITE = "write"
    READ = "read"
    ADMIN = "admin"


class State(str, Enum):
    """Whether a key lets anybody in."""

    ACTIVE = "active"
    EXPIRED = "expired"
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True)
class Binding:
    """The rows that a read key sees: those with one value in one field.

    Args:
        field: One of `BOUND_FIELDS`.
        value: Its value, as it is stored; not empty.
    """

    field: str
    value: str


@dataclass(frozen=True, slots=True)
class Limits:
    """What a key may do within a minute; None for no limit of its own.

    Args:
        requests: Requests.
        rows: Rows: spans and events of a write key, of others what answers have of events, points
            and values.
    """

    requests: int | None = None
    rows: int | None = None


NO_LIMITS = Limits()
# A customer's page, and the copying of all that is stored, are far below. What is sent is not
# limited: it would be lost where a sender gives up.
DEFAULT_LIMITS: Mapping[Scope, Limits] = {
    Scope.WRITE: NO_LIMITS,
    Scope.READ: Limits(6_000, 100_000_000),
    Scope.ADMIN: Limits(6_000, 100_000_000),
}


@dataclass(frozen=True, slots=True)
class Key:
    """A known key, without its secret.

    Args:
        application: The application that it belongs to.
        key_id: Public name of the key, safe to store and show.
        scope: What it may do.
        binding: The only rows that it sees; None for all of its application.
        limits: What it may do within a minute.
        is_operators: Whether its application is one of whoever runs the service: an admin key then
            is for all applications.
        name: What people call it.
    """

    application: str
    key_id: str
    scope: Scope
    binding: Binding | None = None
    limits: Limits = NO_LIMITS
    is_operators: bool = False
    name: str = ""


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """What is kept of a key.

    Args:
        application: The application that it belongs to.
        key_id: Public name of the key.
        scope: What it may do.
        digest: SHA-256 of the secret.
        created_at: When it was made, UTC.
        name: What people call it.
        note: Anything that people want to remember of it.
        expires_at: From when on it lets nobody in; None for never.
        binding: The only rows that it sees; None for all of its application.
        limits: Its own limits; where it has none, those of its scope hold.
        revoked_at: Since when it lets nobody in; None if it is not revoked.
        lifetime: For how long it was made, whatever moved its end since; None for ever.
    """

    application: str
    key_id: str
    scope: Scope
    digest: bytes = field(repr=False)
    created_at: datetime
    name: str = ""
    note: str = ""
    expires_at: datetime | None = None
    binding: Binding | None = None
    limits: Limits = NO_LIMITS
    revoked_at: datetime | None = None
    lifetime: timedelta | None = None

    def state(self, now: datetime) -> State:
        """Return whether it lets anybody in."""
        if self.revoked_at is not None:
            return State.REVOKED
        is_over = self.expires_at is not None and self.expires_at <= now
        return State.EXPIRED if is_over else State.ACTIVE

    @property
    def effective_limits(self) -> Limits:
        """Its own limits, or those of its scope."""
        default = DEFAULT_LIMITS[self.scope]
        return Limits(
            default.requests if self.limits.requests is None else self.limits.requests,
            default.rows if self.limits.rows is None else self.limits.rows,
        )


@dataclass(frozen=True, slots=True)
class Application:
    """A tenant: it owns keys, and all events that come with them.

    Args:
        application: Its id.
        created_at: When it was made, UTC.
        is_operators: Whether the service made it, at its first start or because settings name it.
        name: What people call it.
        note: Anything that people want to remember of it.
        removed_at: Since when nobody is let in; None if it is not removed.
    """

    application: str
    created_at: datetime
    is_operators: bool
    name: str = ""
    note: str = ""
    removed_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class FirstKeys:
    """The application that there is from the first start on.

    Args:
        application: The application id.
        created: Keys that were made now, in clear, by scope: to be shown once, and never logged.
    """

    application: str
    created: Mapping[Scope, str]

    def __repr__(self) -> str:
        return f"FirstKeys(application={self.application!r})"


def new_secret(scope: Scope) -> str:
    """Return a key in clear, at random; it begins with what it is for."""
    # The prefix lets a person, or a secret scanner, tell what it is.
    return f"ap{scope.value[0]}_{secrets.token_urlsafe(_KEY_BYTES)}"


def new_key_id() -> str:
    """Return a public name, at random."""
    return secrets.token_hex(_KEY_ID_BYTES)


def digest_of(secret: str) -> bytes:
    """Return what is kept of a key in clear."""
    # What a header has may be half of a surrogate pair.
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()


def read_credentials(headers: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """Return application id and key, as far as they were sent.

    Args:
        headers: HTTP headers, or gRPC metadata; names in lower case.
    """
    if secret := headers.get("x-auth-key"):
        return headers.get("x-auth-user"), secret
    scheme, _, token = str(headers.get("authorization", "")).partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return headers.get("x-auth-user"), token.strip()
    return headers.get("x-auth-user"), None
