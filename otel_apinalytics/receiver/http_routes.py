# SPDX-License-Identifier: Apache-2.0
"""Ingest over HTTP: the JSON events of 2014. Plain Starlette, for it is a hot path.

Errors are raised; the application that mounts these routes turns them into answers.
"""

from __future__ import annotations

import asyncio

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from otel_apinalytics.errors import InvalidRequestError, RequestTooLargeError, RetryableError
from otel_apinalytics.receiver.admission import DURABLE_TIMEOUT_S, Admission
from otel_apinalytics.store.keys import read_credentials

TRANSPORT = "http"


def ingest_routes(admission: Admission, max_request_bytes: int) -> list[Route]:
    """Return the routes that take data.

    Args:
        admission: Where requests are let in.
        max_request_bytes: Largest body that is accepted.
    """

    async def post_events(request: Request) -> Response:
        key = admission.authenticate(*read_credentials(request.headers), TRANSPORT)
        try:
            body = await _read_body(request, max_request_bytes)
            admitted = await run_in_threadpool(admission.admit_events, key, body, TRANSPORT)
            if admitted.durable is not None:
                # On time-out this cancels the future: kept only if it is being written right now.
                durable = asyncio.wrap_future(admitted.durable)
                await asyncio.wait_for(durable, DURABLE_TIMEOUT_S)
        except asyncio.TimeoutError:
            error = RetryableError("the request log is too slow now")
            admission.refused(TRANSPORT, error, key.application)
            raise error from None
        except (InvalidRequestError, RetryableError) as error:
            admission.refused(TRANSPORT, error, key.application)
            raise
        return JSONResponse({"received": admitted.counts.spans})

    # The early README of 2014 said "events", the corrected one "event"; both, with and without /.
    paths = ("/1/event/", "/1/event", "/1/events/", "/1/events")
    return [Route(path, post_events, methods=["POST"]) for path in paths]


async def _read_body(request: Request, limit: int) -> bytes:
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("", "identity"):
        raise InvalidRequestError(
            f"content encoding {encoding!r} is not supported here",
            parameter="Content-Encoding",
            value=encoding,
            allowed="identity",
        )
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise RequestTooLargeError(f"the body is larger than {limit} bytes: send fewer events")
    return bytes(body)
