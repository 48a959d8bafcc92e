# SPDX-License-Identifier: Apache-2.0
"""Read keys: whose events a request may ask for."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import Request

from otel_apinalytics.store.keys import Key, KeyRing, Scope, read_credentials


def read_key(keys: KeyRing) -> Callable[[Request], Key]:
    """Return a dependency that gives the request's read key.

    It raises `AuthenticationError` or `PermissionDeniedError`.
    """

    def dependency(request: Request) -> Key:
        return keys.authenticate(*read_credentials(request.headers), Scope.READ)

    return dependency
