# SPDX-License-Identifier: Apache-2.0
"""The timeseries API of 2014, asked over HTTP about events whose answers are known."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.clients import APPLICATION, READ_HEADERS, WRITE_HEADERS, Client
from tests.support.waiting import wait_for

# A Wednesday, 00:00 UTC, far from what other tests send.
START = 1_500_422_400
HOUR = 3600
# (offset in seconds, consumer, function, response_us, status)
CALLS = [
    (0, "alice", "list", 100, 200),
    (10, "alice", "list", 300, 200),
    (HOUR - 1, "bob", "list", 200, 404),
    (HOUR, "bob", "get", 1000, 500),
    (HOUR + 60, "alice", "get", 3000, 200),
    (26 * HOUR, "", "get", None, None),
]
END = START + 7 * 86_400


@pytest.fixture(scope="module")
def calls(client: Client) -> Client:
    """Send the calls and wait until all are counted."""
    events: list[dict[str, Any]] = []
    for offset, consumer, function, response_us, status in CALLS:
        event = {"timestamp": START + offset, "function": function, "url": f"/{function}?x=1"}
        optional = {"consumer_id": consumer, "response_us": response_us, "status_code": status}
        events.append(event | {k: v for k, v in optional.items() if v})
    assert client.post_events(events)[0] == 200
    wait_for(
        lambda: client.groups(start=START, end=END)[APPLICATION][0][1],
        until=lambda n: n == len(CALLS),
    )
    return client


def test_the_total_is_one_point_at_the_start(calls: Client) -> None:
    """Without parameters: count, one group named like the application, one bucket."""
    status, body = calls.ask(start=START, end=END)
    assert status == 200
    assert body == {
        "groups": {APPLICATION: [[START, len(CALLS)]]},
        "start": START,
        "end": START + 7 * 86_400,
        "granularity": 7 * 86_400_000,
    }


def test_empty_parameters_mean_their_defaults(calls: Client) -> None:
    """The dashboard of 2014 sends what is unset as empty."""
    empty = dict.fromkeys(("value", "granularity", "aggregation", "group", "include"), "")
    assert calls.ask(empty, start=START, end=END) == calls.ask(start=START, end=END)


def test_buckets_are_sparse_and_labelled_with_their_start(calls: Client) -> None:
    """An hour without events has no point; granularity is in milliseconds."""
    _, body = calls.ask({"granularity": "hour"}, start=START, end=END)
    assert body["groups"] == {APPLICATION: [[START, 3], [START + HOUR, 2], [START + 26 * HOUR, 1]]}
    assert body["granularity"] == 3_600_000


@pytest.mark.parametrize(
    ("granularity", "first", "count"),
    [
        ("second", START, 1),
        ("10", START, 1),
        ("minute", START, 2),
        ("60", START, 2),
        ("5400", START, 5),
        ("day", START, 5),
        ("86400", START, 5),
        # The Monday before.
        ("week", START - 2 * 86_400, 5),
    ],
)
def test_the_first_bucket_of_each_granularity(
    calls: Client, granularity: str, first: int, count: int
) -> None:
    """Names and seconds; buckets are aligned to the epoch, weeks to Monday."""
    groups = calls.groups({"granularity": granularity}, START, START + 2 * HOUR)
    assert groups[APPLICATION][0] == [first, count]


def test_groups_add_up_to_the_total(calls: Client) -> None:
    """A missing group value has the empty key."""
    groups = calls.groups({"group": "consumer_id"}, start=START, end=END)
    assert {key: points[0][1] for key, points in groups.items()} == {"": 1, "alice": 3, "bob": 2}


@pytest.mark.parametrize("field", ["consumer_id", "method", "url", "function", "status_code"])
def test_each_group_of_2014_adds_up(calls: Client, field: str) -> None:
    """Whatever the group, the sum over groups is the total."""
    groups = calls.groups({"group": field}, start=START, end=END)
    assert sum(points[0][1] for points in groups.values()) == len(CALLS)


@pytest.mark.parametrize(
    ("aggregation", "expected"),
    [("mean", 920.0), ("min", 100), ("max", 3000), ("sum", 4600), ("count", 6)],
)
def test_aggregations(calls: Client, aggregation: str, expected: float) -> None:
    """Events without the measure are counted, and left out of the rest."""
    groups = calls.groups(
        {"aggregation": aggregation, "value": "response_us"}, start=START, end=END
    )
    assert groups[APPLICATION] == [[START, expected]]


@pytest.mark.parametrize("level", [1, 25, 50, 95, 99])
def test_percentiles_are_within_one_per_cent(calls: Client, level: int) -> None:
    """The sketch guarantees 1 % of a value of that rank."""
    values = sorted(us for *_, us, _ in CALLS if us)
    found = calls.groups({"aggregation": f"percentile_{level}"}, start=START, end=END)[APPLICATION][
        0
    ][1]
    rank = level / 100 * (len(values) - 1)
    neighbours = values[int(rank)], values[min(len(values) - 1, int(rank) + 1)]
    assert any(abs(found - value) <= 0.01 * value for value in neighbours)


def test_include_is_or_within_a_field_and_and_between_fields(calls: Client) -> None:
    """The value may contain colons; a missing value is asked for as empty."""
    both = [("include", "consumer_id:alice"), ("include", "consumer_id:bob")]
    assert calls.groups(both, start=START, end=END)[APPLICATION][0][1] == 5
    narrowed = [*both, ("include", "function:get")]
    assert calls.groups(narrowed, start=START, end=END)[APPLICATION][0][1] == 2
    assert (
        calls.groups({"include": "status_code:404"}, start=START, end=END)[APPLICATION][0][1] == 1
    )
    assert calls.groups({"include": "consumer_id:"}, start=START, end=END)[APPLICATION][0][1] == 1
    assert calls.groups({"include": "url:/get?x=1"}, start=START, end=END)[APPLICATION][0][1] == 3


def test_the_range_includes_its_start_and_excludes_its_end(calls: Client) -> None:
    """Half-open, to the microsecond, whatever the bucket."""
    assert calls.groups({}, START, START + 10)[APPLICATION] == [[START, 1]]
    assert calls.groups({}, START, START + 10.000001)[APPLICATION] == [[START, 2]]
    partial = calls.groups({"granularity": "hour"}, START + 5, START + HOUR)
    assert partial[APPLICATION] == [[START, 2]]


def test_nothing_is_a_total_of_zero_and_no_points(client: Client) -> None:
    """An empty range of time has a count of 0, no buckets and no groups."""
    assert client.groups({}, 5, 6) == {APPLICATION: [[5, 0]]}
    assert client.groups({"granularity": "hour"}, 5, 6) == {APPLICATION: []}
    assert client.groups({"group": "url"}, 5, 6) == {}
    assert client.groups({"aggregation": "max"}, 5, 6) == {APPLICATION: []}


@pytest.mark.parametrize(
    ("path", "parameter"),
    [
        ("/1/timeseries/x/10/", "start"),
        ("/1/timeseries/0/1e3/", "end"),
        ("/1/timeseries/10/10/", "end"),
        ("/1/timeseries/0/99999999999/", "end"),
        ("/1/timeseries/0/10/?aggregation=median", "aggregation"),
        ("/1/timeseries/0/10/?aggregation=percentile_0", "aggregation"),
        ("/1/timeseries/0/10/?aggregation=percentile_100", "aggregation"),
        ("/1/timeseries/0/10/?granularity=0", "granularity"),
        ("/1/timeseries/0/10/?granularity=fortnight", "granularity"),
        ("/1/timeseries/0/4000000000/?granularity=1", "granularity"),
        ("/1/timeseries/0/10/?group=trace_id", "group"),
        ("/1/timeseries/0/10/?group=url&group=url", "group"),
        ("/1/timeseries/0/10/?value=url", "value"),
        ("/1/timeseries/0/10/?include=url", "include"),
        ("/1/timeseries/0/10/?include=nope:1", "include"),
        ("/1/timeseries/0/10/?include=status_code:2x", "include"),
        ("/1/timeseries/0/10/?includes=url:1", "includes"),
    ],
)
def test_wrong_input_is_a_400_that_names_it(client: Client, path: str, parameter: str) -> None:
    """The envelope has the parameter, its value and what is allowed."""
    status, body, _ = client.request("GET", path, headers=READ_HEADERS)
    assert status == 400
    error = body["error"]
    assert error["code"] == "invalid_request"
    assert error["parameter"] == parameter
    assert error["value"] is not None
    assert error["allowed"]


@pytest.mark.parametrize(
    "text",
    ["'", "\\", "\\'", "%(x)s", "%s", "{a:String}", "') OR 1=1 --", "\x00", "é€😀", "a\nb", "?"],
)
def test_text_from_outside_is_never_sql(calls: Client, text: str) -> None:
    """A filter on hostile text finds nothing, and fails in no way."""
    assert calls.groups({"include": f"consumer_id:{text}"}, start=START, end=END)[APPLICATION] == [
        [START, 0]
    ]


@pytest.mark.parametrize(
    ("headers", "status"),
    [({}, 401), ({"X-Auth-Key": "no"}, 401), (WRITE_HEADERS, 403)],
)
def test_questions_need_a_read_key(client: Client, headers: dict[str, str], status: int) -> None:
    """A write key may not query."""
    assert client.request("GET", "/1/timeseries/0/1/", headers=headers)[0] == status


def test_unknown_paths_and_methods_use_the_envelope(client: Client) -> None:
    """Also what the router refuses."""
    status, body, _ = client.request("GET", "/2/")
    assert (status, body["error"]["code"]) == (404, "not_found")
    status, body, _ = client.request("DELETE", "/1/event/")
    assert (status, body["error"]["code"]) == (405, "method_not_allowed")
