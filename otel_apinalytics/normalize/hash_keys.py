# SPDX-License-Identifier: Apache-2.0
"""An application's hash key as text: as the service shows it, and as exporters are given it."""

from __future__ import annotations

from otel_apinalytics.errors import ConfigError

# Begins like the other keys of an application, so that none is taken for another.
_PREFIX = "aph_"
_KEY_BYTES = 32


def hash_key_text(key: bytes) -> str:
    """Return a hash key as it is shown and set: `aph_` and 64 hexadecimal digits."""
    return _PREFIX + key.hex()


def parse_hash_key(text: str) -> bytes:
    """Return the hash key that `hash_key_text` wrote.

    Raises:
        ConfigError: It is none; the message does not have it.
    """
    digits = text.strip().removeprefix(_PREFIX)
    try:
        key = bytes.fromhex(digits)
    except ValueError:
        key = b""
    if len(key) != _KEY_BYTES or not text.strip().startswith(_PREFIX):
        raise ConfigError(
            f"the hash key, {len(text)} characters long, is none: "
            f"it must be {_PREFIX} and {2 * _KEY_BYTES} hexadecimal digits"
        )
    return key
