# SPDX-License-Identifier: Apache-2.0
"""Asks a running service for a backup; it gets its name when it is whole and durable."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from urllib3.exceptions import HTTPError

from otel_apinalytics.backup.unpack import unpack
from otel_apinalytics.client import Client, Server
from otel_apinalytics.errors import BackupError
from otel_apinalytics.store.backup_manifest import Manifest
from otel_apinalytics.store.durability import sync_file_system

_TAR = "application/x-tar"


def fetch_backup(server: Server, directory: Path) -> Manifest:
    """Make a backup of a service in a directory, which must be empty or not exist.

    Until it is whole, it is in another beside it, `….partial`, of which nothing is left otherwise.

    Raises:
        BackupError: It could not be made.
        ClientError: The service cannot be asked, or refuses.
    """
    directory = directory.resolve()
    _refuse_taken(directory)
    with (
        Client(server) as client,
        client.stream("/1/backup/", _TAR) as answer,
        _partial(directory) as partial,
    ):
        try:
            manifest = unpack(answer, partial)
        except HTTPError as error:
            raise BackupError(str(client.interrupted(error))) from error
        sync_file_system(partial)
        os.replace(partial, directory)
        sync_file_system(directory)
    return manifest


def _refuse_taken(directory: Path) -> None:
    try:
        if os.path.ismount(directory):
            raise BackupError(f"{directory} is a mount point: name a directory below it")
        if directory.exists() and any(directory.iterdir()):
            raise BackupError(f"{directory} is not empty")
    except OSError as error:
        raise BackupError(f"cannot use {directory}: {error.strerror}") from error


@contextmanager
def _partial(directory: Path) -> Iterator[Path]:
    """Give a directory beside another one, and remove it on any error."""
    partial = directory.with_name(f"{directory.name}.partial")
    try:
        partial.mkdir()
    except FileExistsError as error:
        raise BackupError(
            f"{partial} exists: a backup is being made, or was killed; if so, remove it"
        ) from error
    except OSError as error:
        raise BackupError(f"cannot make {partial}: {error.strerror}") from error
    try:
        yield partial
    except BaseException as error:
        left = _remove(partial)
        if isinstance(error, OSError):
            raise BackupError(f"cannot write to {partial}: {error.strerror}; {left}") from error
        if isinstance(error, BackupError):
            raise BackupError(f"{error}; {left}") from error
        raise


def _remove(directory: Path) -> str:
    shutil.rmtree(directory, ignore_errors=True)
    return f"a part is left in {directory}" if directory.exists() else "nothing is left of it"
