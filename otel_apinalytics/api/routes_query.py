# SPDX-License-Identifier: Apache-2.0
"""The fields of events over HTTP."""

# No deferred annotations here: FastAPI must see the dependency that is made inside the function.

from typing import Annotated, Any

from fastapi import APIRouter, Depends
from fastapi.responses import JSONResponse

from otel_apinalytics.api import answers
from otel_apinalytics.api.auth import request_key
from otel_apinalytics.api.parameters import no_parameters
from otel_apinalytics.catalogue import FIELDS, VIRTUAL_FIELDS, Field
from otel_apinalytics.store.key_ring import KeyRing
from otel_apinalytics.store.keys import Key, Scope


def router(keys: KeyRing) -> APIRouter:
    """Return the route of the fields, which needs a read key."""
    routes = APIRouter(prefix="/1", tags=["query"])
    # The fields are the same for all.
    AnyReadKey = Annotated[Key, Depends(request_key(keys, Scope.READ, takes_bound=True))]

    @routes.get("/fields/", responses={200: {"model": answers.FieldList}})
    @routes.get("/fields", include_in_schema=False)
    def fields(key: AnyReadKey, _: Annotated[None, Depends(no_parameters)]) -> JSONResponse:
        """List the fields of events: those that are stored, then those that queries compute."""
        return JSONResponse({"fields": [_describe(field) for field in (*FIELDS, *VIRTUAL_FIELDS)]})

    return routes


def _describe(field: Field) -> dict[str, Any]:
    return {
        "name": field.name,
        "type": field.type.value,
        "role": field.role.value,
        "unit": field.unit,
        "nullable": field.nullable,
        "virtual": field.virtual,
        "description": field.description,
        "choices": list(field.choices),
        "in_event": field.in_event,
    }
