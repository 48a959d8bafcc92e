# SPDX-License-Identifier: Apache-2.0
"""The doctor's checks: what each finds in a service that is well, and in what is not one."""

from __future__ import annotations

import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import grpc
import pytest

from otel_apinalytics import __version__
from otel_apinalytics.doctor.checks import Check, State, Target
from otel_apinalytics.doctor.examination import examine
from otel_apinalytics.doctor.sdk_environment import check_environment
from otel_apinalytics.doctor.tls_checks import check_tls
from tests.support.certificates import Authority, Pair
from tests.support.clients import ADMIN_KEY, READ_HEADERS, READ_KEY, WRITE_KEY, Client
from tests.support.door import settle

OK, FAILED, SKIPPED = State.OK, State.FAILED, State.SKIPPED
KEYS = {"write": WRITE_KEY, "read": READ_KEY, "admin": ADMIN_KEY}
PROBES = ("span by grpc", "span by http", "json event")
PATIENCE_S = 60.0
# Nothing listens there.
NOBODY = "localhost:1"
CA = Authority("ca")


@pytest.fixture
def target(client: Client) -> Target:
    """Return the service of this process, with all keys."""
    return Target(f"http://{client.http}", client.grpc, KEYS)


def found(target: Target, patience_s: float = PATIENCE_S) -> dict[str, Check]:
    """Return what the checks find, by name."""
    return {check.name: check for check in examine(target, {}, patience_s)}


def states(checks: Mapping[str, Check], *names: str) -> list[State]:
    """Return the states of some checks."""
    return [checks[name].state for name in names]


# ---- a service that is well ----


def test_of_a_service_that_is_well(target: Target) -> None:
    """All is checked but what there is not; each probe is followed to the ledger."""
    checks = found(target)
    assert {name for name, check in checks.items() if check.state is SKIPPED} == {
        "tls",
        "environment",
    }
    assert [check for check in checks.values() if check.state is FAILED] == []
    assert set(PROBES) < set(checks)
    assert all("found by a query after" in checks[name].message for name in PROBES)


def test_probes_are_counted_nowhere(target: Target, client: Client) -> None:
    """They are in the ledger, and its equation closes."""
    path = "/1/ledger/-1h/now/"
    # Of other tests.
    settle(client)
    before = client.raw_events()
    probes_before = _probes(client.request("GET", path, headers=READ_HEADERS)[1])
    found(target)
    _, ledger, _ = client.request("GET", path, headers=READ_HEADERS)
    assert _probes(ledger) == probes_before + 3
    assert ledger["totals"]["difference"] == 0
    assert not [event for event in client.raw_events() if event not in before]


def _probes(ledger: Any) -> int:
    return sum(row["items"] for row in ledger["rows"] if row["reason"] == "probe")


@pytest.mark.parametrize(
    ("scopes", "probes", "words"),
    [
        ((), SKIPPED, "not sent: no write key can be used"),
        (("read",), SKIPPED, "not sent: no write key can be used"),
        (("write",), SKIPPED, "taken and on disk; not followed to a query: no read key"),
        (("write", "admin"), OK, "found by a query"),
        (("write", "read"), OK, "found by a query"),
    ],
)
def test_it_checks_what_it_can_with_the_keys_it_has(
    target: Target, scopes: tuple[str, ...], probes: State, words: str
) -> None:
    """And says of the rest that it was not checked."""
    checks = found(replace(target, keys={scope: KEYS[scope] for scope in scopes}))
    assert states(checks, *PROBES) == [probes] * 3
    assert all(words in checks[name].message for name in PROBES)
    for scope in KEYS:
        assert checks[f"{scope} key"].state is (OK if scope in scopes else SKIPPED)
    assert not [check for check in checks.values() if check.state is FAILED]


@pytest.mark.parametrize(
    ("scope", "key", "message", "advice"),
    [
        ("write", READ_KEY, "this is a read key; a write key is needed", "a key of scope write"),
        ("read", WRITE_KEY, "this is a write key; a read key is needed", "a key of scope read"),
        ("admin", READ_KEY, "this is a read key; an admin key is needed", "a key of scope admin"),
        ("write", "unknown", "unknown application or key", "copy it anew into APINALYTICS_WRITE"),
        ("read", "unknown", "unknown application or key", "copy it anew into APINALYTICS_READ_K"),
        ("admin", "unknown", "unknown application or key", "copy it anew into APINALYTICS_ADMIN"),
    ],
)
def test_a_key_that_is_not_what_it_is_taken_for(
    target: Target, scope: str, key: str, message: str, advice: str
) -> None:
    """Another scope, or unknown; what can be done without it is done."""
    checks = found(replace(target, keys={**KEYS, scope: key}))
    check = checks[f"{scope} key"]
    assert (check.state, check.message) == (FAILED, message)
    assert advice in check.advice
    assert states(checks, *PROBES) == [SKIPPED if scope == "write" else OK] * 3


# ---- ports ----


def test_ports_that_are_mixed_up(target: Target, client: Client) -> None:
    """Each is recognized, and which it should be is said."""
    checks = found(replace(target, url=f"http://{client.grpc}", grpc=client.http))
    assert "is the gRPC port" in checks["http"].message
    assert "4318" in checks["http"].advice
    assert "is an HTTP port" in checks["grpc"].message
    assert "4317" in checks["grpc"].advice
    assert states(checks, "http", "grpc", "all else") == [FAILED, FAILED, SKIPPED]


def test_ports_where_nobody_listens() -> None:
    """Nothing else is tried."""
    checks = found(Target(f"http://{NOBODY}", NOBODY, KEYS))
    assert "no service answers at http://localhost:1" in checks["http"].message
    assert "no gRPC service answers at localhost:1" in checks["grpc"].message
    assert states(checks, "http", "grpc", "all else") == [FAILED, FAILED, SKIPPED]


def test_a_server_that_is_not_ours(target: Target) -> None:
    """It knows no such service."""
    server = grpc.server(ThreadPoolExecutor(1))
    port = server.add_insecure_port("localhost:0")
    server.start()
    try:
        check = found(replace(target, grpc=f"localhost:{port}", keys={}))["grpc"]
    finally:
        server.stop(None)
    assert "is gRPC, and no apinalytics service" in check.message


def test_tls_where_there_is_none(target: Target) -> None:
    """A service in clear text is asked by https."""
    checks = found(replace(target, url=target.url.replace("http:", "https:")))
    assert "does no TLS that works here" in checks["tls of http"].message
    assert "does no TLS" in checks["tls of grpc"].message
    assert states(checks, "http", "grpc", "all else") == [FAILED, FAILED, SKIPPED]


# ---- what answers by HTTP ----

Answers = Callable[[str], tuple[int, Any, Mapping[str, str]]]


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: clients hang up."""


@contextmanager
def http_server(
    answers: Answers, pair: Pair | None = None, files: Path = Path(), host: str = "127.0.0.1"
) -> Iterator[str]:
    """Run a server that answers to paths with status, JSON or text, and headers; give its address.

    Args:
        answers: From a path to the answer.
        pair: Certificate and key to do TLS with, or None.
        files: Where to write these.
        host: Address of this machine to listen on.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer()

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self._answer()

        def _answer(self) -> None:
            status, content, headers = answers(self.path)
            body = (content if isinstance(content, str) else json.dumps(content)).encode()
            self.send_response_only(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

    server = _Server((host, 0), Handler)
    if pair is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        written = pair.write(files)
        context.load_cert_chain(written.certificate, written.key)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"{'localhost' if host == '127.0.0.1' else host}:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


METRICS = "apinalytics_disk_free_bytes {free}\napinalytics_disk_min_free_bytes 1e9\n"


def service_that_says(
    version: str | None = __version__,
    clock_s: float | None = 0.0,
    reasons: list[str] | None = None,
    free: str = "5e9",
    metrics: int = 200,
) -> Answers:
    """Return the answers of a service, as far as they need no key."""

    def answers(path: str) -> tuple[int, Any, Mapping[str, str]]:
        date = {} if clock_s is None else {"Date": formatdate(time.time() + clock_s, usegmt=True)}
        if path == "/health/live":
            return 200, {"status": "live", **({"version": version} if version else {})}, date
        if path == "/health/ready":
            return (503 if reasons else 200), {"status": "…", "reasons": reasons or []}, date
        if path == "/metrics":
            return metrics, METRICS.format(free=free), date
        return 404, {}, date

    return answers


@pytest.mark.parametrize(
    ("answers", "name", "state", "words"),
    [
        (service_that_says(), "version", OK, f"the service is {__version__}"),
        (service_that_says("0.999.0"), "version", FAILED, "the service is 0.999.0, this program"),
        (service_that_says(f"{__version__}.post1"), "version", OK, "this program"),
        (service_that_says(None), "version", SKIPPED, "does not say its version"),
        (service_that_says(None), "probes", SKIPPED, "not sent"),
        (service_that_says(clock_s=None), "clock", SKIPPED, "does not say its time"),
        (service_that_says(clock_s=20), "clock", OK, "within 2"),
        (service_that_says(clock_s=90), "clock", FAILED, "s behind the service's"),
        (service_that_says(clock_s=-90), "clock", FAILED, "s ahead of the service's"),
        (service_that_says(reasons=["the disk is full", "so it is"]), "ready", FAILED,
         "no data is taken now: the disk is full, so it is"),
        (service_that_says(free="1.2e9"), "disk", OK, "1.2 GB are free"),
        (service_that_says(free="0.9e9"), "disk", FAILED, "0.9 GB are free where the data is, and"),
        (service_that_says(free="NaN"), "disk", SKIPPED, "does not say it"),
        (service_that_says(free="what"), "disk", SKIPPED, "does not say it"),
        (service_that_says(metrics=403), "disk", SKIPPED, "a proxy may keep it away"),
        (service_that_says(), "write key", FAILED, "the service answers with 404"),
        (lambda path: (200, "<html>", {}), "http", FAILED, "is no apinalytics service"),
        (lambda path: (404, {"error": "?"}, {}), "http", FAILED, "answers with 404, and is no"),
    ],
)  # fmt: skip
def test_what_answers_by_http(answers: Answers, name: str, state: State, words: str) -> None:
    """Version, clock, disk and readiness are those that it says; anything else is no service."""
    with http_server(answers) as address:
        check = found(Target(f"http://{address}", NOBODY, KEYS), 0)[name]
    assert check.state is state
    assert words in check.message
    assert bool(check.advice) is (state is FAILED)


def test_a_probe_that_no_query_finds(target: Target) -> None:
    """A store that is behind, for longer than one waits."""

    def answers(path: str) -> tuple[int, Any, Mapping[str, str]]:
        if path == "/1/event/":
            return 200, {"received": 1}, {"X-Record-Id": "ab" * 16}
        if path.startswith("/1/ledger/"):
            return 200, {"rows": []}, {}
        if path in ("/1/fields/", "/1/applications/"):
            return 200, {}, {}
        return service_that_says()(path)

    with http_server(answers) as address:
        checks = found(replace(target, url=f"http://{address}"), 0)
    assert "not found by a query within 0 s" in checks["json event"].message
    # That one was taken by another service.
    assert checks["span by grpc"].state is FAILED
    assert "the service answers with 404" in checks["span by http"].message


# ---- TLS ----


@pytest.mark.parametrize(
    ("days", "trusts", "host", "state", "words"),
    [
        (90, True, "127.0.0.1", OK, "the certificate is for localhost, its CA is trusted, valid"),
        (5, True, "127.0.0.1", FAILED, "for 4 days more"),
        (-0.5, True, "127.0.0.1", FAILED, "the certificate expired on"),
        (90, False, "127.0.0.1", FAILED, "the certificate is not trusted"),
        (90, True, "127.0.0.2", FAILED, "it is for localhost, 127.0.0.1"),
    ],
)
def test_certificates(
    tmp_path: Path, days: float, trusts: bool, host: str, state: State, words: str
) -> None:
    """Expiry, CA and name, of both ports."""
    ca_file = tmp_path / "ca.pem"
    ca_file.write_bytes((CA if trusts else Authority("another")).pem)
    pair = CA.issue(days=days)
    with http_server(service_that_says(), pair, tmp_path, host) as address:
        checks = list(check_tls(Target(f"https://{address}", address, ca_file=ca_file)))
    assert checks[0].state is state
    assert words in checks[0].message
    assert [check.name for check in checks] == ["tls of http", "tls of grpc"]


def test_a_port_that_cannot_be_reached_by_tls() -> None:
    """Nor a CA that cannot be read."""
    there = Target(f"https://{NOBODY}", NOBODY)
    assert ["cannot be reached" in check.message for check in check_tls(there)] == [True, True]
    there = replace(there, ca_file=Path("/nowhere/ca.pem"))
    assert ["cannot use /nowhere" in check.message for check in check_tls(there)] == [True, True]


def test_clear_text_to_another_machine_is_said() -> None:
    """It is not wrong in a network of one's own; one should know."""
    (check,) = check_tls(Target("http://192.0.2.1:4318", "192.0.2.1:4317"))
    assert (check.state, "can read keys and data" in check.message) == (SKIPPED, True)


# ---- the environment of an SDK ----

LOCAL = Target("http://localhost:4318", "localhost:4317")


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"OTEL_SDK_DISABLED": "True"}, ["OTEL_SDK_DISABLED is true"]),
        ({"OTEL_TRACES_EXPORTER": "none"}, ["OTEL_TRACES_EXPORTER is none"]),
        ({"OTEL_TRACES_EXPORTER": "console, zipkin"}, ["is console, zipkin"]),
        ({"OTEL_TRACES_EXPORTER": "console,otlp"}, []),
        ({"OTEL_TRACES_EXPORTER": "apinalytics"}, []),
        ({"OTEL_TRACES_SAMPLER": "parentbased_always_off"}, ["SAMPLER is parentbased_always_off"]),
        ({"OTEL_TRACES_SAMPLER": "always_off", "OTEL_SDK_DISABLED": "true"}, ["DISABLED", "off"]),
        ({"OTEL_SERVICE_NAME": "a"}, []),
        (
            {
                "OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:4318",
                "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
            },
            ["the protocol is grpc, and the endpoint http://localhost:4318 the port of http"],
        ),
        (
            {
                "OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:4318",
                "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://localhost:4317/v1/traces",
                "OTEL_EXPORTER_OTLP_PROTOCOL": "http/json",
            },
            ["the port of grpc"],
        ),
        (
            {
                "OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:4317",
                "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
            },
            [],
        ),
        (
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://h:x", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
            [],
        ),
    ],
)
def test_what_keeps_an_sdk_from_sending(variables: dict[str, str], words: list[str]) -> None:
    """Names and meanings are the specification's."""
    checks = list(check_environment(LOCAL, variables))
    assert [check.state for check in checks] == ([FAILED] * len(words) or [OK])
    assert all(part in check.message for part, check in zip(words, checks, strict=False))


def test_without_an_sdk_nothing_is_said_of_it() -> None:
    """Variables of others do not matter."""
    (check,) = check_environment(LOCAL, {"PATH": "/bin", "OTEL_TRACES_EXPORTER": ""})
    assert check.state is SKIPPED
