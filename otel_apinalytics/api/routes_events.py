# SPDX-License-Identifier: Apache-2.0
"""Raw events over HTTP: all at once, or a page after the other."""

# No deferred annotations here: FastAPI must see the dependency that is made inside the function.

from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Query, Request, Response

from otel_apinalytics.api import descriptions
from otel_apinalytics.api.auth import count_rows, request_key, visible_rows
from otel_apinalytics.api.event_models import ReadEvent
from otel_apinalytics.api.settled import SETTLED_DOCUMENTATION, Settled
from otel_apinalytics.api.streaming import BlocksResponse
from otel_apinalytics.catalogue import VIRTUAL_FIELDS
from otel_apinalytics.query.positions import Position
from otel_apinalytics.query.raw_events import run_raw_events
from otel_apinalytics.query.raw_events_columns import FORMATS
from otel_apinalytics.query.raw_events_formats import MEDIA_TYPES
from otel_apinalytics.query.raw_events_parameters import MAX_LIMIT, RawEvents, parse_raw_events
from otel_apinalytics.query.times import seconds_text
from otel_apinalytics.store.engine import Engine
from otel_apinalytics.store.key_ring import KeyRing
from otel_apinalytics.store.keys import Key, Scope

NEXT_CURSOR = "X-Next-Cursor"
_FIELDS = (
    "Names of fields between commas, in the order wanted, also attributes.NAME, metrics.NAME and "
    f"what is computed: {', '.join(field.name for field in VIRTUAL_FIELDS)}. All stored fields and "
    "cursor if it is left out."
)
_HEADERS = {
    NEXT_CURSOR: {
        "description": "With limit, unless this is the last page: the cursor of the next one.",
        "schema": {"type": "string"},
    },
    "Link": {
        "description": 'The same as a link, with rel="next"; its range is that of this page.',
        "schema": {"type": "string"},
    },
    **SETTLED_DOCUMENTATION,
}


class _NdjsonResponse(Response):
    """Says the content type in the documentation."""

    media_type = MEDIA_TYPES["ndjson"]


def router(engine: Engine, keys: KeyRing, query_timeout_s: float, settled: Settled) -> APIRouter:
    """Return the route of raw events, which needs a read key."""
    routes = APIRouter(prefix="/1", tags=["query"])
    ReadKey = Annotated[Key, Depends(request_key(keys, Scope.READ, takes_bound=True))]

    # The query string is parsed as a whole, for unknown parameters are errors; what is declared
    # here is for the documentation.
    @routes.get(
        "/events/{start}/{end}/",
        response_class=_NdjsonResponse,
        responses={
            200: {
                "description": "The events, in order.",
                "headers": _HEADERS,
                "model": ReadEvent,
                "content": {
                    "text/csv": {"schema": {"type": "string"}},
                    MEDIA_TYPES["parquet"]: {"schema": {"type": "string", "format": "binary"}},
                },
            }
        },
    )
    @routes.get("/events/{start}/{end}", include_in_schema=False)
    def raw_events(
        key: ReadKey,
        request: Request,
        start: descriptions.Start,
        end: descriptions.End,
        format: Annotated[
            str,
            Query(
                description="ndjson, a JSON object a line; csv; or parquet.",
                json_schema_extra={"enum": list(FORMATS)},
            ),
        ] = "",
        fields: Annotated[str, Query(description=_FIELDS)] = "",
        include: descriptions.Include = None,
        exclude: descriptions.Exclude = None,
        tz: descriptions.Zone = "",
        limit: Annotated[
            str,
            Query(
                description="Events in a page. All of them at once if it is left out.",
                json_schema_extra={"type": "integer", "minimum": 1, "maximum": MAX_LIMIT},
            ),
        ] = "",
        cursor: Annotated[
            str,
            Query(description=f"Begin behind the event with this cursor, or at {NEXT_CURSOR}."),
        ] = "",
    ) -> BlocksResponse:
        """Give the events themselves, as a stream, in order of time.

        The range includes its start and excludes its end. What is missing is null. Calls of the API
        and calls that the application makes itself are both there: see `direction`. An answer that
        is not complete ends without the last chunk, which clients report as an error; the `cursor`
        of the last event that arrived whole says where to go on.
        """
        question = parse_raw_events(start, end, request.query_params.multi_items())
        headers = settled.headers()
        page = run_raw_events(
            engine,
            key.application,
            question,
            query_timeout_s,
            visible_rows(key),
            lambda rows: count_rows(request, keys, rows),
        )
        response = BlocksResponse(page.blocks, MEDIA_TYPES[question.form])
        response.headers.update(headers)
        if page.last is not None:
            response.headers[NEXT_CURSOR] = page.last.cursor
            response.headers["Link"] = f'<{_next_page(request, question, page.last)}>; rel="next"'
        return response

    return routes


def _next_page(request: Request, question: RawEvents, last: Position) -> str:
    """Return the address of the next page: of the same range, also if it was relative to now."""
    others = [(k, v) for k, v in request.query_params.multi_items() if k != "cursor"]
    parameters = urlencode([*others, ("cursor", last.cursor)])
    bounds = f"{seconds_text(question.start_us)}/{seconds_text(question.end_us)}"
    return f"{request.scope.get('root_path', '')}/1/events/{bounds}/?{parameters}"
