# SPDX-License-Identifier: Apache-2.0
"""The list of fields, asked over HTTP, and that what it lists can be asked and sent."""

from __future__ import annotations

from typing import Any

import pytest

from otel_apinalytics.catalogue import FIELDS, VIRTUAL_FIELDS
from tests.support.clients import READ_HEADERS, WRITE_HEADERS, Client
from tests.support.waiting import wait_for

# Thursday, 2004-11-25, 01:46:40 UTC, far from what other tests send.
START = 1_101_347_200
HOUR = 3600
EVENTS: list[dict[str, Any]] = [
    {"timestamp": START, "status_code": 200, "attributes": {"plan": "gold"}, "weight": 2},
    {"timestamp": START + 1, "status_code": 503, "metrics": {"tokens": 1.5}},
    {"timestamp": START + HOUR, "metrics": {"tokens": 2}, "is_stream": True, "response_us": 10**9},
    {"timestamp": START + HOUR, "response_us": 100},
]

# What they stand for, by their weights.
REQUESTS = 5


@pytest.fixture(scope="module")
def fields(client: Client) -> list[dict[str, Any]]:
    """Return the list."""
    status, body, _ = client.request("GET", "/1/fields/", headers=READ_HEADERS)
    assert status == 200
    assert list(body) == ["fields"]
    found: list[dict[str, Any]] = body["fields"]
    return found


@pytest.fixture(scope="module")
def events(client: Client) -> Client:
    """Send the events and wait until all are stored."""
    assert client.post_events(EVENTS)[0] == 200
    wait_for(
        lambda: client.raw_events(START, START + 2 * HOUR),
        until=lambda found: len(found) == len(EVENTS),
    )
    return client


def counts(client: Client, **parameters: str) -> dict[str, float]:
    """Return the one value of each group."""
    groups = client.groups(parameters, START, START + 2 * HOUR)
    return {key: points[0][1] for key, points in groups.items() if points}


def test_all_fields_are_listed_in_order(fields: list[dict[str, Any]]) -> None:
    """Those that are stored, then those that are computed."""
    assert [field["name"] for field in fields] == [f.name for f in (*FIELDS, *VIRTUAL_FIELDS)]
    assert [field["virtual"] for field in fields] == (
        [False] * len(FIELDS) + [True] * len(VIRTUAL_FIELDS)
    )


@pytest.mark.parametrize(
    "expected",
    [
        {
            "name": "direction",
            "type": "text",
            "role": "dimension",
            "unit": None,
            "nullable": False,
            "virtual": False,
            "description": "`inbound` for calls of our API, `outbound` for calls that we make.",
            "choices": ["inbound", "outbound"],
            "in_event": True,
        },
        {
            "name": "response_us",
            "type": "integer",
            "role": "measure",
            "unit": "µs",
            "nullable": True,
            "virtual": False,
            "description": "Time from request to response.",
            "choices": [],
            "in_event": True,
        },
        {
            "name": "weekday",
            "type": "text",
            "role": "dimension",
            "unit": None,
            "nullable": False,
            "virtual": True,
            "description": "Day of event time, `1` (Monday) to `7`, in `tz`.",
            "choices": [],
            "in_event": False,
        },
    ],
    ids=lambda field: field["name"],
)
def test_what_is_said_of_a_field(fields: list[dict[str, Any]], expected: dict[str, Any]) -> None:
    """All that a menu or a sender needs to know."""
    assert expected in fields


def test_what_is_listed_can_be_asked(events: Client, fields: list[dict[str, Any]]) -> None:
    """Every dimension as group, every measure as value; of a map, an entry."""
    for field in fields:
        name = f"{field['name']}.x" if field["type"].endswith(" map") else field["name"]
        if field["role"] == "dimension":
            assert sum(counts(events, group=name).values()) == REQUESTS, name
        if field["role"] == "measure":
            for aggregation in ("mean", "min", "max", "sum", "percentile_95"):
                status, body = events.ask(
                    {"value": name, "aggregation": aggregation}, START, START + 2 * HOUR
                )
                assert status == 200, (name, body)


@pytest.mark.parametrize(
    ("group", "expected"),
    [
        ("status_class", {"2xx": 2, "5xx": 1, "": 2}),
        ("hour_of_day", {"1": 3, "2": 2}),
        ("weekday", {"4": 5}),
        ("is_edge", {"true": 5}),
        ("is_stream", {"false": 4, "true": 1}),
        ("attributes.plan", {"gold": 2, "": 3}),
    ],
)
def test_groups(events: Client, group: str, expected: dict[str, int]) -> None:
    """Computed fields and entries of maps, as group and as filter."""
    assert counts(events, group=group) == expected
    for key, count in expected.items():
        assert counts(events, include=f"{group}:{key}") == {"shop": count}


@pytest.mark.parametrize(
    ("value", "aggregation", "expected"),
    [
        ("weight", "sum", 5.0),
        ("weight", "max", 2.0),
        ("metrics.tokens", "sum", 3.5),
        ("metrics.tokens", "min", 1.5),
        ("response_us", "max", 10**9),
        ("response_us", "percentile_99", 100),
    ],
)
def test_values(events: Client, value: str, aggregation: str, expected: float) -> None:
    """Public values; a stream counts, but not for percentiles."""
    (found,) = counts(events, value=value, aggregation=aggregation).values()
    assert found == pytest.approx(expected, rel=0.01 if "percentile" in aggregation else 1e-12)


@pytest.mark.parametrize(
    ("parameters", "name"),
    [
        ({"group": "attributes"}, "group"),
        ({"group": "metrics.tokens"}, "group"),
        ({"value": "metrics"}, "value"),
        ({"value": "attributes.plan"}, "value"),
        ({"include": "attributes:x"}, "include"),
        ({"include": "is_edge:maybe"}, "include"),
    ],
)
def test_what_cannot_be_asked_is_said(
    client: Client, parameters: dict[str, str], name: str
) -> None:
    """With what is allowed instead."""
    status, body = client.ask(parameters)
    assert status == 400
    assert body["error"]["parameter"] == name
    assert body["error"]["allowed"]


@pytest.mark.parametrize(
    ("headers", "status"),
    [({}, 401), ({"X-Auth-Key": "no"}, 401), (WRITE_HEADERS, 403)],
)
def test_the_list_needs_a_read_key(client: Client, headers: dict[str, str], status: int) -> None:
    """As all questions."""
    assert client.request("GET", "/1/fields/", headers=headers)[0] == status


def test_the_documentation_has_the_routes(client: Client) -> None:
    """With the types of their answers and the names of what can be asked."""
    _, document, _ = client.request("GET", "/openapi.json")
    paths = document["paths"]
    assert "/1/fields/" in paths
    answer = paths["/1/events/{start}/{end}/"]["get"]["responses"]["200"]
    assert list(answer["content"]) == [
        "application/x-ndjson",
        "text/csv",
        "application/vnd.apache.parquet",
    ]
    questions = str(paths["/1/timeseries/{start}/{end}/"])
    assert "attributes.NAME" in questions
    assert "metrics.NAME" in questions
    assert "is_edge" in questions
