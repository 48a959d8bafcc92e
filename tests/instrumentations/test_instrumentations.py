# SPDX-License-Identifier: Apache-2.0
"""What real instrumentations send becomes one right event per call, in both renderings."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from otel_apinalytics.catalogue import FIELDS, Field, FieldType
from otel_apinalytics.receiver.sealing import hash_key_of
from tests.instrumentations.scenario import (
    FRAMEWORKS,
    HASH_KEY_VARIABLE,
    KEY,
    KEY_HEADER,
    TOKEN,
    Expected,
    Framework,
    Mode,
    Prefix,
)
from tests.support.clients import APPLICATION, WRITE_KEY, Client
from tests.support.otlp import make_request, make_span
from tests.support.service_process import environment, service_process
from tests.support.waiting import wait_for

_ROOT = Path(__file__).parents[2]
# Known to the service only.
_OF_THE_SERVICE = ("application", "event_id", "received_at")


@dataclass(frozen=True, slots=True)
class Run:
    """What came of a program.

    Args:
        service: Its `service.name`.
        answer: All events so far, as the service answered.
        events: Those of the program.
        rendered: What the Python rendering made of each of its spans.
    """

    service: str
    answer: str
    events: Sequence[Mapping[str, Any]]
    rendered: Sequence[Mapping[str, Any]]


RunProgram = Callable[[Framework, Mode], Run]
_RUNS = [
    pytest.param(framework, mode, id=f"{framework.name}-{mode.name.lower()}")
    for framework in FRAMEWORKS
    for mode in framework.modes
]
of_each_run = pytest.mark.parametrize(("framework", "mode"), _RUNS)


@pytest.fixture(scope="session")
def run_program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunProgram]:
    """Give a function that runs a framework's program, once in a session.

    The service has the calls of these programs alone, so that no event of theirs can hide: whatever
    is new after a program is of that program.
    """
    directory = tmp_path_factory.mktemp("instrumentations")
    master_key = os.urandom(32)
    secret_file = directory / "secret.key"
    secret_file.write_bytes(master_key)
    hash_key = hash_key_of(master_key, APPLICATION)
    seen: set[str] = set()

    with service_process(directory / "data", secret_key_file=str(secret_file)) as service:

        @functools.cache
        def run(framework: Framework, mode: Mode) -> Run:
            name = f"{framework.name}-{mode.name.lower()}"
            _run(framework, directory / name, _variables(service.client, name, mode, hash_key))
            mark = _send_mark(service.client, name)
            answer = service.client.raw_events()
            events = [e for e in answer if e["event_id"] not in seen and e["service"] != mark]
            seen.update(event["event_id"] for event in answer)
            rendered = (directory / name).read_text("utf-8").splitlines()
            return Run(name, json.dumps(answer), events, [json.loads(line) for line in rendered])

        yield run


@of_each_run
def test_every_call_becomes_one_event(
    run_program: RunProgram, framework: Framework, mode: Mode
) -> None:
    """There are as many events as calls, and each has the fields that its call must have."""
    run = run_program(framework, mode)
    problems = []
    for call in framework.calls:
        found = [e for e in run.events if e["parent_span_id"] == call.parent_span_id]
        if len(found) != 1:
            problems.append(f"{call.name}: {len(found)} events")
            continue
        expected = {"service": run.service, **framework.expected(call, mode)}
        problems += [f"{call.name}: {problem}" for problem in differences(expected, found[0])]
    assert not problems, "\n".join(problems)
    assert len(run.events) == len(framework.calls)
    assert all(event["response_us"] >= 0 for event in run.events)


@of_each_run
def test_no_secret_comes_out(run_program: RunProgram, framework: Framework, mode: Mode) -> None:
    """Neither the key that was captured nor the token in the query is anywhere in the answer."""
    run = run_program(framework, mode)
    assert any(KEY_HEADER in call.headers for call in framework.calls)
    assert run.events
    assert KEY not in run.answer
    assert TOKEN not in run.answer


@of_each_run
def test_both_renderings_agree(run_program: RunProgram, framework: Framework, mode: Mode) -> None:
    """Python makes of the spans what the engine makes of them, field by field."""
    run = run_program(framework, mode)
    events = {event["span_id"]: event for event in run.events}
    stored = {line["span_id"]: line for line in run.rendered if line["outcome"] == "stored"}
    assert stored.keys() == events.keys()
    problems = [
        f"{events[span_id]['function']}: {problem}"
        for span_id, line in stored.items()
        for problem in differences(_as_answered(line), events[span_id])
    ]
    assert not problems, "\n".join(problems)


def differences(expected: Mapping[str, Any], event: Mapping[str, Any]) -> list[str]:
    """Return in words where an event is not as expected."""
    return [
        f"{name} is {event[name]!r} instead of {value!r}"
        for name, value in expected.items()
        if not _is_as_expected(event[name], value)
    ]


def _is_as_expected(got: Any, expected: Any) -> bool:
    if isinstance(expected, Prefix):
        return isinstance(got, str) and got.startswith(expected.text) and got != expected.text
    # In JSON, other than here, 1 is 1.0 and not true.
    return isinstance(got, bool) is isinstance(expected, bool) and bool(got == expected)


def _as_answered(line: Mapping[str, Any]) -> Expected:
    """Return an event of the Python rendering as the service writes it."""
    return {
        field.name: _public(field, line[field.name])
        for field in FIELDS
        if field.name not in _OF_THE_SERVICE
    }


def _public(field: Field, value: Any) -> Any:
    if field.type is FieldType.TIME:
        return value / 1e6
    # A text or an id that is missing is empty, or all zeros; in an answer it is null.
    if field.type is FieldType.TEXT:
        return value or None
    if field.type is FieldType.HEX:
        return value if value.strip("0") else None
    return value


# ---- running a program ----


def _run(framework: Framework, rendered: Path, variables: dict[str, str]) -> None:
    command = [sys.executable, "-m", f"tests.instrumentations.apps.{framework.name}"]
    ended = subprocess.run(
        [*command, str(rendered)],
        env=environment() | variables,
        cwd=_ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr


def _variables(client: Client, service: str, mode: Mode, hash_key: bytes) -> dict[str, str]:
    return {
        HASH_KEY_VARIABLE: hash_key.hex(),
        "OTEL_SERVICE_NAME": service,
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{client.grpc}",
        "OTEL_EXPORTER_OTLP_HEADERS": f"x-auth-user={APPLICATION},x-auth-key={WRITE_KEY}",
        "OTEL_SEMCONV_STABILITY_OPT_IN": mode.value,
        "OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SERVER_REQUEST": KEY_HEADER.lower(),
    }


def _send_mark(client: Client, name: str) -> str:
    """Return the service of an event that is visible when all that was sent before it is loaded."""
    mark = f"{name}-mark"
    client.export(make_request(make_span(), service=mark))
    question = {"include": f"service:{mark}", "group": "service"}
    wait_for(lambda: client.groups(question), until=lambda groups: mark in groups)
    return mark
