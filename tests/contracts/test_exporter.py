# SPDX-License-Identifier: Apache-2.0
"""Contracts of the exporter: what it loads, by which names it is found, what its page says."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from importlib.metadata import entry_points, requires
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import (
    ParentBasedTraceIdRatio,
    Sampler,
    SamplingResult,
    TraceIdRatioBased,
)
from opentelemetry.trace import SpanKind, TraceState

import otel_apinalytics.exporter as package
from otel_apinalytics.exporter.noise import EXCLUDED_PATHS, EXCLUDED_USER_AGENTS, Noise
from otel_apinalytics.exporter.rendering import Rendering
from otel_apinalytics.exporter.settings import SETTINGS
from otel_apinalytics.normalize.mapping import NO_MAPPING
from otel_apinalytics.normalize.reading import Reader
from tests.support.sdk_spans import CALL

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "exporter.md").read_text("utf-8")
# What only the service needs, by the names of modules.
SERVER_MODULES = {
    "chdb", "clickhouse_connect", "cryptography", "fastapi", "google.protobuf", "grpc", "httptools",
    "msgspec", "prometheus_client", "pydantic", "pydantic_settings", "requests", "rich",
    "starlette", "typer", "uvicorn", "uvloop", "zstandard",
}  # fmt: skip


def loaded_by(code: str) -> set[str]:
    """Return the modules that a fresh interpreter has after running code."""
    program = f"import sys; {code}; print(*sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return set(result.stdout.splitlines()[-1].split())


@pytest.mark.parametrize("name", package.__all__)
def test_a_name_loads_no_server_module(name: str) -> None:
    """Whatever is taken from the package."""
    loaded = loaded_by(f"from otel_apinalytics.exporter import {name}")
    assert loaded.isdisjoint(SERVER_MODULES)


def test_an_exporter_in_use_loads_no_server_module() -> None:
    """Everything that it needs is loaded when it is made; it has sent a batch by then."""
    loaded = loaded_by(
        "import logging; logging.disable();"
        "from otel_apinalytics.exporter import ApinalyticsSpanExporter;"
        "from opentelemetry.sdk.trace import TracerProvider;"
        "from opentelemetry.sdk.trace.export import SimpleSpanProcessor;"
        "from opentelemetry.trace import SpanKind;"
        "e = ApinalyticsSpanExporter('http://localhost:1', write_key='k', timeout=0.1);"
        "p = TracerProvider(); p.add_span_processor(SimpleSpanProcessor(e));"
        "a = {'http.request.method': 'GET', 'url.path': '/'};"
        "p.get_tracer('x').start_span('x', kind=SpanKind.SERVER, attributes=a).end();"
        "assert e.counters['spans']['waiting'] == 1, e.counters"
    )
    assert "urllib3" in loaded
    assert loaded.isdisjoint(SERVER_MODULES)


def test_private_names_of_the_api_may_be_gone() -> None:
    """The SDK would find no exporter by its name, and the program would not be traced."""
    loaded_by(
        "import opentelemetry.sdk.trace.export, opentelemetry.context as context;"
        "del context._SUPPRESS_INSTRUMENTATION_KEY, context._SUPPRESS_HTTP_INSTRUMENTATION_KEY;"
        "from otel_apinalytics.exporter.span_exporter import ApinalyticsSpanExporter;"
        "ApinalyticsSpanExporter('http://localhost:1', write_key='k').export([])"
    )


def test_importing_the_package_loads_nothing() -> None:
    """Names are loaded when they are asked for."""
    before, after = loaded_by("pass"), loaded_by("import otel_apinalytics.exporter, typing")
    ours = {name for name in after if name.startswith("otel_apinalytics")}
    assert ours == {"otel_apinalytics", "otel_apinalytics.exporter"}
    assert not {name for name in after - before if name.startswith(("opentelemetry.", "urllib3"))}


def test_the_base_install_is_the_exporter() -> None:
    """Everything else is in an extra."""
    needed = [one for one in requires("otel-apinalytics") or () if "extra ==" not in one]
    names = sorted(one.split(">")[0].split("<")[0] for one in needed)
    assert names == ["opentelemetry-sdk", "urllib3"]


def test_the_sdk_finds_it() -> None:
    """As a class: the SDK takes no function."""
    (found,) = entry_points(group="opentelemetry_traces_exporter", name="apinalytics")
    assert issubclass(found.load(), SpanExporter)
    assert found.load() is package.ApinalyticsSpanExporter
    (variables,) = entry_points(group="opentelemetry_environment_variables", name="apinalytics")
    assert variables.load().OTEL_EXPORTER_APINALYTICS_ENDPOINT


def test_an_unknown_name_is_none() -> None:
    """As of any module."""
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = package.Nothing


def test_the_page_has_every_setting() -> None:
    """With its description and its default, in the order of the code."""
    rows = [
        f"| `{setting.variable}` | {setting.description} | {setting.default or 'required'} |"
        for setting in SETTINGS
    ]
    assert "\n".join(rows) in PAGE


class Telling(Sampler):
    """Says in the trace state that it samples a quarter, as consistent samplers do.

    Args:
        sampler: It samples a quarter.
    """

    def __init__(self, sampler: Sampler) -> None:
        self._sampler = sampler

    def should_sample(self, *arguments: Any, **named: Any) -> SamplingResult:
        """Ask the sampler."""
        result = self._sampler.should_sample(*arguments, **named)
        return SamplingResult(result.decision, result.attributes, TraceState([("ot", "th:c")]))

    def get_description(self) -> str:
        """Return what it is."""
        return "telling"


def weights(sampler: Sampler) -> list[float]:
    """Return the weights of the events that are left of 400 requests."""
    memory = InMemorySpanExporter()
    provider = TracerProvider(sampler=sampler, shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(memory))
    for _ in range(400):
        provider.get_tracer("tests").start_span("GET", kind=SpanKind.SERVER, attributes=CALL).end()
    reader = Reader(NO_MAPPING, None, None)
    rendering = Rendering(reader, Noise((), ()), client_spans=False)
    rendered = rendering.events(memory.get_finished_spans(), time.time_ns())
    return [json.loads(str(event)).get("weight", 1.0) for event in rendered]


def test_what_the_page_says_of_sampling() -> None:
    """A sampler that writes how it samples is believed; the usual ones write nothing."""
    assert set(weights(ParentBasedTraceIdRatio(0.25))) == {1.0}
    assert set(weights(Telling(TraceIdRatioBased(0.25)))) == {4.0}


@pytest.mark.parametrize("word", [*EXCLUDED_PATHS, *EXCLUDED_USER_AGENTS])
def test_the_page_has_all_noise(word: str) -> None:
    """Whoever misses a request finds out why."""
    assert f"`{word}`" in PAGE
