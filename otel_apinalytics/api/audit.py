# SPDX-License-Identifier: Apache-2.0
"""The audit of requests: each one with a read or an admin key leaves an entry, without secrets.

Whatever the key is checked by puts it in `request.state.key`; a route that counts the rows of its
answer puts them in `request.state.rows`.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from typing import Any, Protocol
from urllib.parse import parse_qsl, quote

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from otel_apinalytics.normalize.urls import REDACTED, redacted
from otel_apinalytics.store.keys import Scope as KeyScope
from otel_apinalytics.store.keys import read_credentials
from otel_apinalytics.wire.log_pb2 import AuditEntry, AuditParameter

#: The action of a request that changes nothing.
READ = "read"
_READING = ("GET", "HEAD", "OPTIONS")
_KEY = re.compile(r"ap[wra]_[A-Za-z0-9_-]{16,}")
# Of an entry: what people ask is far below.
_MAX_PARAMETERS = 100
_MAX_CHARACTERS = 4000
_CUT = "…"


class Sink(Protocol):
    """Where entries go."""

    def note(self, entry: AuditEntry) -> None:
        """Write an entry soon, without waiting."""

    def keep(self, entry: AuditEntry) -> None:
        """Write an entry, and wait until it is on disk."""


def change(request: Request, action: str, **details: object) -> None:
    """Say what a request changes: its entry is on disk before it is answered.

    It may be called again, with the same action, where more is known.

    Args:
        request: The request.
        action: What is done to what, such as `key.create`.
        details: What people must know of it; no secrets, and nothing that is to be erased.
    """
    _, known = getattr(request.state, "change", (action, {}))
    request.state.change = (action, {**known, **details})


class AuditMiddleware:
    """Writes the entry of each request when it is answered.

    Args:
        app: What answers.
        sink: Where entries go.
    """

    def __init__(self, app: ASGIApp, sink: Sink) -> None:
        self._app = app
        self._sink = sink

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        state = scope.setdefault("state", {})
        status, sent = 500, 0
        is_kept = False

        async def watched(message: Message) -> None:
            nonlocal status, sent, is_kept
            if message["type"] == "http.response.start":
                status = message["status"]
                if _is_change(scope):
                    is_kept = True
                    await run_in_threadpool(self._sink.keep, _entry(scope, status, 0))
            else:
                sent += len(message.get("body", b""))
            await send(message)

        try:
            await self._app(scope, receive, watched)
        finally:
            if _is_audited(state) and not is_kept:
                self._sink.note(_entry(scope, status, sent))


def _is_audited(state: dict[str, Any]) -> bool:
    """Return whether a request has a key of which there is an audit.

    Of what comes with write keys there is the ledger.
    """
    key = state.get("key")
    return key is not None and key.scope is not KeyScope.WRITE


def _is_change(scope: Scope) -> bool:
    state = scope["state"]
    return _is_audited(state) and ("change" in state or scope["method"] not in _READING)


def _entry(scope: Scope, status: int, size: int) -> AuditEntry:
    state = scope["state"]
    key = state["key"]
    default = READ if scope["method"] in _READING else scope["method"].lower()
    action, details = state.get("change", (default, {}))
    named = [(name, "null" if value is None else str(value)) for name, value in details.items()]
    secret = read_credentials(Headers(scope=scope))[1] or ""
    route = str(getattr(scope.get("route"), "path", scope["path"]))
    return AuditEntry(
        at_us=time.time_ns() // 1000,
        application=key.application,
        key_id=key.key_id,
        key_name=key.name,
        action=action,
        method=scope["method"],
        route=_shown(route),
        parameters=[
            AuditParameter(name=name, value=value)
            for name, value in _bounded([*_parameters(scope, secret), *named])
        ],
        status=status,
        rows=state.get("rows"),
        bytes=size,
        client_address=(scope.get("client") or ("",))[0],
    )


def _parameters(scope: Scope, secret: str) -> Iterator[tuple[str, str]]:
    """Yield the parameters of path and query, without secrets."""
    sent = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
    for name, value in [*scope.get("path_params", {}).items(), *sent]:
        if any(
            _is_secret(text, secret)
            for text in (name, value, f"{name}={quote(value, errors='replace')}")
        ):
            value = REDACTED
        yield REDACTED if _is_secret(name, secret) else name, value


def _is_secret(text: str, own: str) -> bool:
    """Return whether a text has something in it that is a secret; the caller's own key is."""
    is_key = _KEY.search(text) is not None or (own != "" and own in text)
    return is_key or redacted.python(text) != text


def _bounded(parameters: list[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """Yield so many parameters as an entry has room for.

    Each is whole: a part might say whom it is about, and could not be found again to be erased.
    """
    room = _MAX_CHARACTERS
    for pair in parameters[:_MAX_PARAMETERS]:
        room -= sum(map(len, pair))
        yield (_shown(pair[0]), _shown(pair[1])) if room >= 0 else (_CUT, _CUT)


def _shown(text: str) -> str:
    """Return a text as it can be encoded, if it is not too long."""
    return text.encode("utf-8", "replace").decode() if len(text) <= _MAX_CHARACTERS else _CUT
