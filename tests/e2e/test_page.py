# SPDX-License-Identifier: Apache-2.0
"""The page in a real browser: the reason why there is nothing, then traffic by consumer."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

from tests.support.clients import READ_KEY
from tests.support.otlp import CALL, make_request, make_span
from tests.support.service_process import service_process

_CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

pytestmark = pytest.mark.skipif(
    not Path(_CHROMIUM).exists(), reason=f"no browser at {_CHROMIUM}; set CHROMIUM"
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Start a headless browser."""
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=_CHROMIUM, args=_ARGUMENTS)
        yield launched
        launched.close()


def test_the_page_says_why_and_then_shows(tmp_path: Path, browser: Browser) -> None:
    """Wrong key, no data, filtered data, data: each has its own words."""
    with service_process(tmp_path) as service:
        page = browser.new_page()
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(f"http://{service.client.http}/")
        notice, key = page.locator("#notice"), page.locator("#key")

        key.fill("wrong")
        page.get_by_role("button", name="Show").click()
        expect(notice).to_have_text("unknown application or key")

        key.fill(READ_KEY)
        page.get_by_role("button", name="Show").click()
        expect(notice).to_contain_text("No span or event has arrived")
        expect(page.locator("#block")).to_contain_text(service.client.grpc)

        service.client.export(make_request(make_span({"db.system": "postgresql"})))
        expect(notice).to_contain_text("no API calls (neither_http_nor_rpc)", timeout=30_000)

        calls = [make_span({**CALL, "enduser.id": "alice"}) for _ in range(3)]
        failed = make_span({**CALL, "http.response.status_code": 500, "enduser.id": "<b>bob</b>"})
        service.client.export(make_request(*calls, failed))
        rows = page.locator("#traffic tbody tr")
        expect(rows).to_have_count(2, timeout=30_000)
        expect(rows.nth(0)).to_contain_text(re.compile(r"alice\s*3\s*0"))
        expect(rows.nth(1)).to_contain_text(re.compile(r"<b>bob</b>\s*1\s*1"))
        expect(page.locator("#start")).to_be_hidden()
        assert READ_KEY not in page.url
        assert page.evaluate("localStorage.length + sessionStorage.length") == 0
        assert errors == []
        page.close()
