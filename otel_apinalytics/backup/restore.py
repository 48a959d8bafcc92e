# SPDX-License-Identifier: Apache-2.0
"""A data directory from a backup, which stays as it is."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from otel_apinalytics.backup.unpack import check_link, check_numbers
from otel_apinalytics.data_directory import LOCK, lock_data_directory
from otel_apinalytics.errors import BackupError
from otel_apinalytics.store.backup_manifest import (
    MANIFEST,
    SECRET_KEY,
    Manifest,
    fingerprint_of,
    read_manifest,
)
from otel_apinalytics.store.durability import sync_file_system
from otel_apinalytics.store.schema import newest_version

_PARTIAL = ".restore"
# What an empty directory may have: a file system's own, and ours.
_OF_NO_ONE = {"lost+found", LOCK}


def restore_backup(backup: Path, data_dir: Path, secret_key_file: Path | None) -> Manifest:
    """Copy a backup to a data directory, which must be empty or not exist.

    Args:
        backup: The backup.
        data_dir: The data directory to make.
        secret_key_file: The secret key, where it is not in the backup; it is only looked at.

    Raises:
        BackupError: It cannot be restored, or not here.
        ConfigError: A service works in the data directory.
    """
    manifest = read_manifest(backup)
    if manifest.schema_version > newest_version():
        raise BackupError(
            f"{backup} has schema version {manifest.schema_version}, this program knows "
            f"{newest_version()}: it was made by a newer version, {manifest.program_version}; "
            "upgrade the program"
        )
    members = [path for path in backup.rglob("*") if path.is_symlink() or not path.is_dir()]
    members.remove(backup / MANIFEST)
    _check(backup, members, manifest)
    _check_key(backup, manifest, secret_key_file)
    with _partial(data_dir) as partial:
        for path in (*members, backup / MANIFEST):
            _copy(path, partial / path.relative_to(backup))
        sync_file_system(partial)
        # The tables last: a service that starts finds all of it, or nothing.
        for path in sorted(partial.iterdir(), key=lambda path: path.name == "db"):
            path.rename(data_dir / path.name)
        partial.rmdir()
        sync_file_system(data_dir)
    return manifest


def _check(backup: Path, members: list[Path], manifest: Manifest) -> None:
    size = sum(path.lstat().st_size for path in members if not path.is_symlink())
    try:
        check_numbers(manifest, len(members), size)
        for path in members:
            if path.is_symlink():
                check_link(path.relative_to(backup).as_posix(), os.readlink(path))
    except BackupError as error:
        raise BackupError(
            f"{backup} is not as it was made: {error}; was a service started on it?"
        ) from error


def _check_key(backup: Path, manifest: Manifest, secret_key_file: Path | None) -> None:
    if secret_key_file is None and not manifest.has_secret_key:
        raise BackupError(
            f"the secret key is not in {backup}, for it was kept elsewhere; consumers were hashed "
            "with it: name it by --secret-key-file or APINALYTICS_SECRET_KEY_FILE"
        )
    file = secret_key_file or backup / SECRET_KEY
    try:
        key = file.read_bytes()
    except OSError as error:
        raise BackupError(f"cannot read the secret key {file}: {error.strerror}") from error
    if fingerprint_of(key) != manifest.secret_key_fingerprint:
        raise BackupError(f"{file} is not the secret key that the data in {backup} were made with")


@contextmanager
def _partial(data_dir: Path) -> Iterator[Path]:
    """Take an empty data directory, and give a directory in it; on any error, nothing is left."""
    if data_dir.is_dir() and (found := {path.name for path in data_dir.iterdir()} - _OF_NO_ONE):
        raise BackupError(f"{data_dir} is not empty: it has {min(found)}; nothing is overwritten")
    is_new = not data_dir.exists()
    partial = data_dir / _PARTIAL
    with lock_data_directory(data_dir):
        try:
            partial.mkdir()
            yield partial
        except BaseException as error:
            shutil.rmtree(data_dir if is_new else partial, ignore_errors=True)
            if isinstance(error, OSError):
                raise BackupError(
                    f"cannot copy to {data_dir}: {error.strerror or error}; nothing is left of it"
                ) from error
            raise


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_symlink():
        target.symlink_to(os.readlink(source))
    else:
        shutil.copyfile(source, target)
