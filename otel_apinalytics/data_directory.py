# SPDX-License-Identifier: Apache-2.0
"""The data directory: one process at a time works in it."""

from __future__ import annotations

import fcntl
import logging
import os
import stat
from pathlib import Path
from typing import IO

from otel_apinalytics.errors import ConfigError

LOCK = "lock"
_OF_OTHERS = stat.S_IRWXG | stat.S_IRWXO

_logger = logging.getLogger(__name__)


def lock_data_directory(directory: Path) -> IO[str]:
    """Take the data directory for this process alone; closing the file gives it up.

    It is created if it is missing. One that is open to others is reported: what is stored is
    readable in it.

    Raises:
        ConfigError: It cannot be used, or another process has it.
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        _report_others(directory)
        lock = (directory / LOCK).open("a+")
    except OSError as error:
        raise ConfigError(f"cannot use the data directory {directory}: {error.strerror}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        lock.seek(0)
        owner = lock.read().strip() or "unknown"
        lock.close()
        raise ConfigError(
            f"the data directory {directory} is in use by another process (pid {owner})"
        ) from error
    lock.truncate(0)
    lock.write(f"{os.getpid()}\n")
    lock.flush()
    return lock


def _report_others(directory: Path) -> None:
    mode = stat.S_IMODE(directory.stat().st_mode)
    if mode & _OF_OTHERS:
        _logger.warning(
            "the data directory %s is open to others (mode %03o), who may read what was written "
            "there with another umask: chmod 700 it",
            directory,
            mode,
        )
