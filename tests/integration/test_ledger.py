# SPDX-License-Identifier: Apache-2.0
"""The ledger over HTTP, and what it says when a stage loses something on purpose.

Records that are received long ago go into the log of the running service, so that their minutes are
settled; each test has a day of its own.
"""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from prometheus_client.parser import text_string_to_metric_families

from otel_apinalytics.normalize.batch_rules import BatchRules
from otel_apinalytics.normalize.mapping import NO_MAPPING
from otel_apinalytics.normalize.outcomes import INVALID_EVENT
from otel_apinalytics.query import ledger as ledger_query
from otel_apinalytics.query.ledger_totals import LedgerTotals
from otel_apinalytics.receiver.log import find_segments
from otel_apinalytics.receiver.records import (
    duplicate_record,
    refused_record,
    rejected_at_the_door,
    spans_record,
)
from otel_apinalytics.receiver.segment import read_segment
from otel_apinalytics.service import Service
from otel_apinalytics.store.engine import LoadStatement
from otel_apinalytics.store.loads import Loads
from tests.support.clients import (
    ADMIN_HEADERS,
    APPLICATION,
    READ_HEADERS,
    READ_KEY,
    WRITE_HEADERS,
    Client,
)
from tests.support.otlp import CALL, INTERNAL, make_request, make_span
from tests.support.pipeline import DEADLINE_S, Pipeline, header_at, load_records, record_at
from tests.support.waiting import wait_for

MINUTE, HOUR, DAY = 60, 3600, 86_400
OTHER = "ledger-test"
_days = itertools.count(int(datetime(2010, 1, 1, tzinfo=timezone.utc).timestamp()), DAY)


@pytest.fixture
def day() -> int:
    """Return the start of a day that no other test uses, Unix seconds."""
    return next(_days)


def ask(
    client: Client,
    start: float,
    end: float,
    headers: Mapping[str, str] = ADMIN_HEADERS,
    **parameters: str,
) -> tuple[int, Any]:
    """Ask for the ledger; return status and body."""
    path = f"/1/ledger/{start}/{end}/?{urlencode(parameters)}"
    status, body, _ = client.request("GET", path, headers=headers)
    return status, body


def ledger_of(client: Client, day: int, headers: Mapping[str, str] = ADMIN_HEADERS) -> Any:
    """Return the ledger of a day."""
    status, body = ask(client, day, day + DAY, headers)
    assert status == 200, body
    return body


def settled(client: Client, day: int, **expected: int) -> Any:
    """Return the ledger of a day once it has these totals; all of it is settled."""
    found = wait_for(
        lambda: ledger_of(client, day),
        until=lambda body: expected.items() <= body["totals"].items(),
    )
    assert found["settled_until"] > day + DAY
    return found


def mixed_record(received_s: float) -> bytes:
    """Return a record of two calls, a span that is none, and one that is not valid."""
    start_ns = int(received_s * 1e9)
    spans = [
        make_span(start_ns=start_ns),
        make_span(start_ns=start_ns),
        make_span(CALL, kind=INTERNAL, start_ns=start_ns),
        make_span(start_ns=start_ns, trace_id=bytes(16)),
    ]
    return spans_record(header_at(received_s, len(spans), OTHER), make_request(*spans))


# ---- the answer ----


def test_the_account_of_a_day(client: Client, service: Service, day: int) -> None:
    """By minute, key, transport, outcome and reason; nothing is lost."""
    load_records(
        service,
        mixed_record(day + 30),
        mixed_record(day + 59.999),
        duplicate_record(header_at(day + MINUTE, 5, OTHER)),
        rejected_at_the_door(header_at(day + HOUR, 6, OTHER), INVALID_EVENT),
        refused_record(header_at(day + HOUR, 7, OTHER), "forbidden"),
    )
    body = settled(client, day, received=19, rejected=8)
    row = {"application": OTHER, "key_id": "key", "transport": "grpc"}
    expected = [
        (day, "filtered", "kind_not_server_or_client", 2),
        (day, "received", "", 8),
        (day, "rejected", "invalid_trace_id", 2),
        (day, "stored", "", 4),
        (day + MINUTE, "duplicate", "", 5),
        (day + MINUTE, "received", "", 5),
        (day + HOUR, "received", "", 6),
        (day + HOUR, "refused", "forbidden", 7),
        (day + HOUR, "rejected", "invalid_event", 6),
    ]
    assert body.pop("settled_until") <= time.time()
    assert body == {
        "start": day,
        "end": day + DAY,
        "granularity": 60,
        "totals": {
            "received": 19, "stored": 4, "duplicate": 5, "filtered": 2, "rejected": 8,
            "difference": 0,
        },
        "refused_requests": 7,
        "rows": [
            {"time": time, **row, "outcome": outcome, "reason": reason, "items": items}
            for time, outcome, reason, items in expected
        ],
    }  # fmt: skip
    status, coarse = ask(client, day, day + DAY, granularity="day")
    assert status == 200
    assert coarse["totals"] == body["totals"]
    assert Counter(row["time"] for row in coarse["rows"]) == {day: 7}


def test_what_came_through_the_doors_is_accounted_for(client: Client, service: Service) -> None:
    """Spans of both transports and events, sent twice and partly wrong, in the minutes of now."""
    start = int(time.time()) // MINUTE * MINUTE
    service._log.flush(DEADLINE_S)
    before = ask(client, start, start + HOUR, READ_HEADERS)[1]["totals"]
    request = make_request(make_span(), make_span(CALL, kind=INTERNAL), make_span(span_id=b"bad"))
    client.export(request)
    client.export(request)
    headers = {**WRITE_HEADERS, "Content-Type": "application/x-protobuf"}
    status, _, _ = client.request("POST", "/v1/traces", make_request(make_span()), headers)
    assert status == 200
    events = [{"timestamp": time.time()}, {"timestamp": "never"}]
    assert client.post_events(events, "/1/event/?partial=true")[0] == 200
    service._log.flush(DEADLINE_S)
    totals = ask(client, start, start + HOUR, READ_HEADERS)[1]["totals"]
    assert {outcome: totals[outcome] - before[outcome] for outcome in totals} == {
        "received": 9, "stored": 3, "duplicate": 3, "filtered": 1, "rejected": 2, "difference": 0,
    }  # fmt: skip


def test_what_is_loaded_is_settled_soon(client: Client) -> None:
    """The time follows the clock while nothing waits to be loaded."""
    client.export(make_request(make_span()))
    sent = time.time()
    wait_for(lambda: ledger_of(client, 0)["settled_until"], until=lambda until: until > sent - 30)
    assert ledger_of(client, 0)["settled_until"] < time.time()


def test_an_application_sees_its_own(client: Client, service: Service, day: int) -> None:
    """An admin sees all, and what is of no application that is known."""
    load_records(
        service,
        duplicate_record(header_at(day, 1, APPLICATION)),
        duplicate_record(header_at(day, 2, OTHER)),
        refused_record(header_at(day, 3, ""), "unauthenticated"),
    )
    body = settled(client, day, received=3)
    assert {row["application"] for row in body["rows"]} == {APPLICATION, OTHER, ""}
    assert body["refused_requests"] == 3
    own = ledger_of(client, day, READ_HEADERS)
    assert {row["application"] for row in own["rows"]} == {APPLICATION}
    assert (own["totals"]["received"], own["refused_requests"]) == (1, 0)


@pytest.mark.parametrize(
    ("headers", "status", "text"),
    [
        ({}, 401, "no key"),
        ({"X-Auth-Key": "wrong"}, 401, "unknown"),
        (WRITE_HEADERS, 403, "this is a write key; a read or admin key is needed"),
        ({"Authorization": f"Bearer {READ_KEY}"}, 200, ""),
        ({**ADMIN_HEADERS, "X-Auth-User": "another"}, 401, "unknown"),
    ],
)
def test_the_ledger_needs_a_key(
    client: Client, headers: dict[str, str], status: int, text: str
) -> None:
    """One that may read, or administer; the message says which."""
    found, body = ask(client, 0, MINUTE, headers)
    assert found == status
    assert status == 200 or text in body["error"]["message"]


@pytest.mark.parametrize(
    ("path", "parameter"),
    [
        ("/1/ledger/0/60/?granularity=30", "granularity"),
        ("/1/ledger/0/60?granularity=30", "granularity"),
        ("/1/ledger/0/60/?group=key_id", "group"),
        ("/1/ledger/60/0/", "end"),
        ("/1/ledger/then/60/", "start"),
    ],
)
def test_a_wrong_question_is_refused(client: Client, path: str, parameter: str) -> None:
    """With the parameter and what is allowed, with and without the last slash."""
    status, body, _ = client.request("GET", path, headers=READ_HEADERS)
    assert (status, body["error"]["code"]) == (400, "invalid_request")
    assert body["error"]["parameter"] == parameter
    assert body["error"]["allowed"]


def test_too_many_rows_are_refused(client: Client, service: Service, day: int) -> None:
    """The way out is said, and leads out."""
    service.engine.command(
        "INSERT INTO ledger_records (minute, application, key_id, record_id, source, outcomes) "
        f"SELECT {day} + number % 1440 * 60, '{OTHER}', toString(intDiv(number, 1440)), "
        "toFixedString(toString(number), 16), 'door', [('received', '', 1)] "
        f"FROM numbers({ledger_query.MAX_ROWS + 1})"
    )
    status, body = ask(client, day, day + DAY)
    assert (status, body["error"]["parameter"]) == (400, "granularity")
    assert body["error"]["message"] == (
        "the answer has more than 50000 rows: ask for a coarser granularity or a shorter range"
    )
    status, body = ask(client, day, day + DAY, granularity="hour")
    assert status == 200
    assert body["totals"]["received"] == ledger_query.MAX_ROWS + 1
    assert ask(client, day, day + HOUR)[0] == 200


# ---- a stage that loses something ----


class AlteredLoads(Loads):
    """Statements of which those that normalize are altered.

    Args:
        alter: From a SELECT to what takes its place.
    """

    def __init__(self, alter: Callable[[str], str]) -> None:
        super().__init__(NO_MAPPING)
        self._alter = alter

    def for_payloads(
        self, payloads: Iterable[int], batch_rules: BatchRules = BatchRules.NONE
    ) -> list[LoadStatement]:
        """Return the statements for these payloads."""
        return [
            replace(found, select=self._alter(found.select))
            if found.table == "normalized"
            else found
            for found in super().for_payloads(payloads, batch_rules)
        ]


@pytest.mark.parametrize(("counted", "difference"), [(3, 1), (2, 0), (1, -1)])
def test_a_door_that_miscounts(
    client: Client, service: Service, day: int, counted: int, difference: int
) -> None:
    """The store counts the two spans that the record holds, whatever its header says."""
    start_ns = day * 10**9
    request = make_request(make_span(start_ns=start_ns), make_span(start_ns=start_ns))
    load_records(service, spans_record(header_at(day, counted, OTHER), request))
    body = settled(client, day, received=counted, stored=2)
    assert body["totals"]["difference"] == difference


def test_a_segment_that_is_lost_while_it_is_loaded(
    client: Client, service: Service, tmp_path: Path, day: int
) -> None:
    """After the door's count is in the ledger, before the spans are in the store."""
    loads = AlteredLoads(lambda select: "SELECT no_such_column")
    with Pipeline(service.engine, tmp_path / "log", loads) as broken:
        (segment,) = broken.write([record_at(day, 5, OTHER)])
        broken.loader.submit(segment)
        settled(client, day, received=5)
    segment.path.unlink()
    with Pipeline(service.engine, tmp_path / "log") as mended:
        mended.load([record_at(day + HOUR, 2, OTHER)])
    totals = settled(client, day, received=7, stored=2)["totals"]
    assert totals["difference"] == 5


def test_a_segment_that_is_loaded_in_two_tries_is_whole(
    client: Client, service: Service, tmp_path: Path, day: int
) -> None:
    """The same as above, but nobody deletes it: the second try makes the account close."""
    loads = AlteredLoads(lambda select: "SELECT no_such_column")
    with Pipeline(service.engine, tmp_path / "log", loads) as broken:
        (segment,) = broken.write([record_at(day, 5, OTHER)])
        broken.loader.submit(segment)
        assert settled(client, day, received=5)["totals"]["difference"] == 5
    with Pipeline(service.engine, tmp_path / "log") as mended:
        mended.loader.submit(segment)
        assert settled(client, day, stored=5)["totals"]["difference"] == 0


def test_a_statement_that_drops_a_row(
    client: Client, service: Service, tmp_path: Path, day: int
) -> None:
    """The engine normalizes one span less than the door counted."""
    lost, kept = make_span(start_ns=day * 10**9), make_span(start_ns=day * 10**9)
    condition = f"span_id != unhex('{lost.span_id.hex()}')"
    loads = AlteredLoads(lambda select: f"SELECT * FROM ({select}) WHERE {condition}")
    record = spans_record(header_at(day, 2, OTHER), make_request(lost, kept))
    with Pipeline(service.engine, tmp_path / "log", loads) as pipeline:
        pipeline.load([record])
    assert settled(client, day, received=2, stored=1)["totals"]["difference"] == 1
    # The same record, loaded by statements that lose nothing, mends it.
    with Pipeline(service.engine, tmp_path / "mended") as pipeline:
        pipeline.load([record])
    assert settled(client, day, received=2, stored=2)["totals"]["difference"] == 0


@pytest.fixture
def lossy_ledger_view(service: Service) -> Iterator[None]:
    """Alter the ledger's view, so that it loses what is filtered."""
    engine = service.engine
    ((statement,),) = engine.query("SHOW CREATE TABLE ledger_view").rows
    select = statement.partition("\nAS ")[2]
    lossy = select.replace("normalized", "normalized WHERE outcome != 'filtered'")
    assert lossy != select
    engine.command(f"ALTER TABLE ledger_view MODIFY QUERY {lossy}")
    yield
    engine.command(f"ALTER TABLE ledger_view MODIFY QUERY {select}")


@pytest.mark.usefixtures("lossy_ledger_view")
def test_a_view_that_loses_an_outcome(client: Client, service: Service, day: int) -> None:
    """The spans are filtered, and nobody counts them."""
    load_records(service, mixed_record(day))
    totals = settled(client, day, received=4, stored=2, rejected=1)["totals"]
    assert (totals["filtered"], totals["difference"]) == (0, 1)


def test_events_that_vanish_later_are_not_seen(client: Client, service: Service, day: int) -> None:
    """The ledger is the account of the loads: it does not look into the table of events."""
    load_records(service, record_at(day, 3, OTHER))
    settled(client, day, received=3, stored=3)
    of_day = f"application = '{OTHER}' AND timestamp < fromUnixTimestamp({day} + 1) "
    of_day += f"AND timestamp >= fromUnixTimestamp({day})"
    partition = datetime.fromtimestamp(day, timezone.utc).strftime("%Y%m%d")
    count = f"SELECT count() FROM events WHERE {of_day}"
    assert service.engine.query(count).rows == [(3,)]
    service.engine.command(f"ALTER TABLE events DROP PARTITION '{partition}'")
    assert service.engine.query(count).rows == [(0,)]
    assert settled(client, day, stored=3)["totals"]["difference"] == 0


def items_at_the_door(client: Client) -> int:
    """Return how many spans and events the door counted since the start."""
    _, body, _ = client.request("GET", "/metrics")
    families = text_string_to_metric_families(body.decode())
    (received,) = (f.samples for f in families if f.name == "apinalytics_received_items")
    return int(sum(s.value for s in received if s.name.endswith("_total")))


def segment_with(service: Service, span: Span) -> Path | None:
    """Return the segment of the log that holds a span, if there is one."""
    assert service.engine.directory is not None
    for segment in find_segments(service.engine.directory.parent / "log"):
        records: list[bytes] = []
        read_segment(segment.path, segment.sequence, service._identity, records.append)
        if any(span.span_id in record for record in records):
            return segment.path
    return None


def test_a_segment_that_is_lost_before_its_load_is_missed_by_the_door(
    client: Client, service: Service
) -> None:
    """What was received is lost with what became of it; the door's own counter still knows."""
    log = service._log
    log.flush(DEADLINE_S)
    door = items_at_the_door(client)
    totals = LedgerTotals(service.engine, log.settled_until, time.time(), interval_s=0.0)
    first, lost = make_span(), make_span()
    with service._loader.paused(60.0):
        client.export(make_request(first, make_span()))
        # What comes now is in another segment, and behind it.
        wait_for(lambda: log._segment is None)
        client.export(make_request(lost, make_span(), make_span()))
        path = segment_with(service, lost)
        assert path is not None
        assert path != segment_with(service, first)
        path.unlink()
    log.flush(DEADLINE_S)
    assert items_at_the_door(client) - door == 5
    assert totals.read().totals["received", ""] == totals.read().totals["stored", ""] == 2
