# SPDX-License-Identifier: Apache-2.0
"""Keys and sealing: AES-256-GCM under a random key per segment, which a master key wraps.

A copied segment, or a block of a deleted one, gives nothing away without the master key.
"""

from __future__ import annotations

import os
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from otel_apinalytics.errors import ConfigError
from otel_apinalytics.receiver.files import create_file

_KEY_BYTES = 32
_NONCE_BYTES = 12
TAG_BYTES = 16
WRAPPED_KEY_BYTES = _NONCE_BYTES + _KEY_BYTES + TAG_BYTES


class SealError(Exception):
    """What was sealed cannot be opened: another key, another place, or damaged."""


def read_or_create_master_key(path: Path) -> bytes:
    """Return the master key in `path`, made at random if the file is missing.

    Raises:
        ConfigError: The file is unreadable, or not 32 bytes long.
    """
    try:
        if not path.exists():
            create_file(path, os.urandom(_KEY_BYTES))
    except OSError as error:
        raise ConfigError(f"cannot create the secret key file {path}: {error.strerror}") from error
    try:
        key = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot read the secret key file {path}: {error.strerror}") from error
    if len(key) != _KEY_BYTES:
        raise ConfigError(f"the secret key file {path} has {len(key)} bytes, not {_KEY_BYTES}")
    return key


class Seal:
    """Seals and opens the records of one segment, in order.

    A nonce is the record's number in its segment, used once because the key is the segment's own
    and a segment is never written to again after a failed write.

    Args:
        key: The segment's key.
        context: Bound to every record, so that none can be moved into another segment.
    """

    def __init__(self, key: bytes, context: bytes) -> None:
        self._cipher = AESGCM(key)
        self._context = context

    def seal(self, number: int, record: bytes) -> bytes:
        """Return `record` sealed; `TAG_BYTES` longer."""
        return self._cipher.encrypt(_nonce(number), record, self._context)

    def open(self, number: int, sealed: bytes) -> bytes:
        """Return the record.

        Raises:
            SealError: It is damaged, or not the record with this number of this segment.
        """
        try:
            return self._cipher.decrypt(_nonce(number), sealed, self._context)
        except InvalidTag as error:
            raise SealError("damaged or not of this segment") from error


def hash_key_of(master_key: bytes, application: str) -> bytes:
    """Return an application's key for hashing secrets: 32 bytes, always the same, stored nowhere.

    HKDF's expansion (RFC 5869) of the master key, with the application as its info.
    """
    return _derived(master_key, b"otel-apinalytics hash key\0" + application.encode())


def duplicates_key_of(master_key: bytes) -> bytes:
    """Return the key for digests of requests, so that a digest gives nothing away."""
    return _derived(master_key, b"otel-apinalytics duplicates key")


def local_admin_key_of(master_key: bytes, number: str) -> str:
    """Return the admin key of a process that chose this number, for who has the master key."""
    derived = _derived(master_key, b"otel-apinalytics local admin key\0" + number.encode())
    return f"apa_{derived.hex()}"


def _derived(master_key: bytes, info: bytes) -> bytes:
    return HKDFExpand(SHA256(), _KEY_BYTES, info).derive(master_key)


def new_segment_key(master_key: bytes, context: bytes) -> tuple[bytes, bytes]:
    """Return a random key and its wrapped form of `WRAPPED_KEY_BYTES`."""
    key = os.urandom(_KEY_BYTES)
    nonce = os.urandom(_NONCE_BYTES)
    return key, nonce + AESGCM(master_key).encrypt(nonce, key, context)


def unwrap_segment_key(master_key: bytes, wrapped: bytes, context: bytes) -> bytes:
    """Return the key that `new_segment_key` wrapped.

    Raises:
        SealError: It was wrapped under another master key, or is damaged.
    """
    try:
        nonce, sealed = wrapped[:_NONCE_BYTES], wrapped[_NONCE_BYTES:]
        return AESGCM(master_key).decrypt(nonce, sealed, context)
    except (InvalidTag, ValueError) as error:
        raise SealError("the segment's key was not wrapped under this secret key") from error


def _nonce(number: int) -> bytes:
    return number.to_bytes(_NONCE_BYTES, "big")
