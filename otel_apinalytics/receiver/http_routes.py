# SPDX-License-Identifier: Apache-2.0
"""Ingest over HTTP: the JSON events of 2014. Plain Starlette, for it is a hot path.

Errors are raised; the application that mounts these routes turns them into answers.
"""

from __future__ import annotations

from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from otel_apinalytics.errors import InvalidRequestError, RetryableError
from otel_apinalytics.receiver.admission import RECORD_ID, Admission, Admitted
from otel_apinalytics.receiver.bodies import read_body
from otel_apinalytics.receiver.waiting import durable, room
from otel_apinalytics.store.keys import read_credentials

TRANSPORT = "http"
# Of a batch that is wrong as a whole, the answer would be larger than the request.
_ERRORS_SHOWN = 100
_MAX_IDEMPOTENCY_KEY = 255
_TRUE, _FALSE = "true", "false"


def event_routes(admission: Admission, max_request_bytes: int) -> list[Route]:
    """Return the routes that take JSON events.

    Args:
        admission: Where requests are let in.
        max_request_bytes: Largest body that is accepted, decompressed.
    """

    async def post_events(request: Request) -> Response:
        with admission.telemetry.in_flight(TRANSPORT):
            return await take(request)

    async def take(request: Request) -> Response:
        address = request.client.host if request.client else ""
        key = admission.authenticate(*read_credentials(request.headers), TRANSPORT, address)
        try:
            await room(admission)
            partial = _is_partial(request)
            idempotency_key = _idempotency_key(request)
            body = await read_body(request, max_request_bytes)

            def admit() -> Admitted:
                return admission.admit_events(
                    key, body, TRANSPORT, partial=partial, idempotency_key=idempotency_key
                )

            admitted = await run_in_threadpool(admit)
            await durable(admitted)
        except (InvalidRequestError, RetryableError) as error:
            admission.refused(TRANSPORT, error, key)
            raise
        except Exception:
            admission.telemetry.failed(TRANSPORT)
            raise
        headers = {RECORD_ID: admitted.record_id} if admitted.record_id else None
        return JSONResponse(_answer(admitted, partial=partial), headers=headers)

    # The early README of 2014 said "events", the corrected one "event"; both, with and without /.
    paths = ("/1/event/", "/1/event", "/1/events/", "/1/events")
    return [Route(path, post_events, methods=["POST"]) for path in paths]


def _answer(admitted: Admitted, *, partial: bool) -> dict[str, Any]:
    received = {"received": admitted.counts.spans}
    if not partial:
        return received
    return {
        **received,
        "refused": [error.index for error in admitted.refused],
        "errors": [
            {
                "index": error.index,
                "message": str(error),
                "parameter": error.parameter,
                "value": error.value,
                "allowed": error.allowed,
            }
            for error in admitted.refused[:_ERRORS_SHOWN]
        ],
    }


def _is_partial(request: Request) -> bool:
    for name in request.query_params:
        if name != "partial":
            raise InvalidRequestError(
                f"unknown parameter {name!r}; allowed: partial",
                parameter=name,
                value=request.query_params[name],
                allowed="partial",
            )
    sent = request.query_params.get("partial", _FALSE)
    if sent not in (_TRUE, _FALSE, ""):
        raise InvalidRequestError(
            f"partial is {sent!r}; allowed: {_TRUE}, {_FALSE}",
            parameter="partial",
            value=sent,
            allowed=f"{_TRUE} or {_FALSE}",
        )
    return sent == _TRUE


def _idempotency_key(request: Request) -> str | None:
    sent = request.headers.get("idempotency-key")
    if sent is not None and not 0 < len(sent) <= _MAX_IDEMPOTENCY_KEY:
        raise InvalidRequestError(
            f"Idempotency-Key must have 1 to {_MAX_IDEMPOTENCY_KEY} characters",
            parameter="Idempotency-Key",
            value=sent[:80],
            allowed=f"1 to {_MAX_IDEMPOTENCY_KEY} characters",
        )
    return sent
