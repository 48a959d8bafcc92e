# SPDX-License-Identifier: Apache-2.0
"""Taking turns with the program's threads: none of them waits long for one that computes."""

from __future__ import annotations

import time

# Before the interpreter takes the turn from a thread, it has kept the others waiting for 5 ms.
_TURN_S, _REST_S = 0.0001, 0.00005
# Threads that compute all the time keep the turn for these 5 ms, each time that it is given away.
_MAX_RESTING_S = 0.05


class Turns:
    """The turns of one piece of work. It rests after each, until it has rested enough."""

    def __init__(self) -> None:
        self._ends_s = time.perf_counter() + _TURN_S
        self._resting_s = 0.0

    @property
    def is_over(self) -> bool:
        """Whether it is another's turn."""
        return time.perf_counter() > self._ends_s

    def rest(self) -> None:
        """Begin another turn, after a rest."""
        began_s = time.perf_counter()
        if self._resting_s < _MAX_RESTING_S:
            time.sleep(_REST_S)
        now_s = time.perf_counter()
        self._resting_s += now_s - began_s
        self._ends_s = now_s + _TURN_S
