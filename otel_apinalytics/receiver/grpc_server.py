# SPDX-License-Identifier: Apache-2.0
"""OTLP over gRPC: translates calls of `TraceService/Export` into admission, and its errors back.

The request stays bytes: nothing is decoded here. Status codes follow the OTLP specification,
"OTLP/gRPC Response"; a client retries UNAVAILABLE and drops on INVALID_ARGUMENT.
"""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Any

import grpc
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceResponse,
)

from otel_apinalytics.addresses import resolve
from otel_apinalytics.errors import (
    AuthenticationError,
    ConfigError,
    InvalidRequestError,
    PermissionDeniedError,
    RetryableError,
)
from otel_apinalytics.receiver.admission import DURABLE_TIMEOUT_S, Admission
from otel_apinalytics.receiver.gate import Counts
from otel_apinalytics.store.keys import Key, read_credentials

_logger = logging.getLogger(__name__)

SERVICE = "opentelemetry.proto.collector.trace.v1.TraceService"
TRANSPORT = "grpc"
_HANDLER_THREADS = 16

# Where a client may keep its own grpc default of five minutes between pings, or ping every ten
# seconds (Go); neither is to be answered with GOAWAY.
_OPTIONS = (
    ("grpc.so_reuseport", 0),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 5_000),
    ("grpc.http2.max_ping_strikes", 0),
)


class GrpcServer:
    """The gRPC listener.

    Args:
        admission: Where requests are let in.
        address: `host:port`; port 0 picks a free one.
        max_request_bytes: Largest message that is accepted, decompressed.

    Raises:
        ConfigError: The port cannot be bound.
    """

    def __init__(self, admission: Admission, address: str, max_request_bytes: int) -> None:
        self._admission = admission
        self._server = grpc.server(
            ThreadPoolExecutor(_HANDLER_THREADS, thread_name_prefix="grpc"),
            options=[*_OPTIONS, ("grpc.max_receive_message_length", max_request_bytes)],
        )
        handler = grpc.unary_unary_rpc_method_handler(self._export)
        service = grpc.method_handlers_generic_handler(SERVICE, {"Export": handler})
        self._server.add_generic_rpc_handlers((service,))
        self.port = 0
        for found in resolve(address):
            host = f"[{found.host}]" if ":" in found.host else found.host
            try:
                # Port 0 is chosen once, by the first.
                self.port = self._server.add_insecure_port(f"{host}:{self.port or found.port}")
            except RuntimeError as error:
                raise ConfigError(
                    f"cannot listen on {address} for OTLP/gRPC: the port is taken on {host}"
                ) from error

    def start(self) -> None:
        """Start to accept calls."""
        self._server.start()

    def close(self, grace_s: float = 5.0) -> None:
        """Stop accepting, let running calls end within `grace_s` seconds. Idempotent."""
        self._server.stop(grace_s).wait()

    def _export(self, body: bytes, context: Any) -> bytes:
        key: Key | None = None
        try:
            metadata = dict(context.invocation_metadata())
            key = self._admission.authenticate(*read_credentials(metadata), TRANSPORT)
            admitted = self._admission.admit_spans(key, body, TRANSPORT)
            if admitted.durable is not None:
                try:
                    admitted.durable.result(DURABLE_TIMEOUT_S)
                except FutureTimeoutError:
                    # Kept only if it is being written at this moment.
                    admitted.durable.cancel()
                    raise RetryableError("the request log is too slow now") from None
            return response_body(admitted.counts)
        except AuthenticationError as error:
            context.abort(grpc.StatusCode.UNAUTHENTICATED, str(error))
        except PermissionDeniedError as error:
            context.abort(grpc.StatusCode.PERMISSION_DENIED, str(error))
        except InvalidRequestError as error:
            self._admission.refused(TRANSPORT, error, key.application if key else None)
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        except RetryableError as error:
            self._abort_retryable(context, error, key)
        except Exception:
            # Without this a bug would become UNKNOWN, on which a client drops.
            _logger.exception("export failed")
            self._abort_retryable(context, RetryableError("internal error"), key)
        raise AssertionError("abort returns never")

    def _abort_retryable(self, context: Any, error: RetryableError, key: Key | None) -> None:
        self._admission.refused(TRANSPORT, error, key.application if key else None)
        delay = Duration()
        delay.FromMilliseconds(round(error.retry_after_s * 1000))
        retry_info = RetryInfo(retry_delay=delay)
        code = grpc.StatusCode.UNAVAILABLE
        status = Status(code=code.value[0], message=str(error))
        status.details.add().Pack(retry_info)
        # Go, Rust, .NET and the Collector read the first, the Python exporter the second.
        context.set_trailing_metadata(
            (
                ("grpc-status-details-bin", status.SerializeToString()),
                ("google.rpc.retryinfo-bin", retry_info.SerializeToString()),
            )
        )
        context.abort(code, str(error))


def response_body(counts: Counts) -> bytes:
    """Return a serialized `ExportTraceServiceResponse`; empty on full success (otlp.md B7, B8)."""
    if not counts.invalid:
        return b""
    parts = []
    if counts.invalid_trace_ids:
        parts.append(f"{counts.invalid_trace_ids} spans with an invalid trace id (16 bytes, not 0)")
    if counts.invalid_span_ids:
        parts.append(f"{counts.invalid_span_ids} spans with an invalid span id (8 bytes, not 0)")
    partial = ExportTracePartialSuccess(
        rejected_spans=counts.invalid, error_message="rejected " + " and ".join(parts)
    )
    return ExportTraceServiceResponse(partial_success=partial).SerializeToString()
