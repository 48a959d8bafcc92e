# SPDX-License-Identifier: Apache-2.0
"""Limits of retention: how long, and how much, is kept of each application, and who said so.

What was set while the service runs wins over the entry of an application in the settings, and that
over what the settings say for all.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import TYPE_CHECKING

from otel_apinalytics.normalize.transforms import sql_list
from otel_apinalytics.settings import Settings

if TYPE_CHECKING:
    from otel_apinalytics.store.engine import Engine

#: Table → the limit on the age of its rows.
DAYS: Mapping[str, str] = MappingProxyType(
    {
        "events": "events_days",
        "rejected": "rejected_days",
        "ledger_records": "ledger_days",
        "audit": "audit_days",
    }
)
ROWS = "rejected_rows"
#: The names of all limits.
NAMES = (*DAYS.values(), ROWS)


class Source(str, Enum):
    """Who set a limit."""

    API = "api"
    SETTINGS = "settings"
    DEFAULT = "default"


@dataclass(frozen=True, slots=True)
class Limit:
    """A limit of an application.

    Args:
        value: Days, or rows.
        source: `API` where it was set while the service runs, `SETTINGS` where the application has
            an entry there, `DEFAULT` where the settings say it for all.
    """

    value: int
    source: Source


class Policy:
    """The limits of each application. Immutable.

    Args:
        settings: What they are by default, and for single applications.
        given: Application → limits that were set while the service runs.
    """

    def __init__(
        self,
        settings: Settings,
        given: Mapping[str, Mapping[str, int]] = MappingProxyType({}),
    ) -> None:
        self._default = {
            name: Limit(getattr(settings, f"retention_{name}"), Source.DEFAULT) for name in NAMES
        }
        entries = {
            entry.application: entry.model_dump(include=set(NAMES), exclude_none=True)
            for entry in settings.retention
        }
        self._special: dict[str, dict[str, Limit]] = {}
        for source, by_application in ((Source.SETTINGS, entries), (Source.API, given)):
            for application, limits in by_application.items():
                known = self._special.setdefault(application, dict(self._default))
                known.update({name: Limit(value, source) for name, value in limits.items()})

    def of(self, application: str) -> Mapping[str, Limit]:
        """Return the limits of an application, by name."""
        return self._special.get(application, self._default)

    def days(self, application: str, table: str) -> int:
        """Return how many days rows of an application are kept in a table."""
        return self.of(application)[DAYS[table]].value

    def by_days(self, table: str) -> dict[int, str]:
        """Return the numbers of days for a table, each with a condition for its applications."""
        names: defaultdict[int, list[str]] = defaultdict(list)
        for application in self._special:
            names[self.days(application, table)].append(application)
        of_others = self._default[DAYS[table]].value
        special = {
            days: f"application IN {sql_list(tuple(found))}"
            for days, found in names.items()
            if days != of_others
        }
        listed = tuple(name for days in special for name in names[days])
        return {**special, of_others: f"application NOT IN {sql_list(listed)}" if listed else "1"}


class RetentionLimits:
    """The limits that are in force, also those that another service set. Safe from many threads.

    Args:
        engine: Where those are kept that were set while the service runs.
        settings: What holds where none was set.
    """

    def __init__(self, engine: Engine, settings: Settings) -> None:
        self._engine = engine
        self._settings = settings
        self._lock = threading.Lock()

    def policy(self) -> Policy:
        """Return the limits now.

        Raises:
            EngineError: The store does not answer.
        """
        return Policy(self._settings, self._given())

    def policy_with(self, application: str, changes: Mapping[str, int | None]) -> Policy:
        """Return the limits as they would be after a change.

        Args:
            application: Whose limits.
            changes: New values by name; None for that of the settings.

        Raises:
            EngineError: The store does not answer.
        """
        return Policy(self._settings, _changed(self._given(), application, changes))

    def change(self, application: str, changes: Mapping[str, int | None]) -> Policy:
        """Change limits of an application, and return all limits; on disk when this returns.

        Args:
            application: Whose limits.
            changes: New values by name; None for that of the settings. Others stay as they are.

        Raises:
            EngineError: The store does not answer.
            OSError: It cannot be made durable.
        """
        with self._lock:
            given = _changed(self._given(), application, changes)
            row = (application, *(given[application].get(name) for name in NAMES), time.time_ns())
            self._engine.insert("retention_limits", ("application", *NAMES, "version"), [row])
            self._engine.sync()
        return Policy(self._settings, given)

    def _given(self) -> dict[str, dict[str, int]]:
        columns = ", ".join(("application", *NAMES))
        rows = self._engine.query(f"SELECT {columns} FROM retention_limits FINAL").rows
        return {
            str(application): {
                name: int(value)
                for name, value in zip(NAMES, values, strict=True)
                if value is not None
            }
            for application, *values in rows
        }


def _changed(
    given: Mapping[str, Mapping[str, int]], application: str, changes: Mapping[str, int | None]
) -> dict[str, dict[str, int]]:
    limits = {**given.get(application, {}), **changes}
    kept = {name: value for name, value in limits.items() if value is not None}
    return {**{name: dict(known) for name, known in given.items()}, application: kept}
