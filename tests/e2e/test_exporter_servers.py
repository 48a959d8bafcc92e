# SPDX-License-Identifier: Apache-2.0
"""The exporter in real servers: every request that was served is in the service, once."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
import urllib3

from tests.support.clients import APPLICATION, WRITE_KEY, Client
from tests.support.service_process import environment, service_process
from tests.support.waiting import wait_for

ROOT = Path(__file__).parents[2]
APPS = "tests.e2e.exporter_apps"
_LISTENING = re.compile(r"(?:https?://|at: http://)(?:127\.0\.0\.1|localhost):([1-9][0-9]*)")
_REQUESTS = 120
_CONSUMERS = 5


@dataclass(frozen=True)
class Server:
    """A server with its application.

    Args:
        command: What runs it on any port.
        route: The route of an order, as the framework writes it.
        stop: The signal that ends it.
        has_workers: Whether its processes are workers that are replaced.
    """

    command: tuple[str, ...]
    route: str
    stop: int = signal.SIGTERM
    has_workers: bool = False


_GUNICORN = ("gunicorn", "--bind", "127.0.0.1:0", "--workers", "2")
SERVERS = {
    "uvicorn": Server(("uvicorn", "--port", "0", f"{APPS}.fastapi_app:app"), "/orders/{number}"),
    "gunicorn, preloaded": Server(
        (*_GUNICORN, "--preload", f"{APPS}.flask_app:app"), "/orders/<int:number>", has_workers=True
    ),
    "gunicorn": Server(
        (*_GUNICORN, "--threads", "2", f"{APPS}.flask_app:app"),
        "/orders/<int:number>",
        has_workers=True,
    ),
    "gunicorn with Django, preloaded": Server(
        (*_GUNICORN, "--preload", f"{APPS}.django_wsgi:application"),
        "/orders/<int:number>",
        has_workers=True,
    ),
    "gunicorn with uvicorn": Server(
        (*_GUNICORN, "--worker-class", "uvicorn.workers.UvicornWorker", f"{APPS}.fastapi_app:app"),
        "/orders/{number}",
        has_workers=True,
    ),
    "Flask's own": Server(
        ("flask", "--app", f"{APPS}.flask_app", "run", "--port", "PORT"),
        "/orders/<int:number>",
        signal.SIGINT,
    ),
    "Django's own": Server(
        ("django-admin", "runserver", "--noreload", "PORT"),
        "/orders/<int:number>",
        signal.SIGINT,
    ),
}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """Run a service."""
    with service_process(tmp_path_factory.mktemp("servers")) as service:
        yield service.client


@contextmanager
def running(
    server: Server, variables: Mapping[str, str], *options: str
) -> Iterator[tuple[psutil.Process, str]]:
    """Run a server under `opentelemetry-instrument`; give its process and its address."""
    port = str(_free_port())
    command = [word.replace("PORT", port) for word in server.command]
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    # The line that says where it listens must not wait for others.
    paths = {"PATH": programs, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    with (
        # Newer gunicorns keep a socket there.
        tempfile.TemporaryDirectory() as home,
        subprocess.Popen(
            ["opentelemetry-instrument", *options, *command],
            cwd=ROOT,
            env={**environment(), **paths, "HOME": home, **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process,
    ):
        output: list[str] = []
        reader = threading.Thread(target=_read, args=(process, output), daemon=True)
        reader.start()
        try:
            chosen = wait_for(lambda: _LISTENING.search("".join(output)) or process.poll())
            assert isinstance(chosen, re.Match), "".join(output)
            address = f"127.0.0.1:{chosen[1]}"
            wait_for(lambda: _lives(address))
            yield psutil.Process(process.pid), address
        finally:
            with suppress(ProcessLookupError):
                process.kill()
            process.wait()
            reader.join()


def _read(process: subprocess.Popen[str], output: list[str]) -> None:
    assert process.stdout is not None
    output.extend(iter(process.stdout.readline, ""))


def _free_port() -> int:

    with socket.create_server(("127.0.0.1", 0)) as reserved:
        return int(reserved.getsockname()[1])


def _lives(address: str) -> bool:
    try:
        return urllib3.request("GET", f"http://{address}/healthz", retries=False).status == 200
    except urllib3.exceptions.HTTPError:
        return False


def sending(client: Client, name: str) -> dict[str, str]:
    """Return the variables of a program that sends to the service."""
    return {
        "DJANGO_SETTINGS_MODULE": f"{APPS}.django_app",
        "OTEL_SERVICE_NAME": name,
        "OTEL_TRACES_EXPORTER": "apinalytics",
        "OTEL_METRICS_EXPORTER": "none",
        "OTEL_LOGS_EXPORTER": "none",
        "OTEL_EXPORTER_APINALYTICS_ENDPOINT": f"http://{client.http}",
        "OTEL_EXPORTER_APINALYTICS_APPLICATION_ID": APPLICATION,
        "OTEL_EXPORTER_APINALYTICS_WRITE_KEY": WRITE_KEY,
    }


def ask(address: str, number: int) -> bool:
    """Ask for an order on a connection of its own; return whether it was answered."""
    headers = {"X-Consumer": f"c-{number % _CONSUMERS}", "Connection": "close"}
    url = f"http://{address}/orders/{number}"
    try:
        return urllib3.request("GET", url, headers=headers, retries=False).status == 200
    except urllib3.exceptions.HTTPError:
        return False


def ended(process: psutil.Process, number: int) -> None:
    """Ask a server to end, and wait until it did."""
    process.send_signal(number)
    process.wait(60)


def events_of(client: Client, name: str) -> list[dict[str, Any]]:
    """Return the events of a service, without those of its being looked at."""
    return [
        event
        for event in client.raw_events()
        if event["service"] == name and event["url"] != "/healthz"
    ]


def is_noise_there(client: Client, name: str) -> bool:
    """Return whether the service got health checks."""
    return any(e["service"] == name and e["url"] == "/healthz" for e in client.raw_events())


def assert_all_are_there(client: Client, name: str, answered: set[int], route: str) -> None:
    """Demand one event for each request that was answered, with consumer and route."""
    expected = {f"/orders/{number}" for number in answered}
    events = wait_for(
        lambda: events_of(client, name),
        until=lambda events: expected <= {event["url"] for event in events},
    )
    urls = [event["url"] for event in events]
    assert len(urls) == len(set(urls))
    assert {event["route"] for event in events} == {route}
    for event in events:
        number = int(event["url"].rpartition("/")[2])
        assert event["consumer_id"] == f"c-{number % _CONSUMERS}"


@pytest.mark.parametrize("name", SERVERS)
def test_what_was_served_is_there(client: Client, name: str) -> None:
    """From the first request to the last before the server is told to end; no health checks."""
    server = SERVERS[name]
    with running(server, sending(client, name)) as (process, address):
        with ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(lambda n: ask(address, n), range(_REQUESTS)))
        ended(process, server.stop)
    assert answers == [True] * _REQUESTS
    assert_all_are_there(client, name, set(range(_REQUESTS)), server.route)
    assert not is_noise_there(client, name)


@pytest.mark.parametrize("name", [name for name, server in SERVERS.items() if server.has_workers])
def test_a_worker_that_is_told_to_end(client: Client, name: str) -> None:
    """While requests come: what it served is there, and what its successor serves."""
    server, service = SERVERS[name], f"{name}, with a worker that ends"
    answered: set[int] = set()
    with running(server, sending(client, service)) as (process, address):
        before = wait_for(lambda: process.children(recursive=True), until=lambda w: len(w) >= 2)
        stop = threading.Event()

        def ask_on(first: int) -> None:
            number = first
            while not stop.is_set():
                if ask(address, number):
                    answered.add(number)
                number += 3

        with ThreadPoolExecutor(3) as pool:
            for first in range(3):
                pool.submit(ask_on, first)
            wait_for(lambda: len(answered) > 40)
            before[-1].send_signal(signal.SIGTERM)
            before[-1].wait(60)
            seen = len(answered)
            wait_for(lambda: len(answered) > seen + 40)
            stop.set()
        ended(process, server.stop)
    assert_all_are_there(client, service, answered, server.route)


def test_beside_otlp(client: Client) -> None:
    """Switched on by options; both send the same spans, and each call is one event."""
    server, name = SERVERS["gunicorn, preloaded"], "both"
    variables = {
        **sending(client, name),
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{client.http}",
        "OTEL_EXPORTER_OTLP_HEADERS": f"x-auth-user={APPLICATION},x-auth-key={WRITE_KEY}",
    }
    key = variables.pop("OTEL_EXPORTER_APINALYTICS_WRITE_KEY")
    del variables["OTEL_TRACES_EXPORTER"]
    options = ("--traces_exporter", "otlp,apinalytics", "--exporter_apinalytics_write_key", key)
    with running(server, variables, *options) as (process, address):
        assert all(ask(address, number) for number in range(30))
        ended(process, server.stop)
    assert_all_are_there(client, name, set(range(30)), server.route)


def test_a_wrong_setting_leaves_the_other_exporter(client: Client) -> None:
    """The program starts, and is traced."""
    server, name = SERVERS["gunicorn"], "half wrong"
    variables = {
        **sending(client, name),
        "OTEL_TRACES_EXPORTER": "otlp,apinalytics",
        "OTEL_EXPORTER_APINALYTICS_TIMEOUT": "soon",
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{client.http}",
        "OTEL_EXPORTER_OTLP_HEADERS": f"x-auth-user={APPLICATION},x-auth-key={WRITE_KEY}",
    }
    with running(server, variables) as (process, address):
        assert all(ask(address, number) for number in range(10))
        ended(process, server.stop)
    wait_for(
        lambda: {event["url"] for event in events_of(client, name)},
        until=lambda urls: len(urls) == 10,
    )


_CONFIGURATION = """
file_format: "1.0"
resource:
  attributes:
    - name: service.name
      value: configured
tracer_provider:
  processors:
    - batch:
        exporter:
          apinalytics:
            endpoint: http://{address}
            application_id: {application}
            write_key: {key}
            timeout: 5
            headers:
              x-more: some
            client_spans: true
            excluded_paths: ["+", "/internal/*"]
propagator:
  composite:
    - tracecontext:
"""


def test_the_declarative_configuration(client: Client, tmp_path: Path) -> None:
    """The exporter by its name, its settings as the file has them."""
    path = tmp_path / "otel.yaml"
    path.write_text(
        _CONFIGURATION.format(address=client.http, application=APPLICATION, key=WRITE_KEY)
    )
    server = SERVERS["gunicorn, preloaded"]
    with running(server, {"OTEL_CONFIG_FILE": str(path)}) as (process, address):
        assert all(ask(address, number) for number in range(10))
        ended(process, server.stop)
    assert_all_are_there(client, "configured", set(range(10)), server.route)


def test_a_program_that_just_ends(client: Client) -> None:
    """Its last spans are sent by the handlers of the interpreter's end."""
    program = """
import time
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from otel_apinalytics.exporter import ApinalyticsSpanExporter
provider = TracerProvider()
provider.add_span_processor(BatchSpanProcessor(ApinalyticsSpanExporter()))
for number in range(1000):
    attributes = {"http.request.method": "GET", "url.path": f"/n/{number}", "http.route": "/n/{n}"}
    with provider.get_tracer("x").start_as_current_span(
        "GET /n/{n}", kind=trace.SpanKind.SERVER, attributes=attributes
    ):
        pass
"""
    began_s = time.monotonic()
    ran = subprocess.run(
        [sys.executable, "-c", program],
        env=environment() | sending(client, "just ends"),
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stderr == ""
    # The SDK would wait for thirty seconds.
    assert time.monotonic() - began_s < 30
    wait_for(lambda: len(events_of(client, "just ends")), until=lambda number: number == 1000)
