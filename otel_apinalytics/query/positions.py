# SPDX-License-Identifier: Apache-2.0
"""Positions in the order of raw events, and the cursors that name them.

An event's position is made of its time and its key, so that no merge, copy or later arrival moves
it, and no two events share one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from otel_apinalytics.errors import InvalidRequestError
from otel_apinalytics.query.statement import MAX_SECONDS

# The hour is the key's: with it in front, the engine sorts an hour at a time.
ORDER = "events.hour, events.timestamp, events.event_id, events.locality"
#: The position as a tuple, in SQL.
POSITION = "(toUnixTimestamp64Micro(events.timestamp), events.event_id, events.locality)"
#: The cursor, in SQL.
CURSOR = (
    "concat(toString(toUnixTimestamp64Micro(events.timestamp)), '-', "
    "toString(events.event_id), '-', toString(events.locality))"
)
_CURSOR = re.compile(r"([0-9]{1,16})-([0-9]{1,20})-([0-9]{1,10})")


class Position(NamedTuple):
    """A place in the order; there need not be an event.

    Args:
        time_us: Event time, Unix microseconds.
        event_id: Orders events of the same time.
        locality: Orders those that share it, too.
    """

    time_us: int
    event_id: int
    locality: int

    @property
    def cursor(self) -> str:
        """The text that `parse_cursor` reads."""
        return "-".join(map(str, self))

    def condition(self, role: str, comparison: str) -> str:
        """Return the condition on events behind it, with `>`, or not behind it, with `<=`.

        Args:
            role: Tells its parameters from those of others in the statement.
            comparison: Of the event's position with this one.
        """
        names = ", ".join(f"%({role}_{field})s" for field in self._fields)
        return f"{POSITION} {comparison} ({names})"

    def parameters(self, role: str) -> Mapping[str, int]:
        """Return the parameters that the condition names."""
        return {f"{role}_{name}": value for name, value in self._asdict().items()}


_LAST = Position(MAX_SECONDS * 1_000_000, 2**64 - 1, 2**32 - 1)


def parse_cursor(text: str) -> Position | None:
    """Return the position that a cursor names; None if there is no text.

    Raises:
        InvalidRequestError: It is no cursor.
    """
    if not text:
        return None
    if match := _CURSOR.fullmatch(text):
        found = Position(*map(int, match.groups()))
        if all(part <= last for part, last in zip(found, _LAST, strict=True)):
            return found
    raise InvalidRequestError(
        "cursor is not one of ours",
        parameter="cursor",
        value=text,
        allowed="the cursor of the last event that arrived, or X-Next-Cursor of an answer",
    )
