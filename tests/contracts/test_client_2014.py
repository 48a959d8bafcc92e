# SPDX-License-Identifier: Apache-2.0
"""A client of APInalytics as of 2014 works unchanged: its requests, and the answers by the byte.

The requests are those of the Go client, of the dashboard and of the README of that time.
"""

from __future__ import annotations

import contextlib
import http.client
import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.service_process import service_process
from tests.support.waiting import wait_for

# Ids came from a log-in; keys looked like padded base64.
APPLICATION, WRITE_KEY, READ_KEY = "apinalytics", "d3JpdGUta2V5IQ==", "cmVhZC1rZXkhIQ=="
# 2014-05-13, 16:53:20 UTC, as in the README: no full hour.
NOW = 1_400_000_000
HOUR, DAY = 3600, 86_400
THIS_HOUR = NOW // HOUR * HOUR
UNSET = {"value": "", "granularity": "", "aggregation": "", "group": ""}


class Call(NamedTuple):
    """A request that the Go middleware saw."""

    before_s: int
    consumer_id: str
    function: str
    response_us: int
    status_code: int


CALLS = [
    Call(60, "alice", "list", 100, 200),
    Call(61, "alice", "list", 300, 200),
    Call(10 * 60, "bob", "get", 1000, 404),
    Call(2 * HOUR, "alice", "unknown", 50, 500),
    Call(3 * DAY, "", "list", 7, 200),
    Call(20 * DAY, "bob", "list", 7, 200),
]


class Api:
    """Speaks as clients of 2014 did: on a kept connection, with headers as Go writes them."""

    def __init__(self, address: str) -> None:
        self._connection = http.client.HTTPConnection(address, timeout=30)

    def ask(self, method: str, path: str, key: str, body: bytes | None = None) -> tuple[int, bytes]:
        """Return status and body of an answer."""
        headers = {"X-Auth-User": APPLICATION, "X-Auth-Key": key}
        if body is not None:
            headers["Content-Type"] = "application/json"
        self._connection.request(method, path, body, headers)
        answer = self._connection.getresponse()
        return answer.status, answer.read()

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def timeseries(self, since_s: int, **parameters: str) -> str:
        """Ask as the dashboard does: what is unset is sent, and is empty."""
        query = "&".join(f"{name}={value}" for name, value in (UNSET | parameters).items())
        path = f"/1/timeseries/{since_s}/{NOW}/?{query}"
        status, body = self.ask("GET", path, READ_KEY)
        assert status == 200, body
        return body.decode()


def sent(calls: list[Call]) -> bytes:
    """Return calls as the Go client writes them; `data` never got a meaning."""
    return json.dumps(
        [
            {
                "timestamp": NOW - call.before_s,
                "consumer_id": call.consumer_id,
                "method": "GET",
                "url": f"/{call.function}/?page=2",
                "function": call.function,
                "response_us": call.response_us,
                "status_code": call.status_code,
                "data": None,
            }
            for call in calls
        ]
    ).encode()


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """Run a service with the calls of the middleware, in two batches."""
    settings = {"application_id": APPLICATION, "write_key": WRITE_KEY, "read_key": READ_KEY}
    directory: Path = tmp_path_factory.mktemp("service") / "data"
    with (
        service_process(directory, **settings) as service,
        contextlib.closing(Api(service.client.http)) as api,
    ):
        for batch in (CALLS[:1], CALLS[1:]):
            # Only 200 was success.
            status, answer = api.ask("POST", "/1/event/", WRITE_KEY, sent(batch))
            assert (status, answer) == (200, b'{"received":%d}' % len(batch))
        total = f"[[{NOW - 30 * DAY},{len(CALLS)}]]"
        wait_for(lambda: total in api.timeseries(NOW - 30 * DAY))
        yield api


def answer(groups: str, since_s: int, granularity_ms: int) -> str:
    """Return an answer of 2014: seconds, but for the width of a bucket."""
    return f'{{"groups":{{{groups}}},"start":{since_s},"end":{NOW},"granularity":{granularity_ms}}}'


def test_calls_per_consumer_by_hour_for_a_week(api: Api) -> None:
    """Points are sparse; whoever did not say who calls has the empty key."""
    since = NOW - 7 * DAY
    assert api.timeseries(since, granularity="hour", group="consumer_id") == answer(
        f'"":[[{THIS_HOUR - 3 * DAY},1]],'
        f'"alice":[[{THIS_HOUR - 2 * HOUR},1],[{THIS_HOUR},2]],'
        f'"bob":[[{THIS_HOUR},1]]',
        since,
        3_600_000,
    )


def test_calls_per_function_by_hour_for_a_day(api: Api) -> None:
    """A word for the width, or seconds: it is the same."""
    since = NOW - DAY
    expected = answer(
        f'"get":[[{THIS_HOUR},1]],"list":[[{THIS_HOUR},2]],"unknown":[[{THIS_HOUR - 2 * HOUR},1]]',
        since,
        3_600_000,
    )
    for granularity in ("hour", "3600"):
        assert api.timeseries(since, group="function", granularity=granularity) == expected


def test_mean_time_per_function_by_hour_for_a_day(api: Api) -> None:
    """Of microseconds."""
    since = NOW - DAY
    question = {"value": "response_us", "aggregation": "mean", "group": "function"}
    assert api.timeseries(since, granularity="hour", **question) == answer(
        f'"get":[[{THIS_HOUR},1000]],"list":[[{THIS_HOUR},200]],'
        f'"unknown":[[{THIS_HOUR - 2 * HOUR},50]]',
        since,
        3_600_000,
    )


def test_mean_time_per_function_by_minute_for_an_hour(api: Api) -> None:
    """Minutes without calls have no point."""
    since = NOW - HOUR
    minutes = [(NOW - before) // 60 * 60 for before in (600, 61, 60)]
    question = {"aggregation": "mean", "group": "function"}
    assert api.timeseries(since, granularity="minute", **question) == answer(
        f'"get":[[{minutes[0]},1000]],"list":[[{minutes[1]},200]]', since, 60_000
    )


def test_function_totals_for_a_day(api: Api) -> None:
    """Without a width there is one point, at the start."""
    since = NOW - DAY
    assert api.timeseries(since, group="function") == answer(
        f'"get":[[{since},1]],"list":[[{since},2]],"unknown":[[{since},1]]', since, DAY * 1000
    )


def test_calls_per_consumer_for_thirty_days(api: Api) -> None:
    """As above."""
    since = NOW - 30 * DAY
    assert api.timeseries(since, group="consumer_id") == answer(
        f'"":[[{since},1]],"alice":[[{since},3]],"bob":[[{since},2]]', since, 30 * DAY * 1000
    )


def test_status_codes_for_a_day(api: Api) -> None:
    """Keys are text, of numbers too."""
    since = NOW - DAY
    assert api.timeseries(since, group="status_code") == answer(
        f'"200":[[{since},2]],"404":[[{since},1]],"500":[[{since},1]]', since, DAY * 1000
    )


def test_total_time_by_minute_for_the_last_hour(api: Api) -> None:
    """Without a group, the only key is the application."""
    since = NOW - HOUR
    minutes = [(NOW - before) // 60 * 60 for before in (600, 61)]
    assert api.timeseries(since, aggregation="sum", granularity="minute") == answer(
        f'"apinalytics":[[{minutes[0]},1000],[{minutes[1]},400]]', since, 60_000
    )


def test_a_question_without_parameters(api: Api) -> None:
    """Is how many calls there were."""
    path = f"/1/timeseries/{NOW - DAY}/{NOW}/"
    expected = answer(f'"apinalytics":[[{NOW - DAY},4]]', NOW - DAY, DAY * 1000)
    assert api.ask("GET", path, READ_KEY) == (200, expected.encode())


def test_filters_and_each_percentile(api: Api) -> None:
    """`include` may be repeated; percentiles are from 1 to 99."""
    path = f"/1/timeseries/{NOW - DAY}/{NOW}/?include=consumer_id:alice&include=function:list"
    for level in range(1, 100):
        status, body = api.ask("GET", f"{path}&aggregation=percentile_{level}", READ_KEY)
        assert status == 200
        (((_, found),),) = json.loads(body)["groups"].values()
        assert found == pytest.approx(100 if level <= 50 else 300, rel=0.01)
    for aggregation, expected in (("min", 100), ("max", 300), ("count", 2)):
        status, body = api.ask("GET", f"{path}&aggregation={aggregation}", READ_KEY)
        assert f'"apinalytics":[[{NOW - DAY},{expected}]]'.encode() in body


@pytest.mark.parametrize("path", ["/1/event/", "/1/event", "/1/events/", "/1/events"])
def test_paths_of_events(api: Api, path: str) -> None:
    """That of the early README, and that of the corrected one."""
    assert api.ask("POST", path, WRITE_KEY, b"[]") == (200, b'{"received":0}')


def test_what_is_refused(api: Api) -> None:
    """Each key does one thing."""
    assert api.ask("POST", "/1/event/", READ_KEY, b"[]")[0] == 403
    assert api.ask("GET", "/1/timeseries/0/1/", WRITE_KEY)[0] == 403
    # The dashboard puts back what addresses of pages lose; without it, it is no key.
    assert api.ask("GET", "/1/timeseries/0/1/", READ_KEY.rstrip("="))[0] == 401
