# SPDX-License-Identifier: Apache-2.0
"""The audit of numbered items: what was acknowledged is there once, what was not sent is not."""

from __future__ import annotations

import itertools
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import urllib3

from tests.support.clients import FAR_FUTURE, READ_HEADERS, Client
from tests.support.numbered_senders import Book

# Of a byte: what is there more often is still too often.
_MOST = 255
_READ_TIMEOUT_S = 600.0
_READ_BYTES = 1 << 20
_MERGED_WITHIN_S = 600.0
_SETTLED = ("stored", "duplicate", "filtered", "rejected")
# For a store that no service runs on: records whose account does not close.
_OUT_OF_BALANCE = (
    "SELECT count() FROM (SELECT sumIf(items, outcome = 'received') AS received, "
    "sumIf(items, outcome NOT IN ('received', 'refused')) AS settled "
    "FROM ledger GROUP BY application, record_id HAVING received != settled)"
)
_MERGE = "OPTIMIZE TABLE events FINAL"
_RUN = """
import sys
from otel_apinalytics.store.engine import Engine
engine = Engine(sys.argv[1])
if sys.argv[2] == "query":
    print(engine.query(sys.argv[3]).rows[0][0])
else:
    engine.command(sys.argv[3])
engine.close()
"""


class _Row(msgspec.Struct):
    """What tells an item of the read-out from all others."""

    service: str
    consumer_id: str
    url: str


@dataclass(frozen=True, slots=True)
class Items:
    """What became of the items.

    Args:
        sent: Spans that are API calls, and events.
        acknowledged: Those of requests that were acknowledged.
        stored: Different ones that are there.
        lost: Acknowledged, and not there.
        doubled: There beyond the first of each.
        torn: Requests that were not acknowledged, of which a part is there.
        unknown: There, and never sent.
        filtered: Spans that are no API calls, of requests that are there.
    """

    sent: int
    acknowledged: int
    stored: int
    lost: int
    doubled: int
    torn: int
    unknown: int
    filtered: int


def compare(books: Sequence[Book], found: Iterable[tuple[str, str, str]]) -> Items:
    """Compare what was sent with what is there.

    Args:
        books: What was sent, by sender.
        found: Service, consumer and URL of each item that is there.
    """
    # The number of items before each request, and of all.
    firsts = {book.name: list(itertools.accumulate(book.items, initial=0)) for book in books}
    seen = {book.name: bytearray(firsts[book.name][-1]) for book in books}
    unknown = 0
    for service, consumer, url in found:
        place = _place(firsts.get(service), service, consumer, url)
        if place is None:
            unknown += 1
        else:
            seen[service][place] = min(seen[service][place] + 1, _MOST)
    totals = [_totals(book, firsts[book.name], seen[book.name]) for book in books]
    sent, acknowledged, stored, lost, doubled, torn, filtered = map(sum, zip(*totals, strict=True))
    return Items(sent, acknowledged, stored, lost, doubled, torn, unknown, filtered)


def _place(firsts: Sequence[int] | None, service: str, consumer: str, url: str) -> int | None:
    name, _, number_text = consumer.rpartition("/")
    if firsts is None or name != service or not number_text.isdigit() or not url[1:].isdigit():
        return None
    number, place = int(number_text), int(url[1:])
    if number >= len(firsts) - 1 or place >= firsts[number + 1] - firsts[number]:
        return None
    return firsts[number] + place


def _totals(book: Book, firsts: Sequence[int], seen: bytearray) -> tuple[int, ...]:
    acknowledged = stored = lost = doubled = torn = filtered = 0
    for number, (first, end) in enumerate(itertools.pairwise(firsts)):
        items, counts = end - first, seen[first:end]
        present = items - counts.count(0)
        stored += present
        doubled += sum(counts) - present
        if book.acknowledged[number]:
            acknowledged += items
            lost += items - present
        else:
            torn += 0 < present < items
        filtered += book.filtered[number] if present else 0
    return firsts[-1], acknowledged, stored, lost, doubled, torn, filtered


@dataclass(frozen=True, slots=True)
class Audit:
    """What an audit found.

    Args:
        items: What became of the items.
        stored: What is there, by service.
        counted: What a timeseries counts, by service, once it agrees; or what it still counts.
        outcomes: The ledger's totals: outcome → items.
        set_aside: Segments that could not be loaded.
        unbalanced: Records whose account does not close.
    """

    items: Items
    stored: Mapping[str, int]
    counted: Mapping[str, int]
    outcomes: Mapping[str, int]
    set_aside: int
    unbalanced: int

    def problems(self) -> list[str]:
        """Return which promises are broken, in words."""
        items, outcomes = self.items, self.outcomes
        settled = sum(outcomes.get(name, 0) for name in _SETTLED)
        checks = {
            f"{items.lost} acknowledged items are lost": items.lost,
            f"{items.doubled} items are there more than once": items.doubled,
            f"{items.torn} requests are there in part": items.torn,
            f"{items.unknown} items were never sent": items.unknown,
            f"{self.set_aside} segments were set aside": self.set_aside,
            f"{self.unbalanced} records have an account that does not close": self.unbalanced,
            f"stored {self.stored}, counted {self.counted}": self.stored != self.counted,
            f"the ledger does not close: {outcomes}": outcomes.get("received", 0) != settled,
            f"{items.stored} items are there, the ledger has {outcomes}": (
                items.stored != outcomes.get("stored", 0)
            ),
            f"{items.filtered} spans are no API calls, the ledger has {outcomes}": (
                items.filtered != outcomes.get("filtered", 0)
            ),
            f"items were rejected: {outcomes}": outcomes.get("rejected", 0),
        }
        return [problem for problem, is_broken in checks.items() if is_broken]


def audit_service(client: Client, books: Sequence[Book], data_dir: Path, unbalanced: int) -> Audit:
    """Compare what was sent with what a service says that has loaded everything.

    Args:
        client: The service's addresses.
        books: What was sent, by sender.
        data_dir: The service's data directory.
        unbalanced: As `records_out_of_balance` found it.
    """
    stored: Counter[str] = Counter()

    def found() -> Iterator[tuple[str, str, str]]:
        for row in _read_out(client):
            stored[row.service] += 1
            yield row.service, row.consumer_id, row.url

    items = compare(books, found())
    return Audit(
        items,
        stored,
        _counted(client, stored),
        _ledger_totals(client),
        sum(1 for _ in (data_dir / "log" / "set-aside").glob("*")),
        unbalanced,
    )


def records_out_of_balance(data_dir: Path) -> int:
    """Return how many records of a data directory that no service runs on do not add up."""
    return int(_run_on_store(data_dir, "query", _OUT_OF_BALANCE))


def merge_events(data_dir: Path) -> None:
    """Merge the events of a data directory that no service runs on, as a service does in time."""
    _run_on_store(data_dir, "command", _MERGE)


def _run_on_store(data_dir: Path, kind: str, statement: str) -> str:
    """Run a statement in a process of its own: a process opens one store in its life."""
    command = [sys.executable, "-c", _RUN, f"chdb://{data_dir / 'db'}", kind, statement]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def _read_out(client: Client) -> Iterator[_Row]:
    decoder = msgspec.json.Decoder(_Row)
    url = f"http://{client.http}/1/events/0/{FAR_FUTURE}/?format=ndjson"
    with urllib3.PoolManager(retries=False, timeout=_READ_TIMEOUT_S) as pool:
        answer = pool.request("GET", url, headers=READ_HEADERS, preload_content=False)
        assert answer.status == 200, answer.data
        rest = b""
        for block in answer.stream(_READ_BYTES):
            lines, _, rest = (rest + block).rpartition(b"\n")
            yield from decoder.decode_lines(lines)
    assert rest == b"", rest


def _counted(client: Client, expected: Mapping[str, int]) -> Mapping[str, int]:
    """Return what a timeseries counts once it is what is expected, or else what it still counts.

    It counts rows of one key as often as they are stored, until they are merged.
    """
    deadline = time.monotonic() + _MERGED_WITHIN_S
    while True:
        groups = client.groups({"group": "service"}, 0, FAR_FUTURE)
        counted = {service: int(points[0][1]) for service, points in groups.items()}
        if counted == expected or time.monotonic() > deadline:
            return counted
        time.sleep(1)


def _ledger_totals(client: Client) -> Mapping[str, int]:
    status, body, _ = client.request("GET", "/1/status/", None, READ_HEADERS)
    assert status == 200, body
    return {outcome: sum(reasons.values()) for outcome, reasons in body["outcomes"].items()}
