# SPDX-License-Identifier: Apache-2.0
"""A newcomer's way: from what `serve` prints, and nothing else, to the first answer."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.service_process import environment, serve_command
from tests.support.waiting import wait_for

# Only the API of OpenTelemetry: where spans go is the variables' business.
PROGRAM = """
from opentelemetry import trace
tracer = trace.get_tracer("app")
for consumer in ("acme", "acme", "globex"):
    with tracer.start_as_current_span("GET /users/{id}", kind=trace.SpanKind.SERVER) as span:
        span.set_attribute("http.request.method", "GET")
        span.set_attribute("http.route", "/users/{id}")
        span.set_attribute("http.response.status_code", 200)
        span.set_attribute("enduser.id", consumer)
"""
# Where the programs are that are named.
PATH = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"


@contextmanager
def serve(data_dir: Path, **settings: str) -> Iterator[str]:
    """Run the service as a newcomer does, on free ports, and give what it prints."""
    command = serve_command("--data-dir", str(data_dir), "--grpc=localhost:0", "--http=localhost:0")
    with subprocess.Popen(
        command, env=environment(**settings), stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            printed = ""
            while "type in the read key" not in printed:
                line = process.stdout.readline()
                assert line, process.wait()
                printed += line
            yield printed
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0
        finally:
            process.kill()


def lines_with(printed: str, *words: str) -> list[str]:
    """Return the lines to copy that have one of these words."""
    return [
        line
        for line in printed.splitlines()
        if line.startswith("  ") and any(word in line for word in words)
    ]


def shell(*lines: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Copy lines into a shell."""
    return subprocess.run(
        ["sh", "-e", "-c", "\n".join(lines)],
        env=environment() | {"PATH": PATH, **variables},
        capture_output=True,
        text=True,
        check=False,
    )


def answer_to(printed: str, **variables: str) -> list[str]:
    """Return the lines of the first answer that is not empty, by the printed command."""
    lines = lines_with(printed, "APINALYTICS_READ_KEY", "apinalytics query")

    def ask() -> list[str]:
        asked = shell(*lines, **variables)
        assert asked.returncode == 0, asked.stderr
        return asked.stdout.splitlines()[1:]

    return wait_for(ask)


def counted(answer: list[str]) -> dict[str, int]:
    """Return the calls by consumer of an answer in CSV."""
    rows = [line.split(",") for line in answer]
    consumers = {row[1] for row in rows}
    return {name: sum(int(row[-2]) for row in rows if row[1] == name) for name in consumers}


@pytest.mark.parametrize("block", ["OTEL_EXPORTER_OTLP_", "APINALYTICS_E|APINALYTICS_W|TRACES_EX"])
def test_copy_run_ask(tmp_path: Path, block: str) -> None:
    """Either block, an instrumented program, and the command that is named."""
    program = tmp_path / "app.py"
    program.write_text(PROGRAM)
    with serve(tmp_path / "data") as printed:
        block_lines = lines_with(printed, *block.split("|"))
        assert len(block_lines) == 3
        ran = shell(*block_lines, f"opentelemetry-instrument python {program}")
        assert ran.returncode == 0, ran.stderr
        assert ran.stderr == ""
        assert counted(answer_to(printed)) == {"acme": 2, "globex": 1}
        checked = shell(
            *block_lines[:-1], *lines_with(printed, "APINALYTICS_READ_KEY"), *doctor_of(printed)
        )
        assert checked.returncode == 0, checked.stdout
        assert "variables here do not keep an SDK from sending" in checked.stdout


def doctor_of(printed: str) -> list[str]:
    """Return the command that is named for trouble."""
    return re.findall(r"apinalytics doctor .*", printed)


def test_a_later_start_says_how_to_get_a_key(tmp_path: Path) -> None:
    """Keys are not shown again; the command that is named makes one, which works."""
    data_dir = tmp_path / "data"
    with serve(data_dir) as first:
        (read_key,) = lines_with(first, "APINALYTICS_READ_KEY")
    program = tmp_path / "app.py"
    program.write_text(PROGRAM)
    with serve(data_dir) as printed:
        assert "Keys are stored hashed" not in printed
        made = shell(*lines_with(printed, "apinalytics keys create"))
        assert made.returncode == 0, made.stderr
        block = "\n".join(lines_with(printed, "OTEL_EXPORTER_OTLP_"))
        ran = shell(
            block.replace("<write key>", made.stdout.strip()),
            f"opentelemetry-instrument python {program}",
        )
        assert (ran.returncode, ran.stderr) == (0, "")
        key = read_key.partition("=")[2]
        assert counted(answer_to(printed.replace("<read key>", key))) == {"acme": 2, "globex": 1}


def test_keys_of_ones_own_are_not_printed(tmp_path: Path) -> None:
    """The variables that hold them stand in their place; what is printed works as it is."""
    keys = {"write_key": "w" * 40, "read_key": "r" * 40, "admin_key": "a" * 40}
    program = tmp_path / "app.py"
    program.write_text(PROGRAM)
    with serve(tmp_path / "data", **keys) as printed:
        assert not any(key in printed for key in keys.values())
        assert "<" not in printed
        variables = {f"APINALYTICS_{name.upper()}": key for name, key in keys.items()}
        lines = lines_with(printed, "OTEL_EXPORTER_OTLP_")
        ran = shell(*lines, f"opentelemetry-instrument python {program}", **variables)
        assert (ran.returncode, ran.stderr) == (0, "")
        assert counted(answer_to(printed, **variables)) == {"acme": 2, "globex": 1}
