# SPDX-License-Identifier: Apache-2.0
"""The pages in a real browser: the reason why there is nothing, traffic by consumer, the docs."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

from tests.support.clients import ADMIN_HEADERS, READ_KEY
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


def test_a_customer_without_traffic(tmp_path: Path, browser: Browser) -> None:
    """A key that sees one consumer is told that there is nothing, and not how to send."""
    with service_process(tmp_path) as service:
        wanted = b'{"scope": "read", "bound_to": {"consumer_id": "acme"}}'
        _, made, _ = service.client.request("POST", "/1/keys/", wanted, ADMIN_HEADERS)
        page = browser.new_page()
        page.goto(f"http://{service.client.http}/")
        page.locator("#key").fill(READ_KEY)
        page.get_by_role("button", name="Show").click()
        expect(page.locator("#start")).to_be_visible()
        page.locator("#key").fill(made["key"])
        page.get_by_role("button", name="Show").click()
        notice = page.locator("#notice")
        expect(notice).to_have_text("No calls in the last hour.")
        expect(notice).not_to_have_class("bad")
        expect(page.locator("#start")).to_be_hidden()
        page.close()


def test_the_documentation_needs_no_internet(tmp_path: Path, browser: Browser) -> None:
    """It asks nobody but the service, which answers a question typed into it; it keeps no key."""
    with service_process(tmp_path) as service:
        page = browser.new_page()
        asked, problems = [], []
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("console", lambda message: problems.append(message.text))
        page.goto(f"http://{service.client.http}/docs")
        expect(page.locator(".opblock")).not_to_have_count(0)
        expect(page.locator(".info")).to_contain_text("Who calls my API")

        page.get_by_role("button", name="Authorize").first.click()
        dialog = page.locator(".modal-ux")
        dialog.locator("#api_key_value").first.fill(READ_KEY)
        dialog.get_by_role("button", name="Apply credentials").first.click()
        dialog.get_by_role("button", name="Close").first.click()

        question = page.locator("#operations-query-timeseries")
        question.locator(".opblock-summary-control").click()
        question.get_by_role("button", name="Try it out").click()
        question.get_by_role("button", name="Execute").click()
        answer = question.locator(".live-responses-table .response")
        expect(answer.locator(".response-col_status")).to_contain_text("200")
        expect(answer).to_contain_text("groups")

        assert {urlsplit(url).netloc for url in asked} == {service.client.http}
        assert problems == []
        assert page.evaluate("localStorage.length + sessionStorage.length") == 0
        page.close()
