# SPDX-License-Identifier: Apache-2.0
"""Threads that must not end: what to say of those that did."""

from __future__ import annotations

import threading


def ended(*threads: threading.Thread) -> list[str]:
    """Return in words which of these, all started before, have ended."""
    return [f"the thread {thread.name} has ended" for thread in threads if not thread.is_alive()]
