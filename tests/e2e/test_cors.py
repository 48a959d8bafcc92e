# SPDX-License-Identifier: Apache-2.0
"""Tests of what pages of other origins may do: nothing by default, what the operator says else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import urllib3

from otel_apinalytics.errors import ConfigError
from otel_apinalytics.settings import read_settings
from tests.support.service_process import service_process

ORIGIN = "https://app.example"
PREFLIGHT = {
    "Origin": ORIGIN,
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "content-type,x-auth-key",
}
ALLOWED = "access-control-allow-origin"


@pytest.mark.parametrize(
    ("origins", "allowed"),
    [
        (None, None),
        (["https://other.example"], None),
        (["https://other.example", ORIGIN], ORIGIN),
        (["*"], "*"),
    ],
)
def test_an_origin_that_is_named_may_send(
    tmp_path: Path, origins: list[str] | None, allowed: str | None
) -> None:
    """With the headers that an SDK for browsers sets; a page of any other cannot."""
    settings = {"cors_origins": json.dumps(origins)} if origins else {}
    with service_process(tmp_path, **settings) as service:
        http = urllib3.PoolManager()
        url = f"http://{service.client.http}/v1/traces"
        asked = http.request("OPTIONS", url, headers=PREFLIGHT)
        assert asked.headers.get(ALLOWED) == allowed
        if allowed:
            assert asked.status == 200
            assert "x-auth-key" in asked.headers["access-control-allow-headers"].lower()
        sent = http.request("POST", url, headers={"Origin": ORIGIN}, body=b"")
        assert sent.headers.get(ALLOWED) == allowed


@pytest.mark.parametrize("wrong", ["app.example", "https://app.example/", "https://*.example", ""])
def test_what_is_no_origin_stops_the_start(wrong: str) -> None:
    """A path or a missing scheme would never match what a browser says."""
    with pytest.raises(ConfigError, match="cors_origins"):
        read_settings({"cors_origins": [wrong]})
