# SPDX-License-Identifier: Apache-2.0
"""How long an export may go on: to its deadline, shorter once the program ends, not when shut down.

The SDK shuts an exporter down only after its batch processor has waited for the export in progress,
up to 30 seconds, and a program that ends waits for that. So whoever exports asks by itself whether
the end has begun: whether the program's threads have ended, or the processor that runs this thread
is shut down. From then on all exports together have `GRACE_S`.
"""

from __future__ import annotations

import math
import threading
import time

# With a call of the system that cannot be cut short, this is less than five seconds.
GRACE_S = 2.5
MAX_CALL_S = 2.0
# How soon the end is noticed.
STEP_S = 0.1


class Patience:
    """Says how much time is left. `stop` and `left_s` may be called from any thread.

    Args:
        timeout_s: How long an export may take.
    """

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._deadline_s = 0.0
        self._end_s: float | None = None
        self._stopped = threading.Event()

    @property
    def is_stopped(self) -> bool:
        """Whether nothing is to be sent any more."""
        return self._stopped.is_set()

    @property
    def is_ending(self) -> bool:
        """Whether the end has begun."""
        if self._end_s is None and (_program_ends() or _processor_ends()):
            self.end()
        return self._end_s is not None or self.is_stopped

    def begin(self, within_s: float = math.inf) -> None:
        """Begin an export, which may have less time than usual."""
        self._deadline_s = time.monotonic() + min(self._timeout_s, within_s)

    def end(self, within_s: float = GRACE_S) -> None:
        """Begin the end, for all exports together."""
        end_s = time.monotonic() + min(within_s, GRACE_S)
        self._end_s = end_s if self._end_s is None else min(self._end_s, end_s)

    def stop(self) -> None:
        """Cut short whatever waits, now and later."""
        self._stopped.set()

    def left_s(self) -> float:
        """Return the seconds that are left; none if 0 or less."""
        if self.is_stopped:
            return 0.0
        is_ending = self.is_ending
        deadline_s = self._deadline_s
        if is_ending and self._end_s is not None:
            deadline_s = min(deadline_s, self._end_s)
        return deadline_s - time.monotonic()

    def call_s(self) -> float:
        """Return how long a call may block that nobody can cut short; never 0."""
        return max(0.001, min(self.left_s(), MAX_CALL_S))

    def pause(self, seconds: float) -> bool:
        """Wait; return whether there is time left then."""
        end_s = time.monotonic() + seconds
        while (left_s := self.left_s()) > 0:
            rest_s = end_s - time.monotonic()
            if rest_s <= 0:
                return True
            self._stopped.wait(min(rest_s, left_s, STEP_S))
        return False

    def await_end(self, thread: threading.Thread) -> bool:
        """Wait until a thread has ended; return whether it has."""
        while (left_s := self.left_s()) > 0 and thread.is_alive():
            thread.join(min(left_s, STEP_S))
        return not thread.is_alive()


def _program_ends() -> bool:
    main = threading.main_thread()
    if main.is_alive():
        return False
    # A server may go on in a thread, which the interpreter waits for.
    return not any(one.is_alive() and not one.daemon for one in threading.enumerate())


def _processor_ends() -> bool:
    # The batch processor's thread runs a method of the object that knows. Where this should ever
    # not be so, an export in progress has its deadline.
    work = getattr(threading.current_thread(), "_target", None)
    return getattr(getattr(work, "__self__", None), "_shutdown", False) is True
