# SPDX-License-Identifier: Apache-2.0
"""`apinalytics serve` as a subprocess."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import urllib3

from tests.support.clients import KEY_SETTINGS, Client
from tests.support.waiting import wait_for

_LISTENING = re.compile(r"OTLP/gRPC on (\S+), HTTP on (\S+)")


def serve_command(*arguments: str) -> list[str]:
    """Return the command that runs the service."""
    return [sys.executable, "-m", "otel_apinalytics", "serve", *arguments]


def environment(**settings: str) -> dict[str, str]:
    """Return the environment without settings of whoever runs the tests, and with these."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("APINALYTICS_", "OTEL_"))}
    return inherited | {f"APINALYTICS_{name.upper()}": value for name, value in settings.items()}


@dataclass(slots=True)
class ServiceProcess:
    """A service that is ready.

    Args:
        process: Its process.
        client: Talks to it.
        output: What it printed until it was ready.
    """

    process: subprocess.Popen[str]
    client: Client
    output: str

    def kill(self) -> None:
        """End it at once, as a crash does."""
        self.process.kill()
        self.process.wait()

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Ask it to stop and return its exit code."""
        self.process.send_signal(number)
        return self.process.wait(60)


@contextmanager
def service_process(
    data_dir: Path,
    cwd: Path | None = None,
    config: Path | None = None,
    variables: Mapping[str, str] | None = None,
    /,
    **settings: str,
) -> Iterator[ServiceProcess]:
    """Run a service on free ports; kill it at the end of the block if it still runs.

    Args:
        data_dir: Its data directory.
        cwd: Where it is started.
        config: Its settings file.
        variables: Further variables of its environment.
        settings: Further settings, by variables.
    """
    command = serve_command(
        "--data-dir", str(data_dir), "--grpc", "localhost:0", "--http", "localhost:0"
    )
    if config is not None:
        command += ["--config", str(config)]
    with subprocess.Popen(
        command,
        env=environment(**{**KEY_SETTINGS, **settings}) | dict(variables or {}),
        stdout=subprocess.PIPE,
        cwd=cwd,
        text=True,
    ) as process:
        try:
            output, client = _read_until_listening(process)
            wait_for(lambda: _is_ready(client))
            yield ServiceProcess(process, client, output)
        finally:
            with suppress(ProcessLookupError):
                process.kill()


def _read_until_listening(process: subprocess.Popen[str]) -> tuple[str, Client]:
    assert process.stdout is not None
    output, client = "", None
    for line in process.stdout:
        output += line
        if match := _LISTENING.search(line):
            client = Client(grpc=match[1], http=match[2])
        if "type in the read key" in line:
            assert client is not None
            return output, client
    raise AssertionError(f"the service ended with {process.wait()}")


def _is_ready(client: Client) -> bool:
    try:
        return client.request("GET", "/health/ready")[0] == 200
    except urllib3.exceptions.HTTPError:
        return False
