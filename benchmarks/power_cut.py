# SPDX-License-Identifier: Apache-2.0
"""Power cuts under load: what was acknowledged must be there, once, and the ledger must close.

    python -m benchmarks.power_cut --cuts 100 --mode strict

The disk is one that keeps only what was synced ("strict"), or that and by chance some of the rest
("mixed"). It exits with 1 if anything is lost or doubled, or the ledger does not close.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

import psutil

from tests.support.disk.account import Account
from tests.support.disk.campaign import Campaign
from tests.support.disk.power import Power, power_of
from tests.support.disk.shim import why_not
from tests.support.disk.traffic import Traffic

_LONGEST_S = 3.0
_PAUSE_S = 0.1
_IDLE_S = (3.0, 8.0)
# Of ten cuts: these are under load, the rest while the service starts, or is idle.
_STARTING, _IDLE = (3, 7), (5, 9)
_CHECK_EVERY = 10
_SETTLING_S = 300.0


def _run(campaign: Campaign, cuts: int, choice: random.Random) -> Account:
    campaign.traffic.start()
    for number in range(cuts):
        kind = number % 10
        if kind in _STARTING:
            campaign.cut_while_starting()
        else:
            campaign.cut_under_load(
                _LONGEST_S,
                choice.uniform(*_IDLE_S) if kind in _IDLE else 0.0,
                check=number % _CHECK_EVERY == _CHECK_EVERY - 2,
            )
        print(f"\r{number + 1} of {cuts} cuts", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return campaign.finish(_SETTLING_S)


def _print(account: Account, campaign: Campaign, power: Power, mode: str, elapsed_s: float) -> None:
    starts = sorted(campaign.start_s)
    syncs = ", ".join(f"{number} {name}" for name, number in sorted(power.syncs.items()))
    outcomes = ", ".join(f"{name} {number}" for name, number in sorted(account.outcomes.items()))
    rows = [
        ("cuts", f"{power.cuts}, {mode}, in {elapsed_s:.0f} s"),
        ("syncs", syncs),
        ("requests", f"{campaign.traffic.attempts} sent, those again included"),
        ("calls acknowledged", account.acknowledged),
        ("events read out", account.stored),
        ("events counted", account.counted),
        ("lost", len(account.lost)),
        ("doubled", len(account.doubled)),
        ("not acknowledged", len(account.unknown)),
        ("ledger", f"{outcomes}: {'closes' if account.closes else 'DOES NOT CLOSE'}"),
        ("refused for good", len(campaign.traffic.refusals)),
        ("start to ready", f"median {starts[len(starts) // 2]:.1f} s, longest {starts[-1]:.1f} s"),
    ]
    print(f"{psutil.cpu_count()} cores")
    for name, value in rows:
        print(f"{name:<20} {value}")


def main() -> int:
    """Run the campaign and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--cuts", type=int, default=100)
    parser.add_argument("--mode", choices=("strict", "mixed"), default="strict")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--segment-bytes", type=int, default=1 << 17)
    parser.add_argument("--directory", type=Path, help="where to work; default: a temporary one")
    arguments = parser.parse_args()
    if reason := why_not():
        print(f"cannot run: {reason}")
        return 2
    choice = random.Random(arguments.seed)
    began = time.monotonic()
    # What led to a fault stays, to find out why.
    directory = Path(tempfile.mkdtemp(prefix="power-cut-", dir=arguments.directory))
    print(f"working in {directory}", file=sys.stderr)
    survives = random.Random(arguments.seed) if arguments.mode == "mixed" else None
    with power_of(directory / "data", directory / "shim", survives) as power:
        campaign = Campaign(directory / "data", power, choice, Traffic(_PAUSE_S))
        campaign.settings["log_segment_bytes"] = str(arguments.segment_bytes)
        account = _run(campaign, arguments.cuts, choice)
        _print(account, campaign, power, arguments.mode, time.monotonic() - began)
    faults = [*account.faults(), *campaign.traffic.refusals]
    if account.counted != account.acknowledged:
        faults.append(f"{account.counted} counted of {account.acknowledged}")
    if faults:
        print("\n".join(faults))
        return 1
    shutil.rmtree(directory)
    return 0


if __name__ == "__main__":
    sys.exit(main())
