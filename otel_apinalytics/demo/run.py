# SPDX-License-Identifier: Apache-2.0
"""Runs the demo: service, API, traffic, questions; then keeps serving, or checks and exits."""

from __future__ import annotations

import contextlib
import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import urllib3
from rich.console import Console

from otel_apinalytics.demo.questions import QUESTIONS, answer_table, ask, question_url
from otel_apinalytics.demo.traffic import Sent, send_traffic
from otel_apinalytics.errors import ConfigError
from otel_apinalytics.service import Service
from otel_apinalytics.settings import Settings, read_settings
from otel_apinalytics.store.keys import Scope
from otel_apinalytics.threads import MAIN_SLEEP_S

_VISIBLE_TIMEOUT_S = 30.0


class Demo:
    """A running service with something to show.

    Args:
        service: The service, started.
        keys: Its keys in clear.
        console: Where to print.
    """

    def __init__(self, service: Service, keys: Mapping[Scope, str], console: Console) -> None:
        self._service = service
        self._console = console
        self._application = service.first_keys.application
        self._keys = keys
        self._http = urllib3.PoolManager(timeout=30.0)

    def run(self, seconds: float) -> bool:
        """Send traffic, ask the questions, and return whether the counts are right."""
        started = int(time.time())
        self._console.print("[bold]2.[/] Starting an instrumented ASGI API …")
        with _api(self._exporter_environment()) as base_url:
            self._console.print(f"   it serves on {base_url}, its spans go out by OTLP/gRPC")
            sent = self._send(base_url, seconds)
        # The API has stopped, and has flushed its last spans.
        self._console.print("[bold]4.[/] Waiting for the last spans to be visible …")
        counted = self._await_counts(started, sent)
        self._ask_questions(started)
        return self._check(sent, counted)

    def _exporter_environment(self) -> dict[str, str]:
        key = self._keys[Scope.WRITE]
        return {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{self._service.grpc_address}",
            "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
            "OTEL_EXPORTER_OTLP_HEADERS": f"x-auth-user={self._application},x-auth-key={key}",
        }

    def _send(self, base_url: str, seconds: float) -> Sent:
        with self._console.status("") as status:

            def progress(sent: Sent) -> None:
                status.update(f"{sent.total} requests sent")

            self._console.print(f"[bold]3.[/] Sending traffic for {seconds:g} s …")
            sent = send_traffic(base_url, seconds, progress)
        answers = ", ".join(f"{status}: {n}" for status, n in sorted(sent.by_status.items()))
        self._console.print(
            f"   {sent.total} requests of {len(sent.by_consumer)} consumers: {answers}"
        )
        return sent

    def _await_counts(self, started: int, sent: Sent) -> dict[str, int]:
        url = question_url(
            self._service.http_address, started, int(time.time()) + 2, {"group": "consumer_id"}
        )
        deadline = time.monotonic() + _VISIBLE_TIMEOUT_S
        while True:
            groups = ask(self._http, url, self._application, self._keys[Scope.READ])["groups"]
            counted = {consumer: points[0][1] for consumer, points in groups.items()}
            if sum(counted.values()) >= sent.total or time.monotonic() > deadline:
                return counted
            time.sleep(0.1)

    def _ask_questions(self, started: int) -> None:
        end = int(time.time()) + 1
        for question in QUESTIONS:
            url = question_url(self._service.http_address, started, end, question.parameters)
            answer = ask(self._http, url, self._application, self._keys[Scope.READ])
            self._console.print(f"\n[bold green]{question.text}[/]")
            self._console.print(f"GET {url}", style="dim", soft_wrap=True, highlight=False)
            self._console.print(answer_table(question, answer))

    def _check(self, sent: Sent, counted: dict[str, int]) -> bool:
        if counted == dict(sent.by_consumer):
            self._console.print(
                f"\n[bold]Every request is counted[/]: {sent.total} sent, "
                f"{sum(counted.values())} counted, for each consumer the same."
            )
            return True
        self._console.print(
            f"\n[bold red]The counts disagree[/]: sent {dict(sent.by_consumer)}, counted {counted}"
        )
        return False


def run_demo(
    *,
    once: bool,
    seconds: float,
    data_dir: Path | None,
    grpc: str,
    http: str,
    insecure: bool = False,
) -> bool:
    """Run the demo and return whether every request was counted.

    Args:
        once: Whether to return after the answers; otherwise keep serving until interrupted.
        seconds: How long to send traffic.
        data_dir: Directory of the data; None for a temporary one.
        grpc: Where OTLP/gRPC listens.
        http: Where HTTP listens.
        insecure: Whether it may listen elsewhere than on this machine.

    Raises:
        ConfigError: The service cannot start.
    """
    console = Console()
    with contextlib.ExitStack() as stack:
        directory = data_dir or Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="apinalytics-demo-"))
        )
        console.print("[bold]1.[/] Starting the service …")
        # Given, not made by the service, so that the demo can run again on the same data.
        keys = {scope: secrets.token_urlsafe(32) for scope in Scope}
        service = Service(_settings(keys, directory, grpc, http, insecure=insecure))
        service.start()
        stack.callback(service.stop)
        console.print(
            f"   OTLP/gRPC on {service.grpc_address}, HTTP on {service.http_address}, "
            f"data in {directory}"
        )
        ok = Demo(service, keys, console).run(seconds)
        if not once:
            console.print(f"\nStill serving. Open [bold]http://{service.http_address}/[/]")
            console.print(f"with the read key {keys[Scope.READ]}", highlight=False)
            console.print("Ctrl-C stops.")
            while True:
                time.sleep(MAIN_SLEEP_S)
        console.print("Stopping …")
    return ok


def _settings(
    keys: Mapping[Scope, str], directory: Path, grpc: str, http: str, *, insecure: bool
) -> Settings:
    arguments = {
        "data_dir": directory,
        "store": f"chdb://{directory.absolute() / 'db'}",
        "grpc": grpc,
        "http": http,
        "insecure": insecure or None,
        "application_id": "demo",
        **{f"{scope.value}_key": secret for scope, secret in keys.items()},
    }
    settings = read_settings(arguments)
    if settings.tls_certificate_file:
        raise ConfigError("the demo speaks clear text: start it without APINALYTICS_TLS_… settings")
    return settings


def _clean_environment() -> dict[str, str]:
    """Return the environment without what would send the demo's spans elsewhere."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("OTEL_") and not name.lower().endswith("_proxy")
    }


@contextlib.contextmanager
def _api(environment: dict[str, str]) -> Iterator[str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "otel_apinalytics.demo.api"],
        stdout=subprocess.PIPE,
        env=_clean_environment() | environment,
        text=True,
        # Ctrl-C is for us; we end it, after its last spans.
        start_new_session=True,
    )
    try:
        assert process.stdout is not None  # noqa: S101 - for the type checker
        port = process.stdout.readline().strip()
        if not port:
            raise RuntimeError("the demo's API did not start")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(timeout=30)
