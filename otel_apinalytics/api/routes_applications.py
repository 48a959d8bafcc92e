# SPDX-License-Identifier: Apache-2.0
"""Applications over HTTP: an admin key manages its own, one of the operator's makes others."""

# No deferred annotations here: FastAPI must see the dependency that is made inside the function.

import re
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Request
from fastapi.responses import JSONResponse

from otel_apinalytics.api import admin_answers, audit
from otel_apinalytics.api.admin_answers import application_as_json
from otel_apinalytics.api.admin_bodies import ApplicationNames, documentation, request_body
from otel_apinalytics.api.auth import request_key, visible_application
from otel_apinalytics.api.managed import known, refuse_others, secret_answer, store_faults
from otel_apinalytics.api.parameters import no_parameters
from otel_apinalytics.errors import InvalidRequestError, PermissionDeniedError
from otel_apinalytics.store.applications import Applications
from otel_apinalytics.store.key_ring import KeyRing
from otel_apinalytics.store.keys import Application, Key, Scope, State

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_ALLOWED = "1 to 64 letters, digits, dots, dashes and underscores, the first a letter or a digit"
_PATH = "/applications/{application}"
_ApplicationId = Annotated[str, Path(description="Its id.", examples=["shop"])]


def router(keys: KeyRing, hash_key: Callable[[str], str]) -> APIRouter:
    """Return the routes of applications.

    Args:
        keys: The known keys.
        hash_key: Returns an application's hash key as it is shown.
    """
    applications = Applications(keys)
    authenticated = request_key(keys, Scope.ADMIN)
    routes = APIRouter(
        prefix="/1",
        tags=["administration"],
        dependencies=[Depends(authenticated), Depends(no_parameters)],
    )
    AdminKey = Annotated[Key, Depends(authenticated)]
    Names = Annotated[ApplicationNames, Depends(request_body(authenticated, ApplicationNames))]
    answers: dict[int | str, dict[str, Any]] = {200: {"model": admin_answers.ApplicationAnswer}}

    def as_json(application: Application) -> dict[str, Any]:
        now = datetime.now(timezone.utc)
        active = Counter(
            key.application for key in keys.contents.keys.values() if key.state(now) is State.ACTIVE
        )
        return application_as_json(application, active[application.application])

    @routes.get("/applications/", responses={200: {"model": admin_answers.ApplicationList}})
    @routes.get("/applications", include_in_schema=False)
    def list_applications(key: AdminKey) -> JSONResponse:
        """List the applications that the key may manage, the oldest first."""
        of = visible_application(key)
        found = [
            as_json(each)
            for each in keys.contents.applications.values()
            if of in (None, each.application)
        ]
        return JSONResponse({"applications": found})

    @routes.get(f"{_PATH}/", responses=answers)
    @routes.get(_PATH, include_in_schema=False)
    def show_application(key: AdminKey, application: _ApplicationId) -> JSONResponse:
        """Show an application."""
        return JSONResponse(as_json(known(keys, key, application)))

    @routes.put(
        f"{_PATH}/",
        responses={
            **answers,
            201: {"model": admin_answers.ApplicationAnswer, "description": "It is new."},
        },
        openapi_extra=documentation(ApplicationNames, required=False),
    )
    @routes.put(_PATH, include_in_schema=False)
    @audit.changes("application.make")
    def make_application(
        request: Request, key: AdminKey, application: _ApplicationId, names: Names
    ) -> JSONResponse:
        """Make an application without keys; of one that there is, change what it is called.

        A new one is made only with an admin key of the operator's application.
        """
        audit.change(request, **names.model_dump(exclude_unset=True))
        refuse_others(key, application)
        if not _ID.fullmatch(application) and application not in keys.contents.applications:
            raise InvalidRequestError(
                "not an id of an application",
                parameter="application",
                value=application,
                allowed=_ALLOWED,
            )
        with store_faults():
            made, is_new = applications.make(application, names.model_dump(exclude_unset=True))
        return JSONResponse(as_json(made), 201 if is_new else 200)

    @routes.patch(
        f"{_PATH}/",
        responses=answers,
        openapi_extra=documentation(ApplicationNames, required=True),
    )
    @routes.patch(_PATH, include_in_schema=False)
    @audit.changes("application.change")
    def change_application(
        request: Request, key: AdminKey, application: _ApplicationId, names: Names
    ) -> JSONResponse:
        """Change what an application is called; what is left out stays."""
        audit.change(request, **names.model_dump(exclude_unset=True))
        refuse_others(key, application)
        with store_faults():
            changed = applications.change(application, names.model_dump(exclude_unset=True))
        return JSONResponse(as_json(changed))

    @routes.delete(f"{_PATH}/", responses=answers)
    @routes.delete(_PATH, include_in_schema=False)
    @audit.changes("application.remove")
    def remove_application(key: AdminKey, application: _ApplicationId) -> JSONResponse:
        """Let nobody in for an application any more, for ever: its keys are revoked.

        What it has stored stays until retention deletes it. It needs an admin key of the operator's
        application, which itself cannot be removed. Once more, it changes nothing.
        """
        if visible_application(key) is not None:
            raise PermissionDeniedError(
                "applications are removed by whoever runs the service", key.application, key.key_id
            )
        with store_faults():
            removed = applications.remove(application)
        return JSONResponse(as_json(removed))

    @routes.get(f"{_PATH}/hash-key/", responses={200: {"model": admin_answers.HashKey}})
    @routes.get(f"{_PATH}/hash-key", include_in_schema=False)
    def show_hash_key(key: AdminKey, application: _ApplicationId) -> JSONResponse:
        """Show what an application's secrets are hashed with, so that exporters do the same."""
        name = known(keys, key, application).application
        return secret_answer({"application": name, "hash_key": hash_key(name)})

    return routes
