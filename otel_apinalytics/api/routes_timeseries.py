# SPDX-License-Identifier: Apache-2.0
"""The timeseries over HTTP: the question of 2014, and all that has been added to it."""

# No deferred annotations here: FastAPI must see the dependency that is made inside the function.

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from fastapi.responses import JSONResponse

from otel_apinalytics.api.auth import request_key
from otel_apinalytics.catalogue import DIMENSIONS, MEASURES
from otel_apinalytics.query.parameters import field_names
from otel_apinalytics.query.times import ALLOWED as TIMES
from otel_apinalytics.query.timeseries import MAX_EXACT_VALUES, run_timeseries
from otel_apinalytics.query.timeseries_formats import as_2014, as_csv, as_series
from otel_apinalytics.query.timeseries_parameters import (
    FILLS,
    FORMATS,
    MAX_GROUPS,
    parse_timeseries,
)
from otel_apinalytics.store.engine import Engine
from otel_apinalytics.store.keys import Key, KeyRing, Scope

_CSV = "text/csv; charset=utf-8; header=present"
_TIME = f"{TIMES[0].upper()}{TIMES[1:]}."
_VALUE = (
    f"What is aggregated: {field_names(MEASURES)}; for unique, a dimension. "
    "response_us if it is left out, for unique consumer_id."
)
_AGGREGATION = (
    "count, mean, min, max, sum, percentile_X or pX with 0 < X < 100, unique, rate (requests per "
    "second), error_rate (0 to 1). count if it is left out."
)
_GRANULARITY = "Seconds, or second, minute, hour, day, week, month. One bucket if it is left out."
_FILTER = "field:value; may be repeated. A star stands for any text; status_code:5xx for a class."


def router(engine: Engine, keys: KeyRing, query_timeout_s: float) -> APIRouter:
    """Return the route of the timeseries, which needs a read key."""
    routes = APIRouter(prefix="/1", tags=["query"])
    ReadKey = Annotated[Key, Depends(request_key(keys, Scope.READ))]

    # The query string is parsed as a whole, for unknown parameters are errors; what is declared
    # here is for the documentation.
    @routes.get(
        "/timeseries/{start}/{end}/",
        response_class=JSONResponse,
        responses={200: {"content": {"text/csv": {}}}},
    )
    @routes.get("/timeseries/{start}/{end}", include_in_schema=False)
    def timeseries(
        key: ReadKey,
        request: Request,
        start: Annotated[str, Path(description=_TIME)],
        end: Annotated[str, Path(description=_TIME)],
        value: Annotated[str, Query(description=_VALUE)] = "",
        aggregation: Annotated[str, Query(description=_AGGREGATION)] = "",
        granularity: Annotated[str, Query(description=_GRANULARITY)] = "",
        tz: Annotated[
            str, Query(description="IANA zone of day, week and month; UTC if it is left out.")
        ] = "",
        group: Annotated[
            list[str] | None,
            Query(description=f"One of {field_names(DIMENSIONS)}; may be repeated."),
        ] = None,
        include: Annotated[list[str] | None, Query(description=_FILTER)] = None,
        exclude: Annotated[list[str] | None, Query(description=_FILTER)] = None,
        limit: Annotated[
            str,
            Query(description=f"1 to {MAX_GROUPS}: the largest groups, the rest in one."),
        ] = "",
        fill: Annotated[
            str, Query(description=f"What is in buckets without data: {', '.join(FILLS)}.")
        ] = "",
        format: Annotated[str, Query(description=f"One of {', '.join(FORMATS)}.")] = "",
        exact: Annotated[
            str,
            Query(description=f"true: exact percentiles, of at most {MAX_EXACT_VALUES} values."),
        ] = "",
    ) -> Response:
        """Aggregate a measure over time, by group.

        The range includes its start and excludes its end. `count`, `mean`, `sum` and percentiles
        are weighted, so that sampled traffic is scaled back: the answer then has `sampled`.
        """
        question = parse_timeseries(start, end, request.query_params.multi_items())
        answer = run_timeseries(engine, key.application, question, query_timeout_s)
        if question.form == "csv":
            return Response(as_csv(answer), media_type=_CSV)
        return JSONResponse(as_series(answer) if question.form == "series" else as_2014(answer))

    return routes
