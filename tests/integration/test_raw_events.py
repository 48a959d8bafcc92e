# SPDX-License-Identifier: Apache-2.0
"""Raw events out of the running service: what was sent comes back, once, in order, and whole."""

from __future__ import annotations

import io
import json
import os
import time
import uuid
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qs, quote, urlencode, urlsplit

import pyarrow.parquet
import pytest
import urllib3

from otel_apinalytics.catalogue import FIELDS
from otel_apinalytics.query import raw_events_sql
from otel_apinalytics.service import Service
from otel_apinalytics.store.engine import Engine, EngineError
from tests.support.clients import APPLICATION, READ_HEADERS, WRITE_HEADERS, Client
from tests.support.otlp import CALL, make_request, make_span
from tests.support.waiting import wait_for

# Ranges far from what other tests send.
SENT = 1_100_000_000
MANY = 1_000_000_000
MANY_ROWS = 100_000
FULL: Mapping[str, Any] = {
    "timestamp": SENT + 0.25,
    "consumer_id": "alice",
    "developer_id": "dora",
    "app_id": "mobile",
    "organization_id": "acme",
    "plan_id": "gold",
    "client_id": "oauth-1",
    "direction": "outbound",
    "service": "shop",
    "service_version": "1.2",
    "environment": "production",
    "region": "eu",
    "host": "api.example.com",
    "method": "GET",
    "url": "/users/7?page=2",
    "route": "/users/{id}",
    "function": "get_user",
    "api_version": "v1",
    "status_code": 503,
    "is_error": True,
    "error_type": "timeout",
    "rpc_status": "UNAVAILABLE",
    "cache_status": "miss",
    "is_stream": True,
    "response_us": 2500,
    "upstream_us": 2000,
    "queue_us": 10,
    "request_bytes": 0,
    "response_bytes": 2**53 - 1,
    "resend_count": 1,
    "quota_consumed": 3,
    "weight": 2.5,
    "user_agent": "curl/8.0",
    "protocol_version": "2",
    "experiment": "checkout",
    "variant": "b",
    "job_type": "nightly",
    "attributes": {"team": "é", "empty": ""},
    "metrics": {"tokens": 12, "cost": 0.5},
    "trace_id": "0123456789abcdef0123456789abcdef",
    "span_id": "0123456789abcdef",
    "parent_span_id": "fedcba9876543210",
}


@pytest.fixture(scope="module")
def many(service: Service) -> Iterator[int]:
    """Store many events, five a second, without sending them; their number."""
    service.engine.command(
        "INSERT INTO events (timestamp, application, direction, event_id, locality, url) "
        f"SELECT toDateTime64({MANY} + intDiv(number, 5), 6, 'UTC'), '{APPLICATION}', 'inbound', "
        f"cityHash64(number), number % 10, repeat('x', 500) FROM numbers({MANY_ROWS})"
    )
    yield MANY_ROWS
    service.engine.command("ALTER TABLE events DROP PARTITION '20010909'")


@contextmanager
def reading(
    client: Client, start: float, end: float
) -> Iterator[urllib3.response.BaseHTTPResponse]:
    """Give an answer whose body has not been read yet; the connection ends with the block."""
    with urllib3.PoolManager(retries=False) as pool:
        url = f"http://{client.http}/1/events/{start}/{end}/"
        answer = pool.request("GET", url, headers=READ_HEADERS, preload_content=False)
        try:
            yield answer
        finally:
            answer.close()


def test_all_fields_come_back(client: Client) -> None:
    """As they were sent; those that are ours to set are there too."""
    before = time.time()
    assert client.post_events([FULL])[0] == 200
    (event,) = wait_for(lambda: client.raw_events(SENT, SENT + 1))
    assert list(event) == [*(field.name for field in FIELDS), "cursor"]
    assert {name: event[name] for name in FULL} == FULL
    assert event["application"] == APPLICATION
    assert event["event_id"].isdecimal()
    assert event["consumer_source"]
    assert before - 1 <= event["received_at"] <= time.time() + 1


def test_missing_is_null(client: Client) -> None:
    """An event with a time and nothing else has no other text, number or id."""
    assert client.post_events([{"timestamp": SENT + 10}])[0] == 200
    (event,) = wait_for(lambda: client.raw_events(SENT + 10, SENT + 11))
    known = {
        "timestamp", "application", "event_id", "received_at", "direction", "function", "cursor",
    }  # fmt: skip
    made = {name: value for name, value in event.items() if name not in known}
    values = {"is_error": False, "is_stream": False, "weight": 1, "attributes": {}, "metrics": {}}
    assert {name: value for name, value in made.items() if value is not None} == values


def test_a_span_comes_back_with_its_ids(client: Client) -> None:
    """In lower-case hex, as tracing tools show them; no parent is null."""
    consumer = f"c-{uuid.uuid4()}"
    span = make_span({**CALL, "enduser.id": consumer})
    client.export(make_request(span))
    start = span.start_time_unix_nano // 10**9 - 1

    def mine() -> list[dict[str, Any]]:
        found = client.raw_events(start, start + 3)
        return [event for event in found if event["consumer_id"] == consumer]

    (event,) = wait_for(mine)
    assert event["trace_id"] == span.trace_id.hex()
    assert event["span_id"] == span.span_id.hex()
    assert event["parent_span_id"] is None
    assert event["timestamp"] == pytest.approx(span.start_time_unix_nano / 1e9, abs=2e-6)
    assert event["route"] == "/users/{id}"
    assert event["weight"] == 1


def test_a_span_that_was_sent_twice_is_there_once(client: Client) -> None:
    """Also while the store has both."""
    start = SENT + 20
    span = make_span(start_ns=start * 10**9, trace_id=os.urandom(16), span_id=os.urandom(8))
    for mark in (1, 2):
        client.export(make_request(span))
        # Loaded in order: what was sent before is there as well.
        client.post_events([{"timestamp": start + mark}])
        marked = (start + mark, start + mark + 1)
        wait_for(lambda marked=marked: client.raw_events(*marked))  # type: ignore[misc]
    (event,) = client.raw_events(start, start + 1)
    assert event["span_id"] == span.span_id.hex()


def test_the_range_includes_its_start_and_excludes_its_end(client: Client) -> None:
    """To the microsecond."""
    start = SENT + 30
    client.post_events([{"timestamp": start}, {"timestamp": start + 0.5}, {"timestamp": start + 1}])
    wait_for(lambda: client.raw_events(start, start + 2), until=lambda found: len(found) == 3)
    times = [event["timestamp"] for event in client.raw_events(start, start + 1)]
    assert times == [start, start + 0.5]
    assert len(client.raw_events(start, start + 0.500001)) == 2
    assert client.raw_events(start + 0.000001, start + 0.5) == []


def test_nothing_is_an_empty_body(client: Client) -> None:
    """And no error."""
    for format_ in ("", "?format=", "?format=ndjson"):
        path = f"/1/events/5/6/{format_}"
        status, body, headers = client.request("GET", path, headers=READ_HEADERS)
        assert (status, body) == (200, b"")
        assert headers["content-type"] == "application/x-ndjson"


@pytest.mark.parametrize("slice_rows", [raw_events_sql.SLICE_ROWS, 2500])
def test_many_events_are_in_order(
    client: Client, many: int, slice_rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of time, then of id; none is missing or there twice, also where hours are cut."""
    monkeypatch.setattr(raw_events_sql, "SLICE_ROWS", slice_rows)
    order = []
    with reading(client, MANY, MANY + 86_400) as answer:
        assert answer.headers["transfer-encoding"] == "chunked"
        for line in answer:
            event = json.loads(line)
            order.append((event["timestamp"], int(event["event_id"])))
    assert len(set(order)) == len(order) == many
    assert order == sorted(order)


def test_pages_follow_their_links(client: Client, many: int) -> None:
    """To the last one, which has none; together they are the whole."""
    path = f"/1/events/{MANY}/{MANY + 3600.5}/?limit=7000&fields=cursor&include=url:x*"
    pages = []
    while path:
        status, body, headers = client.request("GET", path, headers=READ_HEADERS)
        assert status == 200
        pages.append([json.loads(line)["cursor"] for line in body.splitlines()])
        link = headers.get("Link", "")
        assert ("X-Next-Cursor" in headers) is bool(link)
        if link:
            address, _, relation = link.partition("; ")
            assert relation == 'rel="next"'
            path = address.strip("<>")
            parameters = parse_qs(urlsplit(path).query)
            assert parameters["cursor"] == [headers["X-Next-Cursor"]] == [pages[-1][-1]]
            assert parameters["include"] == ["url:x*"]
        else:
            path = ""
    assert [len(page) for page in pages] == [7000, 7000, 5 * 3601 - 14_000]
    assert len({cursor for page in pages for cursor in page}) == 5 * 3601


def test_pages_of_a_relative_range_are_of_one_range(client: Client) -> None:
    """What `now` is understood by is that of the first page."""
    start = int(time.time()) - 60
    client.post_events([{"timestamp": start + n, "url": "/pages"} for n in range(2)])
    path = "/1/events/-1h/now/?include=url:/pages&limit=1"

    def link() -> str | None:
        return client.request("GET", path, headers=READ_HEADERS)[2].get("Link")

    found = wait_for(link)
    first, last = urlsplit(str(found).lstrip("<")).path.strip("/").split("/")[2:]
    assert abs(float(last) - time.time()) < 60
    assert float(last) - float(first) == pytest.approx(3600, abs=1e-5)


def test_an_answer_that_broke_off_is_gone_on_with(client: Client, many: int) -> None:
    """From the last event that arrived whole, in other words: its last line may be cut."""
    start, end = MANY, MANY + 3600
    with reading(client, start, end) as answer:
        arrived = answer.read(100_000).splitlines()[:-1]
    cursors = [json.loads(line)["cursor"] for line in arrived]
    path = f"/1/events/{start}/{end}/?cursor={cursors[-1]}&fields=cursor"
    _, body, _ = client.request("GET", path, headers=READ_HEADERS)
    cursors += [json.loads(line)["cursor"] for line in body.splitlines()]
    assert len(cursors) == len(set(cursors)) == 5 * 3600


@pytest.mark.parametrize(
    ("form", "media_type"),
    [
        ("ndjson", "application/x-ndjson"),
        ("csv", "text/csv; charset=utf-8; header=present"),
        ("parquet", "application/vnd.apache.parquet"),
    ],
)
@pytest.mark.parametrize("coding", ["", "gzip", "zstd"])
def test_formats(client: Client, many: int, form: str, media_type: str, coding: str) -> None:
    """Each with its type, streamed; compressed on demand, but for what is compressed already."""
    path = f"/1/events/{MANY}/{MANY + 600}/?format={form}&fields=event_id,url"
    headers = READ_HEADERS | ({"Accept-Encoding": coding} if coding else {})
    status, body, answered = client.request("GET", path, headers=headers)
    assert (status, answered["content-type"]) == (200, media_type)
    assert answered["transfer-encoding"] == "chunked"
    assert answered.get("content-encoding", "") == ("" if form == "parquet" else coding)
    assert "Accept-Encoding" in answered["vary"]
    if form == "parquet":
        assert pyarrow.parquet.read_table(io.BytesIO(body)).num_rows == 3000
    else:
        assert body.count(b"\n") == 3000 + (form == "csv")


HOSTILE = ("'", '"', "`", "\\", "\\'", "%(x)s", "%", "{a:String}", "') OR 1=1 --", "\x00", "\n",
           "é😀", "1-1-1)", "attributes.x` FROM keys --", "../..", "?")  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize(
    "parameter",
    ["format", "fields", "include", "exclude", "tz", "limit", "cursor", "start", "end", "x"],
)
def test_text_from_outside_is_never_sql(
    client: Client, many: int, parameter: str, text: str
) -> None:
    """It is refused with what is allowed, or finds what it says: nothing."""
    values = [text, f"method:{text}", f"attributes.{text}:x", f"attributes.x:{text}"]
    for value in values:
        bounds = {"start": str(MANY), "end": str(MANY + 1)}
        query = ""
        if parameter in bounds:
            bounds[parameter] = quote(value, safe="")
        else:
            query = urlencode({parameter: value})
        path = f"/1/events/{bounds['start']}/{bounds['end']}/?{query}"
        status, body, _ = client.request("GET", path, headers=READ_HEADERS)
        assert status in (200, 400, 404), body
        if status == 400:
            assert body["error"]["parameter"] == parameter
            assert body["error"]["allowed"]
        elif status == 200:
            # A plain name is one of an attribute that no event has.
            assert body.count(b"\n") == (5 if parameter in ("exclude", "fields") else 0)


def test_clients_that_go_away_leave_nothing_behind(client: Client, many: int) -> None:
    """More of them than can be served at once, and the next one is served."""
    for _ in range(8):
        with reading(client, MANY, MANY + 86_400) as answer:
            assert answer.read(1000)
    status, body, _ = client.request("GET", f"/1/events/{MANY}/{MANY + 1}/", headers=READ_HEADERS)
    assert status == 200
    assert body.count(b"\n") == 5


def test_slow_clients_do_not_hold_up_questions(client: Client, many: int) -> None:
    """However many read raw events, questions are answered; the others get their turn."""
    small = f"/1/events/{MANY}/{MANY + 1}/"
    with ThreadPoolExecutor() as pool:
        with reading(client, MANY, MANY + 86_400), reading(client, MANY, MANY + 86_400):
            waiting = [
                pool.submit(client.request, "GET", small, headers=READ_HEADERS) for _ in range(4)
            ]
            assert client.groups(start=MANY, end=MANY + 1)[APPLICATION] == [[MANY, 5]]
        for answer in waiting:
            status, body, _ = answer.result()
            assert (status, body.count(b"\n")) == (200, 5)


def test_the_engine_s_stream_can_be_left_at_any_point(service: Service, many: int) -> None:
    """Its connection and its permit are used again, also after a fault."""
    sql = f"SELECT formatRow('TSV', url) FROM events WHERE toUnixTimestamp(timestamp) >= {MANY}"
    for taken in range(6):
        blocks = service.engine.stream([(sql, {}), ("SELECT no_such_column", {})])
        for _ in range(taken):
            next(blocks)
        blocks.close()  # type: ignore[attr-defined]
        with pytest.raises(EngineError):
            list(service.engine.stream([("SELECT toString(1)", {}), ("SELECT no_such_column", {})]))
    assert list(service.engine.stream([("SELECT toString(%(x)s)", {"x": "'"})])) == [b"'"]


def test_a_fault_in_the_middle_breaks_the_connection(
    client: Client, service: Service, many: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client cannot take what it got for the whole."""
    real = Engine.stream

    def failing(engine: Engine, statements: Any) -> Iterator[bytes]:
        # The engine itself fails, in the second statement.
        broken = "SELECT toString(throwIf(number = 9)) FROM numbers(10)"
        return real(engine, [*statements, (broken, {})])

    monkeypatch.setattr(Engine, "stream", failing)
    with reading(client, MANY, MANY + 3600) as answer:
        assert answer.status == 200
        with pytest.raises(urllib3.exceptions.ProtocolError):
            answer.read()


@pytest.mark.parametrize(
    ("path", "parameter", "value"),
    [
        ("/1/events/x/10/", "start", "x"),
        ("/1/events/0/-1/", "end", "-1"),
        ("/1/events/10/10/", "end", "10"),
        ("/1/events/0/10/?format=json", "format", "json"),
        ("/1/events/0/10/?format=ndjson&format=ndjson", "format", "ndjson"),
        ("/1/events/0/10/?limit=0", "limit", "0"),
        ("/1/events/0/10/?limit=1000001", "limit", "1000001"),
        ("/1/events/0/10/?include=method", "include", "method"),
        ("/1/events/0/10/?exclude=trace_id:1", "exclude", "trace_id:1"),
        ("/1/events/0/10/?fields=url,nope", "fields", "nope"),
        ("/1/events/0/10/?fields=url,url", "fields", "url,url"),
        ("/1/events/0/10/?cursor=1-2", "cursor", "1-2"),
        ("/1/events/0/10/?tz=Mars", "tz", "Mars"),
        ("/1/events/0/10/?order=desc", "order", "desc"),
    ],
)
def test_wrong_input_is_a_400_that_names_it(
    client: Client, path: str, parameter: str, value: str
) -> None:
    """The envelope has the parameter, its value and what is allowed."""
    status, body, _ = client.request("GET", path, headers=READ_HEADERS)
    assert status == 400
    error = body["error"]
    assert (error["code"], error["parameter"], error["value"]) == (
        "invalid_request",
        parameter,
        value,
    )
    assert error["allowed"]


@pytest.mark.parametrize(
    ("headers", "status"),
    [({}, 401), ({"X-Auth-Key": "no"}, 401), (WRITE_HEADERS, 403)],
)
def test_raw_events_need_a_read_key(client: Client, headers: dict[str, str], status: int) -> None:
    """A write key sends events, and may not read them."""
    assert client.request("GET", "/1/events/0/1/", headers=headers)[0] == status
