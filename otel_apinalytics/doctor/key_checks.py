# SPDX-License-Identifier: Apache-2.0
"""Checks of keys: does the service know each, and is it for what it is used for."""

from __future__ import annotations

from otel_apinalytics.client import Answer
from otel_apinalytics.doctor.checks import (
    ADMIN,
    READ,
    SCOPES,
    WRITE,
    Check,
    Target,
    failed,
    ok,
    skipped,
)

# What a key of each scope may do, and what changes nothing: method, path, body.
_ASKED = {
    WRITE: ("POST", "/1/event/", b"[]"),
    READ: ("GET", "/1/fields/", None),
    ADMIN: ("GET", "/1/applications/", None),
}


def check_keys(target: Target) -> dict[str, Check]:
    """Say of each scope whether there is a key, and whether it is what it is taken for."""
    return {scope: _check(target, scope) for scope in SCOPES}


def _check(target: Target, scope: str) -> Check:
    name = f"{scope} key"
    if scope not in target.keys:
        return skipped(name, f"none is given: APINALYTICS_{scope.upper()}_KEY")
    with target.client(scope) as client:
        answer = client.exchange(*_ASKED[scope])
    if answer.status == 200:
        return ok(name, f"it is a {scope} key" if scope != ADMIN else "it is an admin key")
    said = message_of(answer)
    if answer.status == 401:
        return failed(
            name,
            said,
            f"copy it anew into APINALYTICS_{scope.upper()}_KEY: it may be cut off, of another "
            "service, expired or revoked",
        )
    if answer.status == 403:
        return failed(name, said, f"give a key of scope {scope} in APINALYTICS_{scope.upper()}_KEY")
    return failed(name, said, "look at the log of the service")


def message_of(answer: Answer) -> str:
    """Return what an answer says in the envelope of errors, or its status."""
    content = answer.json()
    try:
        return " ".join(str(content["error"]["message"]).split())
    except (KeyError, TypeError):
        return f"the service answers with {answer.status}"
