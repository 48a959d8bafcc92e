# SPDX-License-Identifier: Apache-2.0
"""What is done to applications and keys: made, changed, rotated, revoked, removed."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from otel_apinalytics.errors import ConfigError, ConflictError, NotFoundError
from otel_apinalytics.store.keys import (
    DEFAULT_APPLICATION,
    NO_LIMITS,
    Application,
    Binding,
    FirstKeys,
    KeyRecord,
    Limits,
    Scope,
    State,
    digest_of,
    new_key_id,
    new_secret,
)

if TYPE_CHECKING:
    from otel_apinalytics.store.key_ring import KeyRing
    from otel_apinalytics.store.key_tables import Contents

_logger = logging.getLogger(__name__)

_FIRST = "made at the first start"
_GIVEN = "from the settings"


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key that is wanted; as `KeyRecord` says."""

    scope: Scope
    name: str = ""
    note: str = ""
    expires_at: datetime | None = None
    binding: Binding | None = None
    limits: Limits = NO_LIMITS


class Applications:
    """The applications of one store and their keys. Safe to use from many threads.

    Whose they are is not asked here. Methods raise EngineError or OSError if the store is not
    available.

    Args:
        ring: Where they are, and who is told of changes.
    """

    def __init__(self, ring: KeyRing) -> None:
        self._ring = ring

    def ensure(self, application: str | None, given: Mapping[Scope, str]) -> FirstKeys:
        """Make sure that there is an application with a key of each scope.

        Keys that are given are added if they are new. A scope that never had a key gets a random
        one.

        Args:
            application: Id of the application; None for the one that exists, or a default.
            given: Keys in clear from settings.

        Raises:
            ConfigError: A given key is in use already, for another scope or application; or the
                application was removed.
        """
        with self._ring.changes() as (contents, tables):
            name = application or next(iter(contents.applications), DEFAULT_APPLICATION)
            there = {key.scope for key in contents.keys.values() if key.application == name}
            created = {scope: new_secret(scope) for scope in Scope if scope not in {*given, *there}}
            wanted = [
                KeyRecord(
                    name, new_key_id(), scope, digest_of(secret), _now(),
                    name=_FIRST if scope in created else _GIVEN,
                )
                for scope, secret in {**given, **created}.items()
            ]  # fmt: skip
            new = _not_there(contents, wanted)
            found = contents.applications.get(name)
            if found is None:
                tables.write_application(Application(name, _now(), is_operators=True))
            elif found.removed_at is not None:
                raise ConfigError(f"the application {name!r} was removed: take another id")
            for key in new:
                tables.write_key(key)
        return FirstKeys(name, created)

    def make(self, application: str, names: Mapping[str, Any]) -> tuple[Application, bool]:
        """Make an application without keys, or change what one is called that there is.

        Args:
            application: Its id.
            names: `name`, `note`; what is left out stays.

        Returns:
            The application, and whether it is new.

        Raises:
            ConflictError: It was removed.
        """
        with self._ring.changes() as (contents, tables):
            found = contents.applications.get(application)
            if found is not None:
                _refuse_removed(found)
            made = replace(found or Application(application, _now(), is_operators=False), **names)
            if made != found:
                tables.write_application(made)
        return made, found is None

    def change(self, application: str, changes: Mapping[str, Any]) -> Application:
        """Change name or note of an application.

        Raises:
            NotFoundError: There is none.
            ConflictError: It was removed.
        """
        with self._ring.changes() as (contents, tables):
            found = find_application(contents, application)
            _refuse_removed(found)
            changed = replace(found, **changes)
            tables.write_application(changed)
        return changed

    def remove(self, application: str) -> Application:
        """Let nobody in for an application any more, for ever. What it has stored stays.

        Raises:
            NotFoundError: There is none.
            ConflictError: It is the operator's.
        """
        with self._ring.changes() as (contents, tables):
            found = find_application(contents, application)
            if found.is_operators:
                raise ConflictError(
                    "an application that the service made cannot be removed: its admin keys are "
                    "those of whoever runs the service",
                    parameter="application",
                    value=application,
                )
            for key in contents.keys.values():
                if key.application == application and key.revoked_at is None:
                    tables.write_revoked(application, key.key_id, _now())
            removed = found if found.removed_at else replace(found, removed_at=_now())
            tables.write_application(removed)
        return removed

    def make_key(self, application: str, wanted: NewKey) -> tuple[KeyRecord, str]:
        """Make a key at random.

        Returns:
            What is kept of it, and the key in clear, which is kept nowhere.

        Raises:
            NotFoundError: There is no such application.
            ConflictError: It was removed.
        """
        with self._ring.changes() as (contents, tables):
            _refuse_removed(find_application(contents, application))
            secret, now = new_secret(wanted.scope), _now()
            key = KeyRecord(
                application=application,
                key_id=new_key_id(),
                scope=wanted.scope,
                digest=digest_of(secret),
                created_at=now,
                name=wanted.name,
                note=wanted.note,
                expires_at=wanted.expires_at,
                binding=wanted.binding,
                limits=wanted.limits,
                lifetime=None if wanted.expires_at is None else wanted.expires_at - now,
            )
            tables.write_key(key)
        return key, secret

    def change_key(self, key_id: str, of: str | None, changes: Mapping[str, Any]) -> KeyRecord:
        """Change name, note, end or limits of a key.

        Args:
            key_id: The key.
            of: The application that it must be of; None for any.
            changes: Fields of `KeyRecord`.

        Raises:
            NotFoundError: There is none.
            ConflictError: It is revoked.
        """
        with self._ring.changes() as (contents, tables):
            found = find_key(contents, key_id, of)
            if found.revoked_at is not None:
                raise _not_in_use(found)
            changed = replace(found, **changes)
            tables.write_key(changed)
        return changed

    def rotate_key(
        self, key_id: str, of: str | None, ends_at: datetime, expires_at: datetime | None
    ) -> tuple[KeyRecord, str, KeyRecord]:
        """Make another key of the same kind, and let the old one end a while later.

        Args:
            key_id: The old key.
            of: The application that it must be of; None for any.
            ends_at: When the old key ends, unless it does so before.
            expires_at: When the new one ends. If it is None and the old one was made for some time,
                the new one is for as long.

        Returns:
            What is kept of the new key, the new key in clear, and what is kept of the old one.

        Raises:
            NotFoundError: There is none.
            ConflictError: It lets nobody in any more.
        """
        with self._ring.changes() as (contents, tables):
            old = find_key(contents, key_id, of)
            now = _now()
            if old.state(now) is not State.ACTIVE:
                raise _not_in_use(old)
            # Not what is left of it: that it was rotated before has cut it short.
            lifetime = expires_at - now if expires_at else old.lifetime
            secret = new_secret(old.scope)
            new = replace(
                old,
                key_id=new_key_id(),
                digest=digest_of(secret),
                created_at=now,
                expires_at=None if lifetime is None else now + lifetime,
                lifetime=lifetime,
            )
            # First: if nothing comes after it, there is a key too many, not too few.
            tables.write_key(new)
            old = replace(old, expires_at=min(ends_at, old.expires_at or ends_at))
            tables.write_key(old)
        return new, secret, old

    def revoke_key(self, key_id: str, of: str | None) -> KeyRecord:
        """Let nobody in with a key any more, for ever. Once more, it changes nothing.

        Raises:
            NotFoundError: There is none.
        """
        with self._ring.changes() as (contents, tables):
            found = find_key(contents, key_id, of)
            if found.revoked_at is None:
                found = replace(found, revoked_at=_now())
                tables.write_revoked(found.application, key_id, found.revoked_at or _now())
        return found


def find_key(contents: Contents, key_id: str, of: str | None) -> KeyRecord:
    """Return a key by its public name.

    Args:
        contents: What there is.
        key_id: The key.
        of: The application that it must be of; None for any.

    Raises:
        NotFoundError: There is none.
    """
    for key in contents.keys.values():
        if key.key_id == key_id and of in (None, key.application):
            return key
    raise NotFoundError(f"there is no key {key_id}", parameter="key_id", value=key_id)


def find_application(contents: Contents, application: str) -> Application:
    """Return an application by its id.

    Raises:
        NotFoundError: There is none.
    """
    found = contents.applications.get(application)
    if found is None:
        raise NotFoundError(
            f"there is no application {application}", parameter="application", value=application
        )
    return found


def _refuse_removed(application: Application) -> None:
    if application.removed_at is not None:
        raise ConflictError(
            f"the application {application.application} was removed on "
            f"{application.removed_at:%Y-%m-%d}: take another id",
            parameter="application",
            value=application.application,
        )


def _not_in_use(key: KeyRecord) -> ConflictError:
    state = "is revoked" if key.revoked_at is not None else "has expired"
    return ConflictError(
        f"the key {key.key_id} {state}: make a new one", parameter="key_id", value=key.key_id
    )


def _not_there(contents: Contents, wanted: Sequence[KeyRecord]) -> list[KeyRecord]:
    """Return the keys that are not known yet.

    Raises:
        ConfigError: One is another key.
    """
    known = {key.digest: key for key in contents.keys.values()}
    new = []
    for key in wanted:
        found = known.setdefault(key.digest, key)
        if found is key:
            new.append(key)
        elif (found.application, found.scope) != (key.application, key.scope):
            raise ConfigError(
                f"the {key.scope.value} key for {key.application!r} is already the "
                f"{found.scope.value} key of {found.application!r}; each needs its own"
            )
        elif (state := found.state(_now())) is not State.ACTIVE:
            _logger.warning(
                "the %s key of the settings, %s, is %s and lets nobody in: give another one",
                found.scope.value,
                found.key_id,
                state.value,
            )
    return new


def _now() -> datetime:
    return datetime.now(timezone.utc)
