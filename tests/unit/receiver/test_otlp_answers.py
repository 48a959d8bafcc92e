# SPDX-License-Identifier: Apache-2.0
"""Tests of answers to OTLP requests: what a client makes of each is what is meant."""

from __future__ import annotations

import json

import pytest
from google.protobuf.json_format import Parse
from google.rpc.code_pb2 import Code
from google.rpc.error_details_pb2 import BadRequest, RetryInfo
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from otel_apinalytics.errors import (
    ApinalyticsError,
    AuthenticationError,
    ConfigError,
    InvalidRequestError,
    PermissionDeniedError,
    RequestTooLargeError,
    RetryableError,
    UnsupportedMediaTypeError,
)
from otel_apinalytics.receiver.gate import Counts
from otel_apinalytics.receiver.otlp_answers import (
    codes_of,
    encoded,
    retry_info_of,
    status_of,
    success,
)

CODES = [
    (AuthenticationError("x"), Code.UNAUTHENTICATED, 401),
    (PermissionDeniedError("x", "shop", "k1"), Code.PERMISSION_DENIED, 403),
    (RequestTooLargeError("x"), Code.RESOURCE_EXHAUSTED, 413),
    (UnsupportedMediaTypeError("x"), Code.INVALID_ARGUMENT, 415),
    (InvalidRequestError("x"), Code.INVALID_ARGUMENT, 400),
    (RetryableError("x"), Code.UNAVAILABLE, 503),
    # Nothing that a client could mend: it must keep its data.
    (ConfigError("x"), Code.UNAVAILABLE, 503),
    (ApinalyticsError("x"), Code.UNAVAILABLE, 503),
]
each_error = pytest.mark.parametrize(
    ("error", "code", "status"), CODES, ids=[type(error).__name__ for error, _, _ in CODES]
)


@each_error
def test_each_error_has_its_codes(error: ApinalyticsError, code: int, status: int) -> None:
    """One for gRPC, one for HTTP."""
    assert codes_of(error) == (code, status)
    made = status_of(error)
    assert (made.code, made.message) == (code, "x")


@each_error
def test_only_what_may_be_sent_again_has_a_delay(
    error: ApinalyticsError, code: int, status: int
) -> None:
    """With a delay, RESOURCE_EXHAUSTED would be sent again and again."""
    has_delay = any(detail.Is(RetryInfo.DESCRIPTOR) for detail in status_of(error).details)
    assert has_delay is isinstance(error, RetryableError)


@pytest.mark.parametrize("delay_s", [0.001, 0.25, 1.0, 1.5, 60.0])
def test_a_delay_is_kept_to_the_millisecond(delay_s: float) -> None:
    """In the details and alone."""
    error = RetryableError("later", retry_after_s=delay_s)
    assert retry_info_of(error).retry_delay.ToMilliseconds() == delay_s * 1000
    found = RetryInfo()
    (detail,) = status_of(error).details
    assert detail.Unpack(found)
    assert found == retry_info_of(error)


def test_a_field_at_fault_is_in_the_details() -> None:
    """So that a client can name it."""
    error = InvalidRequestError("flags is 'x'", parameter="flags", value="x")
    (detail,) = status_of(error).details
    found = BadRequest()
    assert detail.Unpack(found)
    (violation,) = found.field_violations
    assert (violation.field, violation.description) == ("flags", "flags is 'x'")


@pytest.mark.parametrize("counts", [Counts(0), Counts(1), Counts(131_072)])
def test_full_success_is_nothing(counts: Counts) -> None:
    """Not even an empty partial success, which clients take for one."""
    response = success(counts)
    assert not response.HasField("partial_success")
    assert encoded(response, as_json=False) == b""
    assert encoded(response, as_json=True) == b"{}"


@pytest.mark.parametrize(
    ("counts", "rejected", "texts"),
    [
        (Counts(3, 1, 0), 1, ["1 spans", "trace id", "16 bytes"]),
        (Counts(3, 0, 2), 2, ["2 spans", "span id", "8 bytes"]),
        (Counts(9, 1, 2), 3, ["1 spans", "trace id", "2 spans", "span id"]),
    ],
)
def test_partial_success_counts_and_says_why(
    counts: Counts, rejected: int, texts: list[str]
) -> None:
    """And what would be right."""
    partial = success(counts).partial_success
    assert partial.rejected_spans == rejected
    for text in texts:
        assert text in partial.error_message


def test_a_warning_rejects_nothing() -> None:
    """It is text without a number."""
    response = success(Counts(0, has_no_scopes=True))
    assert response.HasField("partial_success")
    assert response.partial_success.rejected_spans == 0
    assert "scopeSpans" in response.partial_success.error_message
    assert list(json.loads(encoded(response, as_json=True))["partialSuccess"]) == ["errorMessage"]


@pytest.mark.parametrize(
    "message", [success(Counts(9, 1, 2)), *(status_of(error) for error, _, _ in CODES)]
)
def test_both_encodings_are_the_same_message(message: Status | ExportTraceServiceResponse) -> None:
    """In JSON with the keys and types of protobuf's own JSON."""
    assert type(message).FromString(encoded(message, as_json=False)) == message
    assert Parse(encoded(message, as_json=True), type(message)()) == message


def test_a_status_in_json() -> None:
    """As the specification writes it."""
    error = AuthenticationError("unknown application or key")
    assert json.loads(encoded(status_of(error), as_json=True)) == {
        "code": 16,
        "message": "unknown application or key",
    }
