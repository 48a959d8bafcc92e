# SPDX-License-Identifier: Apache-2.0
"""Tests of the batch rules: what spans of one batch say of each other."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from otel_apinalytics.normalize.batch_rules import Child, are_nested, children_of
from otel_apinalytics.normalize.mapping import NO_MAPPING
from otel_apinalytics.normalize.python import SpanView
from otel_apinalytics.normalize.rules import (
    FLAGS_PARENT_KNOWN,
    FLAGS_PARENT_REMOTE,
    KIND_CLIENT,
    KIND_INTERNAL,
    KIND_SERVER,
)
from tests.engine_fixtures import NormalizeInEngine, Row
from tests.unit.normalize.agreement import agreed_rows
from tests.unit.normalize.strategies import RECEIVED_NS

TRACE, ROOT = b"\1" * 16, b"\1" * 8
LOCAL = FLAGS_PARENT_KNOWN


def child(number: int = 2, **changes: Any) -> Child:
    """Return a local SERVER span within the root."""
    made = Child(
        key=(TRACE, bytes([number]) * 8),
        parent=(TRACE, ROOT),
        kind=KIND_SERVER,
        flags=LOCAL,
        service="svc",
        start_ns=number,
    )
    return replace(made, **changes)


OUTER = child(1, parent=(TRACE, b""), flags=0)


@pytest.mark.parametrize(
    ("changes", "nested"),
    [
        ({}, True),
        ({"flags": LOCAL | 1}, True),
        ({"flags": 0}, False),
        ({"flags": LOCAL | FLAGS_PARENT_REMOTE}, False),
        ({"flags": FLAGS_PARENT_REMOTE}, False),
        ({"service": "other"}, False),
        ({"kind": KIND_INTERNAL}, False),
        ({"kind": KIND_CLIENT}, False),
        ({"parent": (TRACE, b"\7" * 8)}, False),
        ({"parent": (b"\2" * 16, ROOT)}, False),
        ({"parent": (TRACE, b"")}, False),
    ],
)
def test_a_server_span_in_a_server_span_of_the_same_process_is_nested(
    changes: dict[str, Any], nested: bool
) -> None:
    """Its flags must say that the parent is local, and the parent must be there (reference 3.2)."""
    inner = child(**changes)
    assert are_nested([OUTER, inner]) == [False, nested]
    assert are_nested([inner, OUTER]) == [nested, False]


def test_no_span_is_nested_in_another_kind() -> None:
    """A call that a program makes itself is not a part of a call that it serves."""
    assert are_nested([replace(OUTER, kind=KIND_CLIENT), child()]) == [False, False]


def test_no_span_is_nested_in_what_is_no_call() -> None:
    """It would be counted nowhere: its parent is filtered."""
    assert are_nested([replace(OUTER, is_call=False), child()]) == [False, False]


def test_each_span_answers_for_itself() -> None:
    """Of two spans with one id, only the one that says so is nested."""
    assert are_nested([OUTER, child(), child(flags=0)]) == [False, True, False]


def test_of_each_thing_the_first_to_begin_says_it() -> None:
    """Whatever the order of arrival: children end before their parents."""
    batch = [
        child(4, route="/late", function="late", graphql="query Late", consumer="c"),
        child(3, function="early", consumer="b", consumer_source="enduser.id"),
        child(2, route="/first"),
    ]
    for order in (batch, batch[::-1]):
        (said,) = children_of(order).values()
        assert (said.route, said.function, said.graphql) == ("/first", "early", "query Late")
        assert (said.consumer, said.consumer_source) == ("b", "enduser.id")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({}, ("/r", "f", "query Q", "c")),
        ({"kind": KIND_INTERNAL}, ("", "", "query Q", "c")),
        ({"kind": KIND_INTERNAL, "flags": 0}, ("", "", "query Q", "c")),
        ({"flags": 0}, None),
        ({"kind": KIND_CLIENT}, None),
        ({"parent": (TRACE, b"")}, None),
    ],
)
def test_who_may_say_what(changes: dict[str, Any], says: tuple[str, ...] | None) -> None:
    """Routes and functions of INTERNAL spans are those of a part of the work, not of the call."""
    span = child(
        **{"route": "/r", "function": "f", "graphql": "query Q", "consumer": "c", **changes}
    )
    found = children_of([span]).get((TRACE, ROOT))
    got = found and (found.route, found.function, found.graphql, found.consumer)
    assert got == says


@pytest.mark.parametrize(("graphql", "failed"), [("query Q", True), ("", False)])
def test_a_failed_operation_fails_the_call(graphql: str, failed: bool) -> None:
    """GraphQL answers 200 to everything; another child's error may have been handled."""
    spans = [child(2, graphql="query Other"), child(3, graphql=graphql, failed=True)]
    assert children_of(spans)[TRACE, ROOT].failed is failed


# ---- in both renderings ----


def span(number: int, attributes: dict[str, Any], **changes: Any) -> SpanView:
    """Return a span within the root."""
    made = SpanView(
        trace_id=TRACE,
        span_id=bytes([number]) * 8,
        parent_span_id=ROOT,
        name="",
        kind=KIND_INTERNAL,
        start_ns=RECEIVED_NS + number,
        end_ns=RECEIVED_NS + 1_000_000,
        status=0,
        attributes=attributes,
        resource={"service.name": "svc"},
    )
    return replace(made, **changes)


def root(**attributes: Any) -> SpanView:
    """Return the SERVER span that the others are in."""
    path = {"http.request.method": "POST", "url.path": "/graphql", **attributes}
    return span(1, path, kind=KIND_SERVER, parent_span_id=b"")


INNER = {"kind": KIND_SERVER, "flags": LOCAL}
BOTH = "http.route", "code.function.name"


@pytest.mark.parametrize(
    ("batch", "expected"),
    [
        ([root(), span(2, {"enduser.id": "a"})], {"consumer_id": "a"}),
        (
            [root(), span(2, {"enduser.id": "a"})],
            {"consumer_source": "enduser.id"},
        ),
        ([root(**{"enduser.id": "own"}), span(2, {"enduser.id": "a"})], {"consumer_id": "own"}),
        ([root(), span(3, {"user.id": "b"}), span(2, {"user.id": "a"})], {"consumer_id": "a"}),
        # A child tells by its own attributes; its resource is the parent's too, if it is one.
        (
            [root(), span(2, {}, resource={"client.id": "x"})],
            {"consumer_id": "", "consumer_source": ""},
        ),
        (
            [root(), span(2, {"http.request.header.x-api-key": ["k-123"]})],
            {"consumer_source": "http.request.header.x-api-key"},
        ),
        (
            [root(), span(2, {"graphql.operation.type": "query", "graphql.operation.name": "Q"})],
            {"function": "query Q", "route": "/graphql"},
        ),
        (
            [root(**{"code.function.name": "f"}), span(2, {"graphql.operation.type": "query"})],
            {"function": "query"},
        ),
        (
            [root(**{"apinalytics.function": "f"}), span(2, {"graphql.operation.type": "query"})],
            {"function": "f"},
        ),
        (
            [root(), span(2, {"graphql.operation.type": "query"}, status=2)],
            {"is_error": True},
        ),
        ([root(), span(2, {"db.system": "x"}, status=2)], {"is_error": False}),
        ([root(), span(2, dict.fromkeys(BOTH, "/x"))], {"function": "POST /graphql"}),
        (
            [root(), span(2, {"http.route": "/x", "code.function.name": "f"}, **INNER)],
            {"route": "/x", "function": "f", "url": "/graphql"},
        ),
        (
            [root(**{"http.route": "/own"}), span(2, {"http.route": "/x"}, **INNER)],
            {"route": "/own"},
        ),
        (
            [root(**{"http.route": "/sub"}), span(2, {"http.route": "/sub/{id}"}, **INNER)],
            {"route": "/sub/{id}"},
        ),
        ([root(**{"http.route": "/*"}), span(2, {"http.route": "/x"}, **INNER)], {"route": "/x"}),
        (
            [root(**{"http.route": "/{proxy+}"}), span(2, {"http.route": "x"}, **INNER)],
            {"route": "/x"},
        ),
        (
            [root(), span(2, {"rpc.system": "grpc"}, **INNER, name="shop.Cart/Add")],
            {"route": "/shop.Cart/Add", "function": "shop.Cart/Add", "method": "POST"},
        ),
        ([root(), span(2, {"rpc.system": "grpc"}, name="shop.Cart/Add")], {"route": "/graphql"}),
        ([root(), span(2, {"enduser.id": "a"}, parent_span_id=b"\7" * 8)], {"consumer_id": ""}),
        ([root(), span(2, {"enduser.id": "a"}, trace_id=b"\7" * 16)], {"consumer_id": ""}),
        ([root(), span(2, {"enduser.id": "a"}, span_id=b"\2" * 7)], {"consumer_id": ""}),
        ([root(), span(2, {"enduser.id": "a"}, kind=KIND_CLIENT)], {"consumer_id": ""}),
    ],
)
def test_what_a_call_takes_from_its_children(
    normalize_in_engine: NormalizeInEngine, batch: list[SpanView], expected: dict[str, Any]
) -> None:
    """The same in both renderings, whatever the order of arrival (reference 3.2, 3.7, 4.2)."""
    for order in (batch, batch[::-1]):
        first = _row_of(agreed_rows(normalize_in_engine, order, RECEIVED_NS, NO_MAPPING), ROOT)
        assert {name: first[name] for name in expected} == expected
        assert first["outcome"] == "stored"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, "nested_in_server_span"),
        ({"flags": 0}, ""),
        ({"flags": LOCAL | FLAGS_PARENT_REMOTE}, ""),
        ({"resource": {"service.name": "other"}}, ""),
        ({"resource": {}}, ""),
        ({"parent_span_id": b"\7" * 8}, ""),
        ({"span_id": b""}, "invalid_span_id"),
        ({"attributes": {}}, "neither_http_nor_rpc"),
    ],
)
def test_which_spans_are_nested(
    normalize_in_engine: NormalizeInEngine, changes: dict[str, Any], reason: str
) -> None:
    """A SERVER span of the same process, with its parent in the batch, is no call of its own."""
    inner = replace(span(2, {"url.path": "/a"}, **INNER), **changes)
    rows = agreed_rows(normalize_in_engine, [inner, root()], RECEIVED_NS, NO_MAPPING)
    assert [row["reason"] for row in rows] == [reason, ""]


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ({}, "neither_http_nor_rpc"),
        ({"db.system": "postgresql"}, "neither_http_nor_rpc"),
        ({"http.route": ""}, "neither_http_nor_rpc"),
        ({"faas.trigger": "pubsub", "url.path": "/a"}, "messaging_or_trigger"),
        ({"logfire.span_type": "pending_span", "url.path": "/a"}, "placeholder"),
        ({"apinalytics.probe": "7", "url.path": "/a"}, "probe"),
    ],
)
def test_a_call_within_what_is_no_call_is_counted(
    normalize_in_engine: NormalizeInEngine, attributes: dict[str, Any], reason: str
) -> None:
    """Were it taken for a part of its parent, nothing of it would be counted."""
    outer = span(1, attributes, kind=KIND_SERVER, parent_span_id=b"")
    batch = [span(2, {"url.path": "/a"}, **INNER), outer]
    rows = agreed_rows(normalize_in_engine, batch, RECEIVED_NS, NO_MAPPING)
    assert [row["reason"] for row in rows] == ["", reason]


def test_of_calls_within_each_other_the_outermost_is_counted(
    normalize_in_engine: NormalizeInEngine,
) -> None:
    """One call, however many spans of one process it went through."""
    batch = [
        span(3, {"url.path": "/a"}, **{**INNER, "parent_span_id": b"\2" * 8}),
        span(2, {"url.path": "/a"}, **INNER),
        root(),
    ]
    rows = agreed_rows(normalize_in_engine, batch, RECEIVED_NS, NO_MAPPING)
    assert [row["reason"] for row in rows] == ["nested_in_server_span"] * 2 + [""]


def test_a_span_that_is_its_own_parent_says_nothing_of_itself(
    normalize_in_engine: NormalizeInEngine,
) -> None:
    """Two spans with one id are a defect of the sender; the renderings agree about it."""
    twin = span(1, {"graphql.operation.type": "query", "enduser.id": "a"})
    rows = agreed_rows(normalize_in_engine, [twin, root()], RECEIVED_NS, NO_MAPPING)
    assert (rows[1]["function"], rows[1]["consumer_id"]) == ("POST /graphql", "")


def _row_of(rows: list[Row], span_id: bytes) -> Row:
    (row,) = (row for row in rows if row["span_id"] == span_id)
    return row
