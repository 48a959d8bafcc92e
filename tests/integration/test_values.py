# SPDX-License-Identifier: Apache-2.0
"""The values of a field, asked over HTTP."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote, urlencode

import pytest

from tests.support.clients import READ_HEADERS, WRITE_HEADERS, Client
from tests.support.waiting import wait_for

# Far from what other tests send.
START = 1_200_000_000
END = START + 3600
EVENTS: list[dict[str, Any]] = [
    {"timestamp": START, "consumer_id": "acme", "attributes": {"k8s.io/pod": "a", "plan": "gold"}},
    {"timestamp": START + 1, "consumer_id": "acme", "weight": 2, "metrics": {"tokens": 1}},
    {"timestamp": START + 2, "consumer_id": "zoo", "attributes": {"k8s.io/pod": "b", "/": "c"}},
    {"timestamp": START + 3},
    {"timestamp": START + 4, "consumer_id": "upstream", "direction": "outbound"},
]


@pytest.fixture(scope="module")
def events(client: Client) -> Client:
    """Send the events and wait until all are stored."""
    assert client.post_events(EVENTS)[0] == 200
    wait_for(lambda: client.raw_events(START, END), until=lambda found: len(found) == len(EVENTS))
    return client


def ask(client: Client, field: str, **parameters: str) -> tuple[int, Any]:
    """Return status and body of an answer about the range."""
    query = urlencode({"start": START, "end": END, **parameters})
    status, body, _ = client.request("GET", f"/1/values/{field}/?{query}", headers=READ_HEADERS)
    return status, body


@pytest.mark.parametrize(
    ("field", "parameters", "expected"),
    [
        ("consumer_id", {}, {"acme": 3, "": 1, "zoo": 1}),
        ("consumer_id", {"prefix": "a"}, {"acme": 3}),
        ("consumer_id", {"include": "direction:*"}, {"acme": 3, "": 1, "upstream": 1, "zoo": 1}),
        ("direction", {}, {"inbound": 5, "outbound": 1}),
        ("attributes", {}, {"k8s.io/pod": 2, "/": 1, "plan": 1}),
        ("metrics", {}, {"tokens": 2}),
        ("attributes.k8s.io/pod", {}, {"": 3, "a": 1, "b": 1}),
        ("attributes.k8s.io%2Fpod", {"exclude": "attributes.k8s.io/pod:"}, {"a": 1, "b": 1}),
        ("attributes.%2F", {"exclude": "attributes./:"}, {"c": 1}),
        ("hour_of_day", {"tz": "Asia/Kathmandu"}, {"3": 5}),
        ("status_class", {}, {"": 5}),
    ],
)
def test_values(
    events: Client, field: str, parameters: dict[str, str], expected: dict[str, int]
) -> None:
    """With the numbers of requests, the largest first."""
    status, body = ask(events, field, **parameters)
    assert status == 200, body
    assert [(item["value"], item["count"]) for item in body["values"]] == list(expected.items())
    assert body["more"] is False


def test_what_is_said_beside_them(events: Client) -> None:
    """The field, the range, whether there are more, and whether numbers are scaled."""
    assert ask(events, "consumer_id", limit="1") == (200, {
        "field": "consumer_id", "values": [{"value": "acme", "count": 3}], "more": True,
        "start": START, "end": END, "sampled": True,
    })  # fmt: skip


def test_the_path_may_end_without_a_slash(events: Client) -> None:
    """As all paths; the range is the last day then."""
    status, body, _ = events.request("GET", "/1/values/consumer_id", headers=READ_HEADERS)
    assert status == 200
    assert body["field"] == "consumer_id"
    assert body["end"] - body["start"] == pytest.approx(86_400, abs=1e-5)


HOSTILE = ("'", '"', "`", "\\", "%(x)s", "%", "{a:String}", "') OR 1=1 --", "\x00", "\n", "é", "?")


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize(
    "parameter", ["field", "start", "end", "prefix", "include", "exclude", "tz", "limit", "x"]
)
def test_text_from_outside_is_never_sql(events: Client, parameter: str, text: str) -> None:
    """It is refused with what is allowed, or finds what it says: nothing."""
    for value in (text, f"attributes.{text}", f"consumer_id:{text}", f"attributes.{text}:x"):
        given = {} if parameter == "field" else {parameter: value}
        field = quote(value, safe="") if parameter == "field" else "consumer_id"
        status, body = ask(events, field, **given)
        if status == 404:
            # No path has a line in it.
            assert (parameter, text) == ("field", "\n")
        elif status == 400:
            assert (body["error"]["parameter"], bool(body["error"]["allowed"])) == (parameter, True)
        else:
            assert status == 200, body
            found = {item["value"] for item in body["values"]}
            nothing = parameter in ("prefix", "include")
            assert found == (set() if nothing else {""} if parameter == "field" else
                             {"acme", "zoo", ""})  # fmt: skip


@pytest.mark.parametrize(
    ("headers", "status"),
    [({}, 401), ({"X-Auth-Key": "no"}, 401), (WRITE_HEADERS, 403)],
)
def test_values_need_a_read_key(client: Client, headers: dict[str, str], status: int) -> None:
    """As all questions."""
    assert client.request("GET", "/1/values/method/", headers=headers)[0] == status
