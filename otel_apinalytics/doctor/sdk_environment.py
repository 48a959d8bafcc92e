# SPDX-License-Identifier: Apache-2.0
"""Checks of an SDK's environment: would an application that is started here send anything here.

Names and meanings are those of the OpenTelemetry specification, "Environment Variable
Specification" and "OpenTelemetry Protocol Exporter".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from urllib.parse import urlsplit

from otel_apinalytics.doctor.checks import Check, Target, failed, ok, skipped

_NAME = "environment"
_EXPORTERS = ("otlp", "apinalytics")


def check_environment(target: Target, environment: Mapping[str, str]) -> Iterator[Check]:
    """Say what keeps an SDK with these variables from sending to the service."""
    given = {name: text.strip() for name, text in environment.items() if name.startswith("OTEL_")}
    if not any(given.values()):
        yield skipped(_NAME, "no OTEL_ variables here: run this where the application is started")
        return
    problems = list(_problems(target, given))
    yield from problems
    if not problems:
        yield ok(_NAME, "the OTEL_ variables here do not keep an SDK from sending")


def _problems(target: Target, given: Mapping[str, str]) -> Iterator[Check]:
    if given.get("OTEL_SDK_DISABLED", "").lower() == "true":
        yield failed(_NAME, "OTEL_SDK_DISABLED is true", "unset it")
    exporters = [name.strip() for name in given.get("OTEL_TRACES_EXPORTER", "").split(",")]
    if any(exporters) and not set(exporters) & set(_EXPORTERS):
        yield failed(
            _NAME,
            f"OTEL_TRACES_EXPORTER is {', '.join(exporters)}",
            "set it to otlp, or in Python to apinalytics",
        )
    if "always_off" in given.get("OTEL_TRACES_SAMPLER", ""):
        sampler = given["OTEL_TRACES_SAMPLER"]
        yield failed(_NAME, f"OTEL_TRACES_SAMPLER is {sampler}", "unset it, or take always_on")
    yield from _wrong_port(target, given)


def _wrong_port(target: Target, given: Mapping[str, str]) -> Iterator[Check]:
    """Compare protocol and port: one spoken to as the other takes nothing."""
    endpoint = _of_traces("ENDPOINT", given)
    protocol = _of_traces("PROTOCOL", given)
    ports = {"grpc": target.grpc.rpartition(":")[2], "http": str(urlsplit(target.url).port or "")}
    port = str(_port(endpoint) or "")
    if not (port and protocol):
        return
    spoken = "grpc" if protocol == "grpc" else "http"
    other = "http" if spoken == "grpc" else "grpc"
    if port == ports[other] and port != ports[spoken]:
        yield failed(
            _NAME,
            f"the protocol is {protocol}, and the endpoint {endpoint} the port of {other}",
            f"take port {ports[spoken]}, or another OTEL_EXPORTER_OTLP_PROTOCOL",
        )


def _port(endpoint: str) -> int | None:
    try:
        return urlsplit(endpoint).port
    except ValueError:
        return None


def _of_traces(what: str, given: Mapping[str, str]) -> str:
    """Return a variable of traces, or else that of all signals."""
    own = given.get(f"OTEL_EXPORTER_OTLP_TRACES_{what}", "")
    return own or given.get(f"OTEL_EXPORTER_OTLP_{what}", "")
