# SPDX-License-Identifier: Apache-2.0
"""The hash key, and what it makes of an API key."""

from __future__ import annotations

import hashlib
import hmac
from typing import Any

import pytest

from otel_apinalytics.errors import ConfigError
from otel_apinalytics.exporter import ApinalyticsSpanExporter
from otel_apinalytics.exporter.hashing import (
    HASH_KEY_VARIABLE,
    consumer_of_key,
    hash_key,
    hash_key_text,
    parse_hash_key,
    use_hash_key,
)
from tests.unit.exporter_identity.conftest import HASH_KEY


def test_the_text_of_a_key_is_that_key() -> None:
    """Written and read, also with the white space of whoever copied it."""
    text = hash_key_text(HASH_KEY)
    assert text.startswith("aph_")
    assert parse_hash_key(text) == HASH_KEY
    assert parse_hash_key(f" {text}\n") == HASH_KEY


@pytest.mark.parametrize(
    "text",
    [
        "",
        "aph_",
        HASH_KEY.hex(),
        f"apw_{HASH_KEY.hex()}",
        f"aph_{HASH_KEY.hex()}00",
        f"aph_{HASH_KEY[:-1].hex()}",
        f"aph_{HASH_KEY[:-1].hex()}zz",
        f"aph_ aph_{HASH_KEY.hex()}",
    ],
)
def test_what_is_no_hash_key_is_refused(text: str) -> None:
    """The message says what one is, and does not have the text: it may be another key."""
    with pytest.raises(ConfigError, match="aph_ and 64 hexadecimal digits") as refused:
        parse_hash_key(text)
    assert HASH_KEY[:8].hex() not in str(refused.value)


def test_the_environment_has_the_key(with_hash_key: bytes) -> None:
    """Written as it is shown."""
    assert hash_key() == with_hash_key


def test_a_key_that_was_given_is_used(with_hash_key: bytes) -> None:
    """An exporter that is set up in code has its key from there."""
    use_hash_key(b"k" * 32)
    assert hash_key() == b"k" * 32


def test_the_key_of_an_exporter_in_code_is_used_everywhere() -> None:
    """By `consumer_of_key` and by whatever says who calls: there is no variable."""
    ApinalyticsSpanExporter(write_key="k", hash_key=hash_key_text(HASH_KEY))
    assert hash_key() == HASH_KEY
    assert consumer_of_key("k-secret") is not None


def test_an_unusable_key_is_told_once_and_not_used(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The application goes on, without hashed ids."""
    monkeypatch.setenv(HASH_KEY_VARIABLE, f"apw_{HASH_KEY.hex()}")
    assert [consumer_of_key("k-1"), consumer_of_key("k-2")] == [None, None]
    told = [record.getMessage() for record in caplog.records]
    assert len([message for message in told if "64 hexadecimal digits" in message]) == 1
    assert all(HASH_KEY_VARIABLE in message for message in told)
    assert HASH_KEY.hex() not in caplog.text


def test_an_api_key_becomes_its_keyed_hash(with_hash_key: bytes) -> None:
    """HMAC-SHA256, of which 24 digits are kept."""
    digest = hmac.new(with_hash_key, b"k-secret", hashlib.sha256).hexdigest()
    assert consumer_of_key("k-secret") == f"key_{digest[:24]}"


def test_without_a_hash_key_there_is_no_consumer() -> None:
    """Another hash would be another consumer."""
    assert consumer_of_key("k-secret") is None


@pytest.mark.parametrize("wrong", ["", "  ", "null", None, b"k-secret", 7])
def test_no_api_key_is_no_consumer(with_hash_key: bytes, wrong: Any) -> None:
    """And nothing is raised."""
    assert consumer_of_key(wrong) is None
