# SPDX-License-Identifier: Apache-2.0
"""The account over HTTP: the ledger by minute, and the dead letters."""

# No deferred annotations here: FastAPI must see the dependency that is made inside the function.

from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Request
from fastapi.responses import JSONResponse

from otel_apinalytics.api import answers
from otel_apinalytics.api.auth import count_rows, request_key, visible_application
from otel_apinalytics.normalize.outcomes import REJECT_REASONS
from otel_apinalytics.query.dead_letters import run_dead_letters
from otel_apinalytics.query.ledger import run_ledger
from otel_apinalytics.query.ledger_parameters import (
    DEFAULT_LIMIT,
    MAX_LIMIT,
    parse_dead_letters,
    parse_ledger,
)
from otel_apinalytics.query.times import ALLOWED as TIMES
from otel_apinalytics.store.engine import Engine
from otel_apinalytics.store.key_ring import KeyRing
from otel_apinalytics.store.keys import Key, Scope

_TIME = f"Of receipt: {TIMES}."


def router(
    engine: Engine, keys: KeyRing, query_timeout_s: float, settled_until: Callable[[], float]
) -> APIRouter:
    """Return the routes under `/1/` that a read key may ask of its application, an admin of all."""
    routes = APIRouter(prefix="/1", tags=["account"])
    AccountKey = Annotated[Key, Depends(request_key(keys, Scope.READ, Scope.ADMIN))]

    # The query string is parsed as a whole, for unknown parameters are errors; what is declared
    # here is for the documentation.
    @routes.get("/ledger/{start}/{end}/", responses={200: {"model": answers.Ledger}})
    @routes.get("/ledger/{start}/{end}", include_in_schema=False)
    def ledger(
        key: AccountKey,
        request: Request,
        start: Annotated[str, Path(description=_TIME, examples=["-24h"])],
        end: Annotated[str, Path(description=_TIME, examples=["now"])],
        granularity: Annotated[
            str,
            Query(
                description="Seconds, a multiple of 60, or minute, hour, day, week. minute if it "
                "is left out.",
                examples=["hour"],
            ),
        ] = "",
        record_id: Annotated[
            str,
            Query(
                description="Of one request alone: the `X-Record-Id` of its answer.",
                json_schema_extra={"pattern": "^[0-9a-fA-F]{32}$"},
            ),
        ] = "",
    ) -> JSONResponse:
        """Account for what was received, by minute, application, key, transport and outcome.

        Times are of receipt; the minutes that begin in the range are included. `difference` is
        received - (stored + duplicate + filtered + rejected) of the minutes that are settled: 0,
        unless something was lost. `refused` counts requests, beside the equation.
        """
        question = parse_ledger(start, end, request.query_params.multi_items())
        # Before the question, so that all of what is settled is in the answer.
        settled = settled_until()
        application = visible_application(key)
        found = run_ledger(engine, application, question, settled, query_timeout_s)
        count_rows(request, keys, len(found.rows))
        return JSONResponse(found.as_json())

    @routes.get("/rejected/", responses={200: {"model": answers.Rejected}})
    @routes.get("/rejected", include_in_schema=False)
    def rejected(
        key: AccountKey,
        request: Request,
        start: Annotated[
            str, Query(description=f"Received then or later: {TIMES}.", examples=["-24h"])
        ] = "",
        end: Annotated[str, Query(description=f"Received before: {TIMES}.")] = "",
        reason: Annotated[
            str,
            Query(
                description="Why they were rejected. Any reason if it is left out.",
                json_schema_extra={"enum": list(REJECT_REASONS)},
            ),
        ] = "",
        limit: Annotated[
            str,
            Query(
                description=f"How many at most. {DEFAULT_LIMIT} if it is left out.",
                json_schema_extra={"type": "integer", "minimum": 1, "maximum": MAX_LIMIT},
            ),
        ] = "",
    ) -> JSONResponse:
        """List what was rejected, newest first, with its fields as far as they are known.

        At most ten of a record and reason are kept; the ledger counts them all.
        """
        question = parse_dead_letters(request.query_params.multi_items())
        application = visible_application(key)
        found, more = run_dead_letters(engine, application, question, query_timeout_s)
        count_rows(request, keys, len(found))
        return JSONResponse({"rejected": found, "more": more})

    return routes
