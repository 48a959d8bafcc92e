# SPDX-License-Identifier: Apache-2.0
"""The admin key of a service on this machine, for whoever may read its data directory."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from otel_apinalytics.errors import ClientError

if TYPE_CHECKING:
    from otel_apinalytics.local_service import LocalService
    from otel_apinalytics.settings import Settings


def find_local_service(settings: Settings) -> LocalService | None:
    """Return the service that runs in the data directory; None if none does.

    Raises:
        ClientError: There is one, and its files may not be read.
    """
    from otel_apinalytics.local_service import find_service

    with _readable():
        return find_service(settings.data_dir)


def local_key(settings: Settings, service: LocalService) -> str:
    """Return the admin key of the service that runs in the data directory.

    Raises:
        ClientError: The secret key file may not be read.
    """
    from otel_apinalytics.receiver.sealing import local_admin_key_of

    secret_file = settings.secret_key_file or settings.data_dir / "secret.key"
    with _readable():
        return local_admin_key_of(secret_file.read_bytes(), service.number)


@contextlib.contextmanager
def _readable() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ClientError(
            f"cannot read {error.filename}: {error.strerror}; run this as the user that the "
            "service runs as, or set APINALYTICS_ADMIN_KEY"
        ) from error
