# SPDX-License-Identifier: Apache-2.0
"""What routes that administer share: whose things a key may manage, and a store that is away."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

from fastapi.responses import JSONResponse

from otel_apinalytics.api.auth import visible_application
from otel_apinalytics.errors import PermissionDeniedError, RetryableError
from otel_apinalytics.store.applications import find_application
from otel_apinalytics.store.engine import EngineError
from otel_apinalytics.store.key_ring import KeyRing
from otel_apinalytics.store.keys import Application, Key


def refuse_others(key: Key, application: str) -> None:
    """Let an admin key manage its own application, and an operator's all of them.

    Raises:
        PermissionDeniedError: It is another's.
    """
    if visible_application(key) not in (None, application):
        raise PermissionDeniedError(
            f"this key is for the application {key.application}", key.application, key.key_id
        )


def known(keys: KeyRing, key: Key, application: str) -> Application:
    """Return an application that a key may manage.

    Raises:
        PermissionDeniedError: It is another's.
        NotFoundError: There is none.
    """
    refuse_others(key, application)
    return find_application(keys.contents, application)


@contextlib.contextmanager
def store_faults() -> Iterator[None]:
    """Say that the store is not available where it is not.

    Raises:
        RetryableError: It is not.
    """
    try:
        yield
    except (EngineError, OSError) as error:
        raise RetryableError("the store is not available now") from error


def secret_answer(answer: Mapping[str, object], status: int = 200) -> JSONResponse:
    """Return an answer with a secret: nothing on the way may keep it."""
    return JSONResponse(answer, status, headers={"Cache-Control": "no-store"})
