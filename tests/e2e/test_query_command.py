# SPDX-License-Identifier: Apache-2.0
"""`apinalytics query`, `events` and `ledger`: on a terminal, into a pipe, and what goes wrong."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.test_tls import CA, CLIENT_CA, tls_service
from tests.support.backups import run_command
from tests.support.clients import READ_KEY, WRITE_KEY
from tests.support.relay import relay
from tests.support.service_process import ServiceProcess, environment, service_process
from tests.support.terminal import on_terminal
from tests.support.waiting import wait_for

# A Wednesday, 00:00 UTC.
START = 1_500_422_400
HOUR = 3600
RANGE = ("--start", str(START), "--end", str(START + 4 * HOUR))
# (hour, consumer, time in µs, weight)
CALLS = [
    (0, "alice", 1000, 1),
    *[(1, "alice", 2000, 1)] * 2,
    *[(3, "alice", 4_000_000, 1)] * 4,
    (2, "bob", 500, 1),
    (0, "", 100, 1),
    (1, "\x1b[31mred", 100, 1),
]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    """Run a service with a few calls."""
    with service_process(tmp_path_factory.mktemp("service") / "data") as running:
        events = [
            {"timestamp": START + hour * HOUR + n, "consumer_id": consumer, "response_us": us,
             "weight": weight, "status_code": 200 if consumer != "bob" else 500, "function": "f"}
            for n, (hour, consumer, us, weight) in enumerate(CALLS)
        ]  # fmt: skip
        assert running.client.post_events(events)[0] == 200
        wait_for(lambda: len(running.client.raw_events()), until=lambda found: found == len(CALLS))
        yield running


def run(service: ServiceProcess, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command with its output into a pipe."""
    return run_command(*arguments, read_key=READ_KEY, http=service.client.http)


def show(service: ServiceProcess, *arguments: str, **options: Any) -> list[str]:
    """Return the lines that a command shows on a terminal."""
    settings = {"read_key": READ_KEY, "http": service.client.http, **options}
    with on_terminal(*arguments, **settings) as terminal:
        lines = terminal.read().splitlines()
        assert terminal.process.wait(60) == 0, lines
    return [line.rstrip() for line in lines]


def assert_one_line(ended: subprocess.CompletedProcess[str], *words: str) -> None:
    """The command failed, and says why in one line that has these words and no key."""
    assert ended.returncode == 1, ended.stderr
    assert ended.stdout == ""
    (line,) = ended.stderr.splitlines()
    for word in words:
        assert word in line
    assert READ_KEY not in line.split()


def test_a_table(service: ServiceProcess) -> None:
    """The largest group first; a missing value and what would move the cursor are named safely."""
    title, header, *rows = show(service, "query", *RANGE, "--granularity", "hour")
    assert title == "count by consumer_id, by hour, 2017-07-19 00:00 to 2017-07-19 04:00 (UTC)"
    assert header.split() == ["consumer_id", "count", "by", "hour", "peak"]
    assert [row.split()[:3] for row in rows] == [
        ["alice", "7", "▃▅▁█"],
        ["(missing)", "1", "█▁▁▁"],
        ["�[31mred", "1", "▁█▁▁"],
        ["bob", "1", "▁▁█▁"],
        ["total", "10", "▅▆▃█"],
    ]
    assert rows[0].endswith("4 at 2017-07-19 03:00")


def test_a_table_of_times_in_a_zone(service: ServiceProcess) -> None:
    """With units, gaps where nothing was called, and the rest in one row."""
    title, _, *rows = show(
        service, "query", "p50", *RANGE, "--granularity", "hour", "--limit", "1",
        "--tz", "Asia/Kathmandu", "--group", "function", "--group", "consumer_id", "--exact",
        columns=120,
    )  # fmt: skip
    assert title.startswith("p50 of response_us by function, consumer_id, by hour, ")
    assert title.endswith("2017-07-19 05:45 to 2017-07-19 09:45 (Asia/Kathmandu)")
    first, other = rows
    assert first.split()[:2] == ["f", "alice"]
    assert "4 s  ▂▂ █" in first
    assert first.endswith("4 s at 2017-07-19 08:45")
    assert other.startswith("other (3 groups)")
    assert "100 µs" in other


@pytest.mark.parametrize(
    ("question", "words"),
    [
        ("error_rate", ["error_rate", "10 %"]),
        ("rate", ["0.000694 /s"]),
        ("unique", ["unique", "3"]),
        ("response_us/sum", ["sum of response_us", "16 s"]),
        ("weight/max", ["1 requests"]),
    ],
)
def test_numbers_have_units(service: ServiceProcess, question: str, words: list[str]) -> None:
    """Those of the fields, and those of aggregations."""
    shown = "\n".join(show(service, "query", question, *RANGE, "--group", ""))
    assert all(word in shown for word in words), shown


def test_a_terminal_without_unicode(service: ServiceProcess) -> None:
    """Has a chart, too."""
    lines = show(service, "query", *RANGE, "--granularity", "hour", encoding="ascii")
    assert lines[2].split()[:3] == ["alice", "7", "-=_#"]
    assert all(line.isascii() for line in lines)


@pytest.mark.parametrize("columns", [20, 60, 300])
def test_a_narrow_terminal(service: ServiceProcess, columns: int) -> None:
    """Lines do not break, if there is any room."""
    lines = show(service, "query", *RANGE, "--granularity", "60", columns=columns)
    assert all(len(line) <= columns for line in lines)
    assert len(lines) >= 7


def test_no_calls(service: ServiceProcess) -> None:
    """Where to look next."""
    lines = show(service, "query", "--start", "10", "--end", "20")
    assert "apinalytics ledger" in lines[-1]
    assert "by minute" in lines[0]


def test_a_table_is_drawn_again(tmp_path: Path) -> None:
    """Until Ctrl-C; that there is no service for a while is shown, and does not end it."""
    with service_process(tmp_path) as service:
        http = service.client.http
        command = ("query", "--watch", "--every", "0.1")
        with on_terminal(*command, read_key=READ_KEY, http=http) as terminal:
            terminal.read_until("No calls", times=3)
            assert service.stop() == 0
            assert "no service answers" in terminal.read_until("trying again", times=2)
            assert terminal.interrupt() == 0


def test_what_goes_into_a_pipe(service: ServiceProcess) -> None:
    """CSV as the API gives it, or JSON; with the question that a table would be of."""
    found = run(service, "query", *RANGE, "--granularity", "hour")
    assert found.returncode == 0, found.stderr
    rows = list(csv.DictReader(found.stdout.removeprefix("\ufeff").splitlines()))
    alice = {row["time"]: row["value"] for row in rows if row["consumer_id"] == "alice"}
    assert alice == {
        "2017-07-19T00:00:00Z": "1", "2017-07-19T01:00:00Z": "2", "2017-07-19T03:00:00Z": "4",
    }  # fmt: skip
    answer = json.loads(run(service, "query", *RANGE, "--format", "json", "--limit", "1").stdout)
    assert answer["other"]["groups"] == 3
    assert answer["granularity"] == HOUR * 1000
    answer = json.loads(
        run(
            service, "query", "mean", *RANGE, "--format", "series", "--fill", "null",
            "--include", "consumer_id:a*", "--include", "consumer_id:bob",
            "--exclude", "status_code:5xx",
        ).stdout
    )  # fmt: skip
    (series,) = answer["series"]
    assert [value for _, value in series["points"]] == [1000, 2000, None, 4_000_000]


def test_the_range_chooses_the_bucket(service: ServiceProcess) -> None:
    """A chart of about a hundred."""
    for start, milliseconds in (("-1h", 60_000), ("-3d", 3_600_000), ("-30d", 86_400_000)):
        found = run(service, "query", "--start", start, "--format", "json")
        assert json.loads(found.stdout)["granularity"] == milliseconds


def test_events(service: ServiceProcess, tmp_path: Path) -> None:
    """To standard output and to a file, in all formats."""
    lines = run(service, "events", *RANGE).stdout.splitlines()
    assert len(lines) == len(CALLS)
    assert json.loads(lines[0])["consumer_id"] == "alice"
    chosen = ("--include", "consumer_id:alice", "--fields", "consumer_id,response_us")
    text = run(service, "events", *RANGE, *chosen, "--format", "csv").stdout
    rows = list(csv.DictReader(text.removeprefix("\ufeff").splitlines()))
    assert [row["response_us"] for row in rows] == ["1000", "2000", "2000", *["4000000"] * 4]
    path = tmp_path / "events.parquet"
    made = run(service, "events", *RANGE, "--format", "parquet", "--output", str(path))
    assert made.returncode == 0, made.stderr
    assert path.read_bytes()[:4] == path.read_bytes()[-4:] == b"PAR1"
    assert list(tmp_path.iterdir()) == [path]


def test_pages_of_events(service: ServiceProcess) -> None:
    """Each says where the next begins."""
    arguments = ("events", *RANGE, "--fields", "timestamp", "--limit", "7")
    first = run(service, *arguments)
    cursor = first.stderr.split()[-1]
    second = run(service, *arguments, "--cursor", cursor)
    assert second.stderr == ""
    every = run(service, "events", *RANGE, "--fields", "timestamp").stdout
    assert first.stdout + second.stdout == every


def test_a_reader_that_has_seen_enough(service: ServiceProcess) -> None:
    """Nothing is said, as of other commands."""
    with subprocess.Popen(
        [sys.executable, "-m", "otel_apinalytics", "events", *RANGE],
        env=environment(read_key=READ_KEY, http=service.client.http),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        process.stdout.close()
        _, words = process.communicate()
    assert words == b""


def test_events_that_are_cut_off(service: ServiceProcess, tmp_path: Path) -> None:
    """There is no file, and one line says why."""
    arguments = ("events", "--start", "0", "--output", str(tmp_path / "events"))
    ended = []
    with relay(service.client.http, 1500) as between:
        running = threading.Thread(
            target=lambda: ended.append(run(service, *arguments, "--server", between.address))
        )
        running.start()
        assert between.holds.wait(60)
    running.join()
    assert_one_line(ended[0], between.address, "was cut off")
    assert list(tmp_path.iterdir()) == []


def test_the_ledger(service: ServiceProcess) -> None:
    """Totals and reasons; all of the answer in JSON."""
    lines = show(service, "ledger")
    assert "settled until" in lines[0]
    numbers = {line.split()[0]: line.split()[-1] for line in lines[2:]}
    assert numbers["received"] == numbers["stored"] == str(len(CALLS))
    assert numbers["difference"] == "0"
    found = run(service, "ledger", "--granularity", "day")
    assert json.loads(found.stdout)["totals"]["stored"] == len(CALLS)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["query", "p0"], ["refuses: unknown aggregation: p0; allowed: count, mean"]),
        (["query", "--start", "soon"], ["refuses: start is not a time: soon; allowed: Unix time"]),
        (["query", "--group", "\udcff"], ["refuses: group is not a field", ": \ufffd; allowed"]),
        (["query", "--group", "colour"], ["group is not a field", "colour", "consumer_id"]),
        (["events", "--fields", "x\ny"], ["refuses", "allowed"]),
        (["ledger", "--granularity", "7"], ["refuses", "multiple of 60"]),
        (["query", "--server", "localhost:1"], ["no service answers at http://localhost:1"]),
        (["query", "--server", "https://{http}"], ["TLS with https://{http} failed", "http?"]),
        (["query", "--server", "http://{grpc}"], ["http://{grpc}", "is it the HTTP port"]),
        (["query", "--server", "ftp://{http}"], ["not the URL of a service"]),
        (["query", "--server", "http://{http}/x"], ["there is nothing at /x/1/"]),
        (["query", "--read-key", "unknown"], ["refuses: unknown application or key"]),
        (["query", "--read-key", WRITE_KEY], ["this is a write key; a read key is needed"]),
        (["query", "--read-key", "two\nlines"], ["the read key has characters"]),
        (["query", "--ca-file", "missing.pem"], ["cannot use missing.pem: No such file"]),
        (["events", "--output", "/nowhere/x"], ["cannot write to /nowhere/x.partial", "No such"]),
    ],
)
def test_what_goes_wrong_is_one_line(
    service: ServiceProcess, arguments: list[str], words: list[str]
) -> None:
    """With what was given, and what is allowed."""
    addresses = {"http": service.client.http, "grpc": service.client.grpc}
    given = [text.format_map(addresses) if "{" in text else text for text in arguments]
    expected = [word.format_map(addresses) if "{" in word else word for word in words]
    assert_one_line(run(service, *given), *expected)


@pytest.mark.parametrize("command", ["query", "events", "ledger"])
def test_no_key(service: ServiceProcess, command: str) -> None:
    """The service is not asked."""
    ended = run_command(command, http=service.client.http)
    assert_one_line(ended, "no read key: set APINALYTICS_READ_KEY")


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["query", "--watch"], "only a table on a terminal is drawn again"),
        (["query", "count", "--value", "weight"], "either"),
        (["query", "--limit", "0"], "--limit"),
        (["query", "--format", "xml"], "--format"),
        (["query", "--format", "table", "--tz", "Mars"], "--tz"),
    ],
)
def test_options_that_do_not_fit(service: ServiceProcess, arguments: list[str], word: str) -> None:
    """As of any command: code 2, and how to use it."""
    ended = run(service, *arguments)
    assert (ended.returncode, ended.stdout) == (2, "")
    # In a box, and in as many lines as that needs.
    assert word in " ".join(ended.stderr.replace("│", " ").split())
    assert "Traceback" not in ended.stderr


def test_parquet_on_a_terminal(service: ServiceProcess) -> None:
    """It would be noise: it needs a file, or a pipe."""
    command, http = ("events", "--format", "parquet"), service.client.http
    with on_terminal(*command, read_key=READ_KEY, http=http) as terminal:
        assert "Parquet is not for a terminal" in terminal.read()
        assert terminal.process.wait(60) == 2


def test_a_service_with_client_certificates(tmp_path: Path) -> None:
    """The files are named; without them, one line says what is missing."""
    (tmp_path / "service").mkdir()
    (tmp_path / "ca.pem").write_bytes(CA.pem)
    shown = CLIENT_CA.issue().write(tmp_path)
    with tls_service(tmp_path / "service", CA.issue(), CLIENT_CA) as service:
        url = ("--server", f"https://localhost:{service.http}")
        ca = ("--ca-file", str(tmp_path / "ca.pem"))
        certificate = ("--client-certificate-file", str(shown.certificate))
        key = ("--client-key-file", str(shown.key))
        assert_one_line(run_command("query", *url, read_key=READ_KEY), "TLS", "--ca-file")
        refused = run_command("query", *url, *ca, read_key=READ_KEY)
        assert_one_line(refused, "client certificate")
        asked = run_command("query", *url, *ca, *certificate, *key, read_key=READ_KEY)
        assert asked.returncode == 0, asked.stderr
