# SPDX-License-Identifier: Apache-2.0
"""`apinalytics serve` as a user runs it: start, keys, stop, restart, and what can go wrong."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from otel_apinalytics import __version__
from tests.support.clients import READ_KEY, WRITE_KEY, Client
from tests.support.files import files_below
from tests.support.otlp import make_request, make_span
from tests.support.service_process import (
    environment,
    serve_command,
    service_process,
)
from tests.support.waiting import wait_for


def run_to_its_end(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run the service where it cannot start."""
    return subprocess.run(
        serve_command(*arguments),
        env=environment(**settings),
        capture_output=True,
        text=True,
        check=False,
    )


def assert_one_clear_line(ended: subprocess.CompletedProcess[str], *words: str) -> None:
    """Exit code 2, nothing on standard output, one line that has these words."""
    assert ended.returncode == 2, ended.stderr
    assert ended.stdout == ""
    (line,) = ended.stderr.splitlines()
    for word in words:
        assert word in line
    assert "hidden" not in line


def test_first_start_creates_keys_and_prints_a_block_that_works(tmp_path: Path) -> None:
    """What is printed is all that is needed; a restart shows no key again."""
    data_dir = tmp_path / "new" / "data"
    unset = {"application_id": "", "write_key": "", "read_key": "", "admin_key": ""}
    with service_process(data_dir, **unset) as first:
        keys = dict(re.findall(r"(write|read|admin) +key +(ap[wra]_\S+)", first.output))
        assert sorted(keys) == ["admin", "read", "write"]
        assert f'OTEL_EXPORTER_OTLP_HEADERS="x-auth-user=default,x-auth-key={keys["write"]}"' in (
            first.output
        )
        assert f"OTEL_EXPORTER_OTLP_ENDPOINT=http://{first.client.grpc}" in first.output
        with first.client.exporter() as call:
            call(make_request(make_span()), metadata=(("x-auth-key", keys["write"]),))
        assert first.stop() == 0
    with service_process(data_dir, **unset) as second:
        assert not any(key in second.output for key in keys.values())
        assert "x-auth-key=<write key>" in second.output
        headers = {"Authorization": f"Bearer {keys['read']}"}
        status, body, _ = second.client.request("GET", "/1/timeseries/0/4000000000/", None, headers)
        assert (status, body["groups"]) == (200, {"default": [[0, 1]]})


def test_given_keys_are_not_shown(tmp_path: Path) -> None:
    """The block refers to the variable that holds the key."""
    with service_process(tmp_path) as service:
        assert WRITE_KEY not in service.output.replace("$APINALYTICS_WRITE_KEY", "")
        assert READ_KEY not in service.output.split()
        assert "x-auth-user=shop,x-auth-key=$APINALYTICS_WRITE_KEY" in service.output


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_clean_stop_keeps_everything(tmp_path: Path, number: int) -> None:
    """Exit code 0, nothing left in the log, the same answer after a restart."""
    with service_process(tmp_path) as first:
        for _ in range(5):
            first.client.export(make_request(make_span(), make_span()))
        assert first.stop(number) == 0
    assert list((tmp_path / "log").glob("*.log")) == []
    with service_process(tmp_path) as second:
        assert second.client.count() == 10


def test_a_stop_that_comes_while_it_is_suspended_is_heeded(tmp_path: Path) -> None:
    """Whichever of its threads the system gives the signal to."""
    with service_process(tmp_path) as service:
        service.process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, service.process.pid, os.WSTOPPED | os.WNOWAIT)
        service.process.send_signal(signal.SIGTERM)
        assert service.stop(signal.SIGCONT) == 0


def test_both_loopback_addresses_answer(tmp_path: Path) -> None:
    """`localhost` is whatever the client takes it for."""
    with service_process(tmp_path) as service:
        port = service.client.http.rpartition(":")[2]
        for _, _, _, _, address in socket.getaddrinfo("localhost", None, type=socket.SOCK_STREAM):
            host = f"[{address[0]}]" if ":" in str(address[0]) else address[0]
            client = Client(grpc="", http=f"{host}:{port}")
            assert client.request("GET", "/health/live")[0] == 200


def test_a_second_process_on_the_data_is_refused(tmp_path: Path) -> None:
    """The line names the directory and who has it."""
    with service_process(tmp_path) as first:
        ended = run_to_its_end(
            "--data-dir", str(tmp_path), "--grpc", "localhost:0", "--http", "localhost:0"
        )
        words = f"{tmp_path} is in use by another process (pid {first.process.pid})"
        assert_one_clear_line(ended, words)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
@pytest.mark.parametrize(("option", "other"), [("--grpc", "--http"), ("--http", "--grpc")])
def test_a_taken_port_is_refused(tmp_path: Path, option: str, other: str, host: str) -> None:
    """The line names the address; one address of several that is taken is enough."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"{host}:{taken.getsockname()[1]}"
        ended = run_to_its_end("--data-dir", str(tmp_path), option, address, other, "localhost:0")
    assert_one_clear_line(ended, "cannot listen on", address)


def test_an_unusable_directory_is_refused(tmp_path: Path) -> None:
    """A file in the way, as an example that holds for root too."""
    (tmp_path / "file").write_text("")
    path = str(tmp_path / "file" / "data")
    words = f"cannot use the data directory {path}: Not a directory"
    assert_one_clear_line(run_to_its_end("--data-dir", path), words)


def test_what_is_stored_is_its_owners_alone(tmp_path: Path) -> None:
    """Also in a directory that was there and is open, which is said."""
    data_dir = tmp_path / "data"
    data_dir.mkdir()
    data_dir.chmod(0o755)
    before = os.umask(0o022)
    try:
        with service_process(data_dir) as service:
            service.client.export(make_request(make_span()))
            wait_for(lambda: service.client.count())
            assert service.stop() == 0
    finally:
        os.umask(before)
    there = [path for path in data_dir.rglob("*") if not path.is_symlink()]
    assert any(path.name == "data.bin" for path in there)
    assert [path for path in there if path.stat().st_mode & 0o077] == []
    # Of the directory itself, a start says so; that it ends there is another matter.
    (data_dir / "log").rename(tmp_path / "log")
    (data_dir / "log").write_text("")
    free = ("--grpc", "localhost:0", "--http", "localhost:0")
    ended = run_to_its_end("--data-dir", str(data_dir), *free)
    assert f"the data directory {data_dir} is open to others (mode 755)" in ended.stderr
    assert "chmod 700" in ended.stderr


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_an_unwritable_directory_is_refused(tmp_path: Path) -> None:
    """The line names the directory and the reason."""
    tmp_path.chmod(0o500)
    ended = run_to_its_end("--data-dir", str(tmp_path))
    assert_one_clear_line(ended, str(tmp_path), "Permission denied")


@pytest.mark.parametrize(
    ("arguments", "settings", "words"),
    [
        (("--http", "nowhere"), {}, ["cannot listen on", "'nowhere'", "host:port"]),
        (("--http", "localhost:99999"), {}, ["cannot listen on", "host:port"]),
        (("--grpc", "nonsense"), {}, ["cannot listen on", "'nonsense'", "host:port"]),
        (("--store", "clickhouse://h:abc/d"), {}, ["DSN"]),
        (("--config", "missing.toml"), {}, ["there is no settings file", "missing.toml"]),
        ((), {"writekey": "x"}, ["unknown setting APINALYTICS_WRITEKEY", "APINALYTICS_WRITE_KEY"]),
        ((), {"query_timeout_s": "soon"}, ["query_timeout_s", "'soon' (APINALYTICS_QUERY"]),
        (("--config", "/"), {}, ["there is no settings file /"]),
        (("--config", "/proc/self/mem"), {}, ["cannot read the settings file /proc/self/mem"]),
        (("--store", "mysql://h/d"), {}, ["mysql://h/d", "chdb://", "clickhouse://"]),
        (("--store", "clickhouse://u:hidden@localhost:1/d"), {}, ["cannot open the store"]),
        ((), {"write_key": "same", "read_key": "same"}, ["each needs its own"]),
    ],
)
def test_a_wrong_setting_is_one_clear_line(
    tmp_path: Path, arguments: tuple[str, ...], settings: dict[str, str], words: list[str]
) -> None:
    """No traceback, and a hint where one can be given."""
    # Of an option that is given twice, the second counts.
    free = ("--data-dir", str(tmp_path), "--grpc", "localhost:0", "--http", "localhost:0")
    assert_one_clear_line(run_to_its_end(*free, *arguments, **settings), *words)


def test_a_database_of_a_newer_program_is_refused(tmp_path: Path) -> None:
    """It is left as it is."""
    with service_process(tmp_path) as service:
        assert service.stop() == 0
    newer = (
        "import chdb, sys\n"
        "chdb.connect(sys.argv[1]).query('INSERT INTO schema_version VALUES (9999, now64(6))')"
    )
    subprocess.run([*serve_command()[:1], "-c", newer, str(tmp_path / "db")], check=True)
    free = ("--grpc", "localhost:0", "--http", "localhost:0")
    ended = run_to_its_end("--data-dir", str(tmp_path), *free)
    assert_one_clear_line(ended, "9999", "newer")


def test_a_first_start_that_fails_makes_no_keys(tmp_path: Path) -> None:
    """They would have been shown to nobody."""
    unset = {"application_id": "", "write_key": "", "read_key": "", "admin_key": ""}
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        failed = ("--data-dir", str(tmp_path), "--grpc", address, "--http", "localhost:0")
        assert run_to_its_end(*failed).returncode == 2
    with service_process(tmp_path, **unset) as second:
        assert second.output.count(" key ") >= 3
        assert "x-auth-key=apw_" in second.output


def test_the_working_directory_stays_clean(tmp_path: Path) -> None:
    """Whatever the service writes is in its data directory."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    with service_process(tmp_path / "data", elsewhere) as service:
        service.client.export(make_request(make_span()))
        wait_for(service.client.count)
    assert list(elsewhere.iterdir()) == []


def test_not_ready_while_stopping(tmp_path: Path) -> None:
    """Ready after the start; after the stop nobody answers."""
    with service_process(tmp_path) as service:
        assert service.client.request("GET", "/health/ready")[:2] == (200, {"status": "ready"})
        assert service.client.request("GET", "/health/live")[:2] == (
            200,
            {"status": "live", "version": __version__},
        )
        assert service.stop() == 0


def test_no_key_is_on_disk_in_clear(tmp_path: Path) -> None:
    """Neither keys nor what was sent: the log is sealed, keys are hashed."""
    with service_process(tmp_path, log_segment_bytes=str(1 << 20)) as service:
        service.client.export(make_request(make_span()))
        wait_for(service.client.count)
        service.kill()
    for path, content in files_below(tmp_path):
        assert WRITE_KEY.encode() not in content, path
