# SPDX-License-Identifier: Apache-2.0
"""The examples run as their README says, and the service knows who called them."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import pytest
import urllib3

from otel_apinalytics.exporter.hashing import HASH_KEY_VARIABLE, hash_key_text
from otel_apinalytics.normalize.identity import hashed
from otel_apinalytics.receiver.sealing import hash_key_of
from tests.support.clients import APPLICATION, WRITE_KEY, Client
from tests.support.service_process import environment, service_process
from tests.support.waiting import wait_for

_EXAMPLES = Path(__file__).parents[2] / "examples"
_SERVING = re.compile(r"http://(127\.0\.0\.1:[1-9][0-9]*)")
_ANY_PORT = {"uvicorn": ["--port", "0"], "gunicorn": ["--bind", "127.0.0.1:0"]}
_PRELOADED = ("--preload", "--workers", "2")
_MASTER_KEY = bytes(range(32))
HASH_KEY = hash_key_of(_MASTER_KEY, APPLICATION)


@dataclass(frozen=True, slots=True)
class Example:
    """An example, and what the service must know of its callers.

    Args:
        directory: Where it is.
        route: Route of an order, as the framework writes it.
        credentials: What a caller called NAME sends: header and value.
        consumer: What is known of the caller `acme`.
        arguments: Further arguments of its server.
    """

    directory: str
    route: str
    credentials: tuple[str, str]
    consumer: Mapping[str, Any]
    arguments: tuple[str, ...] = ()


_KEY = ("X-API-Key", "key-of-NAME")
_SAID = {"consumer_source": "apinalytics.consumer.id"}
_ACME = {"consumer_id": "acme", **_SAID}
_HASHED = {"consumer_id": hashed("key-of-acme", HASH_KEY), **_SAID}
_NAMED = {**_ACME, "plan_id": "gold", "attributes": {"consumer_name": "Acme Inc."}}
EXAMPLES = (
    Example("fastapi", "/orders/{order_id}", _KEY, _NAMED),
    Example(
        "starlette", "/orders/{order_id:int}", ("Authorization", "Bearer token-of-NAME"), _ACME
    ),
    Example("flask", "/orders/<int:order_id>", _KEY, _HASHED),
    Example("flask", "/orders/<int:order_id>", _KEY, _HASHED, _PRELOADED),
    Example("django", "/orders/<int:order_id>", _KEY, _ACME),
    Example("django", "/orders/<int:order_id>", _KEY, _ACME, _PRELOADED),
)


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """Run a service."""
    directory = tmp_path_factory.mktemp("examples")
    secret_file = directory / "secret.key"
    secret_file.write_bytes(_MASTER_KEY)
    with service_process(directory / "data", secret_key_file=str(secret_file)) as service:
        yield service.client


@pytest.mark.parametrize("exporter", ["apinalytics", "otlp"])
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda e: " ".join((e.directory, *e.arguments)))
def test_an_example_says_who_calls(client: Client, example: Example, exporter: str) -> None:
    """Every request is one event, from the first on to the last, with consumer and route."""
    name = " ".join((example.directory, *example.arguments, exporter))
    sending = _SENDING[exporter](client) | {"OTEL_SERVICE_NAME": name}
    header, value = example.credentials
    with _running(example, sending) as address, urllib3.PoolManager(retries=False) as pool:
        for number in range(4):
            caller = "acme" if number % 2 == 0 else "globex"
            answer = pool.request(
                "GET",
                f"http://{address}/orders/{number}",
                headers={header: value.replace("NAME", caller)},
            )
            assert answer.status == 200, answer.data
    # It was told to end before it was time to send them.
    events = wait_for(
        lambda: [event for event in client.raw_events() if event["service"] == name],
        until=lambda events: len(events) >= 4,
    )
    assert sorted(event["url"] for event in events) == [f"/orders/{n}" for n in range(4)]
    assert {event["route"] for event in events} == {example.route}
    of_acme = [event for event in events if event["url"] in ("/orders/0", "/orders/2")]
    for event in of_acme:
        assert {field: event[field] for field in example.consumer} == example.consumer
    others = {event["consumer_id"] for event in events if event not in of_acme}
    assert len(others) == 1
    assert others.isdisjoint({None, example.consumer["consumer_id"]})
    assert "key-of-" not in repr(events)


@pytest.mark.parametrize("directory", sorted({example.directory for example in EXAMPLES}))
def test_what_a_readme_installs_exists(directory: str) -> None:
    """Under these names; and the instrumentation is that of the framework."""
    command = _commands(directory)[0]
    assert command[:2] == ["pip", "install"]
    packages = command[2:]
    assert {distribution(package).name.lower() for package in packages} == set(packages)
    assert f"opentelemetry-instrumentation-{directory}" in packages


@contextmanager
def _running(example: Example, sending: Mapping[str, str]) -> Iterator[str]:
    """Run an example by its README's commands, and give its address.

    Args:
        example: The example.
        sending: Variables that say where its spans go.
    """
    *before, command = _commands(example.directory)
    variables = dict(word.split("=", 1) for line in before[1:] for word in line[1:])
    command += [*_ANY_PORT[command[1]], *example.arguments]
    with subprocess.Popen(
        command,
        cwd=_EXAMPLES / example.directory,
        env=_environment({**variables, **sending}),
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    ) as process:
        try:
            yield _address(process)
        finally:
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
            # Whatever else it says, so that it does not wait for a reader.
            process.communicate(timeout=60)


def _commands(directory: str) -> Sequence[list[str]]:
    """Return the commands of a README's first block, as words."""
    text = (_EXAMPLES / directory / "README.md").read_text("utf-8")
    return [shlex.split(line) for line in text.split("```")[1].strip().splitlines()]


def _by_our_exporter(client: Client) -> dict[str, str]:
    # Which exporter it is, the README says.
    return {
        "OTEL_EXPORTER_APINALYTICS_ENDPOINT": f"http://{client.http}",
        "OTEL_EXPORTER_APINALYTICS_APPLICATION_ID": APPLICATION,
        "OTEL_EXPORTER_APINALYTICS_WRITE_KEY": WRITE_KEY,
        **_ALWAYS,
    }


def _by_otlp(client: Client) -> dict[str, str]:
    return {
        "OTEL_TRACES_EXPORTER": "otlp",
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{client.http}",
        "OTEL_EXPORTER_OTLP_HEADERS": f"x-auth-user={APPLICATION},x-auth-key={WRITE_KEY}",
        **_ALWAYS,
    }


_ALWAYS = {HASH_KEY_VARIABLE: hash_key_text(HASH_KEY)}
_SENDING = {"apinalytics": _by_our_exporter, "otlp": _by_otlp}


def _environment(variables: Mapping[str, str]) -> dict[str, str]:
    inherited = environment()
    programs = f"{Path(sys.executable).parent}{os.pathsep}{inherited.get('PATH', '')}"
    return {**inherited, "PATH": programs, **variables}


def _address(process: subprocess.Popen[str]) -> str:
    assert process.stderr is not None
    output = ""
    for line in process.stderr:
        output += line
        if match := _SERVING.search(line):
            return match[1]
    raise AssertionError(f"the example ended: {output}")
