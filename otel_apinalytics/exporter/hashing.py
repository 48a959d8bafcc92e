# SPDX-License-Identifier: Apache-2.0
"""The application's hash key, and the consumer id that an API key becomes with it.

The service hashes what reaches it with the same key, so that an API key is the same consumer
whichever way it comes. Without the key there is no hashed id: it would be another consumer.
"""

from __future__ import annotations

import logging
import os

from otel_apinalytics.errors import ConfigError
from otel_apinalytics.exporter.quiet import Contained, log_once
from otel_apinalytics.normalize import identity
from otel_apinalytics.normalize.hash_keys import hash_key_text, parse_hash_key
from otel_apinalytics.normalize.transforms import is_missing

__all__ = [
    "HASH_KEY_VARIABLE",
    "consumer_of_key",
    "hash_key",
    "hash_key_text",
    "hashed_or_none",
    "parse_hash_key",
    "use_hash_key",
]

HASH_KEY_VARIABLE = "OTEL_EXPORTER_APINALYTICS_HASH_KEY"
_logger = logging.getLogger(__name__)
# Given to the exporter, instead of the environment's.
_given: bytes | None = None
_contained = Contained(_logger, "consumer_of_key: an API key must be text: %s")


def use_hash_key(key: bytes) -> None:
    """Hash with this key in this process, whatever the environment has."""
    global _given
    _given = key


def hash_key() -> bytes | None:
    """Return the hash key in use; None if there is no usable one."""
    text = os.environ.get(HASH_KEY_VARIABLE, "")
    if _given or not text:
        return _given
    try:
        return parse_hash_key(text)
    except ConfigError as error:
        log_once(_logger, "%s: %s; no hashed id is sent", HASH_KEY_VARIABLE, error)
        return None


def consumer_of_key(api_key: str) -> str | None:
    """Return the consumer id of an API key or another secret: its keyed hash.

    None without a hash key, and for what stands for "there is none".
    """
    with _contained:
        return hashed_or_none(identity.secret.python(api_key))
    return None


def hashed_or_none(text: str) -> str | None:
    """Return `text`, hashed if it is marked as a secret; None where nothing may be sent."""
    secret = text.removeprefix(identity.MARK)
    if is_missing(secret):
        return None
    if not text.startswith(identity.MARK):
        return text
    key = hash_key()
    if key is None:
        log_once(_logger, "a consumer's secret is not sent: %s is not set", HASH_KEY_VARIABLE)
        return None
    return identity.hashed(secret, key)
