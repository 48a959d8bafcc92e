# SPDX-License-Identifier: Apache-2.0
"""Questions over HTTP: the timeseries API of 2014, and the status of an application."""

# No deferred annotations here: FastAPI must see the dependency that is made inside the function.

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import JSONResponse

from otel_apinalytics.api.auth import read_key
from otel_apinalytics.catalogue import DIMENSIONS, MEASURES
from otel_apinalytics.query.parameters import parse_timeseries
from otel_apinalytics.query.status import run_status
from otel_apinalytics.query.timeseries import run_timeseries
from otel_apinalytics.store.engine import Engine
from otel_apinalytics.store.keys import Key, KeyRing


def router(
    engine: Engine,
    keys: KeyRing,
    query_timeout_s: float,
    last_refusal: Callable[[str], dict[str, Any] | None],
) -> APIRouter:
    """Return the routes under `/1/` that need a read key."""
    routes = APIRouter(prefix="/1", tags=["query"])
    ReadKey = Annotated[Key, Depends(read_key(keys))]

    # The query string is parsed as a whole, for unknown parameters are errors; what is declared
    # here is for the documentation.
    @routes.get("/timeseries/{start}/{end}/")
    @routes.get("/timeseries/{start}/{end}", include_in_schema=False)
    def timeseries(
        key: ReadKey,
        request: Request,
        start: str,
        end: str,
        value: Annotated[str, Query(description="Measure: " + ", ".join(MEASURES))] = "",
        granularity: Annotated[
            str, Query(description="Seconds, or second, minute, hour, day, week.")
        ] = "",
        aggregation: Annotated[
            str, Query(description="count, mean, min, max, sum, percentile_1 to percentile_99.")
        ] = "",
        group: Annotated[str, Query(description="One of " + ", ".join(DIMENSIONS))] = "",
        include: Annotated[
            list[str] | None, Query(description="field:value; may be repeated.")
        ] = None,
    ) -> JSONResponse:
        """Aggregate a measure over time, by group.

        Times are Unix seconds; the range includes its start and excludes its end.
        """
        question = parse_timeseries(start, end, request.query_params.multi_items())
        answer = run_timeseries(engine, key.application, question, query_timeout_s)
        return JSONResponse(answer.as_json())

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
