# SPDX-License-Identifier: Apache-2.0
"""`apinalytics audit`, `retention` and `erase`: into a pipe, on a terminal, and what goes wrong."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.backups import run_command
from tests.support.clients import ADMIN_KEY, READ_KEY
from tests.support.service_process import ServiceProcess, service_process
from tests.support.terminal import on_terminal
from tests.support.waiting import wait_for


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    """Run a service with events of three consumers."""
    with service_process(tmp_path_factory.mktemp("audit") / "data") as service:
        now = time.time()
        events = [{"timestamp": now - n, "consumer_id": f"c{n % 3}"} for n in range(30)]
        assert service.client.post_events(events)[0] == 200
        wait_for(lambda: len(service.client.raw_events()), until=lambda count: count == 30)
        yield service


def run(
    service: ServiceProcess, *arguments: str, **settings: str
) -> subprocess.CompletedProcess[str]:
    """Run a command into a pipe, with the admin key in the environment."""
    given = {"admin_key": ADMIN_KEY, "http": service.client.http, **settings}
    return run_command(*arguments, **given)


def ask(service: ServiceProcess, *arguments: str) -> Any:
    """Return the answer that a command prints into a pipe."""
    ended = run(service, *arguments)
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


def show(service: ServiceProcess, *arguments: str, type_in: str = "", code: int = 0) -> str:
    """Return what a command shows on a terminal."""
    given = {"admin_key": ADMIN_KEY, "http": service.client.http}
    with on_terminal(*arguments, columns=200, **given) as terminal:
        if type_in:
            terminal.read_until("[y/N]")
            os.write(terminal.descriptor, type_in.encode())
        shown = terminal.read()
        assert terminal.process.wait(60) == code, shown
    return shown


def test_erase_prints_a_receipt(service: ServiceProcess) -> None:
    """Asked again, it finds nothing."""
    receipt = ask(service, "erase", "--consumer", "c0")
    assert (receipt["consumer"], receipt["complete"]) == ("c0", True)
    assert receipt["erased"]["events"] == 10
    assert ask(service, "erase", "--consumer", "c0", "--yes")["erased"]["events"] == 0
    assert len(service.client.raw_events()) == 20


def test_erase_asks_first_on_a_terminal(service: ServiceProcess) -> None:
    """And shows the receipt to people."""
    shown = show(service, "erase", "--consumer", "nobody", type_in="n\n", code=1)
    assert "Erase all that is stored of 'nobody'" in shown
    shown = show(service, "erase", "--consumer", "nobody", type_in="y\n")
    assert "completed_at" in shown
    assert "events:0" in shown


def test_audit_lists_who_did_what(service: ServiceProcess) -> None:
    """As JSON, as lines, as CSV, as a table."""
    service.client.ask({"include": "consumer_id:c1"})

    def entries(*arguments: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = ask(service, "audit", *arguments)["entries"]
        return found

    (entry,) = wait_for(lambda: [x for x in entries() if "consumer_id:c1" in json.dumps(x)])
    assert entry["action"] == "read"
    assert {x["action"] for x in entries("--action", "read")} == {"read"}
    assert {x["key_id"] for x in entries("--key", entry["key_id"])} == {entry["key_id"]}
    assert len(entries("--limit", "1")) == 1
    lines = run(service, "audit", "--format", "ndjson").stdout.splitlines()
    assert entry in [json.loads(line) for line in lines]
    text = run(service, "audit", "--format", "csv").stdout
    rows = list(csv.DictReader(io.StringIO(text.lstrip("\ufeff"))))
    assert entry["at"] in [row["at"] for row in rows]
    shown = show(service, "audit", "--start", "-1h")
    assert "/1/timeseries/{start}/{end}/" in shown
    assert "include=consumer_id:c1" in shown


def test_retention_is_shown_and_set(service: ServiceProcess) -> None:
    """What would go can be seen first."""
    before = ask(service, "retention", "show")
    assert before["limits"]["events_days"] == {"value": 90, "source": "default"}
    supposed = ask(service, "retention", "set", "--events-days", "7", "--dry-run")
    assert supposed["limits"]["events_days"] == {"value": 7, "source": "api"}
    assert ask(service, "retention", "show")["limits"] == before["limits"]
    answer = ask(service, "retention", "set", "--events-days", "7", "--rejected-rows", "10")
    assert answer["limits"]["rejected_rows"] == {"value": 10, "source": "api"}
    shown = show(service, "retention", "show", "--application", "shop")
    assert "events_days            7  api" in shown
    assert "removed_after" in shown
    answer = ask(
        service, "retention", "set", "--events-days", "default", "--rejected-rows", "default"
    )
    assert answer["limits"] == before["limits"]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("erase",), 2, "--consumer"),
        (("erase", "--consumer", ""), 1, "consumer: "),
        (("erase", "--consumer", "x", "--application", "nobody"), 1, "no such application: nobody"),
        (("retention", "set"), 2, "nothing to set"),
        (("retention", "set", "--events-days", "many"), 2, "neither a number nor default"),
        (("retention", "set", "--events-days", "0"), 1, "1 to 36500 days"),
        (("retention", "set", "--events-days", "0", "--dry-run"), 1, "1 to 36500 days"),
        (("retention", "show", "--application", "nobody"), 1, "no such application: nobody"),
        (("audit", "--start", "yesterday"), 1, "start is not a time: yesterday"),
        (("audit", "--format", "csv", "--start", "yesterday"), 1, "start is not a time: yesterday"),
        (("audit", "--limit", "10001"), 1, "1 to 10000"),
    ],
)
def test_what_is_wrong_is_said(
    service: ServiceProcess, arguments: tuple[str, ...], code: int, words: str
) -> None:
    """In one line, or in the usage of the command."""
    ended = run(service, *arguments)
    assert ended.returncode == code
    assert words in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_read_key_may_do_none_of_it(service: ServiceProcess) -> None:
    """The service says which one is needed."""
    for arguments in (("erase", "--consumer", "x"), ("retention", "show"), ("audit",)):
        ended = run(service, *arguments, admin_key=READ_KEY)
        assert ended.returncode == 1
        assert "an admin key is needed" in ended.stderr
