# SPDX-License-Identifier: Apache-2.0
"""Checks of the gRPC port: does something answer there, and is it ready."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

import grpc
import urllib3
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

from otel_apinalytics.doctor.checks import Check, Target, failed, ok
from otel_apinalytics.errors import ClientError

EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
_CHECK = "/grpc.health.v1.Health/Check"
_TIMEOUT_S = 10.0
# Otherwise channels of one process share connections, and their failures.
_OPTIONS = (("grpc.use_local_subchannel_pool", 1),)


@contextmanager
def channel_to(target: Target, address: str) -> Iterator[grpc.Channel]:
    """Give a channel to an address, as the service is spoken to.

    Raises:
        ClientError: A file of TLS cannot be used.
    """
    if not target.has_tls:
        channel = grpc.insecure_channel(address, _OPTIONS)
    else:
        files = (target.ca_file, target.client_key_file, target.client_certificate_file)
        try:
            contents = [file.read_bytes() if file else None for file in files]
        except OSError as error:
            raise ClientError(f"cannot use {error.filename}: {error.strerror}") from error
        channel = grpc.secure_channel(address, grpc.ssl_channel_credentials(*contents), _OPTIONS)
    with channel:
        yield channel


def speaks_grpc(target: Target, address: str) -> bool:
    """Return whether a gRPC server answers at an address, whatever it says."""
    try:
        _health(target, address)
    except grpc.RpcError as error:
        return bool(error.code() is not grpc.StatusCode.UNAVAILABLE and not _is_late(error))
    except ClientError:
        return False
    return True


def is_there(target: Target) -> Check:
    """Say whether the service answers by gRPC, and takes data."""
    name = "grpc"
    try:
        status = _health(target, target.grpc)
    except grpc.RpcError as error:
        return _why_not(target, error)
    except ClientError as error:
        return failed(name, str(error), "name a file in PEM that can be read")
    if status == HealthCheckResponse.SERVING:
        return ok(name, f"{target.grpc} answers")
    return failed(name, f"{target.grpc} takes no data now", "look at the log of the service")


def _health(target: Target, address: str) -> int:
    with channel_to(target, address) as channel:
        check = channel.unary_unary(_CHECK)
        answer = check(HealthCheckRequest().SerializeToString(), timeout=_TIMEOUT_S)
    return int(HealthCheckResponse.FromString(answer).status)


def _why_not(target: Target, error: grpc.RpcError) -> Check:
    name = "grpc"
    if _speaks_http(target.grpc):
        return failed(
            name,
            f"{target.grpc} is an HTTP port",
            "give the port of gRPC, which is 4317 by default: --grpc; or have the SDK send by "
            "HTTP: OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf",
        )
    if error.code() is grpc.StatusCode.UNIMPLEMENTED:
        return failed(
            name,
            f"what answers at {target.grpc} is gRPC, and no apinalytics service",
            "give the port of gRPC, which is 4317 by default: --grpc",
        )
    tls = "does it do TLS (--server https://…)?" if not target.has_tls else "does it do no TLS?"
    return failed(
        name,
        f"no gRPC service answers at {target.grpc}: {words_of(error)}",
        f"is that the place (--grpc)? {tls} A proxy in between must pass HTTP/2 on",
    )


def _speaks_http(address: str) -> bool:
    """Return whether an address answers to HTTP/1.1, with TLS or without."""
    with urllib3.PoolManager(retries=False, timeout=_TIMEOUT_S, cert_reqs="CERT_NONE") as pool:
        for scheme in ("http", "https"):
            with suppress(urllib3.exceptions.HTTPError):
                pool.request("GET", f"{scheme}://{address}/health/live", redirect=False)
                return True
    return False


def words_of(error: grpc.RpcError) -> str:
    """Return an error of gRPC in one line."""
    return f"{error.code().name}, {' '.join((error.details() or '').split())}"


def _is_late(error: grpc.RpcError) -> bool:
    return bool(error.code() is grpc.StatusCode.DEADLINE_EXCEEDED)
