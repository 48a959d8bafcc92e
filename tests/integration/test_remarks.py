# SPDX-License-Identifier: Apache-2.0
"""What is said beside answers: up to when they are settled, and why there is nothing."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.support.clients import READ_HEADERS, Client
from tests.support.waiting import wait_for

# Far from what other tests send.
START = 1_210_000_000


def get(client: Client, path: str) -> tuple[Any, dict[str, str]]:
    """Return body and headers of an answer."""
    status, body, headers = client.request("GET", path, headers=READ_HEADERS)
    assert status == 200, body
    return body, {name.lower(): value for name, value in headers.items()}


@pytest.mark.parametrize("path", ["/1/events/0/1/", "/1/values/method/", "/1/timeseries/0/1/"])
@pytest.mark.parametrize("form", ["", "csv"])
def test_what_is_settled_is_said(client: Client, path: str, form: str) -> None:
    """Beside every answer, in whatever format: a time of receipt."""
    query = f"?format={form}" if "values" not in path else ""
    _, headers = get(client, path + query)
    assert 0 <= float(headers["x-settled-until"]) <= time.time()


def test_what_was_received_before_is_counted(client: Client) -> None:
    """As soon as it is said that all that came before is settled."""
    assert client.post_events([{"timestamp": START, "consumer_id": "remarks"}])[0] == 200
    received = time.time()
    path = f"/1/timeseries/{START}/{START + 1}/?format=series"

    def counted() -> bool:
        body, _ = get(client, path)
        count = body["series"][0]["points"][0][1]
        assert count == 1 or body["settled_until"] <= received
        return bool(count == 1)

    wait_for(counted)


def test_a_list_of_series_says_it_itself(client: Client) -> None:
    """The shape of 2014 does not."""
    path = f"/1/timeseries/{START + 100}/{START + 101}/"
    body, headers = get(client, f"{path}?format=series")
    assert body["settled_until"] == float(headers["x-settled-until"])
    assert "/1/status/" in body["hint"]
    assert body["hint"] == headers["x-hint"]
    body, headers = get(client, path)
    assert set(body) == {"groups", "start", "end", "granularity"}
    assert "/1/status/" in headers["x-hint"]


@pytest.mark.parametrize(("query", "is_hinted"), [("aggregation=error_rate", False),
    ("aggregation=min&value=request_bytes", False), ("aggregation=count", False),
    ("aggregation=sum&value=response_bytes", True)])  # fmt: skip
@pytest.mark.parametrize("fill", ["none", "zero"])
def test_a_zero_may_be_a_value(client: Client, query: str, is_hinted: bool, fill: str) -> None:
    """An API without errors has data; a sum of nothing has none."""
    event = {"timestamp": START + 20, "status_code": 200, "request_bytes": 0}
    assert client.post_events([event])[0] == 200
    wait_for(lambda: client.raw_events(START + 20, START + 21))
    path = f"/1/timeseries/{START + 20}/{START + 21}/"
    _, headers = get(client, f"{path}?{query}&granularity=1&fill={fill}")
    assert ("x-hint" in headers) is is_hinted


@pytest.mark.parametrize("query", ["", "group=method", "granularity=1&fill=zero", "format=csv",
                                   "aggregation=mean", "fill=null", "aggregation=p95"])  # fmt: skip
def test_an_answer_without_data_says_where_to_look(client: Client, query: str) -> None:
    """And one with data does not."""
    assert client.post_events([{"timestamp": START + 10, "response_us": 5}])[0] == 200
    wait_for(lambda: client.raw_events(START + 10, START + 11))
    for second, is_hinted in ((10, False), (200, True)):
        _, headers = get(client, f"/1/timeseries/{START + second}/{START + second + 1}/?{query}")
        assert ("x-hint" in headers) is is_hinted
