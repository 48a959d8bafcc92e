# SPDX-License-Identifier: Apache-2.0
"""Tests of insert tokens, with a real engine, a process for each start."""

from __future__ import annotations

import logging
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from otel_apinalytics.store.insert_tokens import forget_untrue_tokens

# Starts, inserts under each token that is given, and prints the numbers that are there.
_CHILD = """
import os, sys
from pathlib import Path
from otel_apinalytics.store.engine import Engine

directory, *tokens = sys.argv[1:]
os.chdir(directory)
engine = Engine(f"chdb://{directory}/db")
engine.command(
    "CREATE TABLE IF NOT EXISTS t (number UInt64) ENGINE = ReplacingMergeTree "
    "PARTITION BY number % 2 ORDER BY number SETTINGS non_replicated_deduplication_window = 100"
)
for token in tokens:
    engine.command(
        f"INSERT INTO t SELECT {token} SETTINGS insert_deduplication_token = '{token}'"
    )
if "merge" in os.environ:
    engine.command("OPTIMIZE TABLE t FINAL")
print(sorted(row[0] for row in engine.query("SELECT number FROM t").rows))
engine.close()
"""


def insert(directory: Path, *numbers: int) -> str:
    """Start an engine, insert numbers under tokens of their own; return what is there then."""
    arguments = [sys.executable, "-c", _CHILD, str(directory), *map(str, numbers)]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True, cwd=Path.cwd())
    return done.stdout.strip()


def parts(directory: Path) -> list[Path]:
    """Return the parts that are there."""
    return sorted(directory.glob("db/store/*/*/[01]_*"))


@pytest.fixture(autouse=True)
def _import_from_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path.cwd()))


def test_a_token_without_its_part_is_forgotten(tmp_path: Path) -> None:
    """As a kill leaves it: what is inserted again is there; of the others nothing is doubled."""
    assert insert(tmp_path, 1, 3, 2) == "[1, 2, 3]"
    lost = [path for path in parts(tmp_path) if path.name.startswith("1_")][-1]
    shutil.rmtree(lost)
    assert insert(tmp_path, 1, 3, 2) == "[1, 2, 3]"
    # Both of the others were skipped.
    assert len(parts(tmp_path)) == 3


def test_it_is_no_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A part may be gone because all of it was deleted."""
    insert(tmp_path, 1)
    (part,) = parts(tmp_path)
    shutil.rmtree(part)
    with caplog.at_level(logging.INFO):
        assert forget_untrue_tokens(tmp_path / "db") == 1
    assert [record.levelno for record in caplog.records] == [logging.INFO]


def test_without_it_the_insert_would_be_skipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine believes its note: this is what is to be mended."""
    insert(tmp_path, 1)
    (part,) = parts(tmp_path)
    shutil.rmtree(part)
    believing = "import otel_apinalytics.store.insert_tokens as t; t.forget_untrue_tokens = print\n"
    monkeypatch.setattr(sys.modules[__name__], "_CHILD", believing + _CHILD)
    assert insert(tmp_path, 1).splitlines()[-1] == "[]"


def test_tokens_of_merged_parts_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The part is another one, and what was inserted is in it."""
    monkeypatch.setenv("merge", "1")
    insert(tmp_path, 1, 3, 5)
    assert forget_untrue_tokens(tmp_path / "db") == 0
    assert insert(tmp_path, 1, 3, 5) == "[1, 3, 5]"


def test_nothing_is_no_directory(tmp_path: Path) -> None:
    """Before the first start there is nothing to forget."""
    assert forget_untrue_tokens(tmp_path / "db") == 0


def test_what_is_not_understood_stays(tmp_path: Path) -> None:
    """Of a deletion, and of a later version of the engine."""
    logs = tmp_path / "store/abc/table/deduplication_logs"
    logs.mkdir(parents=True)
    log = logs / "deduplication_log_1.txt"
    text = "1\t20260105_7_7_0\ta\n2\t20260105_8_8_0\tb\n3 new\n1\todd\tc\n"
    log.write_text(text)
    lines = log.read_text().splitlines()
    assert forget_untrue_tokens(tmp_path) == 1
    assert log.read_text().splitlines() == lines[1:]
    assert [path.name for path in logs.iterdir()] == [log.name]
