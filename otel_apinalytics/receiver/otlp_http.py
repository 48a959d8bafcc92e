# SPDX-License-Identifier: Apache-2.0
"""OTLP over HTTP: `POST /v1/traces` in protobuf or JSON. Plain Starlette, for it is a hot path.

Every error is a `google.rpc.Status` in the encoding of the request (OTLP specification,
"OTLP/HTTP Response"). Metrics and logs are taken and dropped, so that an SDK that sends all three
does not report errors for ever.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable, Iterable, Sequence

from google.protobuf.message import Message
from google.rpc.code_pb2 import Code
from google.rpc.status_pb2 import Status
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from otel_apinalytics.errors import (
    ApinalyticsError,
    AuthenticationError,
    RetryableError,
    UnsupportedMediaTypeError,
)
from otel_apinalytics.receiver import otlp_answers
from otel_apinalytics.receiver.admission import RECORD_ID, Admission, Admitted
from otel_apinalytics.receiver.bodies import read_body
from otel_apinalytics.receiver.otlp_json import request_of_json
from otel_apinalytics.receiver.waiting import durable, room
from otel_apinalytics.store.keys import Key, read_credentials

_logger = logging.getLogger(__name__)

TRANSPORT = "http"
TRACES_PATH = "/v1/traces"
_DISCARDED_PATHS = ("/v1/metrics", "/v1/logs")
_JSON, _PROTOBUF = "application/json", "application/x-protobuf"
# The second is not OTLP's, and yet sent; an answer has the type of its request.
_MEDIA_TYPES = (_PROTOBUF, "application/protobuf", _JSON)
_ALL_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")

# What an exporter asks for whose endpoint is not set as it has to be.
_MISTAKEN_PATHS = {
    "/": "the endpoint of this signal must end in /v1/traces: use OTEL_EXPORTER_OTLP_ENDPOINT, to "
    "which SDKs append it, or OTEL_EXPORTER_OTLP_TRACES_ENDPOINT with the whole path",
    "/v1": "spans are taken at /v1/traces",
    "/v1/trace": "spans are taken at /v1/traces",
    "/traces": "spans are taken at /v1/traces",
    "/v1/traces/v1/traces": "the endpoint already ends in /v1/traces, and the SDK appended it once "
    "more: set OTEL_EXPORTER_OTLP_ENDPOINT without a path",
    "/api/v2/spans": "this is no Zipkin server; OTLP is taken at /v1/traces",
    "/api/traces": "this is no Jaeger server; OTLP is taken at /v1/traces",
}  # fmt: skip

# Takes a request of a media type, and returns the message to answer with, None for an empty one,
# and the id of its record.
_Take = Callable[[Request, Key, str], Awaitable[tuple[Message | None, str]]]


def otlp_routes(admission: Admission, max_request_bytes: int) -> list[Route]:
    """Return the routes of OTLP.

    Args:
        admission: Where requests are let in.
        max_request_bytes: Largest body that is accepted, decompressed.
    """

    async def take_traces(
        request: Request, key: Key, media_type: str
    ) -> tuple[Message | None, str]:
        body = await read_body(request, max_request_bytes)

        def admit() -> Admitted:
            spans = request_of_json(body) if media_type == _JSON else body
            return admission.admit_spans(key, spans, TRANSPORT)

        admitted = await run_in_threadpool(admit)
        await durable(admitted)
        return otlp_answers.success(admitted.counts), admitted.record_id

    async def discard(request: Request, key: Key, media_type: str) -> tuple[Message | None, str]:
        await read_body(request, max_request_bytes)
        signal = request.url.path.strip("/").rpartition("/")[2]
        admission.telemetry.discarded(TRANSPORT, signal)
        return None, ""

    def endpoint(take: _Take) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            with admission.telemetry.in_flight(TRANSPORT):
                return await _answer(request, admission, take)

        return answer

    async def point_out(request: Request) -> Response:
        message = _MISTAKEN_PATHS[request.url.path.rstrip("/") or "/"]
        return _status_answer(
            Status(code=Code.NOT_FOUND, message=message), 404, _media_type(request)
        )

    return [
        *_routes([TRACES_PATH], endpoint(take_traces), _ALL_METHODS),
        *_routes(_DISCARDED_PATHS, endpoint(discard), _ALL_METHODS),
        *_routes(_MISTAKEN_PATHS, point_out, ["POST"]),
    ]


async def _answer(request: Request, admission: Admission, take: _Take) -> Response:
    media_type = _media_type(request)
    if request.method != "POST":
        refusal = Status(
            code=Code.UNIMPLEMENTED, message=f"{request.method} is not allowed here; allowed: POST"
        )
        return _status_answer(refusal, 405, media_type, {"Allow": "POST"})
    key: Key | None = None
    try:
        address = request.client.host if request.client else ""
        key = admission.authenticate(*read_credentials(request.headers), TRANSPORT, address)
        if media_type is None:
            raise UnsupportedMediaTypeError(
                f"content type {request.headers.get('content-type', '')!r} is not supported; "
                f"allowed: {_PROTOBUF}, {_JSON}"
            )
        await room(admission)
        message, record_id = await take(request, key, media_type)
        headers = {RECORD_ID: record_id} if record_id else None
        return Response(_encoded(message, media_type), headers=headers, media_type=media_type)
    except ApinalyticsError as error:
        problem = error
    except Exception:
        # On 500 a client drops its data; it is ours to mend, and then to take.
        _logger.exception("%s failed", request.url.path)
        admission.telemetry.failed(TRANSPORT)
        problem = RetryableError("internal error")
    if key is not None:
        # Without one, it is remembered already.
        admission.refused(TRANSPORT, problem, key)
    return _error_answer(problem, media_type)


def _encoded(message: Message | None, media_type: str) -> bytes:
    if message is None:
        return b"{}" if media_type == _JSON else b""
    return otlp_answers.encoded(message, as_json=media_type == _JSON)


def _media_type(request: Request) -> str | None:
    """Return the request's media type, without parameters; None if it is none of OTLP's."""
    sent = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    return sent if sent in _MEDIA_TYPES else None


def _error_answer(error: ApinalyticsError, media_type: str | None) -> Response:
    _, http_status = otlp_answers.codes_of(error)
    headers = {}
    if isinstance(error, RetryableError):
        headers["Retry-After"] = str(math.ceil(error.retry_after_s))
    if isinstance(error, AuthenticationError):
        headers["WWW-Authenticate"] = "Bearer"
    return _status_answer(otlp_answers.status_of(error), http_status, media_type, headers)


def _status_answer(
    status: Status,
    http_status: int,
    media_type: str | None,
    headers: dict[str, str] | None = None,
) -> Response:
    if media_type is None:
        return Response(status.message, http_status, headers, media_type="text/plain")
    body = otlp_answers.encoded(status, as_json=media_type == _JSON)
    return Response(body, http_status, headers, media_type=media_type)


def _routes(
    paths: Iterable[str],
    endpoint: Callable[[Request], Awaitable[Response]],
    methods: Sequence[str],
) -> list[Route]:
    """Return a route for each path, and for the same with a slash at its end."""
    spellings = [name for path in paths for name in {path, f"{path.rstrip('/')}/"}]
    return [Route(name, endpoint, methods=list(methods)) for name in spellings]
