# SPDX-License-Identifier: Apache-2.0
"""The key ring: all keys in memory, where requests are let in by them.

What is changed here holds at once. What other services on the same store change is seen when they
are asked for it, which `KeyWatch` does.
"""

from __future__ import annotations

import contextlib
import hmac
import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from otel_apinalytics.errors import (
    AuthenticationError,
    PermissionDeniedError,
    TooManyRequestsError,
)
from otel_apinalytics.store.allowances import KeyAllowances, Strangers
from otel_apinalytics.store.engine import EngineError
from otel_apinalytics.store.key_tables import Contents, KeyName, KeyTables
from otel_apinalytics.store.keys import Key, KeyRecord, Scope, digest_of

if TYPE_CHECKING:
    from otel_apinalytics.store.engine import Engine
    from otel_apinalytics.telemetry import Telemetry


@dataclass(frozen=True, slots=True)
class _Entry:
    """A key as requests are held against it; `ends_at` is Unix seconds."""

    key: Key
    digest: bytes
    ends_at: float
    is_revoked: bool


class KeyRing:
    """All keys. Safe to use from many threads.

    Args:
        engine: Where they are kept.
        telemetry: Where failed authentications are counted.
        clock: Unix seconds.

    Raises:
        EngineError: The store is not available.
    """

    def __init__(
        self, engine: Engine, telemetry: Telemetry, clock: Callable[[], float] = time.time
    ) -> None:
        self._tables = KeyTables(engine)
        self._telemetry = telemetry
        self._clock = clock
        self._allowances = KeyAllowances()
        self._strangers = Strangers()
        self._changing = threading.Lock()
        self._seen: object = None
        # In memory only.
        self._local: dict[bytes, _Entry] = {}
        self._uses: dict[KeyName, float] = {}
        #: What there is, as far as this service knows.
        self.contents = Contents({}, {})
        self._by_digest: Mapping[bytes, _Entry] = {}
        self._read()

    # ---- requests ----

    def authenticate(
        self, application: str | None, secret: str | None, *scopes: Scope, address: str = ""
    ) -> Key:
        """Return the key with this secret, and take a request of its limits.

        It raises what `identify` and `admit` do.

        Args:
            application: Application id as sent, or None where only the key was sent.
            secret: The key in clear, or None.
            scopes: What it may be a key for; one is enough.
            address: Where it came from.
        """
        key = self.identify(application, secret, address)
        self.admit(key, *scopes)
        return key

    def identify(self, application: str | None, secret: str | None, address: str = "") -> Key:
        """Return the key with this secret; whether it may do what is asked is not looked at.

        The look-up is by SHA-256 of the secret, so that its timing tells nothing of use about the
        secrets that exist.

        Args:
            application: Application id as sent, or None where only the key was sent.
            secret: The key in clear, or None.
            address: Where it came from.

        Raises:
            AuthenticationError: There is no key, or it is unknown, not of this application, or not
                valid any more.
            TooManyRequestsError: The address has done too much.
        """
        if not secret:
            self._telemetry.authentication_failed("missing")
            raise AuthenticationError(
                "no key: send X-Auth-User (application id) and X-Auth-Key, "
                "or Authorization: Bearer <key>",
                self._known(application),
            )
        digest = digest_of(secret)
        try:
            self._strangers.check(address, digest)
        except TooManyRequestsError:
            self._telemetry.authentication_failed("slowed")
            raise
        entry = self._by_digest.get(digest)
        if (
            entry is None
            or not hmac.compare_digest(entry.digest, digest)
            or (application and application != entry.key.application)
        ):
            self._strangers.failed(address)
            self._telemetry.authentication_failed("unknown")
            raise AuthenticationError("unknown application or key", self._known(application))
        self._strangers.accepted(address, digest)
        key = entry.key
        if entry.is_revoked or entry.ends_at <= self._clock():
            reason = "revoked" if entry.is_revoked else "expired"
            self._telemetry.authentication_failed(reason)
            raise AuthenticationError(
                f"the key {key.key_id} {'was revoked' if entry.is_revoked else 'has expired'}",
                key.application,
                key.key_id,
            )
        return key

    def admit(self, key: Key, *scopes: Scope) -> None:
        """Take a request of a key's limits, and refuse it if the key is for something else.

        Args:
            key: The key.
            scopes: What it may be a key for; one is enough.

        Raises:
            PermissionDeniedError: The key has another scope.
            TooManyRequestsError: The key has done too much.
        """
        try:
            self._allowances.take_request(key)
        except TooManyRequestsError:
            self._telemetry.authentication_failed("rate_limited")
            raise
        if key.scope not in scopes:
            needed = " or ".join(scope.value for scope in scopes)
            raise self.forbidden(
                key,
                f"this is {_with_article(key.scope.value)} key; "
                f"{_with_article(needed)} key is needed",
            )
        self._uses[key.application, key.key_id] = self._clock()

    def forbidden(self, key: Key, message: str) -> PermissionDeniedError:
        """Count a request that a known key may not make; return what to raise."""
        self._telemetry.authentication_failed("forbidden")
        return PermissionDeniedError(message, key.application, key.key_id)

    def take_rows(self, key: Key, rows: int) -> None:
        """Take rows of the limits of a key that was let in; the next request may be refused."""
        self._allowances.take_rows(key, rows)

    def _known(self, application: str | None) -> str | None:
        """Return the application that a stranger names, if there is one of that name."""
        return application if application in self.contents.applications else None

    # ---- keys ----

    def trust(self, key: Key, secret: str) -> None:
        """Let somebody in with a key that is kept nowhere, as long as this service runs."""
        digest = digest_of(secret)
        self._local[digest] = _Entry(key, digest, math.inf, is_revoked=False)
        with self._changing:
            self._index()

    @contextlib.contextmanager
    def changes(self) -> Iterator[tuple[Contents, KeyTables]]:
        """Give what there is now, and the tables to change it in; it holds when the block ends.

        Raises:
            EngineError: The store is not available.
        """
        with self._changing:
            self._read()
            try:
                yield self.contents, self._tables
            finally:
                self._read()

    def refresh(self) -> None:
        """Take over what other services have changed.

        Raises:
            EngineError: The store is not available.
        """
        with self._changing:
            if self._tables.fingerprint() != self._seen:
                self._read()

    def last_uses(self) -> Mapping[KeyName, datetime]:
        """Return when keys were used last, by this service or, up to a minute ago, by others.

        Raises:
            EngineError: The store is not available.
        """
        written = dict(self._tables.read_uses())
        for name, at in list(self._uses.items()):
            used_at = datetime.fromtimestamp(at, timezone.utc)
            written[name] = max(used_at, written.get(name, used_at))
        return written

    def write_uses(self) -> None:
        """Write when keys were used since the last time.

        Raises:
            EngineError: The store is not available; they are kept for the next time.
        """
        uses, self._uses = self._uses, {}
        known = {
            name: datetime.fromtimestamp(at, timezone.utc)
            for name, at in list(uses.items())
            if name in self.contents.keys
        }
        try:
            if known:
                self._tables.write_uses(known)
        except EngineError:
            self._uses = {**uses, **self._uses}
            raise

    def _read(self) -> None:
        # Before the rows: what is changed in between is seen the next time.
        self._seen = self._tables.fingerprint()
        self.contents = self._tables.read()
        self._index()

    def _index(self) -> None:
        kept = {key.digest: self._entry(key) for key in self.contents.keys.values()}
        self._by_digest = {**kept, **self._local}

    def _entry(self, record: KeyRecord) -> _Entry:
        owner = self.contents.applications.get(record.application)
        key = Key(
            record.application,
            record.key_id,
            record.scope,
            record.binding,
            record.effective_limits,
            is_operators=owner is not None and owner.is_operators,
            name=record.name,
        )
        ends_at = math.inf if record.expires_at is None else record.expires_at.timestamp()
        is_revoked = record.revoked_at is not None or (
            owner is not None and owner.removed_at is not None
        )
        return _Entry(key, record.digest, ends_at, is_revoked)


def _with_article(word: str) -> str:
    return f"{'an' if word.startswith('a') else 'a'} {word}"
