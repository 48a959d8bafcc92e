# SPDX-License-Identifier: Apache-2.0
"""Log lines that do not come as often as what they tell of: a failing service fails each batch."""

from __future__ import annotations

import logging
import time

# One line of a kind in this time.
INTERVAL_S = 60.0


class QuietLog:
    """Logs warnings, of each kind one in a while, with how often it happened since.

    Args:
        logger: Where.
    """

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self._last_s: dict[str, float] = {}
        self._unsaid: dict[str, int] = {}

    def say(self, kind: str, message: str, *arguments: object) -> None:
        """Log a warning, unless one of its kind was logged a moment ago.

        Args:
            kind: What happened, in a word.
            message: The line, with places for the arguments.
            arguments: As for `logging`.
        """
        now = time.monotonic()
        if now - self._last_s.get(kind, -INTERVAL_S) < INTERVAL_S:
            self._unsaid[kind] = self._unsaid.get(kind, 0) + 1
            return
        self._last_s[kind] = now
        if times := self._unsaid.pop(kind, 0):
            message += " (and %d times since the last line)"
            arguments = (*arguments, times)
        self._logger.warning(message, *arguments)
