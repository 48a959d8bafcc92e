# SPDX-License-Identifier: Apache-2.0
"""A log of its own and its loader, in front of a store that others use, too."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from otel_apinalytics.normalize.mapping import NO_MAPPING
from otel_apinalytics.receiver.loader import Loader
from otel_apinalytics.receiver.log import RequestLog, SealedSegment, open_log_directory
from otel_apinalytics.receiver.records import new_header, spans_record
from otel_apinalytics.service import Service
from otel_apinalytics.store.engine import Engine
from otel_apinalytics.store.loads import Loads
from otel_apinalytics.telemetry import Telemetry
from otel_apinalytics.wire.log_pb2 import LogHeader
from tests.support.otlp import make_request, make_span
from tests.support.waiting import wait_for

MASTER_KEY = bytes(range(32))
# So far away that only a defect reaches it.
DEADLINE_S = 60.0


class Pipeline:
    """A log of its own and its loader.

    Args:
        engine: The store.
        directory: Where the log lives.
        loads: The statements to load with.
    """

    def __init__(self, engine: Engine, directory: Path, loads: Loads | None = None) -> None:
        self.directory = directory
        self.telemetry = Telemetry()
        self.identity = open_log_directory(directory, MASTER_KEY)
        self.loader = Loader(
            engine,
            lambda: loads or Loads(NO_MAPPING),
            lambda application: bytes(32),
            self.identity,
            directory,
            lambda segment, load_s: None,
            self.telemetry,
        )

    def __enter__(self) -> Pipeline:
        """Start to load."""
        self.loader.start()
        return self

    def __exit__(self, *error: object) -> None:
        """Stop."""
        self.loader.close()

    def load(self, records: Sequence[bytes]) -> None:
        """Write the records as one segment, load it, and wait until it is loaded."""
        segments = self.write(records)
        loads = sample(self.telemetry, "load_seconds_count")
        for segment in segments:
            self.loader.submit(segment)
        wait_for(lambda: sample(self.telemetry, "load_seconds_count") > loads)

    def write(self, records: Sequence[bytes]) -> list[SealedSegment]:
        """Write the records to the log, and return its segments; they are not loaded yet."""
        sealed: list[SealedSegment] = []
        log = RequestLog(self.directory, self.identity, sealed.append)
        futures = [log.append(record) for record in records]
        log.start()
        for future in futures:
            future.result(DEADLINE_S)
        log.close()
        return sealed


def header_at(received_s: float, count: int, application: str) -> LogHeader:
    """Return the header of a record that was received at that time."""
    header = new_header(application, "key", "grpc", count)
    header.received_ns = int(received_s * 1e9)
    return header


def record_at(received_s: float, spans: int, application: str) -> bytes:
    """Return a record of calls, received at that time."""
    header = header_at(received_s, spans, application)
    start_ns = header.received_ns
    return spans_record(header, make_request(*(make_span(start_ns=start_ns) for _ in range(spans))))


def load_records(service: Service, *records: bytes) -> None:
    """Write records to the log of a running service, and wait until they are loaded."""
    for record in records:
        service._log.append(record).result(DEADLINE_S)
    service._log.flush(DEADLINE_S)


def sample(telemetry: Telemetry, name: str) -> float:
    """Return a sample without labels, as a scraper reads it."""
    text = telemetry.exposition().decode()
    (value,) = (
        found.value
        for family in text_string_to_metric_families(text)
        for found in family.samples
        if found.name == f"apinalytics_{name}"
    )
    return value
