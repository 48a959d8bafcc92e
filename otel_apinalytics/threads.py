# SPDX-License-Identifier: Apache-2.0
"""Threads that must not end: what to say of those that did, and how long the main one may sleep."""

from __future__ import annotations

import threading

#: Seconds that the main thread sleeps at a time, at most. Handlers of signals run on it; a signal
#: that the system gives to another thread does not wake it, and one that comes while the process is
#: suspended may go to any.
MAIN_SLEEP_S = 1.0


def ended(*threads: threading.Thread) -> list[str]:
    """Return in words which of these, all started before, have ended."""
    return [f"the thread {thread.name} has ended" for thread in threads if not thread.is_alive()]
