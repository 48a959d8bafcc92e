# SPDX-License-Identifier: Apache-2.0
"""The manifest of a backup: what it says of itself, so that a part is never taken for the whole."""

from __future__ import annotations

import hashlib
import hmac
from pathlib import Path

import msgspec

from otel_apinalytics.errors import BackupError, ConfigError

MANIFEST = "backup.json"
#: Where a backup has the secret key, and a data directory by default.
SECRET_KEY = "secret.key"  # noqa: S105


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """A backup, in numbers. It is the backup's last member: what has it was not cut off.

    Args:
        program_version: The program that made it.
        schema_version: Of its tables.
        created_at: When the tables were frozen, RFC 3339, in UTC.
        files: Files in it, symbolic links included, this one not.
        size: Their bytes, all together.
        rows: Rows of each table. Equal ones that were not merged yet count each.
        has_secret_key: Whether the secret key is in it.
        secret_key_fingerprint: Which secret key its hashes were made with.
    """

    program_version: str
    schema_version: int
    created_at: str
    files: int
    size: int
    rows: dict[str, int]
    has_secret_key: bool
    secret_key_fingerprint: str

    def to_json(self) -> bytes:
        """Return it as it is written."""
        return msgspec.json.format(msgspec.json.encode(self)) + b"\n"


def parse_manifest(text: bytes, name: str = MANIFEST) -> Manifest:
    """Return the manifest that `to_json` wrote.

    Args:
        text: What is in the file.
        name: The file, for the error.

    Raises:
        BackupError: It is none.
    """
    try:
        return msgspec.json.decode(text, type=Manifest)
    except msgspec.DecodeError as error:
        raise BackupError(f"{name} is not the manifest of a backup: {error}") from error


def read_manifest(directory: Path) -> Manifest:
    """Return the manifest of the backup in a directory.

    Raises:
        BackupError: There is none, or it cannot be read.
    """
    try:
        return parse_manifest((directory / MANIFEST).read_bytes(), str(directory / MANIFEST))
    except OSError as error:
        raise BackupError(
            f"{directory} is not a complete backup: cannot read its {MANIFEST}: {error.strerror}"
        ) from error


def fingerprint_of(secret_key: bytes) -> str:
    """Return what tells secret keys apart, and gives nothing of them away; 32 hex digits."""
    message = b"otel-apinalytics fingerprint"
    return hmac.new(secret_key, message, hashlib.sha256).hexdigest()[:32]


def check_secret_key(data_dir: Path, key_file: Path) -> None:
    """Make sure that a data directory that is, or was made from, a backup gets its own secret key.

    With another one, the same API key would be another consumer.

    Args:
        data_dir: The data directory.
        key_file: The secret key that is to be used with it.

    Raises:
        ConfigError: It is missing, or another one.
    """
    if not (data_dir / MANIFEST).exists():
        return
    try:
        manifest = read_manifest(data_dir)
        key = key_file.read_bytes()
    except BackupError as error:
        raise ConfigError(str(error)) from error
    except OSError as error:
        raise ConfigError(
            f"{data_dir} is from a backup and needs the secret key of it: "
            f"cannot read {key_file}: {error.strerror}"
        ) from error
    if fingerprint_of(key) != manifest.secret_key_fingerprint:
        raise ConfigError(
            f"{key_file} is not the secret key that the data in {data_dir} were made with; "
            "its fingerprint is not that of the backup"
        )
