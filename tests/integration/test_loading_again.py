# SPDX-License-Identifier: Apache-2.0
"""Loading again, in any order, under any token, under other rules: it changes nothing."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from otel_apinalytics.catalogue import FIELDS
from otel_apinalytics.normalize import outcomes
from otel_apinalytics.normalize.mapping import NO_MAPPING, Mapping, MappingEntry
from otel_apinalytics.receiver import gate
from otel_apinalytics.receiver.attempts import Attempts
from otel_apinalytics.receiver.events_json import encode_events
from otel_apinalytics.receiver.loading import Loading
from otel_apinalytics.receiver.messages import Messages
from otel_apinalytics.receiver.records import (
    duplicate_record,
    events_record,
    new_header,
    refused_record,
    rejected_at_the_door,
    spans_record,
)
from otel_apinalytics.service import Service
from otel_apinalytics.store.engine import Engine, LoadStatement
from otel_apinalytics.store.loads import Loads
from otel_apinalytics.wire.log_pb2 import LogHeader
from tests.support.otlp import CALL, INTERNAL, SERVER, make_request, make_span

BEFORE, AFTER = (
    Loads(NO_MAPPING),
    Loads(Mapping((MappingEntry("x.tenant", "organization_id"),))),
)
SPANS = [
    make_span(
        {**CALL, "x.tenant": f"t{n % 3}", "enduser.id": f"c{n % 4}"},
        kind=INTERNAL if n % 5 == 0 else SERVER,
        # Some cannot be accepted.
        trace_id=bytes(16) if n % 7 == 0 else None,
    )
    for n in range(20)
]
BODIES = [
    encode_events(body).batch
    for body in (
        b'[{"timestamp": 1790000000, "consumer_id": "e1"}, {"timestamp": 1790000001}]',
        b'[{"timestamp": 1790000002, "trace_id": "0123456789abcdef0123456789abcdef", '
        b'"span_id": "0123456789abcdef"}]',
    )
]


@dataclass(frozen=True, slots=True)
class Step:
    """One load.

    Args:
        segment: Number of the segment.
        token: Its token; equal ones are skipped, as after a restart.
        is_mapped: Whether the mapping has changed by then.
    """

    segment: int
    token: str
    is_mapped: bool


def headers(count: int) -> LogHeader:
    """Return a header of `count` items, without an application."""
    return new_header("", "key", "grpc", count)


def spans(numbers: Sequence[int]) -> tuple[LogHeader, bytes]:
    """Return a request of some of the spans; the same span may be in many requests."""
    body = make_request(*(SPANS[number] for number in numbers))
    counts = gate.inspect(body)
    return new_header("", "key", "grpc", counts.spans, counts.batch_rules), body


requests = st.one_of(
    st.lists(st.integers(0, len(SPANS) - 1), min_size=1, max_size=6).map(spans),
    st.sampled_from(BODIES).map(lambda batch: (headers(2 if batch is BODIES[0] else 1), batch)),
    st.builds(headers, st.integers(1, 9)).map(lambda header: (header, b"duplicate")),
    st.builds(headers, st.integers(1, 9)).map(lambda header: (header, b"rejected")),
    st.builds(headers, st.integers(1, 9)).map(lambda header: (header, b"refused")),
)
segments_of = st.lists(st.lists(requests, min_size=1, max_size=4), min_size=1, max_size=3)


def record_of(application: str, request: tuple[LogHeader, bytes]) -> bytes:
    """Return the record that the door writes."""
    header = LogHeader.FromString(request[0].SerializeToString())
    header.application = application
    body = request[1]
    if body == b"duplicate":
        return duplicate_record(header)
    if body == b"rejected":
        return rejected_at_the_door(header, outcomes.INVALID_EVENT)
    if body == b"refused":
        return refused_record(header, "too_large")
    return events_record(header, body) if body in BODIES else spans_record(header, body)


def load(engine: Engine, records: Sequence[bytes], token: str, loads: Loads, path: Path) -> None:
    """Load records as one segment."""
    loading = Loading(engine, loads, Attempts(path), token, lambda _: False)
    with contextlib.closing(Messages(lambda _: bytes(32))) as messages:
        for record in records:
            messages.add(record)
        assert loading.load(messages) == 0


def ledger(engine: Engine, application: str) -> Sequence[tuple[Any, ...]]:
    """Return the ledger's rows of an application, in order."""
    return engine.query(
        "SELECT minute, key_id, transport, record_id, outcome, reason, items FROM ledger "
        "WHERE application = %(application)s ORDER BY ALL",
        {"application": application},
    ).rows


def events(engine: Engine, application: str) -> Sequence[tuple[Any, ...]]:
    """Return the events of an application in order, but for what the mapping fills."""
    names = ", ".join(
        field.name for field in FIELDS if field.name not in ("application", "organization_id")
    )
    return engine.query(
        f"SELECT {names} FROM events FINAL WHERE application = %(application)s ORDER BY ALL",
        {"application": application},
    ).rows


@settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_loading_again_changes_nothing(service: Service, tmp_path: Path, data: Any) -> None:
    """Each segment once, in order; then some of them again, in any order, under any token."""
    engine = service.engine
    segments = data.draw(segments_of)
    steps = data.draw(
        st.lists(
            st.builds(
                Step,
                st.integers(0, len(segments) - 1),
                st.sampled_from(["same", "a", "b"]),
                st.booleans(),
            ),
            max_size=4,
        )
    )
    order = data.draw(st.permutations(range(len(segments))))
    first, second = (f"again-{uuid.uuid4()}" for _ in range(2))
    found = []
    for application, numbers in ((first, range(len(segments))), (second, order)):
        records = [[record_of(application, r) for r in segment] for segment in segments]
        plan = [Step(number, "same", is_mapped=False) for number in numbers]
        # What came once is all that there is to know.
        for step in plan:
            token = f"{application}/{step.segment}/{step.token}"
            load(engine, records[step.segment], token, BEFORE, tmp_path / "segment")
        once = ledger(engine, application), events(engine, application)
        for step in steps:
            token = f"{application}/{step.segment}/{step.token}"
            loads = AFTER if step.is_mapped else BEFORE
            load(engine, records[step.segment], token, loads, tmp_path / "segment")
        assert (ledger(engine, application), events(engine, application)) == once
        found.append(once)
    # Nor does the order matter.
    assert found[0] == found[1]


def test_what_newer_rules_filter_is_not_stored_too(service: Service, tmp_path: Path) -> None:
    """A record that is loaded again under other rules has one account, that of the newer ones."""
    engine, application = service.engine, f"rules-{uuid.uuid4()}"
    body = make_request(*(make_span() for _ in range(5)))
    record = spans_record(new_header(application, "key", "grpc", 5), body)

    class Newer(Loads):
        """Rules of a later version, by which none of these is a call."""

        def for_payloads(self, *arguments: Any) -> list[LoadStatement]:
            """Return the statements, of which that of spans filters all."""
            return [
                replace(s, select=_FILTERING.format(s.select)) if s.table == "normalized" else s
                for s in super().for_payloads(*arguments)
            ]

    load(engine, [record], f"{application}/1", BEFORE, tmp_path / "segment")
    assert [row[4:] for row in ledger(engine, application)] == [
        ("received", "", 5),
        ("stored", "", 5),
    ]
    load(engine, [record], f"{application}/2", Newer(NO_MAPPING), tmp_path / "segment")
    # In whatever order they come.
    load(engine, [record], f"{application}/3", BEFORE, tmp_path / "segment")
    assert [row[4:] for row in ledger(engine, application)] == [
        ("filtered", "placeholder", 5),
        ("received", "", 5),
    ]


_FILTERING = (
    "SELECT * REPLACE ('filtered' AS outcome, 'placeholder' AS reason, "
    "version + bitShiftLeft(toUInt64(1), 51) AS version) FROM ({})"
)
