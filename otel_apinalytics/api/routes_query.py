# SPDX-License-Identifier: Apache-2.0
"""Questions over HTTP: raw events, the fields, an application's status."""

# No deferred annotations here: FastAPI must see the dependency that is made inside the function.

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import JSONResponse

from otel_apinalytics.api.auth import request_key
from otel_apinalytics.api.streaming import BlocksResponse
from otel_apinalytics.catalogue import FIELDS, VIRTUAL_FIELDS, Field
from otel_apinalytics.query.parameters import RAW_FORMATS, parse_raw_events
from otel_apinalytics.query.raw_events import run_raw_events
from otel_apinalytics.query.status import run_status
from otel_apinalytics.store.engine import Engine
from otel_apinalytics.store.keys import Key, KeyRing, Scope

NDJSON = "application/x-ndjson"


class _NdjsonResponse(Response):
    """Says the content type in the documentation."""

    media_type = NDJSON


def router(
    engine: Engine,
    keys: KeyRing,
    query_timeout_s: float,
    last_refusal: Callable[[str], dict[str, Any] | None],
) -> APIRouter:
    """Return the routes under `/1/` that need a read key."""
    routes = APIRouter(prefix="/1", tags=["query"])
    ReadKey = Annotated[Key, Depends(request_key(keys, Scope.READ))]

    # The query string is parsed as a whole, for unknown parameters are errors; what is declared
    # here is for the documentation.
    @routes.get("/events/{start}/{end}/", response_class=_NdjsonResponse)
    @routes.get("/events/{start}/{end}", include_in_schema=False)
    def raw_events(
        key: ReadKey,
        request: Request,
        start: str,
        end: str,
        format: Annotated[str, Query(description="One of " + ", ".join(RAW_FORMATS))] = "",
    ) -> BlocksResponse:
        """Give the events themselves, a JSON object a line, in order of time.

        The range includes its start and excludes its end. Each object has all stored fields of
        `/1/fields/`; what is missing is null. An answer that is not complete ends without the last
        chunk, which clients report as an error.
        """
        start_us, end_us = parse_raw_events(start, end, request.query_params.multi_items())
        blocks = run_raw_events(engine, key.application, start_us, end_us, query_timeout_s)
        return BlocksResponse(blocks, NDJSON)

    @routes.get("/fields/")
    def fields(key: ReadKey) -> JSONResponse:
        """List the fields of events: those that are stored, then those that queries compute."""
        return JSONResponse({"fields": [_describe(field) for field in (*FIELDS, *VIRTUAL_FIELDS)]})

    @routes.get("/status/")
    def status(key: ReadKey) -> JSONResponse:
        """Say what arrived within the last day and what became of it."""
        found = run_status(engine, key.application, query_timeout_s)
        return JSONResponse(
            {
                "application": key.application,
                "last_received": found.last_received and found.last_received.isoformat(),
                "outcomes": found.outcomes,
                "last_refusal": last_refusal(key.application),
            }
        )

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
