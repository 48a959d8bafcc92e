# SPDX-License-Identifier: Apache-2.0
"""Tests of keys: where a request may carry its credentials."""

from __future__ import annotations

from pathlib import Path

import pytest

from otel_apinalytics.store.allowances import FAILURES_PER_MINUTE
from otel_apinalytics.store.keys import (
    BOUND_FIELDS,
    DEFAULT_LIMITS,
    NO_LIMITS,
    FirstKeys,
    Scope,
    read_credentials,
)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, (None, None)),
        ({"x-auth-user": "app", "x-auth-key": "key"}, ("app", "key")),
        ({"x-auth-key": "key"}, (None, "key")),
        ({"x-auth-user": "app"}, ("app", None)),
        ({"x-auth-user": "app", "x-auth-key": ""}, ("app", None)),
        ({"authorization": "Bearer key"}, (None, "key")),
        ({"authorization": "bearer   key "}, (None, "key")),
        ({"authorization": "BEARER key", "x-auth-user": "app"}, ("app", "key")),
        ({"authorization": "Bearer other", "x-auth-key": "key"}, (None, "key")),
        ({"authorization": "Bearer"}, (None, None)),
        ({"authorization": "Bearer  "}, (None, None)),
        ({"authorization": "key"}, (None, None)),
        ({"authorization": "Basic a2V5"}, (None, None)),
        ({"authorization": ""}, (None, None)),
    ],
)
def test_credentials(headers: dict[str, str], expected: tuple[str | None, str | None]) -> None:
    """A key comes in `X-Auth-Key` or as a bearer token; the application may be left out."""
    assert read_credentials(headers) == expected


def test_first_keys_do_not_show() -> None:
    """Keys in clear are not in the repr, which ends up in logs."""
    keys = FirstKeys("app", {Scope.WRITE: "s3cret-key"})
    assert "s3cret-key" not in repr(keys)
    assert "app" in repr(keys)


def test_the_documentation_has_the_limits() -> None:
    """Those that hold where a key has none of its own."""
    text = (Path(__file__).parents[3] / "docs" / "keys.md").read_text("utf-8")
    of_read = DEFAULT_LIMITS[Scope.READ]
    assert {
        Scope.WRITE: NO_LIMITS,
        Scope.READ: of_read,
        Scope.ADMIN: of_read,
    } == DEFAULT_LIMITS
    assert f"| `read`, `admin` | {of_read.requests:,} | {of_read.rows:,}: " in text
    assert f"more than {FAILURES_PER_MINUTE} unknown keys" in text
    assert all(f"`{field}`" in text for field in BOUND_FIELDS)
