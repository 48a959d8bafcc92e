# SPDX-License-Identifier: Apache-2.0
"""Answers to OTLP requests, for both transports: success, partial success, errors.

Sources: OTLP specification 1.11, "OTLP/gRPC Response" and "OTLP/HTTP Response"; google.rpc.Status.
"""

from __future__ import annotations

import json

from google.protobuf.duration_pb2 import Duration
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from google.rpc.code_pb2 import Code
from google.rpc.error_details_pb2 import BadRequest, RetryInfo
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceResponse,
)

from otel_apinalytics.errors import (
    ApinalyticsError,
    AuthenticationError,
    InvalidRequestError,
    PermissionDeniedError,
    RequestTooLargeError,
    RetryableError,
    TooManyRequestsError,
    UnsupportedMediaTypeError,
)
from otel_apinalytics.receiver.gate import Counts

# The most specific class first. gRPC code, HTTP status.
_CODES: tuple[tuple[type[ApinalyticsError], int, int], ...] = (
    (AuthenticationError, Code.UNAUTHENTICATED, 401),
    (PermissionDeniedError, Code.PERMISSION_DENIED, 403),
    (RequestTooLargeError, Code.RESOURCE_EXHAUSTED, 413),
    (UnsupportedMediaTypeError, Code.INVALID_ARGUMENT, 415),
    (InvalidRequestError, Code.INVALID_ARGUMENT, 400),
    # With a delay, which says that it may be sent again.
    (TooManyRequestsError, Code.RESOURCE_EXHAUSTED, 429),
    (RetryableError, Code.UNAVAILABLE, 503),
)


def codes_of(error: ApinalyticsError) -> tuple[int, int]:
    """Return the gRPC code and the HTTP status of an error; what is ours may be tried again."""
    return next(
        ((code, http) for kind, code, http in _CODES if isinstance(error, kind)),
        (Code.UNAVAILABLE, 503),
    )


def success(counts: Counts) -> ExportTraceServiceResponse:
    """Return the response to a request that was taken; without any field on full success (B7-B9).

    Args:
        counts: What the gate saw.
    """
    problems = []
    if counts.invalid_trace_ids:
        problems.append(
            f"{counts.invalid_trace_ids} spans with an invalid trace id (16 bytes, not 0)"
        )
    if counts.invalid_span_ids:
        problems.append(f"{counts.invalid_span_ids} spans with an invalid span id (8 bytes, not 0)")
    message = "rejected " + " and ".join(problems) if problems else ""
    if counts.has_no_scopes:
        message = (
            "no resourceSpans has scopeSpans, so that there are no spans in the request; "
            "senders before OTLP 0.15 wrote instrumentationLibrarySpans, which is not read: "
            "upgrade the sender"
        )
    if not message:
        return ExportTraceServiceResponse()
    partial = ExportTracePartialSuccess(rejected_spans=counts.invalid, error_message=message)
    return ExportTraceServiceResponse(partial_success=partial)


def status_of(error: ApinalyticsError) -> Status:
    """Return an error as a status; with a delay only if the request may be sent again (B4)."""
    code, _ = codes_of(error)
    status = Status(code=code, message=str(error))
    if isinstance(error, RetryableError):
        status.details.add().Pack(retry_info_of(error))
    elif isinstance(error, InvalidRequestError) and error.parameter:
        violation = BadRequest.FieldViolation(field=error.parameter, description=str(error))
        status.details.add().Pack(BadRequest(field_violations=[violation]))
    return status


def retry_info_of(error: RetryableError) -> RetryInfo:
    """Return when a request may be sent again."""
    delay = Duration()
    delay.FromMilliseconds(round(error.retry_after_s * 1000))
    return RetryInfo(retry_delay=delay)


def encoded(message: Message, *, as_json: bool) -> bytes:
    """Return a message in the encoding of the request."""
    if as_json:
        return json.dumps(MessageToDict(message), separators=(",", ":")).encode()
    return message.SerializeToString()
