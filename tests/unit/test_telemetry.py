# SPDX-License-Identifier: Apache-2.0
"""Tests of the self-telemetry: what is counted is shown, by stable names, and names nobody."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families

from otel_apinalytics.errors import (
    ApinalyticsError,
    AuthenticationError,
    InvalidRequestError,
    PermissionDeniedError,
    RequestTooLargeError,
    RetryableError,
)
from otel_apinalytics.telemetry import PREFIX, LedgerReading, Telemetry

OPERATIONS = Path(__file__).parents[2] / "docs" / "operations.md"
UNITS = (
    "entries",
    "seconds",
    "bytes",
    "requests",
    "items",
    "records",
    "segments",
    "failures",
    "days",
    "rows",
    "merges",
)
LABELS = {"transport", "kind", "reason", "signal", "outcome", "le", "table", "task"}


def scrape(telemetry: Telemetry) -> dict[str, Metric]:
    """Return what a scraper reads, by name."""
    text = telemetry.exposition().decode()
    return {family.name: family for family in text_string_to_metric_families(text)}


def value(telemetry: Telemetry, name: str, **labels: str) -> float | None:
    """Return a sample that a scraper reads, or None."""
    samples = [sample for family in scrape(telemetry).values() for sample in family.samples]
    return next((s.value for s in samples if s.name == name and s.labels == labels), None)


def metrics_table() -> str:
    """Return the table of metrics in `docs/operations.md`; a unit is a word of the name."""
    lines = ["| metric | type | unit | meaning |", "|---|---|---|---|"]
    for family in Telemetry().registry.collect():
        name = f"{family.name}_total" if family.type == "counter" else family.name
        if name.startswith(PREFIX):
            unit = next((word for word in name.split("_") if word in UNITS), "")
            lines.append(f"| `{name}` | {family.type} | {unit} | {family.documentation} |")
    return "\n".join(lines)


def test_the_documentation_lists_every_metric() -> None:
    """The table in the documentation is the one that the code gives."""
    (found,) = re.findall(
        r"<!-- metrics: begin -->\n(.*?)\n<!-- metrics: end -->", OPERATIONS.read_text(), re.DOTALL
    )
    assert found == metrics_table()


def test_two_services_of_one_process_count_for_themselves() -> None:
    """Nothing is global."""
    one, other = Telemetry(), Telemetry()
    one.received("grpc", "spans", 3)
    labels = {"transport": "grpc", "kind": "spans"}
    assert value(one, "apinalytics_received_items_total", **labels) == 3
    assert value(other, "apinalytics_received_items_total", **labels) == 0


def test_requests_and_items_are_counted_by_way_in() -> None:
    """A request counts once, its items by their number; other ways in stay as they were."""
    telemetry = Telemetry()
    telemetry.received("grpc", "spans", 512)
    telemetry.received("grpc", "spans", 8)
    telemetry.received("http", "events", 1)
    for way, requests, items in (
        (("grpc", "spans"), 2, 520),
        (("http", "events"), 1, 1),
        (("http", "spans"), 0, 0),
    ):
        labels = dict(zip(("transport", "kind"), way, strict=True))
        assert value(telemetry, "apinalytics_received_requests_total", **labels) == requests
        assert value(telemetry, "apinalytics_received_items_total", **labels) == items


def test_what_is_not_kept_is_counted_apart() -> None:
    """Duplicates, bad ids, other signals and defects have counters of their own."""
    telemetry = Telemetry()
    telemetry.duplicate("http", "events", 7)
    telemetry.invalid("grpc", "invalid_span_id", 2)
    telemetry.discarded("grpc", "metrics")
    telemetry.failed("http")
    for name, labels, count in (
        ("duplicate_items", {"transport": "http", "kind": "events"}, 7),
        ("invalid_items", {"transport": "grpc", "reason": "invalid_span_id"}, 2),
        ("discarded_requests", {"transport": "grpc", "signal": "metrics"}, 1),
        ("failed_requests", {"transport": "http"}, 1),
        ("received_items", {"transport": "http", "kind": "events"}, 0),
    ):
        assert value(telemetry, f"apinalytics_{name}_total", **labels) == count


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (AuthenticationError("no key"), "unauthenticated"),
        (PermissionDeniedError("read only", "shop", "k1"), "forbidden"),
        (RequestTooLargeError("too large"), "too_large"),
        (InvalidRequestError("not protobuf"), "invalid"),
        (RetryableError("behind"), "unavailable"),
    ],
)
def test_refusals_are_counted_by_the_class_of_their_error(
    error: ApinalyticsError, reason: str
) -> None:
    """A request that is too large is not only invalid, and no message becomes a label."""
    telemetry = Telemetry()
    telemetry.refused("grpc", error)
    samples = scrape(telemetry)["apinalytics_refused_requests"].samples
    counted = [(s.labels["transport"], s.labels["reason"]) for s in samples if s.value == 1]
    assert counted == [("grpc", reason)]


def test_a_request_is_in_flight_until_it_ends() -> None:
    """However it ends."""
    telemetry = Telemetry()
    name, labels = "apinalytics_requests_in_flight", {"transport": "http"}

    def fail() -> None:
        with telemetry.in_flight("http"):
            assert value(telemetry, name, **labels) == 1
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert value(telemetry, name, **labels) == 0


def test_known_series_begin_at_zero() -> None:
    """The first refusal is an increase, not a new series, which an alert would not see."""
    telemetry = Telemetry()
    refused = scrape(telemetry)["apinalytics_refused_requests"].samples
    assert {s.value for s in refused} == {0}
    assert len(refused) == 2 * 6


def test_names_follow_the_conventions() -> None:
    """Prefix, `_total` for counters only, and no label beyond the bounded ones."""
    for family in Telemetry().registry.collect():
        assert family.name.startswith((f"{PREFIX}_", "process_"))
        for sample in family.samples:
            assert sample.name.endswith("_total") <= (family.type == "counter")
            assert set(sample.labels) <= LABELS


def test_the_process_is_shown() -> None:
    """CPU seconds and resident bytes."""
    telemetry = Telemetry()
    assert (value(telemetry, "process_cpu_seconds_total") or 0) > 0
    assert (value(telemetry, "process_resident_memory_bytes") or 0) > 1 << 20


def test_the_ledger_is_asked_at_each_scrape() -> None:
    """Its totals are counters by outcome and reason; a store that is down is shown as such."""
    telemetry = Telemetry()
    assert value(telemetry, "apinalytics_store_up") is None
    readings = iter(
        [
            LedgerReading({("stored", ""): 5, ("filtered", "placeholder"): 2}, is_store_up=True),
            LedgerReading({("stored", ""): 6}, is_store_up=False),
        ]
    )
    telemetry.watch_ledger(lambda: next(readings))
    families = scrape(telemetry)
    (is_up,) = families["apinalytics_store_up"].samples
    assert is_up.value == 1
    ledger = families["apinalytics_ledger_items"].samples
    assert {(s.labels["outcome"], s.labels["reason"]): s.value for s in ledger} == {
        ("stored", ""): 5,
        ("filtered", "placeholder"): 2,
    }
    families = scrape(telemetry)
    (is_up,), (stored,) = (
        families[f"apinalytics_{name}"].samples for name in ("store_up", "ledger_items")
    )
    assert (is_up.value, stored.value) == (0, 6)
