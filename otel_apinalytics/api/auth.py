# SPDX-License-Identifier: Apache-2.0
"""Keys of questions: whose data a request may ask for."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import Request

from otel_apinalytics.store.keys import Key, KeyRing, Scope, read_credentials


def request_key(keys: KeyRing, *scopes: Scope) -> Callable[[Request], Key]:
    """Return a dependency that gives the request's key, if it is for one of these scopes.

    It raises `AuthenticationError` or `PermissionDeniedError`.
    """

    def dependency(request: Request) -> Key:
        return keys.authenticate(*read_credentials(request.headers), *scopes)

    return dependency


def visible_application(key: Key) -> str | None:
    """Return the application whose data a key may see; None for all, with an admin key."""
    return None if key.scope is Scope.ADMIN else key.application
