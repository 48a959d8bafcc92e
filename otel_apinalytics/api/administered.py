# SPDX-License-Identifier: Apache-2.0
"""Which application a request of an administrator is about."""

from __future__ import annotations

from otel_apinalytics.api.managed import refuse_others
from otel_apinalytics.errors import NotFoundError
from otel_apinalytics.store.key_ring import KeyRing
from otel_apinalytics.store.keys import Key


def administered_application(keys: KeyRing, key: Key, named: str | None) -> str:
    """Return the application that is named, or that of the key if none is; it may be removed.

    Args:
        keys: The known keys and applications.
        key: An admin key.
        named: What the request says; None or empty for nothing.

    Raises:
        PermissionDeniedError: The key is not for it.
        NotFoundError: There is none of that name.
    """
    application = named or key.application
    refuse_others(key, application)
    if application not in keys.contents.applications:
        raise NotFoundError(
            "there is no such application", parameter="application", value=application
        )
    return application
