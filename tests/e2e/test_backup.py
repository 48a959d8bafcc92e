# SPDX-License-Identifier: Apache-2.0
"""`apinalytics backup` and `restore` as a user runs them: under load, and what can go wrong."""

from __future__ import annotations

import io
import json
import os
import shutil
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from otel_apinalytics.backup.unpack import unpack
from tests.e2e.test_tls import CA, CLIENT_CA, tls_service
from tests.support.backups import make_backup, restore, run_command
from tests.support.clients import (
    ADMIN_KEY,
    FAR_FUTURE,
    READ_HEADERS,
    READ_KEY,
    WRITE_KEY,
    Client,
)
from tests.support.otlp import CALL, INTERNAL, make_request, make_span
from tests.support.relay import relay
from tests.support.service_process import ServiceProcess, environment, service_process
from tests.support.waiting import wait_for

_METADATA = (("x-auth-key", WRITE_KEY),)
_SPANS = 20
# More than what lies between the service and a client that reads nothing.
_LARGE_BYTES = 12_000_000
_API_KEY = {"http.request.header.x-api-key": ["Zq7xVw2Kp9-secret"]}


class Sender(threading.Thread):
    """Sends requests, each a consumer of its own, until it is told to finish."""

    def __init__(self, client: Client, name: str) -> None:
        super().__init__(daemon=True)
        self._client = client
        self._prefix = name
        self._finishing = threading.Event()
        self.sent: list[str] = []
        self.acknowledged: list[str] = []

    def finish(self) -> None:
        """End with the request under way."""
        self._finishing.set()
        self.join()

    def run(self) -> None:
        """Send calls, and a span that is none."""
        with self._client.exporter() as call:
            while not self._finishing.is_set():
                consumer = f"{self._prefix}-{len(self.sent)}"
                spans = [make_span({**CALL, "enduser.id": consumer}) for _ in range(_SPANS)]
                self.sent.append(consumer)
                request = make_request(*spans, make_span(kind=INTERNAL))
                call(request, metadata=_METADATA, timeout=30)
                self.acknowledged.append(consumer)


def consumers(client: Client) -> dict[str, int]:
    """Return the number of all events by consumer."""
    groups = client.groups({"group": "consumer_id"}, 0, FAR_FUTURE)
    return {consumer: int(points[0][1]) for consumer, points in groups.items()}


def totals(client: Client) -> dict[str, int]:
    """Return the ledger's totals of all times."""
    _, answer, _ = client.request("GET", f"/1/ledger/0/{FAR_FUTURE}/", None, READ_HEADERS)
    found: dict[str, int] = {}
    for row in answer["rows"]:
        found[row["outcome"]] = found.get(row["outcome"], 0) + row["items"]
    return found


def files_of(directory: Path) -> dict[str, bytes]:
    """Return the content of all files."""
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file() and not path.is_symlink()
    }


def assert_one_line(ended: subprocess.CompletedProcess[str], *words: str, code: int = 1) -> None:
    """The command failed, and says why in one line that has these words and no key."""
    assert ended.returncode == code, ended.stderr
    assert ended.stdout == ""
    (line,) = ended.stderr.splitlines()
    for word in words:
        assert word in line
    assert ADMIN_KEY not in line.split()


def test_a_backup_under_load(tmp_path: Path) -> None:
    """What was acknowledged before is in it, whole and once; what was not sent yet is not."""
    with service_process(tmp_path / "data") as service:
        senders = [Sender(service.client, f"s{number}") for number in range(3)]
        for sender in senders:
            sender.start()
        wait_for(lambda: sum(len(sender.acknowledged) for sender in senders) >= 100)
        acknowledged = [consumer for sender in senders for consumer in list(sender.acknowledged)]
        made = make_backup(service.client.http, tmp_path / "backup")
        sent = [consumer for sender in senders for consumer in list(sender.sent)]
        wait_for(lambda: sum(len(sender.acknowledged) for sender in senders) > len(sent))
        for sender in senders:
            sender.finish()
        everything = sum(len(sender.acknowledged) for sender in senders)
        wait_for(lambda: consumers(service.client), until=lambda found: len(found) == everything)
        assert service.stop() == 0
    assert made.returncode == 0, made.stderr
    assert len(sent) < everything

    restored = restore(tmp_path / "backup", tmp_path / "restored")
    assert restored.returncode == 0, restored.stderr
    assert f"apinalytics serve --data-dir {tmp_path / 'restored'}" in restored.stdout
    for directory in ("restored", "backup"):
        with service_process(tmp_path / directory) as service:
            counted = consumers(service.client)
            assert set(acknowledged) <= set(counted) <= set(sent)
            assert set(counted.values()) == {_SPANS}
            stored, filtered = len(counted) * _SPANS, len(counted)
            assert totals(service.client) == {
                "received": stored + filtered,
                "stored": stored,
                "filtered": filtered,
            }
            service.client.export(make_request(make_span({**CALL, "enduser.id": "new"})))
            wait_for(lambda: consumers(service.client).get("new"))
            assert service.stop() == 0
        assert not (tmp_path / directory / "log" / "set-aside").exists()


def test_hashes_are_the_same_after_a_restore(tmp_path: Path) -> None:
    """The same API key is the same consumer; the keys of the service work."""
    request = make_request(make_span({"url.path": "/", "http.request.method": "GET", **_API_KEY}))
    (tmp_path / "backup").mkdir()
    with service_process(tmp_path / "data") as service:
        service.client.export(request)
        # At once: nobody waits until it is loaded, but the service.
        headers = {"X-Auth-Key": ADMIN_KEY}
        status, archive, _ = service.client.request("GET", "/1/backup/", None, headers)
        assert status == 200
        unpack(io.BytesIO(archive), tmp_path / "backup")
        (before,) = wait_for(lambda: consumers(service.client))
    assert before.startswith("key_")
    assert restore(tmp_path / "backup", tmp_path / "new" / "restored").returncode == 0
    unset = {"application_id": "", "write_key": "", "read_key": "", "admin_key": ""}
    with service_process(tmp_path / "new" / "restored", **unset) as service:
        assert "key    ap" not in service.output
        assert consumers(service.client) == {before: 1}
        again = make_request(
            make_span({"url.path": "/b", "http.request.method": "GET", **_API_KEY})
        )
        service.client.export(again)
        wait_for(lambda: consumers(service.client), until=lambda found: found == {before: 2})


def test_what_is_written_is_its_owner_s_alone(tmp_path: Path) -> None:
    """Files, directories, and what is made of them."""
    with service_process(tmp_path / "data") as service:
        service.client.export(make_request(make_span()))
        made = make_backup(service.client.http, tmp_path / "backup")
    assert made.returncode == 0, made.stderr
    assert restore(tmp_path / "backup", tmp_path / "restored").returncode == 0
    for root in (tmp_path / "backup", tmp_path / "restored"):
        for path in [root, *root.rglob("*")]:
            if not path.is_symlink() and path.name != "lock":
                assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), (
                    path
                )
    # Nothing of the one is the other's.
    (tmp_path / "backup" / "secret.key").write_bytes(b"")
    assert (tmp_path / "restored" / "secret.key").stat().st_size == 32


def test_a_secret_key_that_is_kept_elsewhere(tmp_path: Path) -> None:
    """It is not in the backup; neither the restore nor a start goes without it."""
    key_file, other = tmp_path / "secrets" / "key", tmp_path / "other"
    key_file.parent.mkdir()
    other.write_bytes(os.urandom(32))
    with service_process(tmp_path / "data", secret_key_file=str(key_file)) as service:
        service.client.export(make_request(make_span()))
        made = make_backup(service.client.http, tmp_path / "backup")
    assert made.returncode == 0, made.stderr
    assert "keep a copy" in made.stdout
    assert key_file.read_bytes() not in files_of(tmp_path / "backup").values()

    target = tmp_path / "restored"
    assert_one_line(
        restore(tmp_path / "backup", target), "secret key is not in", "--secret-key-file"
    )
    for wrong in (other, tmp_path / "missing"):
        failed = restore(tmp_path / "backup", target, secret_key_file=str(wrong))
        assert_one_line(failed, "secret key", str(wrong))
    assert not target.exists()
    restored = restore(tmp_path / "backup", target, secret_key_file=str(key_file))
    assert restored.returncode == 0, restored.stderr
    assert f"APINALYTICS_SECRET_KEY_FILE={key_file} apinalytics serve" in restored.stdout

    for settings in ({}, {"secret_key_file": str(other)}):
        arguments = ("--data-dir", str(target), "--grpc", "localhost:0", "--http", "localhost:0")
        failed = run_command("serve", *arguments, **settings)
        assert_one_line(failed, "secret key", code=2)
    assert not (target / "secret.key").exists()
    with service_process(target, secret_key_file=str(key_file)) as service:
        assert consumers(service.client) == {"alice": 1}


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    """Run a service whose backup does not fit into what lies between it and a client."""
    with service_process(tmp_path_factory.mktemp("large")) as service:
        sent = 0
        while sent < _LARGE_BYTES:
            spans = [
                make_span({**CALL, "url.path": f"/{os.urandom(1000).hex()}"}) for _ in range(1000)
            ]
            service.client.export(make_request(*spans))
            sent += 1000 * len(spans)
        yield service


def directory_of(service: ServiceProcess) -> Path:
    """Return the data directory of a service."""
    return Path(os.readlink(f"/proc/{service.process.pid}/cwd"))


def test_one_backup_at_a_time(large: ServiceProcess, tmp_path: Path) -> None:
    """The second is told to come again; a client that goes away makes room, and leaves nothing."""
    shadow = directory_of(large) / "db" / "shadow"
    with relay(large.client.http, 1_000_000) as first:
        ended: list[subprocess.CompletedProcess[str]] = []
        target = tmp_path / "first"
        running = threading.Thread(target=lambda: ended.append(make_backup(first.address, target)))
        running.start()
        assert first.holds.wait(60)
        assert shadow.exists()
        headers = {"X-Auth-Key": ADMIN_KEY}
        status, body, answer = large.client.request("GET", "/1/backup/", None, headers)
        assert (status, body["error"]["code"]) == (503, "unavailable")
        assert int(answer["Retry-After"]) > 0
        assert_one_line(make_backup(large.client.http, tmp_path / "second"), "already")
        # Events are taken and loaded meanwhile.
        large.client.export(make_request(make_span({**CALL, "enduser.id": "meanwhile"})))
        wait_for(lambda: consumers(large.client).get("meanwhile"))
    running.join()
    assert_one_line(ended[0], "cut off", "nothing is left")
    wait_for(lambda: not shadow.exists())
    third = make_backup(large.client.http, tmp_path / "third")
    assert third.returncode == 0, third.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["third"]
    assert not shadow.exists()


@pytest.mark.parametrize("is_killed", [True, False], ids=["kill", "stop"])
def test_an_end_in_the_middle(large: ServiceProcess, tmp_path: Path, *, is_killed: bool) -> None:
    """The client has nothing, and says so; of what the service froze, nothing stays."""
    made = make_backup(large.client.http, tmp_path / "data")
    assert made.returncode == 0, made.stderr
    shadow = tmp_path / "data" / "db" / "shadow"
    with service_process(tmp_path / "data") as service:
        with relay(service.client.http, 2_000_000) as held:
            ended: list[subprocess.CompletedProcess[str]] = []
            running = threading.Thread(
                target=lambda: ended.append(make_backup(held.address, tmp_path / "backup"))
            )
            running.start()
            assert held.holds.wait(60)
            assert shadow.exists()
            if is_killed:
                service.kill()
            else:
                assert service.stop() == 0
        running.join()
    assert_one_line(ended[0], "cut off", "nothing is left")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data"]
    assert shadow.exists() is is_killed
    with service_process(tmp_path / "data") as service:
        assert not shadow.exists()
        assert consumers(service.client) == consumers(large.client)


def test_a_full_disk(large: ServiceProcess, tmp_path: Path) -> None:
    """A write that fails is one line, and leaves nothing; no file of a megabyte fits here."""
    command = [sys.executable, "-m", "otel_apinalytics", "backup", str(tmp_path / "backup")]
    # In blocks of 512 bytes.
    limited = ["sh", "-c", 'ulimit -f 1953 && exec "$@"', "sh", *command]
    ended = subprocess.run(
        limited,
        env=environment(admin_key=ADMIN_KEY, http=large.client.http),
        capture_output=True,
        text=True,
        check=False,
    )
    assert_one_line(ended, "cannot write", "too large", "nothing is left")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"admin_key": "unknown"}, ["refuses", "unknown application or key"]),
        ({"admin_key": READ_KEY}, ["refuses", "read key", "admin key"]),
        ({"admin_key": WRITE_KEY}, ["refuses", "write key", "admin key"]),
        ({"admin_key": "two\nlines"}, ["admin key", "characters"]),
        ({"admin_key": ""}, ["no admin key", "APINALYTICS_ADMIN_KEY"]),
        ({"http": "localhost:1"}, ["no service answers at http://localhost:1", "refused"]),
        ({"http": "no-such-host.invalid:4318"}, ["no service answers", "no-such-host.invalid"]),
    ],
)
def test_what_a_service_refuses(
    large: ServiceProcess, tmp_path: Path, settings: dict[str, str], words: list[str]
) -> None:
    """One line that says why."""
    given = {"http": large.client.http, **settings}
    assert_one_line(make_backup(directory=tmp_path / "backup", **given), *words)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("scheme", "is_grpc", "words"),
    [("http", True, ["HTTP port"]), ("https", False, ["TLS"]), ("ftp", False, ["URL"])],
)
def test_not_the_service_s_url(
    large: ServiceProcess, tmp_path: Path, scheme: str, words: list[str], *, is_grpc: bool
) -> None:
    """The gRPC port, and TLS where there is none."""
    address = large.client.grpc if is_grpc else large.client.http
    url = f"{scheme}://{address}"
    ended = run_command(
        "backup", str(tmp_path / "backup"), "--server", url, "--admin-key", ADMIN_KEY
    )
    assert_one_line(ended, url, *words)
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_is_taken(large: ServiceProcess, tmp_path: Path) -> None:
    """Nothing is overwritten, neither a directory nor what another backup writes."""
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").write_text("mine")
    (tmp_path / "other.partial").mkdir()
    http = large.client.http
    assert_one_line(make_backup(http, tmp_path / "taken"), "taken is not empty")
    assert_one_line(make_backup(http, tmp_path / "taken" / "file"), "file")
    assert_one_line(make_backup(http, tmp_path / "other"), "other.partial exists")
    assert_one_line(make_backup(http, tmp_path / "missing" / "backup"), "No such file")
    assert_one_line(make_backup(http, Path("/proc")), "mount point")
    assert files_of(tmp_path) == {"taken/file": b"mine"}
    (tmp_path / "empty").mkdir()
    assert make_backup(http, tmp_path / "empty").returncode == 0


def test_what_cannot_be_restored(large: ServiceProcess, tmp_path: Path) -> None:
    """One line each, nothing is written; the backup can still be restored afterwards."""
    backup, target = tmp_path / "backup", tmp_path / "restored"
    assert make_backup(large.client.http, backup).returncode == 0

    def assert_refused(*words: str, code: int = 1) -> None:
        assert_one_line(restore(backup, target), *words, code=code)

    manifest = backup / "backup.json"
    text = manifest.read_text()
    manifest.unlink()
    assert_refused("not a complete backup", "backup.json")
    manifest.write_text("{}")
    assert_refused("backup.json")
    manifest.write_text(json.dumps({**json.loads(text), "schema_version": 9999}))
    assert_refused("schema version 9999", "newer version", "upgrade the program")
    manifest.write_text(text)
    key = (backup / "secret.key").read_bytes()
    (backup / "secret.key").write_bytes(os.urandom(32))
    assert_refused("not the secret key")
    (backup / "secret.key").unlink()
    assert_refused("not as it was made")
    (backup / "secret.key").write_bytes(key)
    assert not target.exists()
    target.mkdir()
    (target / "file").write_text("mine")
    assert_refused("is not empty", "file")
    assert files_of(target) == {"file": b"mine"}
    shutil.rmtree(target)
    with service_process(target):
        assert_refused("not empty")
    shutil.rmtree(target)
    assert restore(backup, target).returncode == 0


def test_a_service_with_client_certificates(tmp_path: Path) -> None:
    """CA and certificate are named; without them, one line says what is wrong."""
    (tmp_path / "service").mkdir()
    (tmp_path / "ca.pem").write_bytes(CA.pem)
    shown = CLIENT_CA.issue().write(tmp_path)
    with tls_service(tmp_path / "service", CA.issue(), CLIENT_CA) as service:
        url = f"https://localhost:{service.http}"
        ca = ("--ca-file", str(tmp_path / "ca.pem"))
        certificate = ("--client-certificate-file", str(shown.certificate))
        key = ("--client-key-file", str(shown.key))

        def backup(*arguments: str, server: str = url) -> subprocess.CompletedProcess[str]:
            directory = str(tmp_path / "backup")
            return run_command(
                "backup", directory, "--server", server, *arguments, admin_key=ADMIN_KEY
            )

        assert_one_line(backup(), url, "TLS", "issuer", "--ca-file")
        assert_one_line(backup(*ca), url)
        assert_one_line(backup(*ca, server=url.replace("https", "http")), "https")
        assert_one_line(backup("--ca-file", "missing.pem"), "missing.pem", "No such file")
        assert_one_line(backup(*ca, *certificate, *ca[:1], str(shown.key)), str(shown.key))
        assert not (tmp_path / "backup").exists()
        made = backup(*ca, *certificate, *key)
        assert made.returncode == 0, made.stderr
        assert (tmp_path / "backup" / "backup.json").exists()
