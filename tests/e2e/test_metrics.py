# SPDX-License-Identifier: Apache-2.0
"""Metrics and readiness of a service in a process of its own."""

from __future__ import annotations

from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from tests.support.clients import Client
from tests.support.otlp import CALL, make_request, make_span
from tests.support.service_process import service_process
from tests.support.waiting import wait_for


def scrape(client: Client) -> dict[tuple[str, ...], float]:
    """Return each sample's value by its name and its labels' values, in the labels' order."""
    status, body, _ = client.request("GET", "/metrics")
    assert status == 200
    return {
        (
            s.name.removeprefix("apinalytics_"),
            *(s.labels[label] for label in sorted(s.labels)),
        ): s.value
        for family in text_string_to_metric_families(body.decode())
        for s in family.samples
    }


def test_readiness_follows_the_log(tmp_path: Path) -> None:
    """A log directory that is gone makes the service not ready, and it recovers by itself."""
    with service_process(tmp_path) as service:
        client, log = service.client, tmp_path / "log"
        log.rename(tmp_path / "away")
        status, _ = client.post_events([{"timestamp": 1_700_000_000}])
        assert status == 503
        status, body, _ = client.request("GET", "/health/ready")
        assert (status, body["reasons"]) == (503, ["the request log cannot be written"])
        (tmp_path / "away").rename(log)
        wait_for(lambda: client.request("GET", "/health/ready")[0], until=lambda code: code == 200)


def test_the_ledger_s_totals_are_of_this_process(tmp_path: Path) -> None:
    """What a killed process left is counted once, by the one that loads it."""
    with service_process(tmp_path) as service:
        service.client.export(make_request(*(make_span(CALL) for _ in range(5))))
        wait_for(
            lambda: scrape(service.client)["ledger_items_total", "stored", ""],
            until=lambda total: total == 5,
        )
        assert scrape(service.client)["store_up",] == 1
        service.kill()
    with service_process(tmp_path) as service:
        assert scrape(service.client)["ledger_items_total", "stored", ""] == 0
        service.client.export(make_request(make_span(CALL)))
        wait_for(
            lambda: scrape(service.client)["ledger_items_total", "stored", ""],
            until=lambda total: total == 1,
        )
        assert service.stop() == 0


def test_requests_are_counted_by_what_became_of_them(tmp_path: Path) -> None:
    """A request that comes twice is received twice, and a duplicate once."""
    with service_process(tmp_path) as service:
        body = make_request(make_span(CALL), make_span(CALL, span_id=bytes(8)))
        for _ in range(2):
            service.client.export(body)
        status, _ = service.client.post_events([{}])
        assert status == 400
        # The second one is counted when it is on disk that there was one.
        wait_for(
            lambda: scrape(service.client)["received_requests_total", "spans", "grpc"],
            until=lambda requests: requests == 2,
        )
        samples = scrape(service.client)
        assert samples["received_items_total", "spans", "grpc"] == 4
        assert samples["duplicate_items_total", "spans", "grpc"] == 2
        assert samples["invalid_items_total", "invalid_span_id", "grpc"] == 2
        assert samples["refused_requests_total", "invalid", "http"] == 1
        assert samples["failed_requests_total", "grpc"] == 0
        assert samples["requests_in_flight", "grpc"] == 0
        for outcome, total in (("received", 4), ("stored", 1), ("duplicate", 2)):
            wait_for(
                lambda: scrape(service.client)["ledger_items_total", outcome, ""],  # noqa: B023
                until=lambda found: found == total,  # noqa: B023
            )
