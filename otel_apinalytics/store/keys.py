# SPDX-License-Identifier: Apache-2.0
"""Applications and their keys: kept in the store, hashed; looked up in memory."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from enum import Enum
from typing import TYPE_CHECKING, Any

from otel_apinalytics.errors import AuthenticationError, ConfigError, PermissionDeniedError

if TYPE_CHECKING:
    from otel_apinalytics.store.engine import Engine

DEFAULT_APPLICATION = "default"
# 256 bits: cannot be guessed, and its plain SHA-256 cannot be reversed.
_KEY_BYTES = 32


class Scope(str, Enum):
    """What a key may do."""

    WRITE = "write"
    READ = "read"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Key:
    """A known key, without its secret.

    Args:
        application: The application that it belongs to.
        key_id: Public name of the key, safe to store and show.
        scope: What it may do.
    """

    application: str
    key_id: str
    scope: Scope


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


class KeyRing:
    """All keys, in memory. Safe to use from many threads.

    Args:
        engine: Where they are kept.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._by_digest: dict[bytes, Key] = {}
        self._applications: set[str] = set()
        self._load()

    def ensure_application(self, application: str | None, given: Mapping[Scope, str]) -> FirstKeys:
        """Make sure that there is an application with a key of each scope.

        Keys that are given are added if they are new. A scope without any key gets a random one.

        Args:
            application: Id of the application; None for the one that exists, or a default.
            given: Keys in clear from settings.

        Raises:
            ConfigError: A given key is in use already, for another scope or application.
            EngineError: The engine refused a statement.
        """
        name = application or self._first_application() or DEFAULT_APPLICATION
        self._add_application(name)
        created = {
            # The prefix lets a person, or a secret scanner, tell what it is.
            scope: f"ap{scope.value[0]}_{secrets.token_urlsafe(_KEY_BYTES)}"
            for scope in Scope
            if scope not in given and not self._has_key(name, scope)
        }
        for scope, secret in {**given, **created}.items():
            self._add_key(Key(name, secrets.token_hex(6), scope), secret)
        return FirstKeys(name, created)

    def authenticate(self, application: str | None, secret: str | None, *scopes: Scope) -> Key:
        """Return the key with this secret.

        The look-up is by SHA-256 of a 256-bit random secret, so that its timing tells nothing of
        use about the secrets that exist.

        Args:
            application: Application id as sent, or None where only the key was sent.
            secret: The key in clear, or None.
            scopes: What it may be a key for; one is enough.

        Raises:
            AuthenticationError: There is no key, or it is unknown, or not of this application.
            PermissionDeniedError: The key has another scope.
        """
        if not secret:
            raise AuthenticationError(
                "no key: send X-Auth-User (application id) and X-Auth-Key, "
                "or Authorization: Bearer <key>",
                self._known(application),
            )
        key = self._by_digest.get(_digest(secret))
        if key is None or (application and application != key.application):
            raise AuthenticationError("unknown application or key", self._known(application))
        if key.scope not in scopes:
            needed = " or ".join(scope.value for scope in scopes)
            raise PermissionDeniedError(
                f"this is {_with_article(key.scope.value)} key; "
                f"{_with_article(needed)} key is needed",
                key.application,
                key.key_id,
            )
        return key

    def _known(self, application: str | None) -> str | None:
        """Return the application that a stranger names, if there is one of that name."""
        return application if application in self._applications else None

    def _first_application(self) -> str | None:
        rows = self._engine.query(
            "SELECT application FROM applications ORDER BY created_at, application LIMIT 1"
        ).rows
        return str(rows[0][0]) if rows else None

    def _add_application(self, name: str) -> None:
        exists = self._engine.query(
            "SELECT count() FROM applications WHERE application = %(name)s", {"name": name}
        )
        if not exists.rows[0][0]:
            now = datetime.now(timezone.utc)
            self._engine.insert("applications", ("application", "created_at"), [(name, now)])

    def _has_key(self, application: str, scope: Scope) -> bool:
        return any(
            key.application == application and key.scope is scope
            for key in self._by_digest.values()
        )

    def _add_key(self, key: Key, secret: str) -> None:
        digest = _digest(secret)
        known = self._by_digest.get(digest)
        if known is not None:
            if (known.application, known.scope) != (key.application, key.scope):
                raise ConfigError(
                    f"the {key.scope.value} key for {key.application!r} is already the "
                    f"{known.scope.value} key of {known.application!r}; each needs its own"
                )
            return
        columns = ("application", "key_id", "scope", "key_sha256", "created_at")
        now = datetime.now(timezone.utc)
        row = (key.application, key.key_id, key.scope.value, digest, now)
        self._engine.insert("keys", columns, [row])
        self._by_digest[digest] = key
        self._applications.add(key.application)

    def _load(self) -> None:
        rows = self._engine.query(
            "SELECT application, key_id, scope, key_sha256 FROM keys FINAL"
        ).rows
        self._by_digest = {
            bytes(digest): Key(str(application), str(key_id), Scope(scope))
            for application, key_id, scope, digest in rows
        }
        self._applications = {key.application for key in self._by_digest.values()}


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


def _with_article(word: str) -> str:
    return f"{'an' if word.startswith('a') else 'a'} {word}"


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()
