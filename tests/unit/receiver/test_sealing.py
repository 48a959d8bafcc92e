# SPDX-License-Identifier: Apache-2.0
"""Tests of sealing: what is sealed opens in its own place only, and the master key is kept well."""

from __future__ import annotations

import hashlib
import hmac
import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_apinalytics.errors import ConfigError
from otel_apinalytics.receiver.sealing import (
    TAG_BYTES,
    WRAPPED_KEY_BYTES,
    Seal,
    SealError,
    hash_key_of,
    new_segment_key,
    read_or_create_master_key,
    unwrap_segment_key,
)

KEY = bytes(range(32))
OTHER_KEY = bytes(32)
PLACE = b"log/1"


@given(record=st.binary(), number=st.integers(0, 2**64))
def test_round_trip(record: bytes, number: int) -> None:
    """What was sealed opens, and is longer by its tag."""
    sealed = Seal(KEY, PLACE).seal(number, record)
    assert len(sealed) == len(record) + TAG_BYTES
    assert Seal(KEY, PLACE).open(number, sealed) == record


@pytest.mark.parametrize(
    ("key", "context", "number"),
    [(OTHER_KEY, PLACE, 3), (KEY, b"log/2", 3), (KEY, b"", 3), (KEY, PLACE, 4), (KEY, PLACE, 2)],
    ids=["other key", "other segment", "no segment", "next number", "number before"],
)
def test_a_record_opens_in_its_own_place_only(key: bytes, context: bytes, number: int) -> None:
    """Key, segment and number are all bound to the record."""
    sealed = Seal(KEY, PLACE).seal(3, b"record")
    with pytest.raises(SealError):
        Seal(key, context).open(number, sealed)


def test_every_flipped_bit_shows() -> None:
    """The tag is a checksum of all of it."""
    sealed = Seal(KEY, PLACE).seal(0, b"record")
    for position in range(8 * len(sealed)):
        damaged = bytearray(sealed)
        damaged[position // 8] ^= 1 << position % 8
        with pytest.raises(SealError):
            Seal(KEY, PLACE).open(0, bytes(damaged))


def test_a_segment_key_is_wrapped() -> None:
    """The wrapped key opens under the same master key and context, and shows nothing of the key."""
    key, wrapped = new_segment_key(KEY, PLACE)
    assert len(wrapped) == WRAPPED_KEY_BYTES
    assert key not in wrapped
    assert unwrap_segment_key(KEY, wrapped, PLACE) == key


def test_segment_keys_differ() -> None:
    """No two segments share a key, so no nonce is used twice."""
    assert len({new_segment_key(KEY, PLACE)[0] for _ in range(100)}) == 100


@pytest.mark.parametrize("case", ["key", "context", "damaged", "short", "empty", "zeroed"])
def test_a_segment_key_does_not_open_otherwise(case: str) -> None:
    """Another master key, another segment, or damage: refused, and nothing else is raised."""
    _, wrapped = new_segment_key(KEY, PLACE)
    key, context, data = {
        "key": (OTHER_KEY, PLACE, wrapped),
        "context": (KEY, b"log/2", wrapped),
        "damaged": (KEY, PLACE, wrapped[:-1] + bytes([wrapped[-1] ^ 1])),
        "short": (KEY, PLACE, wrapped[:20]),
        "empty": (KEY, PLACE, b""),
        "zeroed": (KEY, PLACE, bytes(len(wrapped))),
    }[case]
    with pytest.raises(SealError):
        unwrap_segment_key(key, data, context)


def test_the_master_key_is_made_once(tmp_path: Path) -> None:
    """A missing file is created, for its owner only; later starts read it."""
    path = tmp_path / "secret.key"
    key = read_or_create_master_key(path)
    assert len(key) == 32
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert read_or_create_master_key(path) == key == path.read_bytes()


def test_the_mode_of_the_key_file_is_not_left_to_the_umask(tmp_path: Path) -> None:
    """A permissive umask does not open the file to others."""
    before = os.umask(0)
    try:
        read_or_create_master_key(tmp_path / "secret.key")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "secret.key").stat().st_mode) == 0o600


def test_master_keys_are_random(tmp_path: Path) -> None:
    """Two installations share no key."""
    first, second = (read_or_create_master_key(tmp_path / name) for name in ("a", "b"))
    assert first != second


@pytest.mark.parametrize("length", [0, 31, 33, 64])
def test_a_key_of_another_length_stops_the_start(tmp_path: Path, length: int) -> None:
    """A file of another length is not overwritten, and not used."""
    path = tmp_path / "secret.key"
    path.write_bytes(bytes(length))
    with pytest.raises(ConfigError, match=f"has {length} bytes, not 32"):
        read_or_create_master_key(path)
    assert path.stat().st_size == length


@pytest.mark.parametrize("name", ["missing/secret.key", "."])
def test_a_key_file_that_cannot_be_used_stops_the_start(tmp_path: Path, name: str) -> None:
    """A directory that is missing, or a directory in the file's place, is named."""
    with pytest.raises(ConfigError, match="secret key file"):
        read_or_create_master_key(tmp_path / name)


def test_a_hash_key_is_always_the_same() -> None:
    """Nothing of it is stored, and what was hashed before a restart is the same after it."""
    assert hash_key_of(KEY, "shop") == hash_key_of(KEY, "shop")
    # The first block of HKDF's expansion (RFC 5869, section 2.3).
    info = b"otel-apinalytics hash key\0shop\1"
    assert hash_key_of(KEY, "shop") == hmac.new(KEY, info, hashlib.sha256).digest()


def test_hash_keys_differ_by_application_and_master_key() -> None:
    """A hash of one tenant says nothing of another's, nor of another installation's."""
    applications = ["shop", "shop2", "", "é", "Shop"]
    keys = {hash_key_of(master, name) for master in (KEY, OTHER_KEY) for name in applications}
    assert len(keys) == 2 * len(applications)
    assert {len(key) for key in keys} == {32}
    assert keys.isdisjoint({KEY, OTHER_KEY})
