# SPDX-License-Identifier: Apache-2.0
"""OTLP over gRPC: translates calls of `TraceService/Export` into admission, and its errors back.

The request stays bytes: nothing is decoded here. Status codes follow the OTLP specification,
"OTLP/gRPC Response"; a client retries UNAVAILABLE and drops on INVALID_ARGUMENT.
"""

from __future__ import annotations

import functools
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NoReturn

import grpc
from google.protobuf.message import DecodeError
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

from otel_apinalytics.addresses import resolve
from otel_apinalytics.errors import (
    ApinalyticsError,
    ConfigError,
    InvalidRequestError,
    RetryableError,
)
from otel_apinalytics.receiver import otlp_answers
from otel_apinalytics.receiver.admission import RECORD_ID, Admission
from otel_apinalytics.receiver.waiting import wait_durable, wait_for_room
from otel_apinalytics.store.keys import Key, read_credentials

_logger = logging.getLogger(__name__)

_COLLECTOR = "opentelemetry.proto.collector"
SERVICE = f"{_COLLECTOR}.trace.v1.TraceService"
_HEALTH = "grpc.health.v1.Health"
# An SDK that sends all three signals to one endpoint would report errors for ever.
_DISCARDED = {
    f"{_COLLECTOR}.metrics.v1.MetricsService": "metrics",
    f"{_COLLECTOR}.logs.v1.LogsService": "logs",
}
TRANSPORT = "grpc"
# Most wait: for a message, or for the disk.
_HANDLER_THREADS = 64
# Of these; others go on to refuse, and to say how the service is.
_MAX_WAITERS = _HANDLER_THREADS // 2
_CODES = {code.value[0]: code for code in grpc.StatusCode}

# Where a client may keep its own grpc default of five minutes between pings, or ping every ten
# seconds (Go); neither is to be answered with GOAWAY.
_OPTIONS = (
    ("grpc.so_reuseport", 0),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 5_000),
    ("grpc.http2.max_ping_strikes", 0),
    # So that clients behind a balancer of connections come to new instances.
    ("grpc.max_connection_age_ms", 30 * 60_000),
    ("grpc.max_connection_age_grace_ms", 30_000),
)


class GrpcServer:
    """The gRPC listener.

    Args:
        admission: Where requests are let in.
        address: `host:port`; port 0 picks a free one.
        max_request_bytes: Largest message that is accepted, decompressed.
        credentials: Certificate and key to serve TLS with; None serves clear text.
        faults: Returns what keeps requests from being taken, in words; nothing if they are.

    Raises:
        ConfigError: The port cannot be bound.
    """

    def __init__(
        self,
        admission: Admission,
        address: str,
        max_request_bytes: int,
        credentials: grpc.ServerCredentials | None = None,
        faults: Callable[[], Sequence[str]] = tuple,
    ) -> None:
        self._admission = admission
        self._waiters = threading.BoundedSemaphore(_MAX_WAITERS)
        self._server = grpc.server(
            ThreadPoolExecutor(_HANDLER_THREADS, thread_name_prefix="grpc"),
            options=[*_OPTIONS, ("grpc.max_receive_message_length", max_request_bytes)],
        )
        methods = {(SERVICE, "Export"): self._export, (_HEALTH, "Check"): self._check_health}
        methods |= {
            (name, "Export"): functools.partial(self._discard, signal)
            for name, signal in _DISCARDED.items()
        }
        self._server.add_generic_rpc_handlers(
            [
                # To a client it is unary. Here a handler is called before the message is there: who
                # has no key is sent away and cannot hold a thread.
                grpc.method_handlers_generic_handler(
                    service, {name: grpc.stream_unary_rpc_method_handler(method)}
                )
                for (service, name), method in methods.items()
            ]
        )
        self._faults = faults
        self.port = 0
        for found in resolve(address):
            host = f"[{found.host}]" if ":" in found.host else found.host
            # Port 0 is chosen once, by the first.
            target = f"{host}:{self.port or found.port}"
            try:
                if credentials is None:
                    self.port = self._server.add_insecure_port(target)
                else:
                    self.port = self._server.add_secure_port(target, credentials)
            except RuntimeError as error:
                # gRPC does not say which.
                also = ", or gRPC cannot use the kind of TLS key" if credentials else ""
                raise ConfigError(
                    f"cannot listen on {address} for OTLP/gRPC: the port is taken on {host}{also}"
                ) from error

    def start(self) -> None:
        """Start to accept calls."""
        self._server.start()

    def close(self, grace_s: float = 5.0) -> None:
        """Stop accepting, let running calls end within `grace_s` seconds. Idempotent."""
        self._server.stop(grace_s).wait()

    def _export(self, messages: Iterator[bytes], context: Any) -> bytes:
        return self._answer(context, lambda key: self._take(key, _message_of(messages), context))

    def _discard(self, signal: str, messages: Iterator[bytes], context: Any) -> bytes:
        """Take metrics and logs, and drop them; an empty message is success."""

        def drop(_: Key) -> bytes:
            _message_of(messages)
            self._admission.telemetry.discarded(TRANSPORT, signal)
            return b""

        return self._answer(context, drop)

    def _check_health(self, messages: Iterator[bytes], context: Any) -> bytes:
        """Say whether requests are taken now (gRPC Health Checking Protocol).

        There is no Watch, as the protocol allows: each watcher would hold a thread.
        """
        try:
            name = HealthCheckRequest.FromString(_message_of(messages)).service
        except (DecodeError, InvalidRequestError):
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "the message is no HealthCheckRequest")
        if name not in ("", SERVICE):
            context.abort(grpc.StatusCode.NOT_FOUND, f"there is no service {name!r}")
        faults = self._faults()
        state = HealthCheckResponse.NOT_SERVING if faults else HealthCheckResponse.SERVING
        return bytes(HealthCheckResponse(status=state).SerializeToString())

    def _take(self, key: Key, body: bytes, context: Any) -> bytes:
        admitted = self._admission.admit_spans(key, body, TRANSPORT)
        wait_durable(admitted)
        if admitted.record_id:
            context.set_trailing_metadata(((RECORD_ID.lower(), admitted.record_id),))
        return otlp_answers.success(admitted.counts).SerializeToString()

    def _answer(self, context: Any, take: Callable[[Key], bytes]) -> bytes:
        with self._admission.telemetry.in_flight(TRANSPORT):
            return self._answer_in_flight(context, take)

    def _answer_in_flight(self, context: Any, take: Callable[[Key], bytes]) -> bytes:
        key: Key | None = None
        try:
            metadata = dict(context.invocation_metadata())
            key = self._admission.authenticate(
                *read_credentials(metadata), TRANSPORT, context.peer()
            )
            wait_for_room(self._admission, self._waiters)
            return take(key)
        except ApinalyticsError as error:
            problem = error
        except Exception:
            # Without this a bug would become UNKNOWN, on which a client drops.
            _logger.exception("a call failed")
            self._admission.telemetry.failed(TRANSPORT)
            problem = RetryableError("internal error")
        if key is not None:
            # Without one, it is remembered already.
            self._admission.refused(TRANSPORT, problem, key)
        return _abort(context, problem)


def _message_of(messages: Iterator[bytes]) -> bytes:
    """Wait for the message of a call, and return it."""
    try:
        return next(messages)
    except (StopIteration, grpc.RpcError):
        raise InvalidRequestError(
            "the call has no message: it was cancelled, or the message is larger than the limit"
        ) from None


def _abort(context: Any, error: ApinalyticsError) -> NoReturn:
    """End a call with an error; only trailers are sent, which some clients need."""
    code, _ = otlp_answers.codes_of(error)
    # Go, Rust, .NET and the Collector read the delay here, the Python exporter in the second one.
    trailers = [("grpc-status-details-bin", otlp_answers.status_of(error).SerializeToString())]
    if isinstance(error, RetryableError):
        delay = otlp_answers.retry_info_of(error).SerializeToString()
        trailers.append(("google.rpc.retryinfo-bin", delay))
    context.set_trailing_metadata(tuple(trailers))
    context.abort(_CODES[code], str(error))
    raise AssertionError("abort returns never")
