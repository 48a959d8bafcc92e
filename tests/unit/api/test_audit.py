# SPDX-License-Identifier: Apache-2.0
"""Tests of the audit of requests: what an entry has, what is cut, and when it is written."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from urllib.parse import quote

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Message, Scope

from otel_apinalytics.api import audit
from otel_apinalytics.api.audit import AuditMiddleware
from otel_apinalytics.store.keys import Key
from otel_apinalytics.store.keys import Scope as KeyScope
from otel_apinalytics.wire.log_pb2 import AuditEntry

READ_KEY = Key("shop", "0123456789ab", KeyScope.READ, name="dashboard")
SECRET = "chosen by people"


@dataclass
class Audited:
    """An application behind the middleware, and what is written of it, in order."""

    answer: Callable[[Request], Response]
    key: Key | None = READ_KEY
    action: str = ""
    seen: list[str] = field(default_factory=list)
    entries: list[AuditEntry] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Put the application together."""

        async def endpoint(request: Request) -> Response:
            if self.key is not None:
                request.state.key = self.key
            return self.answer(request)

        if self.action:
            audit.changes(self.action)(endpoint)
        route = Route("/1/values/{field}/", endpoint, methods=["GET", "POST"])
        self.app = AuditMiddleware(Starlette(routes=[route]), self)

    def note(self, entry: AuditEntry) -> None:
        """Take an entry."""
        self.seen.append("noted")
        self.entries.append(entry)

    def keep(self, entry: AuditEntry) -> None:
        """Take the entry of a change."""
        self.seen.append("kept")
        self.entries.append(entry)

    def ask(self, query: str = "", method: str = "GET", path: str = "/1/values/url/") -> None:
        """Send a request."""
        scope: Scope = {
            "type": "http", "method": method, "path": path, "root_path": "", "app": None,
            "query_string": query.encode(), "client": ("192.0.2.7", 1),
            "headers": [(b"x-auth-key", SECRET.encode())],
        }  # fmt: skip
        asyncio.run(self.app(scope, _receive, self._send))

    async def _send(self, message: Message) -> None:
        self.seen.append(message["type"].rpartition(".")[2])

    def parameters(self) -> dict[str, str]:
        """Return those of the one entry."""
        (entry,) = self.entries
        return {each.name: each.value for each in entry.parameters}


async def _receive() -> Message:
    # Nobody reads a body here, and the client stays.
    await asyncio.Event().wait()
    raise AssertionError


def test_a_read_is_noted_when_it_is_answered() -> None:
    """Who, when, what, from where, and how much."""

    def answer(request: Request) -> Response:
        request.state.rows = 7
        return PlainTextResponse("12345", 200)

    audited = Audited(answer)
    audited.ask("include=consumer_id%3Aacme&include=route:/a&limit=")
    (entry,) = audited.entries
    assert entry.at_us > 0
    assert (entry.application, entry.key_id, entry.key_name) == (
        "shop",
        "0123456789ab",
        "dashboard",
    )
    assert (entry.action, entry.method, entry.status) == ("read", "GET", 200)
    assert (entry.rows, entry.bytes, entry.client_address) == (7, 5, "192.0.2.7")
    assert [(each.name, each.value) for each in entry.parameters] == [
        ("field", "url"), ("include", "consumer_id:acme"), ("include", "route:/a"), ("limit", ""),
    ]  # fmt: skip
    assert audited.seen == ["start", "body", "noted"]


def test_rows_that_nobody_counts_are_not_made_up() -> None:
    """They are absent, not 0."""
    audited = Audited(lambda request: PlainTextResponse(""))
    audited.ask()
    assert not audited.entries[0].HasField("rows")


def test_a_stream_is_noted_at_its_end() -> None:
    """With all of its bytes, and rows that were counted on the way."""

    def answer(request: Request) -> Response:
        async def blocks() -> AsyncIterator[bytes]:
            for _ in range(3):
                request.state.rows = getattr(request.state, "rows", 0) + 2
                yield b"1234"

        return StreamingResponse(blocks())

    audited = Audited(answer)
    audited.ask()
    assert (audited.entries[0].bytes, audited.entries[0].rows) == (12, 6)
    assert audited.seen[-1] == "noted"


def test_what_fails_is_noted() -> None:
    """As what it is answered with further out."""

    def answer(request: Request) -> Response:
        raise RuntimeError("a defect")

    audited = Audited(answer)
    with pytest.raises(RuntimeError):
        audited.ask()
    assert audited.entries[0].status == 500


def test_requests_without_a_key_are_not_noted() -> None:
    """Of strangers there is a count."""
    audited = Audited(lambda request: PlainTextResponse("", 401), None)
    audited.ask()
    audited.ask(method="POST")
    assert audited.entries == []


def test_a_key_that_has_done_too_much_is_noted_once() -> None:
    """However often it comes; other keys, and what else it does, are noted."""
    statuses = iter([429, 429, 429, 403, 429, 200])
    audited = Audited(lambda request: PlainTextResponse("", next(statuses)))
    for _ in range(4):
        audited.ask()
    audited.key = Key("shop", "another", KeyScope.READ)
    audited.ask()
    audited.ask()
    assert [entry.status for entry in audited.entries] == [429, 403, 429, 200]


def test_a_change_is_kept_before_it_is_answered() -> None:
    """With what is known of it at the end, and what was not set."""

    def answer(request: Request) -> Response:
        audit.change(request, application="shop", scope="read", note=None)
        audit.change(request, made="k2", application="other")
        return PlainTextResponse("made", 201)

    audited = Audited(answer, action="key.make")
    audited.ask(method="POST")
    assert audited.seen == ["kept", "start", "body"]
    assert (audited.entries[0].action, audited.entries[0].status) == ("key.make", 201)
    assert audited.parameters() == {
        "field": "url", "application": "other", "scope": "read", "note": "null", "made": "k2",
    }  # fmt: skip


def test_a_change_that_says_nothing_of_itself_is_kept_too() -> None:
    """A route that forgot to."""
    audited = Audited(lambda request: PlainTextResponse("", 200))
    audited.ask(method="POST")
    assert (audited.seen[0], audited.entries[0].action) == ("kept", "post")


def test_a_change_that_is_refused_is_noted_as_one() -> None:
    """Nothing was changed: nobody waits for the disk."""
    audited = Audited(lambda request: PlainTextResponse("", 400), action="key.make")
    audited.ask(method="POST")
    assert (audited.seen[-1], audited.entries[0].action) == ("noted", "key.make")
    assert audited.entries[0].status == 400


@pytest.mark.parametrize(("status", "entries"), [(200, [202]), (202, [202]), (503, [202, 503])])
def test_a_change_may_be_kept_before_it_is_begun(status: int, entries: list[int]) -> None:
    """Once, unless it is refused after all."""

    def answer(request: Request) -> Response:
        audit.change(request, erasure="e1")
        audit.keep_now(request)
        audited.seen.append("begun")
        return PlainTextResponse("", status)

    audited = Audited(answer, action="consumer.erase")
    audited.ask(method="POST")
    assert audited.seen[:2] == ["kept", "begun"]
    assert [entry.status for entry in audited.entries] == entries
    assert all(each.parameters[-1].value == "e1" for each in audited.entries)


@pytest.mark.parametrize(
    "query",
    [
        f"include={quote(SECRET)}",
        f"include=consumer_id:{quote(SECRET)}",
        "token=abcdef", "api_key=abcdef", "password=a%26b", "key=" + "x" * 30,
        "include=url:/a%3Ftoken%3Dabcdef", "x=apr_0123456789abcdefghijABCDEFGHIJ0123456789abc",
        "apa_0123456789abcdefghijABCDEFGHIJ0123456789abc=1",
        "include=eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln",
    ],
)  # fmt: skip
def test_secrets_are_cut(query: str) -> None:
    """By their name, by how they look, and the key that the request came with."""
    audited = Audited(lambda request: PlainTextResponse(""))
    audited.ask(query)
    text = str(audited.entries[0])
    assert "REDACTED" in text
    for secret in (SECRET, "abcdef", "a&b", "xxxx", "apr_0", "apa_0", "eyJ"):
        assert secret not in text


def test_what_is_no_secret_is_not_cut() -> None:
    """The audit's own filter, names of people, times."""
    audited = Audited(lambda request: PlainTextResponse(""))
    audited.ask("key=0123456789ab&include=consumer_id:alice@example.org&start=2026-01-31T12:00:00Z")
    assert "REDACTED" not in str(audited.entries[0])


@pytest.mark.parametrize("query", ["a=" + "x" * 50_000, "&".join(f"p{n}=1" for n in range(5000))])
def test_an_entry_is_small(query: str) -> None:
    """Whatever is sent."""
    audited = Audited(lambda request: PlainTextResponse(""))
    audited.ask(query)
    assert audited.entries[0].ByteSize() < 6000


def test_what_is_no_text_is_noted() -> None:
    """Halves of surrogate pairs have no encoding."""
    audited = Audited(lambda request: PlainTextResponse(""))
    audited.ask("a=%ED%A0%80&%FF=1", path="/1/values/\udcff/")
    assert audited.entries[0].SerializeToString()


def test_other_traffic_passes() -> None:
    """Start and end of the application are no requests."""
    seen = []

    async def app(scope: Scope, receive: object, send: object) -> None:
        seen.append(scope["type"])

    async def send(message: Message) -> None:
        return None

    asyncio.run(
        AuditMiddleware(app, Audited(lambda r: Response()))({"type": "lifespan"}, _receive, send)
    )
    assert seen == ["lifespan"]
