# SPDX-License-Identifier: Apache-2.0
"""Events that wait until the service takes them, oldest first, in no more than some memory."""

from __future__ import annotations

from collections import deque

from otel_apinalytics.exporter.events import MAX_BODY_BYTES

# Ten minutes of twenty calls a second.
MAX_WAITING_BYTES = 4 * MAX_BODY_BYTES


class Backlog:
    """Groups of events, each of which is a body: what is sent again is the same as before."""

    def __init__(self) -> None:
        self._groups: deque[list[str]] = deque()
        self._bytes = 0
        #: How many events wait.
        self.events = 0

    @property
    def first(self) -> list[str] | None:
        """The group that has waited the longest; None if none waits."""
        return self._groups[0] if self._groups else None

    def add(self, group: list[str]) -> int:
        """Add a group; return how many events had to go for it, the oldest."""
        self._groups.append(group)
        self._count(group, 1)
        before = self.events
        while self._bytes > MAX_WAITING_BYTES and len(self._groups) > 1:
            self.take_first()
        return before - self.events

    def take_first(self) -> None:
        """Remove the first group."""
        self._count(self._groups.popleft(), -1)

    def split_first(self) -> None:
        """Make two groups of the first."""
        group = self._groups.popleft()
        middle = len(group) // 2
        self._groups.extendleft((group[middle:], group[:middle]))

    def clear(self) -> int:
        """Remove everything; return how many events that were."""
        removed = self.events
        self._groups.clear()
        self._bytes = self.events = 0
        return removed

    def _count(self, group: list[str], times: int) -> None:
        self._bytes += times * sum(map(len, group))
        self.events += times * len(group)
