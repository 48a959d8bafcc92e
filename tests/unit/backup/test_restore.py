# SPDX-License-Identifier: Apache-2.0
"""Tests of a restore: where to, and what is left of one that fails. The engine sees none of it."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest

from otel_apinalytics.backup.restore import restore_backup
from otel_apinalytics.backup.unpack import unpack
from otel_apinalytics.data_directory import lock_data_directory
from otel_apinalytics.errors import BackupError, ConfigError
from otel_apinalytics.store.backup_manifest import MANIFEST, Manifest, fingerprint_of
from otel_apinalytics.store.tar_stream import END, TarStream

KEY = b"k" * 32
TABLE = "store/abc/abcdef01-2345-6789-abcd-ef0123456789"


@pytest.fixture
def backup(tmp_path: Path) -> Path:
    """Return a backup, as far as its files go."""
    tar = TarStream()
    members = [
        tar.link("db/data/default/events", f"../../{TABLE}"),
        tar.content(f"db/{TABLE}/format_version.txt", b"1"),
        tar.content("secret.key", KEY),
    ]
    manifest = Manifest(
        program_version="1",
        schema_version=1,
        created_at="2026-01-02T03:04:05+00:00",
        files=tar.files,
        size=tar.size,
        rows={"events": 0},
        has_secret_key=True,
        secret_key_fingerprint=fingerprint_of(KEY),
    )
    archive = [*members, tar.content(MANIFEST, manifest.to_json()), END]
    directory = tmp_path / "backup"
    directory.mkdir()
    unpack(io.BytesIO(b"".join(archive)), directory)
    return directory


def names(directory: Path) -> set[str]:
    """Return what is in a directory."""
    return {path.name for path in directory.iterdir()}


def test_all_of_it_is_copied(backup: Path, tmp_path: Path) -> None:
    """Files are others, links lead into the copy."""
    target = tmp_path / "a" / "data"
    manifest = restore_backup(backup, target, None)
    assert manifest.files == 3
    assert names(target) == {"db", "secret.key", "backup.json", "lock"}
    link = target / "db" / "data" / "default" / "events"
    assert link.resolve() == (target / "db" / TABLE).resolve()
    assert (link / "format_version.txt").read_bytes() == b"1"
    assert (target / "secret.key").stat().st_nlink == 1
    assert names(backup) == {"db", "secret.key", "backup.json"}


def test_the_root_of_a_file_system(backup: Path, tmp_path: Path) -> None:
    """It is never quite empty."""
    target = tmp_path / "data"
    (target / "lost+found").mkdir(parents=True)
    restore_backup(backup, target, None)
    assert names(target) == {"db", "secret.key", "backup.json", "lock", "lost+found"}


def test_a_directory_that_a_service_has_taken(backup: Path, tmp_path: Path) -> None:
    """It may not have written anything yet."""
    target = tmp_path / "data"
    with lock_data_directory(target), pytest.raises(ConfigError, match=f"in use.*{os.getpid()}"):
        restore_backup(backup, target, None)
    assert names(target) == {"lock"}


@pytest.mark.parametrize("exists", [True, False])
def test_nothing_is_left_of_one_that_fails(backup: Path, tmp_path: Path, *, exists: bool) -> None:
    """Neither the directory, if it was not there before, nor a part of it."""
    target = tmp_path / "data"
    if exists:
        target.mkdir()
    # Its size is as it was, it just cannot be copied.
    file = backup / "db" / TABLE / "format_version.txt"
    file.unlink()
    os.mkfifo(file)
    manifest = backup / MANIFEST
    manifest.write_text(manifest.read_text().replace('"size": 33', '"size": 32'))
    with pytest.raises(BackupError, match="nothing is left"):
        restore_backup(backup, target, None)
    assert (names(target) == {"lock"}) if exists else not target.exists()


def test_a_link_that_leads_elsewhere(backup: Path, tmp_path: Path) -> None:
    """The copy would be written to by its service."""
    link = backup / "db" / "data" / "default" / "events"
    link.unlink()
    link.symlink_to(tmp_path)
    with pytest.raises(BackupError, match="no link"):
        restore_backup(backup, tmp_path / "data", None)
    assert not (tmp_path / "data").exists()
