# SPDX-License-Identifier: Apache-2.0
"""Tests of the manifest: it is read as it was written, and says which secret key it needs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from otel_apinalytics.errors import BackupError, ConfigError
from otel_apinalytics.store.backup_manifest import (
    MANIFEST,
    Manifest,
    check_secret_key,
    fingerprint_of,
    parse_manifest,
    read_manifest,
)

KEY, OTHER = b"k" * 32, b"o" * 32
WRITTEN = Manifest(
    program_version="1.2.3",
    schema_version=7,
    created_at="2026-01-02T03:04:05+00:00",
    files=3,
    size=1 << 40,
    rows={"events": 12},
    has_secret_key=False,
    secret_key_fingerprint=fingerprint_of(KEY),
)


def test_it_is_read_as_it_was_written() -> None:
    """It is JSON; what a later version adds does no harm."""
    text = WRITTEN.to_json()
    assert parse_manifest(text) == WRITTEN
    more = json.dumps({**json.loads(text), "new": 1}).encode()
    assert parse_manifest(more) == WRITTEN


@pytest.mark.parametrize("text", [b"", b"[]", b"{}", b'{"files": 1}', WRITTEN.to_json()[:-10]])
def test_what_is_no_manifest(text: bytes, tmp_path: Path) -> None:
    """It is named."""
    with pytest.raises(BackupError, match=MANIFEST):
        parse_manifest(text)
    (tmp_path / MANIFEST).write_bytes(text)
    with pytest.raises(BackupError, match=str(tmp_path)):
        read_manifest(tmp_path)


def test_fingerprints_tell_keys_apart() -> None:
    """They are not the key, nor a part of it."""
    assert fingerprint_of(KEY) == fingerprint_of(bytes(KEY))
    assert fingerprint_of(KEY) != fingerprint_of(OTHER)
    assert KEY.hex()[:8] not in fingerprint_of(KEY)


def test_a_data_directory_needs_its_own_key(tmp_path: Path) -> None:
    """Only where it is from a backup is it known which."""
    key_file = tmp_path / "key"
    check_secret_key(tmp_path, key_file)
    (tmp_path / MANIFEST).write_bytes(WRITTEN.to_json())
    with pytest.raises(ConfigError, match="cannot read"):
        check_secret_key(tmp_path, key_file)
    key_file.write_bytes(OTHER)
    with pytest.raises(ConfigError, match="is not the secret key"):
        check_secret_key(tmp_path, key_file)
    key_file.write_bytes(KEY)
    check_secret_key(tmp_path, key_file)
    (tmp_path / MANIFEST).write_bytes(b"{}")
    with pytest.raises(ConfigError, match="not the manifest"):
        check_secret_key(tmp_path, key_file)
