# SPDX-License-Identifier: Apache-2.0
"""What the timeseries API has beyond that of 2014, over HTTP, and that no input breaks it."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from otel_apinalytics.query import timeseries, timeseries_sql
from otel_apinalytics.query.timeseries_parameters import PARAMETERS
from tests.support.clients import READ_HEADERS, Client
from tests.support.waiting import wait_for

# 2017-10-28T22:00:00Z, midnight in Berlin, where the day has 25 hours; no other test sends then.
START = 1_509_228_000
HOUR, DAY = 3600, 86_400
# (hour, consumer, method, status, response_us, weight)
CALLS = [
    (0, "alice", "GET", 200, 100, 1),
    (1, "alice", "PUT", 204, 200, 1),
    (2, "bob", "GET", 500, 300, 2.5),
    (24, "other", "GET", 404, 400, 1),
    (25, "carol", "GET", 200, 500, 1),
    (30, "", "GET", 503, 600, 10),
]
PHASES = (Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink)


@pytest.fixture(scope="module")
def calls(client: Client) -> Client:
    """Send the calls and wait until all are counted."""
    events = [
        {"timestamp": START + hour * HOUR, "consumer_id": consumer, "method": method,
         "status_code": status, "response_us": us, "weight": weight,
         "attributes": {"plan": "gilded" if consumer == "alice" else "free"}}
        for hour, consumer, method, status, us, weight in CALLS
    ]  # fmt: skip
    assert client.post_events(events)[0] == 200
    wait_for(lambda: sum(p[1] for p in points(client)), until=lambda n: n == 16.5)
    return client


def get(client: Client, *parameters: tuple[str, str], path: str = "") -> tuple[int, Any, Any]:
    """Ask about the two days, or a path of its own; return status, body and headers."""
    path = path or f"/1/timeseries/{START}/{START + 2 * DAY}/"
    return client.request("GET", f"{path}?{urlencode(parameters)}", headers=READ_HEADERS)


def points(client: Client, *parameters: tuple[str, str], path: str = "") -> list[list[float]]:
    """Return the points of the only group."""
    status, body, _ = get(client, *parameters, path=path)
    assert status == 200, body
    (found,) = body["groups"].values()
    return list(found)


_LONG = "x" * 30
_PATTERNS = [
    (parameter, f"url:/u/{number}/{_LONG}*")
    for parameter in ("include", "exclude")
    for number in range(400)
]


@pytest.mark.parametrize(
    "parameters",
    [
        _PATTERNS,
        [("include", "url:*" + "\\" * 8_000), ("exclude", "url:*" + "\\" * 8_000)],
        [("include", "url:" + "'" * 8_000), ("exclude", "url:" + "'" * 8_000)],
        [
            (parameter, f"attributes.{parameter}{number}:v*")
            for parameter in ("include", "exclude")
            for number in range(50)
        ],
    ],
    ids=["patterns", "backslashes", "quotes", "attributes"],
)
@pytest.mark.parametrize(
    "question",
    [
        "timeseries/{start}/{end}/?granularity=day&group=consumer_id&limit=2",
        "timeseries/{start}/{end}/?granularity=day&aggregation=p95&group=route&limit=2",
        "values/consumer_id/?start={start}&end={end}",
        "events/{start}/{end}/?limit=10",
    ],
)
def test_as_many_filters_as_are_allowed_are_answered(
    calls: Client, parameters: Sequence[tuple[str, str]], question: str
) -> None:
    """A statement repeats them, for days, hours and ragged ends."""
    path = question.format(start=START - 3 * DAY - 5, end=START + 2 * DAY + 5)
    separator = "&" if "?" in path else "?"
    path = f"/1/{path}{separator}{urlencode(parameters)}"
    status, body, _ = calls.request("GET", path, headers=READ_HEADERS)
    assert status == 200, body


def groups(client: Client, *parameters: tuple[str, str]) -> dict[str, float]:
    """Return each group's value over the whole range."""
    status, body, _ = get(client, *parameters)
    assert status == 200, body
    return {key: value for key, ((_, value),) in body["groups"].items()}


def test_count_is_weighted_and_says_so(calls: Client) -> None:
    """Whole numbers are integers; what is not sampled is not marked."""
    status, body, _ = get(calls, ("group", "consumer_id"))
    assert status == 200
    assert body["sampled"] is True
    assert {key: repr(value) for key, ((_, value),) in body["groups"].items()} == {
        "": "10", "alice": "2", "bob": "2.5", "carol": "1", "other": "1",
    }  # fmt: skip
    assert "sampled" not in get(calls, ("include", "consumer_id:alice"))[1]


@pytest.mark.parametrize(
    ("aggregation", "expected"),
    [
        ("sum", 100 + 200 + 750 + 400 + 500 + 6000),
        ("mean", 7950 / 16.5),
        ("rate", 16.5 / (2 * DAY)),
        ("unique", 4),
        ("p99.9", 600),
        ("percentile_1", 100),
        ("error_rate", 12.5 / 16.5),
    ],
)
def test_aggregations(calls: Client, aggregation: str, expected: float) -> None:
    """Those that 2014 had not, and weighted ones."""
    ((_, found),) = points(calls, ("aggregation", aggregation))
    assert found == pytest.approx(expected, rel=0.01 if aggregation[0] == "p" else 1e-12)
    ((_, exact),) = points(calls, ("aggregation", aggregation), ("exact", "true"))
    assert exact == pytest.approx(expected, rel=1e-12)


def test_days_of_a_zone(calls: Client) -> None:
    """The day of the change has 25 hours: the call of the 25th is in it."""
    days = (("granularity", "day"), ("tz", "Europe/Berlin"))
    assert points(calls, *days) == [[START, 5.5], [START + 25 * HOUR, 11]]
    _, body, _ = get(calls, ("granularity", "month"), ("tz", "Europe/Berlin"))
    assert body["granularity"] is None
    assert [point[1] for (found,) in [body["groups"].values()] for point in found] == [16.5]


@pytest.mark.parametrize("fill", ["zero", "null"])
def test_fill(calls: Client, fill: str) -> None:
    """Every hour has a point, in each group."""
    _, body, _ = get(calls, ("granularity", "hour"), ("group", "method"), ("fill", fill))
    for found in body["groups"].values():
        assert [time for time, _ in found] == list(range(START, START + 2 * DAY, HOUR))
    put = dict(body["groups"]["PUT"])
    assert put.pop(START + HOUR) == 1
    assert set(put.values()) == {0 if fill == "zero" else None}


def test_several_groups_have_json_keys(calls: Client) -> None:
    """In the shape of 2014 a key is text."""
    found = groups(calls, ("group", "consumer_id"), ("group", "status_class"))
    assert found['["alice","2xx"]'] == 2
    assert found['["","5xx"]'] == 10


def test_a_limit_folds_the_rest(calls: Client) -> None:
    """The fold is computed of its own events, named so that it is no group, and counted."""
    _, body, _ = get(calls, ("group", "consumer_id"), ("limit", "2"))
    assert body["groups"] == {"": [[START, 10]], "bob": [[START, 2.5]], "other": [[START, 4]]}
    assert body["other"] == {"key": "other", "groups": 3}
    _, body, _ = get(calls, ("group", "consumer_id"), ("limit", "4"), ("aggregation", "max"))
    assert list(body["groups"]) == ["", "carol", "other", "bob", "(other)"]
    assert body["groups"]["(other)"] == [[START, 200]]
    assert body["other"] == {"key": "(other)", "groups": 1}
    assert "other" not in get(calls, ("group", "consumer_id"), ("limit", "5"))[1]


@pytest.mark.parametrize(
    ("filters", "count"),
    [
        ([("include", "status_code:5xx")], 12.5),
        ([("include", "status_code:5xx"), ("include", "status_code:404")], 13.5),
        ([("include", "consumer_id:*o*")], 4.5),
        ([("include", r"consumer_id:\*")], 0),
        ([("exclude", "consumer_id:alice"), ("exclude", "status_code:5*")], 2),
        ([("exclude", "consumer_id:")], 6.5),
        ([("include", "attributes.plan:g*"), ("exclude", "method:PUT")], 1),
    ],
)
def test_filters(calls: Client, filters: Sequence[tuple[str, str]], count: float) -> None:
    """Wildcards, classes, and what is taken out."""
    assert points(calls, *filters) == [[START, count]]


def test_a_list_of_series(calls: Client) -> None:
    """Groups by field."""
    _, body, _ = get(calls, ("group", "method"), ("format", "series"))
    assert body["series"] == [
        {"group": {"method": "GET"}, "points": [[START, 15.5]]},
        {"group": {"method": "PUT"}, "points": [[START, 1]]},
    ]


def test_csv(calls: Client) -> None:
    """As a file that a spreadsheet opens."""
    status, body, headers = get(calls, ("group", "method"), ("format", "csv"))
    assert status == 200
    assert headers["content-type"] == "text/csv; charset=utf-8; header=present"
    assert list(csv.reader(io.StringIO(body.decode("utf-8-sig"), newline=""))) == [
        ["time", "method", "value", "sampled"],
        ["2017-10-28T22:00:00Z", "GET", "15.5", "true"],
        ["2017-10-28T22:00:00Z", "PUT", "1", "true"],
    ]


@pytest.mark.parametrize("slash", ["", "/"])
@pytest.mark.parametrize(
    ("start", "end"),
    [
        ("2017-10-28T22:00:00Z", "2017-10-30T22:00:00Z"),
        ("2017-10-29T00:00:00+02:00", "2017-10-30T23:00:00+01:00"),
        ("2017-10-29T00:00:00%2B02:00", "2017-10-30T23:00:00%20" + "01:00"),
        (str(START), "now"),
        ("-2500w", "-1s"),
    ],
)
def test_times(calls: Client, start: str, end: str, slash: str) -> None:
    """RFC 3339 and relative ones, with and without the last slash."""
    path = f"/1/timeseries/{start}/{end}{slash}"
    assert points(calls, ("include", "attributes.plan:gilded"), path=path)[0][1] == 2


@pytest.mark.parametrize(
    ("parameters", "named"),
    [
        ([("granularity", "1"), ("fill", "zero"), ("group", "consumer_id")], "granularity"),
        ([("limit", "0")], "limit"),
        ([("fill", "one")], "fill"),
        ([("format", "xml")], "format"),
        ([("tz", "Mars")], "tz"),
        ([("exact", "yes")], "exact"),
        ([("exclude", "x")], "exclude"),
        ([("aggregation", "unique"), ("value", "response_us")], "value"),
        ([("fill", "zero"), ("fill", "zero")], "fill"),
    ],
)
def test_wrong_values_are_refused(
    calls: Client, parameters: Sequence[tuple[str, str]], named: str
) -> None:
    """With the parameter, its value and what is allowed."""
    status, body, _ = get(calls, *parameters)
    assert status == 400
    assert body["error"]["parameter"] == named
    assert body["error"]["value"] is not None
    assert body["error"]["allowed"]


@pytest.mark.parametrize("fill", ["none", "zero"])
def test_an_answer_of_too_many_points_says_the_way_out(
    calls: Client, monkeypatch: pytest.MonkeyPatch, fill: str
) -> None:
    """And the way leads out: fewer groups, the rest in one."""
    for module in (timeseries, timeseries_sql):
        monkeypatch.setattr(module, "MAX_ROWS", 4)
    by_consumer = [("group", "consumer_id"), ("fill", fill)]
    status, body, _ = get(calls, *by_consumer)
    assert (status, body["error"]["parameter"]) == (400, "limit")
    assert "limit" in body["error"]["message"]
    assert body["error"]["allowed"] == "at most 4 points"
    assert len(groups(calls, *by_consumer, ("limit", "3"))) == 4
    assert get(calls, ("granularity", "hour"), ("fill", "zero"))[0] == 400


HOSTILE = [
    "'", '"', "\\", "\\'", "%", "%%", "%s", "%(x)s", "%(application)s", "{a:String}", "\0", "?",
    ";", "') OR 1=1 --", "'; DROP TABLE events; --", "*/ /*", "`", "$1", "é€😀", "\n", "\u2028",
    "\ud7ff", "0x41", "NULL", "1) UNION ALL SELECT 1 --", "*", "\\*", "\\\\*", "_", "attributes.",
    "metrics.", "a" * 5000, "{local}", "../", "[", "]", "(", ")", "\u0661", "-1", "1e999", "nan",
]  # fmt: skip
TEXT = st.lists(
    st.sampled_from(HOSTILE) | st.text(st.characters(exclude_categories=["Cs"]), max_size=6),
    max_size=3,
).map("".join)
FIELD_NAMES = st.sampled_from(
    ["url", "status_class", "is_edge", "weekday", "attributes.x", "direction", "hour_of_day"]
)
FILTERS = st.builds("{}:{}".format, FIELD_NAMES, TEXT)
# What is allowed for the most part, with any text where any is.
VALUES = {
    "value": st.sampled_from(["response_us", "weight"]) | TEXT.map("metrics.{}".format),
    "granularity": st.sampled_from(["day", "week", "month", "5000000"]),
    "aggregation": st.sampled_from(["sum", "mean", "min", "p50", "rate", "error_rate"]),
    "group": FIELD_NAMES | TEXT.map("attributes.{}".format),
    "include": FILTERS,
    "exclude": FILTERS,
    "tz": st.sampled_from(["Europe/Berlin", "Asia/Kathmandu"]),
    "limit": st.integers(1, 1000).map(str),
    "fill": st.sampled_from(["none", "zero", "null"]),
    "format": st.sampled_from(["json", "series", "csv"]),
    "exact": st.sampled_from(["true", "false"]),
}
NAMES = st.sampled_from(PARAMETERS)
PAIRS = NAMES.flatmap(lambda name: st.tuples(st.just(name), VALUES[name]))


@settings(max_examples=200, deadline=None, phases=PHASES)
@given(
    pairs=st.lists(PAIRS, max_size=7, unique_by=lambda pair: pair[0])
    | st.lists(PAIRS | st.tuples(NAMES | TEXT, TEXT), max_size=4),
    bounds=st.sampled_from([(str(START), str(START + 2 * DAY)), ("0", "4294967295")])
    | st.just(("2017-10-29T00:00:00 02:00", "now"))
    | st.tuples(TEXT.filter(bool), TEXT.filter(bool)),
)
def test_no_input_breaks_it(
    calls: Client, pairs: list[tuple[str, str]], bounds: tuple[str, str]
) -> None:
    """Any text in any parameter is answered, or refused with what is wrong; never a 500."""
    start, end = (quote(bound, safe="") for bound in bounds)
    status, body, _ = get(calls, *pairs, path=f"/1/timeseries/{start}/{end}/")
    assert status in (200, 400, 404), body
    if status == 404:
        # A slash within a time makes another path, and a dot another of those.
        assert "/" in "".join(bounds) or "." in "".join(bounds)
    if status == 400:
        assert body["error"]["code"] == "invalid_request"
        assert body["error"]["message"]


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("name", ["include", "exclude", "group", "value", "tz", "granularity"])
def test_hostile_text_in_each_parameter(calls: Client, name: str, text: str) -> None:
    """It finds nothing, takes out nothing, or is refused; it is never run."""
    value = {"include": f"consumer_id:{text}", "exclude": f"consumer_id:{text}",
             "group": f"attributes.{text}", "value": f"metrics.{text}"}.get(name, text)  # fmt: skip
    more = [("aggregation", "sum")] if name == "value" else []
    status, body, _ = get(calls, (name, value), *more)
    if status != 200:
        assert (status, body["error"]["parameter"]) == (400, name)
        return
    total = sum(point[1] for found in body["groups"].values() for point in found)
    has_star = "*" in text.replace("\\*", "")
    matched = {"include": 0.0, "exclude": 16.5, "group": 16.5, "value": 0.0}[name]
    assert total == matched or (has_star and name in ("include", "exclude"))
