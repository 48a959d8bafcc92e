# SPDX-License-Identifier: Apache-2.0
"""`apinalytics doctor` and `config` as a user runs them: what is printed, and exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.test_tls import CA, CLIENT_CA, tls_service
from tests.integration.test_doctor import http_server, service_that_says
from tests.support.clients import ADMIN_HEADERS, ADMIN_KEY, READ_HEADERS, READ_KEY, WRITE_KEY
from tests.support.service_process import ServiceProcess, environment, service_process
from tests.support.waiting import wait_for

KEYS = {"write_key": WRITE_KEY, "read_key": READ_KEY, "admin_key": ADMIN_KEY}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    """Run a service."""
    with service_process(tmp_path_factory.mktemp("service") / "data") as running:
        yield running


def run(
    *arguments: str, encoding: str = "utf-8", **settings: str
) -> subprocess.CompletedProcess[str]:
    """Run a command into a pipe."""
    return subprocess.run(
        [sys.executable, "-m", "otel_apinalytics", *arguments],
        env=environment(**settings) | {"PYTHONIOENCODING": encoding},
        capture_output=True,
        text=True,
        encoding=encoding,
        check=False,
    )


def doctor(
    service: ServiceProcess, *arguments: str, **settings: str
) -> subprocess.CompletedProcess[str]:
    """Run the doctor against the service, with these keys."""
    where = {"http": service.client.http, "grpc": service.client.grpc}
    return run("doctor", *arguments, **{**where, **settings})


def test_a_service_that_is_well(service: ServiceProcess) -> None:
    """A line for each check, and exit code 0."""
    ended = doctor(service, **KEYS)
    assert ended.returncode == 0, ended.stdout
    *lines, empty, summary = ended.stdout.splitlines()
    assert (empty, summary) == ("", "12 fine, 0 wrong, 2 not checked")
    assert [line[0] for line in lines].count("✓") == 12
    assert ended.stderr == ""


def test_a_wrong_key(service: ServiceProcess) -> None:
    """What to do is said below it; exit code 1; the key is nowhere."""
    ended = doctor(service, **{**KEYS, "read_key": "not-a-known-key"})
    assert ended.returncode == 1
    lines = ended.stdout.splitlines()
    (place,) = (number for number, line in enumerate(lines) if line.startswith("✗"))
    assert "read key" in lines[place]
    assert "→ copy it anew into APINALYTICS_READ_KEY" in lines[place + 1]
    assert "not-a-known-key" not in ended.stdout + ended.stderr


def test_a_terminal_without_such_characters(service: ServiceProcess) -> None:
    """Words stand for marks."""
    ended = doctor(service, encoding="ascii", **{**KEYS, "read_key": "unknown"})
    assert ended.returncode == 1, ended.stderr
    words = [line.split()[0] for line in ended.stdout.splitlines() if line]
    assert {"ok", "FAIL", "skip", "->"} <= set(words)


def test_as_json(service: ServiceProcess) -> None:
    """The same for programs; a check has name, state, message and advice."""
    ended = doctor(service, "--json", write_key=WRITE_KEY)
    found = json.loads(ended.stdout)
    assert (ended.returncode, found["healthy"]) == (0, True)
    assert found["server"] == f"http://{service.client.http}"
    assert all(set(c) == {"name", "state", "message", "advice"} for c in found["checks"])
    assert {check["state"] for check in found["checks"]} == {"ok", "skipped"}
    ended = doctor(service, "--json", http="localhost:1")
    assert (ended.returncode, json.loads(ended.stdout)["healthy"]) == (1, False)


def test_keys_in_files_and_another_address(service: ServiceProcess, tmp_path: Path) -> None:
    """As for all settings; a URL with a slash at its end is one."""
    files = {}
    for name, key in KEYS.items():
        (tmp_path / name).write_text(f"{key}\n")
        files[f"{name}_file"] = str(tmp_path / name)
    url = f"http://{service.client.http}/"
    ended = run("doctor", "--server", url, "--grpc", service.client.grpc, **files)
    assert ended.returncode == 0, ended.stdout


def test_a_service_on_this_machine(tmp_path: Path) -> None:
    """It is found by its data directory, with both of its ports, and needs no admin key."""
    data_dir = tmp_path / "data"
    keys = {"write_key": WRITE_KEY, "read_key": READ_KEY}
    config = tmp_path / "apinalytics.toml"
    config.write_text(f'data_dir = "{data_dir}"\n')
    with service_process(data_dir):
        for named in ((), ("--data-dir", str(data_dir)), ("--config", str(config))):
            settings = keys if named else {**keys, "data_dir": str(data_dir)}
            ended = run("doctor", *named, **settings)
            assert ended.returncode == 0, ended.stdout
            assert "12 fine, 0 wrong, 2 not checked" in ended.stdout
        # What is named otherwise is not looked for here.
        ended = run("doctor", "--server", "localhost:1", data_dir=str(data_dir))
        assert "localhost:1" in ended.stdout
    ended = run("doctor", "--data-dir", str(tmp_path))
    assert (ended.returncode, ended.stderr) == (1, f"apinalytics: no service runs in {tmp_path}\n")


def test_with_tls_and_client_certificates(tmp_path: Path) -> None:
    """All is checked by TLS too; without a certificate of one's own it says that one is wanted."""
    with tls_service(tmp_path, CA.issue(days=60), CLIENT_CA) as tls:
        (tmp_path / "trusted.pem").write_bytes(CA.pem)
        (tmp_path / "client").mkdir()
        shown = CLIENT_CA.issue().write(tmp_path / "client")
        where = ("--server", f"https://localhost:{tls.http}", "--grpc", f"localhost:{tls.grpc}")
        trusting = (*where, "--ca-file", str(tmp_path / "trusted.pem"))
        own = (
            *("--client-certificate-file", str(shown.certificate)),
            *("--client-key-file", str(shown.key)),
        )
        ended = run("doctor", *trusting, *own, **KEYS)
        assert ended.returncode == 0, ended.stdout
        assert ended.stdout.count("its CA is trusted") == 2
        ended = run("doctor", *trusting, **KEYS)
        assert ended.returncode == 1
        assert "does it want a client certificate?" in ended.stdout
        ended = run("doctor", *where, **KEYS)
        assert ended.returncode == 1
        assert ended.stdout.count("a private CA is named by --ca-file") >= 2


def test_ready(service: ServiceProcess) -> None:
    """For whatever watches over the service: a word, and an exit code."""
    ended = run("ready", http=service.client.http)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "ready\n", "")
    with http_server(service_that_says(reasons=["the disk is nearly full"])) as address:
        ended = run("ready", "--server", address)
        assert (ended.returncode, ended.stderr) == (1, "")
        assert "the disk is nearly full" in ended.stdout
    with http_server(lambda path: (200, "<html>", {})) as address:
        ended = run("ready", "--server", address)
        assert (ended.returncode, ended.stdout) == (1, "")
        assert "answers with 200, and is no apinalytics service" in ended.stderr
    ended = run("ready", http="localhost:1")
    assert (ended.returncode, ended.stdout) == (1, "")
    assert "no service answers at http://localhost:1" in ended.stderr
    ended = run("ready", "--client-certificate-file", "/nowhere", http="localhost:1")
    assert "cannot use /nowhere" in ended.stderr


def test_ready_with_tls(tmp_path: Path) -> None:
    """Whatever name and CA its certificate has: nothing secret is sent."""
    with tls_service(tmp_path, CA.issue()) as tls:
        http, certificate = f"127.0.0.2:{tls.http}", str(tmp_path / "cert.pem")
        ended = run("ready", http=http, tls_certificate_file=certificate)
        assert (ended.returncode, ended.stdout) == (0, "ready\n"), ended.stderr


def test_refusals_survive_a_restart(tmp_path: Path) -> None:
    """The status says after it what was refused before it, and since when nothing arrived."""
    data_dir = tmp_path / "data"

    def status(service: ServiceProcess) -> dict[str, Any]:
        found: dict[str, Any] = service.client.request("GET", "/1/status/", headers=READ_HEADERS)[1]
        return found

    wrong = {"X-Auth-User": "shop", "X-Auth-Key": READ_KEY, "Content-Type": "application/json"}
    with service_process(data_dir) as service:
        wanted = json.dumps({"scope": "write"}).encode()
        _, made, _ = service.client.request("POST", "/1/keys/", wanted, ADMIN_HEADERS)
        service.client.request("DELETE", f"/1/keys/{made['key_id']}/", None, ADMIN_HEADERS)
        revoked = {**wrong, "X-Auth-Key": made["key"]}
        assert service.client.request("POST", "/1/event/", b"[]", revoked)[0] == 401
        for _ in range(2):
            assert service.client.request("POST", "/1/event/", b"[]", wrong)[0] == 403
        before = status(service)["last_refusal"]
        assert service.stop() == 0
    with service_process(data_dir) as service:
        after = wait_for(lambda: status(service), until=lambda found: bool(found["last_refusal"]))
    assert isinstance(before, dict)
    # Both are of one minute: which was the last is not known any more.
    refusals = {each["key_id"]: each["last_refusal"] for each in after["senders"]}
    assert after["last_refusal"] in refusals.values()
    of_wrong = refusals[before["key_id"]]
    assert all(of_wrong[name] == before[name] for name in ("transport", "kind", "key_id"))
    words = "they came with a key that was revoked, or has expired"
    assert refusals[made["key_id"]]["reason"] == words


@pytest.mark.parametrize(
    ("arguments", "settings", "message"),
    [
        (("config",), {"grcp": "a:1"}, "unknown setting APINALYTICS_GRCP; did you mean"),
        (("config", "--config", "missing.toml"), {}, "there is no settings file missing.toml"),
        (("config", "--query-timeout-s", "0"), {}, "setting query_timeout_s: "),
        (("config", "--mapping", "x"), {}, "setting mapping: --mapping is not JSON"),
        (("config",), {"write_key_file": "/nowhere"}, "cannot read /nowhere: No such file"),
        (("doctor",), {"read_key": "a", "read_key_file": "b"}, "read_key and read_key_file: give"),
        (("serve",), {"admin_key_file": "/nowhere"}, "setting admin_key_file: cannot read"),
    ],
)
def test_a_setting_that_is_wrong(
    arguments: tuple[str, ...], settings: dict[str, str], message: str, tmp_path: Path
) -> None:
    """One line, and exit code 2."""
    ended = subprocess.run(
        [sys.executable, "-m", "otel_apinalytics", *arguments],
        env=environment(**settings),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stdout) == (2, "")
    (line,) = ended.stderr.splitlines()
    assert line.startswith("apinalytics: ")
    assert message in line
