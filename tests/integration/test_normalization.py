# SPDX-License-Identifier: Apache-2.0
"""The rules in the running service: large traces, large requests, and a mapping that changes."""

from __future__ import annotations

import os
import uuid
from collections import Counter
from pathlib import Path
from typing import Any

from opentelemetry.proto.trace.v1.trace_pb2 import Span

from otel_apinalytics.service import Service
from tests.support.clients import WRITE_KEY, Client
from tests.support.otlp import CALL, INTERNAL, make_request, make_span
from tests.support.service_process import service_process
from tests.support.waiting import wait_for

_METADATA = (("x-auth-key", WRITE_KEY),)
# What SDKs send at once at most, and a round number of spans of one trace in so many requests.
_LARGE_REQUEST = 8192
_FAMILY = 100
_REQUESTS = 10
_FAMILIES_OF_REQUEST = 100


def family(trace_id: bytes, root_id: bytes, prefix: str, number: int) -> list[Span]:
    """Return a SERVER span behind its INTERNAL children, which end before it does.

    The first child knows the consumer, another the GraphQL operation.
    """
    root = make_span(
        {"http.request.method": "POST", "url.path": "/graphql", "http.response.status_code": 200},
        trace_id=trace_id,
        name="POST /graphql",
    )
    root.parent_span_id = root_id
    root.flags = 0x300
    children = [make_span({}, kind=INTERNAL, trace_id=trace_id) for _ in range(_FAMILY - 1)]
    known: list[dict[str, Any]] = [
        {"enduser.id": f"{prefix}-{number}"},
        {"graphql.operation.type": "query", "graphql.operation.name": f"Q{number % 7}"},
    ]
    for child, attributes in zip(children, known, strict=False):
        child.attributes.extend(make_span(attributes).attributes)
    for child in children:
        child.parent_span_id = root.span_id
        child.flags = 0x100
    return [*children, root]


def test_a_trace_of_a_hundred_thousand_spans(client: Client, service: Service) -> None:
    """It is loaded whole: every call with what its children know, every other span counted."""
    prefix, trace_id, root_id = f"c-{uuid.uuid4()}", os.urandom(16), os.urandom(8)
    total = _REQUESTS * _FAMILIES_OF_REQUEST
    with client.exporter() as call:
        for request in range(_REQUESTS):
            numbers = range(request * _FAMILIES_OF_REQUEST, (request + 1) * _FAMILIES_OF_REQUEST)
            spans = [s for n in numbers for s in family(trace_id, root_id, prefix, n)]
            assert call(make_request(*spans), metadata=_METADATA) == b""
    query = (
        "SELECT consumer_id, consumer_source, function, hex(parent_span_id), toUInt32(count()) "
        "FROM events FINAL WHERE trace_id = unhex(%(trace)s) GROUP BY ALL"
    )
    rows = wait_for(
        lambda: service.engine.query(query, {"trace": trace_id.hex()}).rows,
        until=lambda rows: len(rows) >= total,
    )
    assert sorted(rows) == sorted(
        (f"{prefix}-{n}", "enduser.id", f"query Q{n % 7}", root_id.hex().upper(), 1)
        for n in range(total)
    )
    ledger = (
        "SELECT outcome, reason, toUInt64(sum(items)) FROM ledger WHERE record_id IN "
        "(SELECT record_id FROM ledger GROUP BY record_id HAVING maxIf(items, outcome = 'received')"
        " = %(size)s) GROUP BY ALL ORDER BY ALL"
    )
    size = _FAMILIES_OF_REQUEST * _FAMILY
    expected = [
        ("filtered", "kind_not_server_or_client", total * (_FAMILY - 1)),
        ("received", "", total * _FAMILY),
        ("stored", "", total),
    ]
    wait_for(
        lambda: service.engine.query(ledger, {"size": size}).rows,
        until=lambda rows: rows == expected,
    )


def test_a_large_request_is_loaded_whole(client: Client) -> None:
    """Each span of it is a call, in two resources and with different consumers."""
    consumer = f"c-{uuid.uuid4()}"
    spans = [
        make_span({**CALL, "url.path": f"/users/{n}", "enduser.id": f"{consumer}-{n % 3}"})
        for n in range(_LARGE_REQUEST)
    ]
    half = _LARGE_REQUEST // 2
    body = make_request(*spans[:half], service="a") + make_request(*spans[half:], service="b")
    assert client.export(body) == b""
    # Messages that follow each other are one: both resources are in one request.
    include = [("include", f"consumer_id:{consumer}-{n}") for n in range(3)]

    def counted(field: str) -> dict[str, float]:
        groups = client.groups([*include, ("group", field)])
        return {name: points[0][1] for name, points in groups.items() if points}

    wait_for(lambda: sum(counted("service").values()), until=lambda n: n >= _LARGE_REQUEST)
    assert counted("service") == {"a": half, "b": half}
    assert counted("consumer_id") == Counter(f"{consumer}-{n % 3}" for n in range(_LARGE_REQUEST))
    assert counted("route") == {"/users/{id}": _LARGE_REQUEST}


def mapped(source: str) -> str:
    """Return a settings file that maps an attribute to the organisation."""
    return f'[[mapping]]\nfrom = "{source}"\nto = "organization_id"\n'


def test_a_changed_mapping_takes_effect_without_a_restart(tmp_path: Path) -> None:
    """The next load reads by it; one that is not valid changes nothing."""
    config = tmp_path / "apinalytics.toml"
    config.write_text(mapped("x.old"), "utf-8")
    attributes = {**CALL, "x.old": "of the old", "x.new": "of the new"}

    with service_process(tmp_path / "data", None, config) as service:

        def organization() -> str:
            trace_id = os.urandom(16)
            service.client.export(make_request(make_span(attributes, trace_id=trace_id)))
            (event,) = wait_for(
                lambda: [
                    event
                    for event in service.client.raw_events()
                    if event["trace_id"] == trace_id.hex()
                ]
            )
            return str(event["organization_id"])

        assert organization() == "of the old"
        config.write_text(mapped("x.new"), "utf-8")
        assert organization() == "of the new"
        config.write_text(mapped("x.old") + "to be continued", "utf-8")
        assert organization() == "of the new"
        assert service.stop() == 0
