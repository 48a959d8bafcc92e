# SPDX-License-Identifier: Apache-2.0
"""Waiting for a condition, with a deadline so far away that only a defect reaches it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
_DEADLINE_S = 60.0
#: As long as copies of an event may take to become one, in seconds: the store waits a minute for
#: others before it merges them.
MERGED_WITHIN_S = 180.0
_INTERVAL_S = 0.02


def wait_for(
    probe: Callable[[], T], *, until: Callable[[T], bool] = bool, within_s: float = _DEADLINE_S
) -> T:
    """Return what `probe` gives once it satisfies `until`.

    Raises:
        TimeoutError: It never did; the message has the last value.
    """
    deadline = time.monotonic() + within_s
    while not until(value := probe()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"still {value!r}")
        time.sleep(_INTERVAL_S)
    return value
