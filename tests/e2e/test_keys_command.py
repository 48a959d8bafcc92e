# SPDX-License-Identifier: Apache-2.0
"""`apinalytics apps` and `keys`: on a terminal, into a pipe, and what goes wrong."""

from __future__ import annotations

import json
import os
import stat
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.backups import run_command
from tests.support.clients import ADMIN_KEY, APPLICATION, READ_KEY
from tests.support.service_process import (
    ServiceProcess,
    environment,
    serve_command,
    service_process,
)
from tests.support.terminal import on_terminal


@dataclass(frozen=True, slots=True)
class Running:
    """A service and its data directory."""

    service: ServiceProcess
    data_dir: Path

    def run(self, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
        """Run a command into a pipe, with the admin key in the environment."""
        given = {"admin_key": ADMIN_KEY, "http": self.service.client.http, **settings}
        return run_command(*arguments, **given)

    def ask(self, *arguments: str) -> Any:
        """Return the answer that a command prints into a pipe."""
        ended = self.run(*arguments)
        assert ended.returncode == 0, ended.stderr
        return json.loads(ended.stdout)

    def show(self, *arguments: str, type_in: str = "", code: int = 0) -> list[str]:
        """Return the lines that a command shows on a terminal."""
        given = {"admin_key": ADMIN_KEY, "http": self.service.client.http}
        with on_terminal(*arguments, columns=200, **given) as terminal:
            if type_in:
                terminal.read_until("[y/N]")
                os.write(terminal.descriptor, type_in.encode())
            lines = terminal.read().splitlines()
            assert terminal.process.wait(60) == code, lines
        return [line.rstrip() for line in lines]

    def status_of(self, secret: str) -> int:
        """Return the status of a question with a key."""
        client = self.service.client
        return client.request("GET", "/1/fields/", None, {"X-Auth-Key": secret})[0]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Run a service."""
    data_dir = tmp_path_factory.mktemp("service") / "data"
    with service_process(data_dir) as service:
        yield Running(service, data_dir)


def assert_one_line(ended: subprocess.CompletedProcess[str], *words: str) -> None:
    """The command failed, and says why in one line that has these words and no key."""
    assert ended.returncode == 1, ended.stderr
    assert ended.stdout == ""
    (line,) = ended.stderr.splitlines()
    for word in words:
        assert word in line
    assert ADMIN_KEY not in line.split()


def fields(lines: list[str]) -> dict[str, str]:
    """Return name and value of lines with one field each."""
    return {name: value.strip() for name, _, value in (line.partition(" ") for line in lines)}


def test_applications(running: Running) -> None:
    """From the first to the last day of one."""
    assert running.ask("apps", "create", "shop-2", "--name", "Shop")["name"] == "Shop"
    assert running.ask("apps", "create", "shop-2")["name"] == "Shop"
    assert running.ask("apps", "change", "shop-2", "--note", "two")["note"] == "two"
    assert fields(running.show("apps", "show", "shop-2"))["note"] == "two"
    header, *rows = running.show("apps", "list")
    assert header.split()[:2] == ["application", "name"]
    assert [row.split()[0] for row in rows][:2] == [APPLICATION, "shop-2"]
    listed = running.ask("apps", "list")["applications"]
    assert [each["application"] for each in listed][:2] == [APPLICATION, "shop-2"]
    hash_key = running.run("apps", "hash-key", "shop-2").stdout
    assert hash_key.startswith("aph_")
    assert hash_key.strip() in "\n".join(running.show("apps", "hash-key", "shop-2"))
    assert_one_line(running.run("apps", "remove", "shop-2"), "is removed for ever: say --yes")
    assert "Aborted" in running.show("apps", "remove", "shop-2", type_in="n\n", code=1)[-1]
    assert running.ask("apps", "show", "shop-2")["removed_at"] is None
    assert "removed_at" in "\n".join(running.show("apps", "remove", "shop-2", type_in="y\n"))
    assert running.ask("apps", "remove", "shop-2", "--yes")["removed_at"]


def test_a_new_key_into_a_pipe(running: Running) -> None:
    """Nothing but the key, for scripts; it is not shown again."""
    made = running.run("keys", "create", "read", "--name", "script", "--expires", "30d")
    assert (made.returncode, made.stderr) == (0, "")
    (secret,) = made.stdout.splitlines()
    assert running.status_of(secret) == 200
    (found,) = (each for each in running.ask("keys", "list")["keys"] if each["name"] == "script")
    assert found["expires_at"]
    shown = running.run("keys", "show", found["key_id"]).stdout
    assert secret not in shown
    assert json.loads(shown) == running.ask("keys", "show", found["key_id"])


def test_a_new_key_on_a_terminal(running: Running) -> None:
    """With all that is known of it."""
    lines = running.show(
        "keys", "create", "read", "--bound-to", "consumer_id:a:b", "--rows-per-minute", "1000",
        "--note", "\x9b31mred",
    )  # fmt: skip
    shown = fields(lines)
    assert running.status_of(shown["key"]) == 200
    assert shown["bound_to"] == "consumer_id:a:b"
    assert shown["rows_per_minute"] == "1,000"
    assert shown["expires_at"] == "-"
    assert shown["note"] == "�31mred"
    answer = running.ask("keys", "create", "write", "--json", "--requests-per-minute", "9")
    assert answer["key"].startswith("apw_")
    assert answer["requests_per_minute"] == 9


def test_a_key_from_its_making_to_its_end(running: Running) -> None:
    """Changed, rotated, revoked."""
    old = running.ask("keys", "create", "read", "--name", "page", "--json")
    changed = running.ask(
        "keys", "change", old["key_id"], "--name", "portal", "--note", "x", "--expires", "7d",
        "--requests-per-minute", "7", "--rows-per-minute", "8",
    )  # fmt: skip
    assert (changed["name"], changed["requests_per_minute"]) == ("portal", 7)
    changed = running.ask(
        "keys", "change", old["key_id"], "--expires", "never", "--requests-per-minute", "default"
    )
    assert (changed["expires_at"], changed["requests_per_minute"]) == (None, 6000)
    new = running.run("keys", "rotate", old["key_id"], "--overlap", "2h").stdout.strip()
    assert running.status_of(new) == running.status_of(old["key"]) == 200
    assert running.ask("keys", "show", old["key_id"])["expires_at"]
    lines = running.show("keys", "rotate", old["key_id"], "--overlap", "now", "--expires", "1d")
    assert fields(lines)["old"].startswith(f"{old['key_id']}, until ")
    assert running.status_of(old["key"]) == 401
    newest = fields(lines)
    assert running.status_of(newest["key"]) == 200
    assert running.ask("keys", "revoke", newest["key_id"])["state"] == "revoked"
    assert running.status_of(newest["key"]) == 401
    header, *rows = running.show("keys", "list", "--application", APPLICATION)
    assert header.split()[:4] == ["key_id", "application", "scope", "state"]
    states = {row.split()[0]: row.split()[3] for row in rows}
    assert (states[old["key_id"]], states[newest["key_id"]]) == ("expired", "revoked")


def test_a_service_on_this_machine_needs_no_key(running: Running) -> None:
    """Whoever may read its secret key file may administer it: nothing else is left there."""
    data_dir = ("--data-dir", str(running.data_dir))
    listed = run_command("apps", "list", *data_dir)
    assert json.loads(listed.stdout)["applications"][0]["application"] == APPLICATION
    # Also without a word, where settings name the directory.
    assert run_command("apps", "list", data_dir=str(running.data_dir)).stdout == listed.stdout
    left = running.data_dir / "service.json"
    assert stat.S_IMODE(left.stat().st_mode) == 0o600
    assert set(json.loads(left.read_text())) == {"url", "grpc", "number"}
    made = run_command("keys", "create", "admin", *data_dir)
    assert running.run("keys", "list", admin_key=made.stdout.strip()).returncode == 0


def test_a_data_directory_says_where_whatever_the_key_is(running: Running) -> None:
    """A key that is given goes to the service that is named, not to where settings listen."""
    named = ("--data-dir", str(running.data_dir), "--admin-key", ADMIN_KEY)
    elsewhere = {"http": "localhost:1"}
    ended = run_command("apps", "list", *named, **elsewhere)
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout)["applications"][0]["application"] == APPLICATION
    ended = run_command("apps", "list", *named, "--server", "localhost:1")
    assert_one_line(ended, "no service answers at http://localhost:1")


def test_settings_of_a_file(running: Running, tmp_path: Path) -> None:
    """Where it is, and the key."""
    config = tmp_path / "apinalytics.toml"
    config.write_text(f'http = "{running.service.client.http}"\nadmin_key = "{ADMIN_KEY}"\n')
    found = run_command("apps", "list", "--config", str(config))
    assert json.loads(found.stdout)["applications"]
    config.write_text(f'data_dir = "{running.data_dir}"\n')
    assert run_command("apps", "list", "--config", str(config)).stdout == found.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["apps", "show", "none"], ["refuses: there is no application none"]),
        (["apps", "create", "a b"], ["not an id of an application: a b", "allowed: 1 to 64"]),
        (["apps", "remove", APPLICATION, "--yes"], ["that the service made cannot be removed"]),
        (["keys", "show", "none"], ["refuses: there is no key none"]),
        (["keys", "revoke", "a?b"], ["there is no key a?b"]),
        (["keys", "create", "read", "--expires", "soon"], ["expires_at is not a time: soon"]),
        (["keys", "create", "read", "--expires", "2001-01-01T00:00:00Z"], ["not a time to come"]),
        (["keys", "create", "read", "--application", "none"], ["there is no application none"]),
        (["keys", "create", "read", "--bound-to", "url:/"], ["bound_to", "plan_id", "url"]),
        (["keys", "create", "write", "--bound-to", "plan_id:x"], ["bound_to is for read keys"]),
        (["keys", "create", "read", "--rows-per-minute", "0"], ["rows_per_minute", "0"]),
        (["keys", "create", "read", "--name", "x" * 200], ["name: string should have at most"]),
        (["keys", "list", "--application", "none"], ["there is no application none"]),
        (["keys", "list", "--admin-key", READ_KEY], ["this is a read key; an admin key is needed"]),
        (["keys", "list", "--admin-key", "unknown"], ["refuses: unknown application or key"]),
        (["keys", "list", "--server", "localhost:1"], ["no service answers at"]),
        (["keys", "list", "--data-dir", "/nowhere"], ["none runs in /nowhere", "ADMIN_KEY"]),
    ],
)
def test_what_goes_wrong_is_one_line(
    running: Running, arguments: list[str], words: list[str]
) -> None:
    """With what was given, and what is allowed."""
    assert_one_line(running.run(*arguments), *words)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["apps", "change", "shop"], ["nothing to change", "--name"]),
        (["keys", "change", "none"], ["nothing to change"]),
        (["keys", "change", "none", "--rows-per-minute", "many"], ["'many' is no number"]),
        (["keys", "create", "read", "--bound-to", "acme"], ["'acme' is not FIELD:VALUE"]),
        (["keys", "create", "root"], ["root"]),
        (["keys", "create"], ["SCOPE"]),
    ],
)
def test_options_that_do_not_fit(running: Running, arguments: list[str], words: list[str]) -> None:
    """As of any command: code 2, and how to use it."""
    ended = running.run(*arguments)
    assert ended.returncode == 2
    assert all(word in ended.stderr for word in words), ended.stderr
    assert "Traceback" not in ended.stderr


def test_no_key(tmp_path: Path, running: Running) -> None:
    """What would help is said; a key of this machine goes to no server that is named."""
    nowhere = {"data_dir": str(tmp_path)}
    assert_one_line(run_command("keys", "list", **nowhere), "APINALYTICS_ADMIN_KEY", "--data-dir")
    here = {"data_dir": str(running.data_dir)}
    ended = run_command("keys", "list", "--server", running.service.client.http, **here)
    assert_one_line(ended, "no admin key: set APINALYTICS_ADMIN_KEY")


def test_a_data_directory_that_is_not_ours(running: Running, tmp_path: Path) -> None:
    """The file that cannot be read is named."""
    (tmp_path / "service.json").write_bytes((running.data_dir / "service.json").read_bytes())
    ended = run_command("keys", "list", "--data-dir", str(tmp_path))
    assert_one_line(ended, f"cannot read {tmp_path / 'secret.key'}", "as the user", "ADMIN_KEY")
    (tmp_path / "secret.key").write_bytes(bytes(32))
    ended = run_command("keys", "list", "--data-dir", str(tmp_path))
    assert_one_line(ended, "refuses: unknown application or key")


def test_a_service_that_has_ended(tmp_path: Path) -> None:
    """It says no more where it is; one that was killed is not taken for one that runs."""
    data_dir = ("--data-dir", str(tmp_path))
    with service_process(tmp_path) as service:
        service.kill()
        http = service.client.http
        assert_one_line(run_command("keys", "list", *data_dir), "no service answers at", http)
    with service_process(tmp_path) as service:
        assert run_command("keys", "list", *data_dir).returncode == 0
        assert service.stop() == 0
        assert_one_line(run_command("keys", "list", *data_dir), "none runs in")


def test_keys_of_settings(tmp_path: Path) -> None:
    """What was revoked or removed, a start does not bring back."""
    data_dir = ("--data-dir", str(tmp_path))
    read = {"X-Auth-Key": READ_KEY}
    with service_process(tmp_path) as service:
        assert service.client.request("GET", "/1/fields/", None, read)[0] == 200
        listed = json.loads(run_command("keys", "list", *data_dir).stdout)["keys"]
        (found,) = (each for each in listed if each["scope"] == "read")
        assert found["name"] == "from the settings"
        assert run_command("keys", "revoke", found["key_id"], *data_dir).returncode == 0
        assert run_command("apps", "create", "gone", *data_dir).returncode == 0
        assert run_command("apps", "remove", "gone", "--yes", *data_dir).returncode == 0
        assert service.stop() == 0
    with service_process(tmp_path) as service:
        assert service.client.request("GET", "/1/fields/", None, read)[0] == 401
        again = json.loads(run_command("keys", "list", *data_dir).stdout)["keys"]
        assert len(again) == len(listed)
        assert service.stop() == 0
    command = serve_command(*data_dir, "--grpc", "localhost:0", "--http", "localhost:0")
    of_removed = environment(application_id="gone")
    ended = subprocess.run(command, env=of_removed, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "the application 'gone' was removed" in ended.stderr
