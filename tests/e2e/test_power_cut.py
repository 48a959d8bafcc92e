# SPDX-License-Identifier: Apache-2.0
"""Power cuts under load, on a disk that keeps what was synced: nothing is lost, nothing doubled."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.disk.campaign import Campaign
from tests.support.disk.power import Power, power_of
from tests.support.disk.shim import why_not
from tests.support.waiting import wait_for

pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not())

# Says "ready" when all is written, and waits for its end.
_WRITER = """
import os, sys
from pathlib import Path

def sync(path):
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)

root = Path(sys.argv[1])
(root / "synced").write_text("content")
(root / "named").write_text("content")
(root / "moved").write_text("content")
sync(root / "synced")
sync(root / "moved")
sync(root)
(root / "appended").write_text("a")
(root / "later").mkdir()
(root / "removed").write_text("r")
os.sync()
with (root / "appended").open("a") as stream:
    stream.write("b" * 1000)
(root / "unnamed").write_text("content")
sync(root / "unnamed")
(root / "later/below").write_text("content")
(root / "moved").rename(root / "later/moved")
(root / "removed").unlink()
sync(root / "later")
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.fixture(params=["strict", "mixed"])
def power(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Power]:
    """Give the power of a process whose data directory is `data`."""
    choice = random.Random(5) if request.param == "mixed" else None
    with power_of(tmp_path / "data", tmp_path / "shim", choice) as power:
        yield power


def test_power_cuts_lose_and_double_nothing(power: Power, tmp_path: Path) -> None:
    """All that was acknowledged is there once, wherever the power was cut."""
    campaign = Campaign(tmp_path / "data", power, random.Random(7))
    campaign.traffic.start()
    campaign.cut_under_load(2.0)
    campaign.cut_while_starting()
    campaign.cut_under_load(0.5, idle_s=1.5)
    account = campaign.finish()
    assert account.acknowledged > 0
    assert account.faults() == []
    assert campaign.traffic.refusals == []
    assert power.syncs["syncfs"] > 0


def test_a_loss_is_found(tmp_path: Path) -> None:
    """The account says so if the log did not keep what it should have."""
    data_dir = tmp_path / "data"
    with power_of(data_dir, tmp_path / "shim") as power:
        campaign = Campaign(data_dir, power, random.Random(7))
        campaign.traffic.start()
        campaign.cut_under_load(0.5)
        segments = list((data_dir / "log").glob("*.log"))
        for segment in segments:
            segment.unlink()
        account = campaign.finish()
    assert segments
    assert account.lost


def test_the_disk_keeps_what_was_synced_and_nothing_else(tmp_path: Path) -> None:
    """Content, names, and all at once, each by its sync."""
    root = tmp_path / "data"
    with power_of(root, tmp_path / "shim") as power:
        _write_and_cut(power, root)
    assert _content(root) == {
        "synced": "content", "named": "content", "moved": "content", "appended": "a",
        "removed": "r", "later/below": "", "later/moved": "content",
    }  # fmt: skip
    assert (root / "later").is_dir()


def test_some_of_the_rest_may_survive(tmp_path: Path) -> None:
    """What was synced is there whatever happens; for the rest there are many ways."""
    root, seen = tmp_path / "data", set()
    choice = random.Random(3)
    for _ in range(8):
        with power_of(root, tmp_path / "shim", choice) as power:
            _write_and_cut(power, root)
        found = _content(root)
        assert found["synced"] == "content"
        assert found["appended"].startswith("a")
        # It was moved, or was not.
        assert ("moved" in found) or ("later/moved" in found)
        seen.add(tuple(sorted(found.items())))
        for path in sorted(root.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
    assert len(seen) > 2


def _write_and_cut(power: Power, root: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _WRITER, str(root)],
        env=power.shim.environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        wait_for(process.stdout.readline)
        power.cut(process)


def _content(root: Path) -> dict[str, str]:
    files = (path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): path.read_text() for path in files}
