# SPDX-License-Identifier: Apache-2.0
"""The audit of requests: each one with a key that is known leaves an entry, without secrets.

Whatever the key is checked by puts it in `request.state.key`, also of a request that it then
refuses; a route that counts the rows of its answer puts them in `request.state.rows`. Of what is
sent there is the ledger instead.
"""

from __future__ import annotations

import math
import re
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, TypeVar
from urllib.parse import parse_qsl, quote

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from otel_apinalytics.normalize.urls import REDACTED, redacted
from otel_apinalytics.store.keys import Key, read_credentials
from otel_apinalytics.wire.log_pb2 import AuditEntry, AuditParameter

#: The action of a request that changes nothing.
READ = "read"
_ACTION = "audit_action"
_Endpoint = TypeVar("_Endpoint", bound=Callable[..., object])
_READING = ("GET", "HEAD", "OPTIONS")
_KEY = re.compile(r"ap[wra]_[A-Za-z0-9_-]{16,}")
# Of an entry: what people ask is far below.
_MAX_PARAMETERS = 100
_MAX_CHARACTERS = 4000
_CUT = "…"
_ACCEPTED = 202
_TOO_MANY_REQUESTS = 429
# Whoever goes on nevertheless fills no disk.
_REFUSALS_INTERVAL_S = 60.0
_MAX_REFUSED = 10_000


class Sink(Protocol):
    """Where entries go."""

    def note(self, entry: AuditEntry) -> None:
        """Write an entry soon, without waiting."""

    def keep(self, entry: AuditEntry) -> None:
        """Write an entry, and wait until it is on disk."""


def changes(action: str) -> Callable[[_Endpoint], _Endpoint]:
    """Return a decorator of what answers requests that change something, also those it refuses.

    Their entries have this action; that of a change is on disk before it is answered.

    Args:
        action: What is done to what, such as `key.make`.
    """

    def mark(endpoint: _Endpoint) -> _Endpoint:
        setattr(endpoint, _ACTION, action)
        return endpoint

    return mark


def change(request: Request, **details: object) -> None:
    """Say what a request changes. It may be called again where more is known.

    Args:
        request: The request.
        details: What people must know of it; no secrets. What names a consumer is found, and
            erased, where it is all of a value, or what stands behind its first colon.
    """
    request.state.details = {**getattr(request.state, "details", {}), **details}


def keep_now(request: Request) -> None:
    """Put the entry of a change on disk before the change is begun, as one that was accepted.

    There is another entry only if the request is refused after all.
    """
    request.state.keep_entry()


class AuditMiddleware:
    """Writes the entry of each request when it is answered.

    Args:
        app: What answers.
        sink: Where entries go.
    """

    def __init__(self, app: ASGIApp, sink: Sink) -> None:
        self._app = app
        self._sink = sink
        self._refusals = _Refusals()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        state = scope.setdefault("state", {})
        status, sent = 500, 0
        is_kept = False

        def keep() -> None:
            nonlocal is_kept
            is_kept = True
            self._sink.keep(_entry(scope, _ACCEPTED, 0))

        state["keep_entry"] = keep

        async def watched(message: Message) -> None:
            nonlocal status, sent, is_kept
            if message["type"] == "http.response.start":
                status = message["status"]
                is_kept = is_kept and status < 300
                if _is_change(scope, status) and not is_kept:
                    is_kept = True
                    await run_in_threadpool(self._sink.keep, _entry(scope, status, 0))
            else:
                sent += len(message.get("body", b""))
            await send(message)

        try:
            await self._app(scope, receive, watched)
        finally:
            key = state.get("key")
            if key is not None and not is_kept and self._refusals.is_told(key, status):
                self._sink.note(_entry(scope, status, sent))


class _Refusals:
    """Tells the first of the requests of a key that are too many, once in a while."""

    def __init__(self) -> None:
        self._told_at: OrderedDict[tuple[str, str], float] = OrderedDict()

    def is_told(self, key: Key, status: int) -> bool:
        """Return whether there is to be an entry of a request."""
        if status != _TOO_MANY_REQUESTS:
            return True
        name, now = (key.application, key.key_id), time.monotonic()
        if now - self._told_at.get(name, -math.inf) < _REFUSALS_INTERVAL_S:
            return False
        self._told_at[name] = now
        self._told_at.move_to_end(name)
        if len(self._told_at) > _MAX_REFUSED:
            self._told_at.popitem(last=False)
        return True


def _is_change(scope: Scope, status: int) -> bool:
    """Return whether a request has a key and may have changed something."""
    is_refused = 400 <= status < 500
    return "key" in scope["state"] and _action(scope) != READ and not is_refused


def _action(scope: Scope) -> str:
    default = READ if scope["method"] in _READING else scope["method"].lower()
    return getattr(scope.get("endpoint"), _ACTION, default)


def _entry(scope: Scope, status: int, size: int) -> AuditEntry:
    state = scope["state"]
    key = state["key"]
    secret = read_credentials(Headers(scope=scope))[1] or ""
    sent = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
    parameters = [
        *scope.get("path_params", {}).items(),
        *sent,
        *(
            (name, "null" if value is None else str(value))
            for name, value in state.get("details", {}).items()
        ),
    ]
    route = str(getattr(scope.get("route"), "path", scope["path"]))
    return AuditEntry(
        at_us=time.time_ns() // 1000,
        application=key.application,
        key_id=key.key_id,
        key_name=key.name,
        action=_action(scope),
        method=scope["method"],
        route=_shown(route),
        parameters=[
            AuditParameter(name=name, value=value)
            for name, value in _bounded(list(_without_secrets(parameters, secret)))
        ],
        status=status,
        rows=state.get("rows"),
        bytes=size,
        client_address=(scope.get("client") or ("",))[0],
    )


def _without_secrets(
    parameters: Iterable[tuple[str, str]], secret: str
) -> Iterator[tuple[str, str]]:
    """Yield parameters; those that are secrets are cut."""
    for name, value in parameters:
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
