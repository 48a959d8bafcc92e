# SPDX-License-Identifier: Apache-2.0
"""The audit over HTTP: who asked through which key, and who changed what."""

# No deferred annotations here: FastAPI must see the dependency that is made inside the function.

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import JSONResponse

from otel_apinalytics.api import audit_answers, descriptions
from otel_apinalytics.api.auth import count_rows, request_key, visible_application
from otel_apinalytics.query import csv_cells
from otel_apinalytics.query.audit import as_csv, as_lines, run_audit
from otel_apinalytics.query.audit_parameters import (
    DEFAULT_LIMIT,
    FORMATS,
    MAX_LIMIT,
    parse_audit,
)
from otel_apinalytics.store.engine import Engine
from otel_apinalytics.store.key_ring import KeyRing
from otel_apinalytics.store.keys import Key, Scope

_NDJSON = "application/x-ndjson"


def router(engine: Engine, keys: KeyRing, query_timeout_s: float) -> APIRouter:
    """Return the route of the audit, which needs an admin key."""
    routes = APIRouter(prefix="/1", tags=["administration"])
    AdminKey = Annotated[Key, Depends(request_key(keys, Scope.ADMIN))]

    # The query string is parsed as a whole, for unknown parameters are errors; what is declared
    # here is for the documentation.
    @routes.get(
        "/audit/{start}/{end}/",
        responses={
            200: {
                "model": audit_answers.Audit,
                "content": {
                    _NDJSON: {"schema": {"type": "string"}},
                    "text/csv": {"schema": {"type": "string"}},
                },
            }
        },
    )
    @routes.get("/audit/{start}/{end}", include_in_schema=False)
    def audit(
        key: AdminKey,
        request: Request,
        start: descriptions.Start,
        end: descriptions.End,
        application: Annotated[
            str, Query(description="Of keys of this application. Of all if it is left out.")
        ] = "",
        key_id: Annotated[str, Query(alias="key", description="Of the key with this id.")] = "",
        action: Annotated[
            str,
            Query(
                description="What was done: read, key.create, retention.change and so on; or what "
                "stands before the dot, for all of these.",
                examples=["read"],
            ),
        ] = "",
        limit: Annotated[
            str,
            Query(
                description=f"How many at most. {DEFAULT_LIMIT} if it is left out.",
                json_schema_extra={"type": "integer", "minimum": 1, "maximum": MAX_LIMIT},
            ),
        ] = "",
        format: Annotated[
            str,
            Query(
                description="json; ndjson, an entry a line; or csv.",
                json_schema_extra={"enum": list(FORMATS)},
            ),
        ] = "",
    ) -> Response:
        """List who asked through which key, and who changed what, newest first.

        A question is there about a second after its answer; a change was on disk before it was
        answered. Secrets in parameters are cut, and what named a consumer that was erased.
        """
        question = parse_audit(start, end, request.query_params.multi_items())
        found, more = run_audit(engine, visible_application(key), question, query_timeout_s)
        count_rows(request, keys, len(found))
        if question.form == "csv":
            return Response(as_csv(found), media_type=csv_cells.MEDIA_TYPE)
        if question.form == "ndjson":
            return Response(as_lines(found), media_type=_NDJSON)
        return JSONResponse({"entries": found, "more": more})

    return routes
