# SPDX-License-Identifier: Apache-2.0
"""The values of a field over HTTP, for menus."""

# No deferred annotations here: FastAPI must see the dependency that is made inside the function.

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Request
from fastapi.responses import JSONResponse

from otel_apinalytics.api import answers, descriptions
from otel_apinalytics.api.auth import count_rows, request_key, visible_rows
from otel_apinalytics.api.settled import SETTLED_DOCUMENTATION, Settled
from otel_apinalytics.catalogue import DIMENSIONS
from otel_apinalytics.query.parameters import field_names
from otel_apinalytics.query.values import run_values
from otel_apinalytics.query.values_parameters import (
    DEFAULT_LIMIT,
    MAX_LIMIT,
    MAX_PREFIX,
    parse_values,
)
from otel_apinalytics.store.engine import Engine
from otel_apinalytics.store.key_ring import KeyRing
from otel_apinalytics.store.keys import Key, Scope

_FIELD = (
    f"{field_names(DIMENSIONS)}; attributes or metrics for the names that entries have. A slash in "
    "a name may be written as it is."
)


def router(engine: Engine, keys: KeyRing, query_timeout_s: float, settled: Settled) -> APIRouter:
    """Return the route of values, which needs a read key."""
    routes = APIRouter(prefix="/1", tags=["query"])
    ReadKey = Annotated[Key, Depends(request_key(keys, Scope.READ, takes_bound=True))]

    # The query string is parsed as a whole, for unknown parameters are errors; what is declared
    # here is for the documentation. Names of entries may have a slash, also at the end: the lower
    # route comes first.
    @routes.get("/values/{field:path}", include_in_schema=False)
    @routes.get(
        "/values/{field:path}/",
        responses={200: {"model": answers.FieldValues, "headers": SETTLED_DOCUMENTATION}},
    )
    def values(
        key: ReadKey,
        request: Request,
        field: Annotated[str, Path(description=_FIELD, examples=["consumer_id"])],
        start: Annotated[
            str, Query(description="As of a timeseries. A day before end if it is left out.")
        ] = "",
        end: Annotated[str, Query(description="Likewise. Now if it is left out.")] = "",
        prefix: Annotated[
            str,
            Query(
                description="What values begin with.", json_schema_extra={"maxLength": MAX_PREFIX}
            ),
        ] = "",
        include: descriptions.Include = None,
        exclude: descriptions.Exclude = None,
        tz: descriptions.Zone = "",
        limit: Annotated[
            str,
            Query(
                description=f"How many values at most; {DEFAULT_LIMIT} if it is left out.",
                json_schema_extra={"type": "integer", "minimum": 1, "maximum": MAX_LIMIT},
            ),
        ] = "",
    ) -> JSONResponse:
        """List the values of a field with the number of requests that have each.

        The most frequent first, equal ones in the order of their text. The numbers are those of a
        timeseries grouped by the field; a missing value is `""`.
        """
        question = parse_values(field, request.query_params.multi_items())
        headers = settled.headers()
        found = run_values(engine, key.application, question, query_timeout_s, visible_rows(key))
        count_rows(request, keys, len(found.counts))
        return JSONResponse(found.as_json(), headers=headers)

    return routes
