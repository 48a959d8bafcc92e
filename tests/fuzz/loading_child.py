# SPDX-License-Identifier: Apache-2.0
"""Loads records with the real loader and engine, in a process of its own.

The embedded engine allows one directory per process, and other tests need that of this process. A
line of JSON comes in for each segment, and one with what became of its records goes out.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from otel_apinalytics.normalize.mapping import NO_MAPPING
from otel_apinalytics.receiver.loader import Loader
from otel_apinalytics.receiver.log import RequestLog, SealedSegment, open_log_directory
from otel_apinalytics.store.engine import Engine
from otel_apinalytics.store.loads import Loads
from otel_apinalytics.store.schema import migrate

_LEDGER = "SELECT hex(record_id), outcome, reason, sum(items) FROM ledger GROUP BY ALL ORDER BY ALL"
_STORED = "SELECT hex(span_id) FROM events FINAL"
_DEAD_LETTERS = "SELECT DISTINCT hex(record_id) FROM rejected FINAL WHERE reason = 'undecodable'"
_TABLES = ("events", "ledger_records", "rejected")


def main() -> None:
    """Answer until the input ends."""
    engine = Engine("chdb://memory")
    migrate(engine)
    loads = Loads(NO_MAPPING)
    with tempfile.TemporaryDirectory() as directory:
        for number, line in enumerate(sys.stdin):
            records = [bytes.fromhex(record) for record in json.loads(line)]
            for table in _TABLES:
                engine.command(f"TRUNCATE TABLE {table}")
            left = _load(engine, loads, Path(directory) / str(number), records)
            answer: dict[str, Any] = {
                "left": left,
                "ledger": [list(row) for row in engine.query(_LEDGER).rows],
                "stored": [row[0] for row in engine.query(_STORED).rows],
                "dead_letters": [row[0] for row in engine.query(_DEAD_LETTERS).rows],
            }
            print(json.dumps(answer), flush=True)  # noqa: T201 - the answer
    engine.close()


def _load(engine: Engine, loads: Loads, directory: Path, records: Sequence[bytes]) -> int:
    """Write records as the door does, load them, and return how many segments could not be."""
    directory.mkdir()
    identity = open_log_directory(directory, bytes(32))
    sealed: list[SealedSegment] = []
    log = RequestLog(directory, identity, sealed.append)
    log.start()
    for record in records:
        log.append(record)
    log.close()
    released: list[SealedSegment] = []
    loader = Loader(
        engine,
        lambda: loads,
        lambda application: bytes(32),
        identity,
        directory,
        lambda segment, load_s: released.append(segment),
    )
    loader.start()
    for segment in sealed:
        loader.submit(segment)
    loader.close()
    return len(sealed) - len(released)


if __name__ == "__main__":
    main()
