# SPDX-License-Identifier: Apache-2.0
"""A wall clock that is believed only while it runs steadily, for what is deleted by it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

_logger = logging.getLogger(__name__)

_STEADY_S = 600.0
# From one reading to the next. NTP slews a clock by at most 2 s in an hour; a step is larger.
_TOLERANCE_S = 2.0


def _since_boot() -> float:
    """Return seconds that nobody sets, with those in which the machine was suspended."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class SteadyClock:
    """Compares the wall clock with one that nobody sets. Used by one thread.

    Args:
        wall: Unix seconds.
        elapsed: Seconds from any beginning.
    """

    def __init__(
        self,
        wall: Callable[[], float] = time.time,
        elapsed: Callable[[], float] = _since_boot,
    ) -> None:
        self._wall = wall
        self._elapsed = elapsed
        self._since = elapsed()
        self._offset = wall() - self._since

    def read(self) -> float | None:
        """Return Unix seconds; None unless both clocks advanced alike for the last ten minutes."""
        wall, elapsed = self._wall(), self._elapsed()
        step_s = wall - elapsed - self._offset
        if abs(step_s) > _TOLERANCE_S:
            _logger.warning("the clock was set by %+.0f s: nothing is deleted for a while", step_s)
            self._since = elapsed
        self._offset = wall - elapsed
        return wall if elapsed - self._since >= _STEADY_S else None
