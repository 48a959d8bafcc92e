# SPDX-License-Identifier: Apache-2.0
"""The data directory: one process at a time works in it."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import IO

from otel_apinalytics.errors import ConfigError

LOCK = "lock"


def lock_data_directory(directory: Path) -> IO[str]:
    """Take the data directory for this process alone; closing the file gives it up.

    It is created if it is missing.

    Raises:
        ConfigError: It cannot be used, or another process has it.
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
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
