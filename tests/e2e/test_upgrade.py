# SPDX-License-Identifier: Apache-2.0
"""A data directory of an earlier version: this one takes it over, with what was acknowledged."""

from __future__ import annotations

import glob
import random
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest

from tests.support.clients import FAR_FUTURE, KEY_SETTINGS, READ_HEADERS, Client
from tests.support.disk.power import power_of
from tests.support.disk.shim import why_not
from tests.support.otlp import make_request, make_span
from tests.support.service_process import environment, serve_command, service_process
from tests.support.waiting import wait_for

FIXTURES = Path(__file__).parents[1] / "fixtures"
# In the store, by consumer; and in the request log, not loaded yet.
STORED = {**{f"c{number}": 20 for number in range(5)}, "c5": 7}
PENDING = {"pending": 30}
COUNTS = {**STORED, **PENDING}
LEDGER = {
    "received": {"": 169},
    "stored": {"": 137},
    "duplicate": {"": 22},
    "filtered": {"kind_not_server_or_client": 5},
    "rejected": {"invalid_trace_id": 5},
}


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """Return a copy of a data directory with schema 4."""
    directory = tmp_path / "data"
    with tarfile.open(FIXTURES / "data_directory_schema_4.tar.gz") as archive:
        # Not every patch release of Python 3.10 has it.
        archive.extraction_filter = getattr(tarfile, "data_filter", None)
        archive.extractall(directory)  # noqa: S202 - it is ours
    return directory


def counts(client: Client) -> dict[str, int]:
    """Return the number of all inbound events by consumer."""
    groups = client.groups({"group": "consumer_id"}, 0, FAR_FUTURE)
    return {consumer: int(points[0][1]) for consumer, points in groups.items()}


def ledger(client: Client) -> dict[str, dict[str, int]]:
    """Return the ledger of all times: outcome → reason → items."""
    _, answer, _ = client.request("GET", f"/1/ledger/0/{FAR_FUTURE}/", None, READ_HEADERS)
    found: dict[str, dict[str, int]] = {}
    for row in answer["rows"]:
        reasons = found.setdefault(row["outcome"], {})
        reasons[row["reason"]] = reasons.get(row["reason"], 0) + row["items"]
    return found


def test_a_data_directory_of_schema_4(data_dir: Path) -> None:
    """Pending requests are loaded, counts and ledger are what they were, and it works on."""
    with service_process(data_dir) as service:
        wait_for(lambda: counts(service.client), until=lambda found: found == COUNTS)
        assert len(service.client.raw_events()) == sum(COUNTS.values())
        assert ledger(service.client) == LEDGER
        service.client.export(make_request(make_span()))
        wait_for(lambda: counts(service.client).get("alice"))
        assert service.stop() == 0
    with service_process(data_dir) as service:
        assert counts(service.client) == {**COUNTS, "alice": 1}
        more = {"received": {"": 170}, "stored": {"": 138}}
        assert ledger(service.client) == {**LEDGER, **more}
        assert service.stop() == 0
    assert not (data_dir / "log" / "set-aside").exists()


# What a newer version leaves behind, as far as this one looks.
_NEWER = """
import sys
from otel_apinalytics.store.engine import Engine
engine = Engine(sys.argv[1])
engine.command("INSERT INTO schema_version VALUES (9999, now64(6))")
engine.close()
"""


def test_a_data_directory_of_a_newer_schema_is_refused(data_dir: Path) -> None:
    """One line that has both versions and what to do; the tables stay as they are."""
    dsn = f"chdb://{data_dir / 'db'}"
    subprocess.run([sys.executable, "-c", _NEWER, dsn], check=True)
    ended = subprocess.run(
        serve_command(
            "--data-dir", str(data_dir), "--grpc", "localhost:0", "--http", "localhost:0"
        ),
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 2
    # Before it, that the directory of the fixture is open to others.
    *_, line = ended.stderr.splitlines()
    for words in ("schema version 9999", "newer version", "upgrade the program"):
        assert words in line
    definitions = {path.name for path in (data_dir / "db" / "store").glob("*/*/*.sql")}
    assert "ledger_records.sql" not in definitions


@pytest.mark.skipif(bool(why_not()), reason=why_not())
@pytest.mark.parametrize("seed", range(4))
def test_a_power_cut_in_the_middle_of_an_upgrade(data_dir: Path, tmp_path: Path, seed: int) -> None:
    """Wherever it comes: the next start goes on, and nothing is missing."""
    choice = random.Random(seed)
    command = serve_command(
        "--data-dir", str(data_dir), "--grpc", "localhost:0", "--http", "localhost:0"
    )
    with power_of(data_dir, tmp_path / "shim", choice) as power:
        variables = environment(**KEY_SETTINGS) | power.shim.environment()
        with subprocess.Popen(
            command, env=variables, stdout=subprocess.DEVNULL, text=True
        ) as process:
            # The tables are being changed; pathlib would mind directories that go meanwhile.
            wait_for(lambda: glob.glob(f"{data_dir}/db/store/*/*/ledger_records.sql"))
            time.sleep(choice.uniform(0, 0.3))
            power.cut(process)
    with service_process(data_dir) as service:
        wait_for(lambda: counts(service.client), until=lambda found: found == COUNTS)
        wait_for(lambda: ledger(service.client), until=lambda found: found == LEDGER)
        assert service.stop() == 0
