# SPDX-License-Identifier: Apache-2.0
"""Tests of `X-Forwarded-For`: who is believed, and what is an address."""

from __future__ import annotations

import asyncio

import pytest
from starlette.types import Message, Receive, Scope, Send

from otel_apinalytics.api.forwarded import ForwardedMiddleware

TRUSTED = ("127.0.0.1", "::1", "10.0.0.0/8")


@pytest.mark.parametrize(
    ("peer", "headers", "client"),
    [
        ("127.0.0.1", ["192.0.2.7"], ("192.0.2.7", 0)),
        ("127.0.0.1", [], ("127.0.0.1", 5000)),
        ("127.0.0.1", [""], ("127.0.0.1", 5000)),
        # Nobody whom it was not said of.
        ("192.0.2.1", ["192.0.2.7"], ("192.0.2.1", 5000)),
        # What the client made up stands to the left of what the proxy saw.
        ("127.0.0.1", ["203.0.113.9, 192.0.2.7"], ("192.0.2.7", 0)),
        ("127.0.0.1", ["203.0.113.9", "192.0.2.7"], ("192.0.2.7", 0)),
        ("127.0.0.1", ["127.0.0.1, 192.0.2.7"], ("192.0.2.7", 0)),
        ("127.0.0.1", ["203.0.113.9, 192.0.2.7, 10.1.2.3"], ("192.0.2.7", 0)),
        ("127.0.0.1", ["10.1.2.3"], ("10.1.2.3", 0)),
        # What is no address is nobody's.
        ("127.0.0.1", ["somebody"], ("127.0.0.1", 5000)),
        ("127.0.0.1", ["192.0.2.7, unknown"], ("127.0.0.1", 5000)),
        ("127.0.0.1", ["192.0.2.7, unknown, 10.1.2.3"], ("10.1.2.3", 0)),
        ("127.0.0.1", ["192.0.2.7:1234"], ("192.0.2.7", 0)),
        ("::1", ["[2001:db8::7]:1234"], ("2001:db8::7", 0)),
        ("::1", ["2001:db8::7"], ("2001:db8::7", 0)),
        ("testclient", ["192.0.2.7"], ("testclient", 5000)),
    ],
)
def test_the_client(peer: str, headers: list[str], client: tuple[str, int]) -> None:
    """It is the nearest address that is no proxy of ours."""
    seen = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope["client"])

    async def receive() -> Message:
        raise AssertionError

    async def send(message: Message) -> None:
        raise AssertionError

    scope: Scope = {
        "type": "http",
        "client": (peer, 5000),
        "headers": [(b"x-forwarded-for", header.encode()) for header in headers],
    }
    asyncio.run(ForwardedMiddleware(app, TRUSTED)(scope, receive, send))
    assert seen == [client]
