# SPDX-License-Identifier: Apache-2.0
"""Up to when counts are settled: what was received before is loaded, and there once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from otel_apinalytics.errors import RetryableError
from otel_apinalytics.store.engine import EngineError

SETTLED_UNTIL = "X-Settled-Until"
SETTLED_DOCUMENTATION = {
    SETTLED_UNTIL: {
        "description": "All that was received before is in the answer, and there once; Unix "
        "seconds.",
        "schema": {"type": "number"},
    }
}
# Asking the store costs as much as a small question.
_MAX_AGE_S = 1.0


class Settled:
    """Says up to when counts are settled. Safe to call from many threads.

    Args:
        loaded_until: Returns the time, Unix seconds, such that all that was received before is
            loaded.
        unique_until: Returns the time, Unix seconds, such that what was received before and is
            stored is there once.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        loaded_until: Callable[[], float],
        unique_until: Callable[[], float],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._loaded_until = loaded_until
        self._unique_until = unique_until
        self._clock = clock
        self._lock = threading.Lock()
        self._found: float | None = None
        self._next_at = float("-inf")

    def until(self) -> float | None:
        """Return the time of receipt, Unix seconds; None if the store does not say.

        To be asked before the question, so that all of it is in the answer. It is up to a second
        old: what is settled stays so.
        """
        with self._lock:
            if self._clock() >= self._next_at:
                self._found = self._ask()
                self._next_at = self._clock() + _MAX_AGE_S
            return self._found

    def headers(self) -> dict[str, str]:
        """Return the header of an answer that is computed after this."""
        until = self.until()
        return {} if until is None else {SETTLED_UNTIL: str(until)}

    def _ask(self) -> float | None:
        # First, for what is loaded between the two may not be unique yet.
        loaded = self._loaded_until()
        try:
            return min(loaded, self._unique_until())
        except (EngineError, RetryableError):
            # It is asked for more than this: whether it can answer is seen there.
            return None
