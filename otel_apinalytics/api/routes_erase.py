# SPDX-License-Identifier: Apache-2.0
"""Erasing over HTTP: all that is stored of one consumer, with a receipt."""

# No deferred annotations here: FastAPI must see the dependency that is made inside the function.

from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from otel_apinalytics.api import audit, audit_answers
from otel_apinalytics.api.admin_bodies import documentation, request_body
from otel_apinalytics.api.administered import administered_application
from otel_apinalytics.api.auth import request_key, visible_application
from otel_apinalytics.api.parameters import no_parameters
from otel_apinalytics.catalogue import MAX_TEXT_LENGTH
from otel_apinalytics.store.erasures import Erasures, Receipt
from otel_apinalytics.store.key_ring import KeyRing
from otel_apinalytics.store.keys import Key, Scope

# Shorter than clients and proxies wait.
_PATIENCE_S = 20.0
_DESCRIPTIONS: Mapping[int | str, dict[str, Any]] = {
    200: {"model": audit_answers.Erased, "description": "It is done."},
    202: {
        "model": audit_answers.Erasing,
        "description": "It is under way: ask for its receipt, at the address in Location.",
        "headers": {"Location": {"description": "Of the receipt.", "schema": {"type": "string"}}},
    },
}


class Erase(BaseModel):
    """Whom to erase."""

    model_config = ConfigDict(
        extra="forbid", strict=True, json_schema_extra={"examples": [{"consumer": "acme"}]}
    )

    consumer: Annotated[
        str,
        Field(
            min_length=1,
            max_length=MAX_TEXT_LENGTH,
            description="The id of a consumer, as answers have it.",
        ),
    ]
    application: Annotated[str | None, Field(description="Whose; the key's if it is left out.")] = (
        None
    )


def router(keys: KeyRing, erasures: Erasures) -> APIRouter:
    """Return the routes of erasures, which need an admin key."""
    authenticated = request_key(keys, Scope.ADMIN)
    routes = APIRouter(
        prefix="/1",
        tags=["administration"],
        dependencies=[Depends(authenticated), Depends(no_parameters)],
    )
    AdminKey = Annotated[Key, Depends(authenticated)]
    Wanted = Annotated[Erase, Depends(request_body(authenticated, Erase))]

    def answer(erasure: str, application: str | None) -> JSONResponse:
        receipt = erasures.receipt(erasure, application, _PATIENCE_S)
        if receipt is not None:
            return JSONResponse(_as_json(receipt))
        address = f"/1/erase/{erasure}/"
        return JSONResponse({"erasure": erasure, "complete": False}, 202, {"Location": address})

    @routes.post(
        "/erase/", responses={**_DESCRIPTIONS}, openapi_extra=documentation(Erase, required=True)
    )
    @routes.post("/erase", include_in_schema=False)
    @audit.changes("consumer.erase")
    def erase(key: AdminKey, request: Request, wanted: Wanted) -> JSONResponse:
        """Erase a consumer: its events, dead letters, and where the audit names it.

        All that was acknowledged before is erased; what is received later is new. The answer is the
        receipt, or comes after some seconds and says where the receipt will be. Asked again, it
        finds nothing. What is not reached is in `not_reached`, and backups are not.
        """
        application = administered_application(keys, key, wanted.application)
        audit.change(request, application=application)

        def note(erasure: str) -> None:
            audit.change(request, erasure=erasure)
            audit.keep_now(request)

        return answer(erasures.begin(application, wanted.consumer, note), None)

    @routes.get("/erase/{erasure}/", responses={**_DESCRIPTIONS})
    @routes.get("/erase/{erasure}", include_in_schema=False)
    def receipt(
        key: AdminKey,
        erasure: Annotated[str, Path(description="What the answer to the erasure says.")],
    ) -> JSONResponse:
        """Give the receipt of an erasure, once it is done; of those since the service started."""
        return answer(erasure, visible_application(key))

    return routes


def _as_json(receipt: Receipt) -> dict[str, Any]:
    return {
        "erasure": receipt.erasure,
        "complete": True,
        "application": receipt.application,
        "consumer": receipt.consumer,
        "received_before": _rfc_3339(receipt.received_before),
        "completed_at": _rfc_3339(receipt.completed_at),
        "copies_until": _rfc_3339(receipt.copies_until),
        "erased": {
            "events": receipt.counts.events,
            "rejected": receipt.counts.rejected,
            "audit": receipt.counts.audit,
        },
        "not_reached": {
            "segments_set_aside": receipt.segments_set_aside,
            "bound_keys": receipt.bound_keys,
        },
    }


def _rfc_3339(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="milliseconds")
