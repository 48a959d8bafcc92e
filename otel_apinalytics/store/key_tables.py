# SPDX-License-Identifier: Apache-2.0
"""Applications and keys in the store: read as a whole, changed a row at a time.

Of each, the row that was written last holds. Nobody makes a revoked key valid again: that a key is
revoked is in a table of its own, where rows are only added.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from otel_apinalytics.store.keys import Application, Binding, KeyRecord, Limits, Scope

if TYPE_CHECKING:
    from otel_apinalytics.store.engine import Engine

_APPLICATION_COLUMNS = (
    "application", "created_at", "is_operators", "name", "note", "removed_at", "changed_at",
)  # fmt: skip
_KEY_COLUMNS = (
    "application", "key_id", "scope", "key_sha256", "created_at", "name", "note", "expires_at",
    "bound_field", "bound_value", "requests_per_minute", "rows_per_minute", "lifetime_us",
    "changed_at",
)  # fmt: skip
_ID_COLUMNS = ("application", "key_id")
_MICROSECOND = timedelta(microseconds=1)
_TABLES = ("applications", "keys", "revoked_keys")
KeyName = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Contents:
    """All applications and keys at a time.

    Args:
        applications: By id, the oldest first.
        keys: By application and key id, the oldest first.
    """

    applications: Mapping[str, Application]
    keys: Mapping[KeyName, KeyRecord]


class KeyTables:
    """The tables. Safe to use from many threads; statements block.

    Args:
        engine: Where they are.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def fingerprint(self) -> object:
        """Return what is another one as soon as a service has changed anything.

        Raises:
            EngineError: The store is not available.
        """
        counts = " UNION ALL ".join(
            f"SELECT '{table}' AS name, sum(sipHash64(toString(tuple(*)))) FROM {table} FINAL"
            for table in _TABLES
        )
        return sorted(self._engine.look_up(counts).rows)

    def read(self) -> Contents:
        """Return all of them.

        Raises:
            EngineError: The store is not available.
        """
        revoked = {
            (str(application), str(key_id)): _in_utc(at)
            for application, key_id, at in self._rows("revoked_keys", (*_ID_COLUMNS, "revoked_at"))
        }
        applications = [
            _application(row) for row in self._rows("applications", _APPLICATION_COLUMNS)
        ]
        keys = [_key(row, revoked) for row in self._rows("keys", _KEY_COLUMNS)]
        applications.sort(key=lambda each: (each.created_at, each.application))
        keys.sort(key=lambda each: (each.created_at, each.key_id))
        return Contents(
            {each.application: each for each in applications},
            {(each.application, each.key_id): each for each in keys},
        )

    def read_uses(self) -> Mapping[KeyName, datetime]:
        """Return when keys were used last, as far as it was written.

        Raises:
            EngineError: The store is not available.
        """
        return {
            (str(application), str(key_id)): _in_utc(at)
            for application, key_id, at in self._rows("key_uses", (*_ID_COLUMNS, "used_at"))
        }

    def write_application(self, application: Application) -> None:
        """Keep an application as it is now; durable when this returns.

        Raises:
            EngineError: The store is not available.
            OSError: It cannot be made durable.
        """
        row = (
            application.application, application.created_at, application.is_operators,
            application.name, application.note, application.removed_at, _now(),
        )  # fmt: skip
        self._insert("applications", _APPLICATION_COLUMNS, row)

    def write_key(self, key: KeyRecord) -> None:
        """Keep a key as it is now, but for whether it is revoked; durable when this returns.

        Raises:
            EngineError: The store is not available.
            OSError: It cannot be made durable.
        """
        field, value = (key.binding.field, key.binding.value) if key.binding else ("", "")
        row = (
            key.application, key.key_id, key.scope.value, key.digest, key.created_at, key.name,
            key.note, key.expires_at, field, value, key.limits.requests, key.limits.rows,
            None if key.lifetime is None else key.lifetime // _MICROSECOND, _now(),
        )  # fmt: skip
        self._insert("keys", _KEY_COLUMNS, row)

    def write_revoked(self, application: str, key_id: str, at: datetime) -> None:
        """Revoke a key for ever; durable when this returns.

        Raises:
            EngineError: The store is not available.
            OSError: It cannot be made durable.
        """
        self._insert("revoked_keys", (*_ID_COLUMNS, "revoked_at"), (application, key_id, at))

    def write_uses(self, uses: Mapping[KeyName, datetime]) -> None:
        """Add when keys were used.

        Raises:
            EngineError: The store is not available.
        """
        rows = [(*name, at) for name, at in uses.items()]
        self._engine.insert("key_uses", (*_ID_COLUMNS, "used_at"), rows)

    def _rows(self, table: str, columns: tuple[str, ...]) -> Any:
        return self._engine.look_up(f"SELECT {', '.join(columns)} FROM {table} FINAL").rows

    def _insert(self, table: str, columns: tuple[str, ...], row: tuple[Any, ...]) -> None:
        self._engine.insert(table, columns, [row])
        self._engine.sync()


def _application(row: tuple[Any, ...]) -> Application:
    application, created_at, is_operators, name, note, removed_at, _ = row
    return Application(
        application, _in_utc(created_at), bool(is_operators), name, note, _or_none(removed_at)
    )


def _key(row: tuple[Any, ...], revoked: Mapping[KeyName, datetime]) -> KeyRecord:
    application, key_id, scope, digest, created_at, name, note, expires_at, *rest = row
    field, value, requests, rows, lifetime_us, _ = rest
    return KeyRecord(
        application=application,
        key_id=key_id,
        scope=Scope(scope),
        digest=bytes(digest),
        created_at=_in_utc(created_at),
        name=name,
        note=note,
        expires_at=_or_none(expires_at),
        binding=Binding(field, value) if field else None,
        limits=Limits(requests, rows),
        revoked_at=revoked.get((application, key_id)),
        lifetime=None if lifetime_us is None else lifetime_us * _MICROSECOND,
    )


def _or_none(at: datetime | None) -> datetime | None:
    return None if at is None else _in_utc(at)


def _in_utc(at: datetime) -> datetime:
    """Return a time of the store, which the client gives without a zone if it is UTC."""
    return at.replace(tzinfo=timezone.utc)


def _now() -> datetime:
    return datetime.now(timezone.utc)
