# SPDX-License-Identifier: Apache-2.0
"""Backups over HTTP: all data of all applications, for an admin key."""

# No deferred annotations here: FastAPI must see the dependency that is made inside the function.

from collections.abc import Callable, Generator
from typing import Annotated

from fastapi import APIRouter, Depends, Response

from otel_apinalytics.api.auth import request_key
from otel_apinalytics.api.parameters import no_parameters
from otel_apinalytics.api.streaming import BlocksResponse
from otel_apinalytics.store.key_ring import KeyRing
from otel_apinalytics.store.keys import Key, Scope

_TAR = "application/x-tar"


class _TarResponse(Response):
    """Says the content type in the documentation."""

    media_type = _TAR


def router(keys: KeyRing, begin: Callable[[], Generator[bytes, None, None]]) -> APIRouter:
    """Return the route of backups.

    Args:
        keys: The known keys.
        begin: Begins a backup, and returns its blocks.
    """
    routes = APIRouter(prefix="/1", tags=["administration"])
    AdminKey = Annotated[Key, Depends(request_key(keys, Scope.ADMIN, for_operators=True))]

    # Not async: it waits for the store.
    @routes.get("/backup/", response_class=_TarResponse)
    @routes.get("/backup", include_in_schema=False)
    def backup(key: AdminKey, _: Annotated[None, Depends(no_parameters)]) -> BlocksResponse:
        """Give everything that is stored, as a tar archive of a data directory.

        What was acknowledged before is in it. Its last member is the manifest, `backup.json`. An
        archive that is not complete ends without the last chunk, which clients report as an error.
        """
        return BlocksResponse(begin(), _TAR)

    return routes
