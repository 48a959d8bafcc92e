# SPDX-License-Identifier: Apache-2.0
"""Keys of questions: whose data a request may ask for."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import Request

from otel_apinalytics.catalogue import BY_NAME
from otel_apinalytics.query.expressions import Operand
from otel_apinalytics.query.filters import Filter
from otel_apinalytics.store.key_ring import KeyRing
from otel_apinalytics.store.keys import Key, Scope, read_credentials


def request_key(
    keys: KeyRing, *scopes: Scope, takes_bound: bool = False, for_operators: bool = False
) -> Callable[[Request], Key]:
    """Return a dependency that gives the request's key, if it is for one of these scopes.

    It raises `AuthenticationError`, `PermissionDeniedError` or `TooManyRequestsError`. A key that
    is known is also in the request's state, as `key`, whether it is let in or not.

    Args:
        keys: The known keys.
        scopes: What the key may be for; one is enough.
        takes_bound: Whether keys are let in that see no more than their rows: the route then gives
            nothing that does not match `visible_rows`.
        for_operators: Whether nobody is let in but whoever runs the service.
    """

    def dependency(request: Request) -> Key:
        address = request.client.host if request.client else ""
        key = keys.identify(*read_credentials(request.headers), address)
        request.state.key = key
        keys.admit(key, *scopes)
        if key.binding is not None and not takes_bound:
            raise keys.forbidden(
                key, f"this key sees the events of one {key.binding.field}, and nothing else"
            )
        if for_operators and not key.is_operators:
            raise keys.forbidden(
                key,
                f"this key is for the application {key.application}; this is for whoever runs the "
                "service",
            )
        return key

    return dependency


def count_rows(request: Request, keys: KeyRing, rows: int) -> None:
    """Count rows of an answer: for the audit, and for the limits of the request's key."""
    request.state.rows = getattr(request.state, "rows", 0) + rows
    keys.take_rows(request.state.key, rows)


def visible_application(key: Key) -> str | None:
    """Return the application that a key is for; None for all, with an operator's admin key."""
    return None if key.scope is Scope.ADMIN and key.is_operators else key.application


def visible_rows(key: Key) -> tuple[Filter, ...]:
    """Return what events must match so that a key may see them, beyond being its application's."""
    if key.binding is None:
        return ()
    return (Filter(Operand(BY_NAME[key.binding.field]), (key.binding.value,)),)
