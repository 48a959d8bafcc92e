# SPDX-License-Identifier: Apache-2.0
"""Reads millions of raw events out of a service, in each format: how fast, and in how much memory.

python -m benchmarks.raw_events [--events 2000000] [--days 2]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from urllib.parse import urlencode

import urllib3

from benchmarks.dataset import APPLICATION
from benchmarks.running_service import READ_KEY, RunningService, running_service

# What an answer is asked with; pages are followed to the last one.
_QUESTIONS: tuple[dict[str, str], ...] = (
    {"format": "ndjson"},
    {"format": "csv"},
    {"format": "parquet"},
    {"format": "ndjson", "fields": "timestamp,consumer_id,route,status_code,response_us"},
    {"format": "ndjson", "include": "consumer_id:customer-00000"},
    {"format": "ndjson", "limit": "100000"},
)
_CODINGS = ("identity", "gzip", "zstd")
_PIECE = 256 * 1024
_MERGE_TIMEOUT_S = 600
# Without merges, what was received so long ago is settled.
_SETTLED_S = 60


def _read(
    service: RunningService,
    pool: urllib3.PoolManager,
    days: int,
    question: dict[str, str],
    coding: str,
) -> None:
    """Read all pages of an answer, and print what it took."""
    path = f"/1/events/-{days + 1}d/now/?{urlencode(question)}"
    headers = {"X-Auth-Key": READ_KEY, "Accept-Encoding": coding}
    size, pages, before, peak = 0, 0, service.rss_mb(), 0.0
    begun, cpu = time.monotonic(), service.cpu_s()
    first = None
    while path:
        answer = pool.request(
            "GET", f"http://{service.http}{path}", headers=headers, preload_content=False
        )
        if answer.status != 200:
            raise RuntimeError(answer.data)
        # As it comes: to decompress it would be the client's time.
        while piece := answer.read(_PIECE, decode_content=False):
            first = first or time.monotonic() - begun
            size += len(piece)
            peak = max(peak, service.rss_mb())
        pages += 1
        link = answer.headers.get("Link", "")
        path = link[1 : link.index(">")] if link else ""
    took = time.monotonic() - begun
    print(
        f"{urlencode(question)} {coding}: {took:.1f} s, first byte {first or took:.2f} s, "
        f"{service.cpu_s() - cpu:.1f} CPU s, {size / 1e6:.0f} MB, {pages} page(s), "
        f"RSS {before:.0f} -> {peak:.0f} MB",
        flush=True,
    )


def _wait_merged(service: RunningService, pool: urllib3.PoolManager) -> None:
    """Wait until the service has merged what was built, which takes memory and time of its own."""
    url, headers = f"http://{service.http}/1/values/method/", {"X-Auth-Key": READ_KEY}
    deadline = time.monotonic() + _MERGE_TIMEOUT_S
    while time.monotonic() < deadline:
        settled = float(pool.request("GET", url, headers=headers).headers["X-Settled-Until"])
        if time.time() - settled < _SETTLED_S:
            return
        time.sleep(1)
    raise TimeoutError("the events are not merged")


def main() -> None:
    """Build the events, serve them, read them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, default=2_000_000)
    parser.add_argument("--days", type=int, default=2)
    parser.add_argument("--directory", type=Path, help="one that is built already")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        directory = arguments.directory or Path(temporary) / "data"
        if not arguments.directory:
            size = ["--events", str(arguments.events), "--days", str(arguments.days)]
            command = [sys.executable, "-m", "benchmarks.dataset", str(directory), *size]
            subprocess.run(command, check=True)
        settings = {"APINALYTICS_APPLICATION_ID": APPLICATION}
        with running_service(directory, **settings) as service, urllib3.PoolManager() as pool:
            _wait_merged(service, pool)
            for question in _QUESTIONS:
                _read(service, pool, arguments.days, question, "identity")
            for coding in _CODINGS[1:]:
                _read(service, pool, arguments.days, {"format": "ndjson"}, coding)


if __name__ == "__main__":
    main()
