# SPDX-License-Identifier: Apache-2.0
"""Self-telemetry: what the service counts and measures of itself, in the Prometheus text format.

Names follow the conventions of Prometheus: the unit is in the name, counters end in `_total`. No
label has an application, a key or anything else that was sent, so that their number is bounded.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from otel_apinalytics.errors import (
    ApinalyticsError,
    AuthenticationError,
    InvalidRequestError,
    PermissionDeniedError,
    RequestTooLargeError,
    TooManyRequestsError,
)

PREFIX = "apinalytics"
#: Media type of `Telemetry.exposition`.
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_TRANSPORTS = ("grpc", "http")
_WAYS_IN = (("grpc", "spans"), ("http", "spans"), ("http", "events"))
_INVALID = (
    ("grpc", "invalid_trace_id"),
    ("grpc", "invalid_span_id"),
    ("http", "invalid_trace_id"),
    ("http", "invalid_span_id"),
    ("http", "invalid_event"),
)
_SIGNALS = ("metrics", "logs")
_TABLES = ("events", "rejected", "ledger_records", "audit")
_TASKS = ("merges", "retention", "dead_letters", "sync")
#: Why a request is not let in by its key.
AUTHENTICATION_FAILURES = (
    "missing", "unknown", "expired", "revoked", "slowed", "forbidden", "rate_limited",
)  # fmt: skip
# The first that fits; anything else is our trouble or our limit.
_REASONS: tuple[tuple[type[ApinalyticsError], str], ...] = (
    (AuthenticationError, "unauthenticated"),
    (PermissionDeniedError, "forbidden"),
    (RequestTooLargeError, "too_large"),
    (InvalidRequestError, "invalid"),
    (TooManyRequestsError, "rate_limited"),
    (ApinalyticsError, "unavailable"),
)
#: What kinds of refusals there are.
REFUSAL_REASONS = tuple(reason for _, reason in _REASONS)

_COMMIT_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_LOAD_BUCKETS_S = (0.05, 0.1, 0.15, 0.25, 0.5, 0.75, 1, 2.5, 5, 10, 30)
# Fine around the second within which what was acknowledged is to be visible.
_LAG_BUCKETS_S = (0.25, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10, 30, 60, 300, 1800, 7200)


def reason_of(error: ApinalyticsError) -> str:
    """Return what kind of refusal an error is, in one word."""
    return next(reason for kind, reason in _REASONS if isinstance(error, kind))


@dataclass(frozen=True, slots=True)
class LedgerReading:
    """What the ledger says.

    Args:
        totals: (outcome, reason) → spans and events since the start; never less than before.
        is_store_up: Whether the store answered the latest question in time.
    """

    totals: Mapping[tuple[str, str], int]
    is_store_up: bool


class Telemetry:
    """The instruments of one service. Safe to use from many threads; nothing is global.

    Labels: `transport` is `grpc` or `http`, `kind` is `spans` or `events`; an item is a span or an
    event.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        counter = functools.partial(Counter, namespace=PREFIX, registry=self.registry)
        gauge = functools.partial(Gauge, namespace=PREFIX, registry=self.registry)
        histogram = functools.partial(Histogram, namespace=PREFIX, registry=self.registry)

        self._received_requests = counter(
            "received_requests_total",
            "Requests that were let in, with at least one item.",
            ("transport", "kind"),
        )
        self._received_items = counter(
            "received_items_total",
            "Spans or events in them, counted at the door.",
            ("transport", "kind"),
        )
        self._duplicate_items = counter(
            "duplicate_items_total",
            "Spans or events of these in requests that were received before.",
            ("transport", "kind"),
        )
        self._invalid_items = counter(
            "invalid_items_total",
            "Spans or events that the sender was told are rejected as not valid; in each try.",
            ("transport", "reason"),
        )
        self._refused_requests = counter(
            "refused_requests_total",
            "Requests that were not let in.",
            ("transport", "reason"),
        )
        self._failed_authentications = counter(
            "failed_authentications_total",
            "Requests without a key that lets them in, of any kind; slowed are those of addresses "
            "that tried too many unknown keys.",
            ("reason",),
        )
        self._failed_requests = counter(
            "failed_requests_total",
            "Requests that ended in an internal error: a defect of the service.",
            ("transport",),
        )
        self._discarded_requests = counter(
            "discarded_requests_total",
            "Requests with metrics or log records, which are answered and not kept.",
            ("transport", "signal"),
        )
        self._requests_in_flight = gauge(
            "requests_in_flight",
            "Requests that were begun and are not answered yet.",
            ("transport",),
        )

        #: Bytes; `set_function` makes it known. Beyond the cap, requests are refused.
        self.pending_bytes = gauge(
            "log_pending_bytes", "Bytes in the request log that wait to be loaded."
        )
        #: Segments.
        self.pending_segments = gauge(
            "log_pending_segments", "Sealed segments of the request log that wait to be loaded."
        )
        #: Bytes; `set_function` makes it known.
        self.free_bytes = gauge(
            "disk_free_bytes", "Free disk space where log and store are; of two disks, the lesser."
        )
        #: Bytes.
        self.min_free_bytes = gauge(
            "disk_min_free_bytes", "Below so much free disk space, requests are refused."
        )
        #: Seconds.
        self.commit_seconds = histogram(
            "log_commit_seconds",
            "Time to seal, write and sync what waited together, failed attempts included.",
            buckets=_COMMIT_BUCKETS_S,
        )
        self.commit_failures = counter(
            "log_commit_failures_total",
            "Groups of requests that were refused because the log could not be written.",
        )
        #: Seconds.
        self.load_seconds = histogram(
            "load_seconds",
            "Time to load a segment into the store, without attempts that failed.",
            buckets=_LOAD_BUCKETS_S,
        )
        self.load_failures = counter(
            "load_failures_total",
            "Attempts to load a segment that failed; repeated now or after a restart.",
        )
        self.rejected_records = counter(
            "load_rejected_records_total",
            "Requests that the store could not take; they are dead letters.",
        )
        self.segments_set_aside = counter(
            "segments_set_aside_total",
            "Segments that were not loaded, or not whole: damaged, gone, or with rejected records.",
        )
        self.damaged_parts = counter(
            "damaged_parts_total",
            "Tables of which the disk lost a part; it was taken out, and loaded again.",
        )
        #: Seconds.
        self.visible_after_seconds = histogram(
            "visible_after_seconds",
            "Time from the receipt of a segment's first request until the segment was loaded.",
            buckets=_LAG_BUCKETS_S,
        )
        self.lost_audit_entries = counter(
            "lost_audit_entries_total",
            "Entries of the audit that were lost because the log could not be written for long.",
        )
        #: Days of applications, by `table`.
        self.deleted_days = counter(
            "deleted_days_total",
            "Days of applications that were deleted because they were too old.",
            ("table",),
        )
        #: Rows, by `table`.
        self.deleted_rows = counter(
            "deleted_rows_total",
            "Rows that were deleted because they were too old or too many.",
            ("table",),
        )
        self.forced_merges = counter(
            "forced_merges_total",
            "Days of events that were merged so that copies of an event become one.",
        )
        #: Unix seconds.
        self.unique_until = gauge(
            "unique_until_timestamp_seconds",
            "Unix time: of events received before it and stored, there are no copies among them.",
        )
        #: By `task`.
        self.janitor_failures = counter(
            "janitor_failures_total",
            "Merges, deletions or syncs that failed; they are tried again.",
            ("task",),
        )
        self._ledger = _LedgerCollector()
        self.registry.register(self._ledger)
        ProcessCollector(registry=self.registry)
        self._begin_at_zero()

    # ---- the door ----

    def received(self, transport: str, kind: str, items: int) -> None:
        """Count a request that was let in, and the items in it."""
        self._received_requests.labels(transport, kind).inc()
        self._received_items.labels(transport, kind).inc(items)

    def duplicate(self, transport: str, kind: str, items: int) -> None:
        """Count the items of a request that was received before; `received` counts them too."""
        self._duplicate_items.labels(transport, kind).inc(items)

    def invalid(self, transport: str, reason: str, items: int) -> None:
        """Count items that the sender is told are rejected.

        Args:
            transport: How they came.
            reason: `invalid_trace_id`, `invalid_span_id` or `invalid_event`.
            items: How many.
        """
        self._invalid_items.labels(transport, reason).inc(items)

    def refused(self, transport: str, error: ApinalyticsError) -> None:
        """Count a request that was not let in, by the class of its error."""
        self._refused_requests.labels(transport, reason_of(error)).inc()

    def authentication_failed(self, reason: str) -> None:
        """Count a request that no key lets in, by one of `AUTHENTICATION_FAILURES`."""
        self._failed_authentications.labels(reason).inc()

    def failed(self, transport: str) -> None:
        """Count a request that ended in an internal error."""
        self._failed_requests.labels(transport).inc()

    def discarded(self, transport: str, signal: str) -> None:
        """Count a request of a signal (`metrics` or `logs`) that is not kept."""
        self._discarded_requests.labels(transport, signal).inc()

    def in_flight(self, transport: str) -> AbstractContextManager[Any]:
        """Return a context during which a request is counted as in flight."""
        tracker: AbstractContextManager[Any] = self._requests_in_flight.labels(
            transport
        ).track_inprogress()
        return tracker

    # ---- a scrape ----

    def watch_ledger(self, read: Callable[[], LedgerReading]) -> None:
        """Show what the ledger says from now on.

        Args:
            read: Called at each scrape; must not raise, nor block for longer than a scrape may.
        """
        self._ledger.read = read

    def exposition(self) -> bytes:
        """Return all metrics as text of the type `CONTENT_TYPE`. May ask the store: it blocks."""
        return generate_latest(self.registry)

    def _begin_at_zero(self) -> None:
        """Make the series that are known: an increase from nothing is invisible to a query."""
        for way in _WAYS_IN:
            for counter in (self._received_requests, self._received_items, self._duplicate_items):
                counter.labels(*way)
        for invalid in _INVALID:
            self._invalid_items.labels(*invalid)
        for table in _TABLES:
            self.deleted_days.labels(table)
            self.deleted_rows.labels(table)
        for task in _TASKS:
            self.janitor_failures.labels(task)
        for reason in AUTHENTICATION_FAILURES:
            self._failed_authentications.labels(reason)
        for transport in _TRANSPORTS:
            self._failed_requests.labels(transport)
            self._requests_in_flight.labels(transport)
            for _, reason in _REASONS:
                self._refused_requests.labels(transport, reason)
            for signal in _SIGNALS:
                self._discarded_requests.labels(transport, signal)


class _LedgerCollector(Collector):
    """Asks the ledger when the metrics are read."""

    def __init__(self) -> None:
        self.read: Callable[[], LedgerReading] | None = None

    def collect(self) -> Iterable[Metric]:
        items = CounterMetricFamily(
            f"{PREFIX}_ledger_items",
            "Spans and events since the start, by what became of them, as the store counted them.",
            labels=("outcome", "reason"),
        )
        is_up = GaugeMetricFamily(
            f"{PREFIX}_store_up",
            "1 if the store answered the latest question in time, else 0.",
        )
        if self.read is not None:
            reading = self.read()
            is_up.add_metric((), float(reading.is_store_up))
            for key, total in sorted(reading.totals.items()):
                items.add_metric(key, total)
        return (items, is_up)
