# SPDX-License-Identifier: Apache-2.0
"""kill -9 at random instants under traffic: what was acknowledged, stored, lost and doubled.

    python -m benchmarks.crash [--kills 1000] [--seed 1] [--alive 2]

Five senders, by every way in, number each span and event and send again what was not acknowledged;
each item is looked up in the end. The service comes back on the same ports and data directory, with
small segments, so that kills hit commits, loads, merges, checkpoints and deletions; some hit the
start or the stop. Ends with 1 if a promise is broken.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import statistics
import sys
import tempfile
import time
from pathlib import Path

from tests.support.audit import Audit
from tests.support.campaign import Campaign

_REPORT_EVERY = 25
_ERRORS_SHOWN = 5


def print_audit(campaign: Campaign, audit: Audit, kills: int, seconds: float) -> None:
    """Print what became of what was sent."""
    items, books = audit.items, campaign.books
    requests = sum(len(book.items) for book in books)
    recovered = sum(book.recovered for book in books)
    repeated = sum(book.repeated for book in books)
    duplicates = audit.outcomes.get("duplicate", 0)
    ready = sorted(campaign.ready_s)
    p99 = ready[int(0.99 * (len(ready) - 1))]
    print(f"{kills} kills in {seconds:,.0f} s, seed {campaign.seed}, {len(books)} senders")
    print(f"  sent           {items.sent:>12,} items in {requests:,} requests")
    print(f"  acknowledged   {items.acknowledged:>12,}")
    print(f"  stored         {items.stored:>12,}")
    print(f"  duplicated     {duplicates:>12,} items, recognized")
    print(f"                 {repeated:>12,} of what was sent again after its acknowledgement")
    print(f"                 {max(0, duplicates - repeated):>12,} kept before, not acknowledged")
    print(f"  tried again    {recovered:>12,} requests, until they were acknowledged")
    print(f"  lost           {items.lost:>12,}")
    print(f"  doubled        {items.doubled:>12,}")
    print(f"  ledger         {audit.outcomes}")
    errors = campaign.errors()
    print(f"  errors logged  {len(errors):>12,}")
    for line in errors[:_ERRORS_SHOWN]:
        print(f"    {line}")
    print(
        f"  start to ready {statistics.median(ready):>12.2f} s p50, {p99:.2f} s p99, "
        f"{ready[-1]:.2f} s max, {len(ready)} starts"
    )


def main() -> None:
    """Run a campaign."""
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("--kills", type=int, default=1000)
    arguments.add_argument("--seed", type=int, default=1)
    arguments.add_argument("--alive", type=float, default=2.0, help="longest life, in seconds")
    options = arguments.parse_args()
    # So that whoever ends it leaves no service behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    directory = Path(tempfile.mkdtemp(prefix="apinalytics-crash-"))
    started = time.monotonic()

    def report(kills: int) -> None:
        if kills % _REPORT_EVERY == 0:
            print(f"{kills} kills, {time.monotonic() - started:,.0f} s", flush=True)

    campaign = Campaign(directory, options.seed, options.alive, report=report)
    audit = campaign.run(options.kills)
    print_audit(campaign, audit, options.kills, time.monotonic() - started)
    if problems := audit.problems():
        sys.exit("\n".join([*problems, f"all of it is in {directory}"]))
    shutil.rmtree(directory)


if __name__ == "__main__":
    main()
