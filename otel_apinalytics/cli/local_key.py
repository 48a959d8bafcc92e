# SPDX-License-Identifier: Apache-2.0
"""The admin key of a service on this machine, for whoever may read its data directory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from otel_apinalytics.errors import ClientError

if TYPE_CHECKING:
    from otel_apinalytics.settings import Settings


def find_local_key(settings: Settings) -> tuple[str, str] | None:
    """Return URL and admin key of the service that runs in the data directory; None if none does.

    Raises:
        ClientError: There is one, and its files may not be read.
    """
    from otel_apinalytics.local_service import find_service
    from otel_apinalytics.receiver.sealing import local_admin_key_of

    secret_file = settings.secret_key_file or settings.data_dir / "secret.key"
    try:
        service = find_service(settings.data_dir)
        if service is None:
            return None
        return service.url, local_admin_key_of(secret_file.read_bytes(), service.number)
    except OSError as error:
        raise ClientError(
            f"cannot read {error.filename}: {error.strerror}; run this as the user that the "
            "service runs as, or set APINALYTICS_ADMIN_KEY"
        ) from error
