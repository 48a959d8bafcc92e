# SPDX-License-Identifier: Apache-2.0
"""What must not disturb the application: errors of ours stay here, and are told once."""

from __future__ import annotations

import logging
from types import TracebackType

_told: set[str] = set()


def log_once(logger: logging.Logger, message: str, *arguments: object) -> None:
    """Log a warning unless one with the same message, before its arguments, was logged."""
    if message not in _told:
        _told.add(message)
        logger.warning(message, *arguments)


class Contained:
    """A block that raises nothing: an error is logged, once. Serves many blocks and threads.

    Args:
        logger: Where.
        message: What went wrong, with a place for the error.
    """

    def __init__(self, logger: logging.Logger, message: str) -> None:
        self._logger = logger
        self._message = message

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        if not isinstance(error, Exception):
            return False
        # Not what the error says: it may have a key in it.
        log_once(self._logger, self._message, f"{type(error).__name__} in {_place(traceback)}")
        return True


def _place(traceback: TracebackType | None) -> str:
    place = "?"
    while traceback is not None:
        place = f"{traceback.tb_frame.f_code.co_filename}:{traceback.tb_lineno}"
        traceback = traceback.tb_next
    return place
