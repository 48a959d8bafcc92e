# SPDX-License-Identifier: Apache-2.0
"""Tests of the gate: it counts what a request holds, and refuses what is none."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from otel_apinalytics.errors import InvalidRequestError, RequestTooLargeError
from otel_apinalytics.normalize.batch_rules import BatchRules
from otel_apinalytics.receiver import gate
from otel_apinalytics.receiver.gate import Counts
from otel_apinalytics.receiver.records import varint

TRACE_ID, SPAN_ID = b"\1" * 16, b"\2" * 8


def request(*groups: list[Span]) -> bytes:
    """Return a request with a resource for each group of spans."""
    made = ExportTraceServiceRequest()
    for group in groups:
        resource_spans = made.resource_spans.add()
        for span in group:
            resource_spans.scope_spans.add().spans.append(span)
    return made.SerializeToString()


def message(field: int, content: bytes) -> bytes:
    """Return a length-delimited field."""
    return varint(field << 3 | 2) + varint(len(content)) + content


def valid() -> Span:
    """Return a span with good ids."""
    return Span(trace_id=TRACE_ID, span_id=SPAN_ID, name="call")


def test_spans_of_all_resources_and_scopes_are_counted() -> None:
    """The count is over the whole nesting."""
    body = request([valid(), valid()], [], [valid()])
    assert gate.inspect(body) == Counts(3, 0, 0)


@pytest.mark.parametrize(
    ("trace_id", "span_id", "counts"),
    [
        (TRACE_ID, SPAN_ID, Counts(1, 0, 0)),
        (b"", SPAN_ID, Counts(1, 1, 0)),
        (bytes(16), SPAN_ID, Counts(1, 1, 0)),
        (b"\1" * 15, SPAN_ID, Counts(1, 1, 0)),
        (b"\1" * 17, SPAN_ID, Counts(1, 1, 0)),
        (b"01" * 16, SPAN_ID, Counts(1, 1, 0)),
        (TRACE_ID, b"", Counts(1, 0, 1)),
        (TRACE_ID, bytes(8), Counts(1, 0, 1)),
        (TRACE_ID, b"\1" * 7, Counts(1, 0, 1)),
        (TRACE_ID, b"\1" * 9, Counts(1, 0, 1)),
        (b"", b"", Counts(1, 1, 0)),
        (bytes(15) + b"\1", bytes(7) + b"\1", Counts(1, 0, 0)),
    ],
)
def test_invalid_ids_are_counted_once(trace_id: bytes, span_id: bytes, counts: Counts) -> None:
    """An id of another length or all zero is invalid; a span is counted for its first bad id."""
    body = request([Span(trace_id=trace_id, span_id=span_id)])
    assert gate.inspect(body) == counts
    assert counts.invalid == counts.invalid_trace_ids + counts.invalid_span_ids


def test_good_and_bad_spans_are_told_apart() -> None:
    """One bad span does not cost the others."""
    body = request([valid(), Span(), valid()], [Span(trace_id=TRACE_ID), Span(span_id=SPAN_ID)])
    assert gate.inspect(body) == Counts(5, 2, 1)


PARENT = b"\3" * 8
WITH_PARENT = {"parent_span_id": PARENT}
LOCAL, REMOTE = 0x100, 0x300
NONE, CHILDREN, NESTED = BatchRules


@pytest.mark.parametrize(
    ("changes", "batch_rules"),
    [
        ({}, NONE),
        ({"kind": Span.SPAN_KIND_INTERNAL}, NONE),
        ({"kind": Span.SPAN_KIND_INTERNAL, **WITH_PARENT}, CHILDREN),
        (
            {"kind": Span.SPAN_KIND_INTERNAL, **WITH_PARENT, "flags": REMOTE},
            CHILDREN,
        ),
        ({"kind": Span.SPAN_KIND_SERVER, **WITH_PARENT}, NONE),
        (
            {"kind": Span.SPAN_KIND_SERVER, **WITH_PARENT, "flags": LOCAL},
            NESTED,
        ),
        (
            {"kind": Span.SPAN_KIND_SERVER, **WITH_PARENT, "flags": LOCAL | 1},
            NESTED,
        ),
        (
            {"kind": Span.SPAN_KIND_SERVER, **WITH_PARENT, "flags": REMOTE},
            NONE,
        ),
        (
            {"kind": Span.SPAN_KIND_SERVER, **WITH_PARENT, "flags": 0x200},
            NONE,
        ),
        ({"kind": Span.SPAN_KIND_SERVER, "flags": LOCAL}, NONE),
        (
            {"kind": Span.SPAN_KIND_CLIENT, **WITH_PARENT, "flags": LOCAL},
            NONE,
        ),
        (
            {"kind": Span.SPAN_KIND_PRODUCER, **WITH_PARENT, "flags": LOCAL},
            NONE,
        ),
        ({**WITH_PARENT, "flags": LOCAL}, NONE),
    ],
)
def test_children_are_seen(changes: dict[str, Any], batch_rules: BatchRules) -> None:
    """INTERNAL spans with a parent, and SERVER spans with a local one, say something of it."""
    body = request([valid(), Span(trace_id=TRACE_ID, span_id=SPAN_ID, **changes)], [valid()])
    assert gate.inspect(body) == Counts(3, 0, 0, batch_rules)


@pytest.mark.parametrize("reverse", [False, True])
def test_nested_servers_need_more_than_children(reverse: bool) -> None:
    """Whatever comes first."""
    spans = [
        Span(trace_id=TRACE_ID, span_id=SPAN_ID, parent_span_id=PARENT, kind=kind, flags=LOCAL)
        for kind in (Span.SPAN_KIND_INTERNAL, Span.SPAN_KIND_SERVER)
    ]
    body = request(spans[::-1] if reverse else spans)
    assert gate.inspect(body) == Counts(2, 0, 0, NESTED)


@pytest.mark.parametrize("body", [b"", message(1, message(2, b"")), message(99, b"new")])
def test_an_empty_request_has_no_spans(body: bytes) -> None:
    """A request without spans is valid (OTLP 1.11)."""
    assert gate.inspect(body) == Counts(0, 0, 0)


@pytest.mark.parametrize(
    ("body", "has_no_scopes"),
    [
        (request([]), True),
        (request([], []), True),
        (message(1, message(1, b"")), True),
        (message(1, message(1000, message(2, b""))), True),
        (request([], [valid()]), False),
        (message(1, b"") + message(1, message(2, b"")), False),
    ],
)
def test_resources_without_any_scope_are_noted(body: bytes, has_no_scopes: bool) -> None:
    """They may be those of a sender whose spans are where nothing looks."""
    assert gate.inspect(body).has_no_scopes is has_no_scopes


@pytest.mark.parametrize(
    "body",
    [
        b"\xff",
        b'{"resourceSpans":[]}',
        b"not protobuf",
        request([valid()])[:-1],
        message(1, message(2, message(2, b"\x0a\x7f"))),
        b"\x00\x00",
        b"\x0b" * 1000,
    ],
    ids=["byte", "json", "text", "truncated", "truncated id", "field zero", "nested groups"],
)
def test_what_does_not_parse_is_refused(body: bytes) -> None:
    """Garbage is an invalid request."""
    with pytest.raises(InvalidRequestError, match="not an OTLP"):
        gate.inspect(body)


def test_text_that_is_not_utf_8_passes() -> None:
    """The bytes of an attribute, a name or a state are not the gate's business."""
    bad_text = b"\xff\xfe\xc3"
    attribute = message(1, bad_text) + message(2, message(1, bad_text))
    span = (
        message(1, TRACE_ID)
        + message(2, SPAN_ID)
        + message(3, bad_text)
        + message(5, bad_text)
        + message(9, attribute)
    )
    resource = message(1, message(1, attribute))
    body = message(1, resource + message(2, message(2, span)) + message(3, bad_text))
    assert gate.inspect(body) == Counts(1, 0, 0)


def test_unknown_fields_pass() -> None:
    """A later version of OTLP is no reason to refuse."""
    span = message(1, TRACE_ID) + message(2, SPAN_ID) + message(1000, b"new")
    assert gate.inspect(message(1, message(2, message(2, span))) + message(99, b"new")).spans == 1


# ---- bounds ----

# Before all others; parsers pass over it, and over what is in it.
GROUP = b"\xa3\x06" + message(1, b"junk") + b"\xa4\x06"


def spans_by_scope(spans: int, per_scope: int) -> bytes:
    """Return a request of valid spans: a resource for each scope, so many spans in each."""
    span = message(2, message(1, TRACE_ID) + message(2, SPAN_ID))
    resource = message(1, b"")
    group = message(1, resource + message(2, message(1, b"") + span * per_scope))
    return group * (spans // per_scope)


@pytest.mark.parametrize("per_scope", [1024, 8, 4])
def test_as_many_spans_as_are_allowed_are_taken(per_scope: int) -> None:
    """Whatever resources and scopes there are around them."""
    body = spans_by_scope(gate.MAX_SPANS, per_scope)
    assert gate.inspect(body) == Counts(gate.MAX_SPANS, 0, 0)


@pytest.mark.parametrize("before", [b"", GROUP, message(99, b"new")])
@pytest.mark.parametrize("excess", [0, 1])
def test_the_number_of_spans_is_bounded(before: bytes, excess: int) -> None:
    """Tiny spans within the size limit could still want gigabytes in the engine."""
    spans = before + message(2, b"") * (gate.MAX_SPANS + excess)
    body = before + message(1, before + message(2, spans))
    if excess:
        with pytest.raises(RequestTooLargeError, match=f"more than {gate.MAX_SPANS}"):
            gate.inspect(body)
    else:
        assert gate.inspect(body) == Counts(gate.MAX_SPANS, gate.MAX_SPANS, 0)


@pytest.mark.parametrize(
    "body",
    [
        message(1, b"") * 4_000_000,
        message(1, message(2, b"") * 4_000_000),
        message(1, message(2, message(2, b"") * 4_000_000)),
        GROUP + message(1, GROUP + message(2, GROUP + message(2, b"") * 4_000_000)),
        message(1, message(2, b"")) * 2_000_000,
        b"\x50\x01" * 4_000_000,
        b"\xa3\x06" + b"\x50\x01" * 4_000_000 + b"\xa4\x06",
        message(1, b"\x50\x01" * 4_000_000),
    ],
    ids=[
        "resources", "scopes", "spans", "spans behind groups", "resources with a scope",
        "junk", "junk in a group", "junk in a resource",
    ],
)  # fmt: skip
def test_millions_of_tiny_fields_are_not_parsed(
    body: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each would be an object many times its size: they are refused before there is one."""

    class Unparsable:
        FromString = None

    monkeypatch.setattr(gate, "GateRequest", Unparsable)
    with pytest.raises(RequestTooLargeError, match=f"more than {gate.MAX_SPANS}"):
        gate.inspect(body)


@pytest.mark.parametrize("excess", [0, 1])
@pytest.mark.parametrize("name", ["span", "resource", "scope"])
def test_the_size_of_a_part_is_bounded(name: str, excess: int) -> None:
    """A single one with millions of attributes would be a table's row of gigabytes."""
    ids = message(1, TRACE_ID) + message(2, SPAN_ID)
    # Less the tag and the length in front of what makes it as large.
    padding = message(9, bytes(gate.MAX_PART_BYTES - len(ids) - 5 + excess))
    if name == "span":
        assert len(ids + padding) == gate.MAX_PART_BYTES + excess
        body = message(1, message(2, message(2, ids + padding)))
    elif name == "scope":
        scope = message(1, bytes(gate.MAX_PART_BYTES - 5 + excess))
        body = message(1, message(2, message(1, scope) + message(2, ids)))
    else:
        resource = message(1, bytes(gate.MAX_PART_BYTES - 5 + excess))
        body = message(1, message(1, resource) + message(2, message(2, ids)))
    if excess:
        with pytest.raises(
            RequestTooLargeError, match=f"a {name} .* at most {gate.MAX_PART_BYTES}"
        ):
            gate.inspect(body)
    else:
        assert gate.inspect(body) == Counts(1, 0, 0)


@pytest.mark.parametrize("number", [3, 1000])
def test_fields_that_nobody_knows_may_be_there(number: int) -> None:
    """Large requests of newer senders are walked through, and taken."""
    span = message(1, TRACE_ID) + message(2, SPAN_ID) + message(number, bytes(1000))
    unknown = message(number, b"new") + varint(number << 3) + b"\1"
    body = unknown + message(1, unknown + message(2, unknown + message(2, span) * 500))
    assert gate.inspect(body) == Counts(500, 0, 0)


def test_a_large_body_that_does_not_parse_is_refused() -> None:
    """The walk ends at the fault, and the parser finds it."""
    for junk in (b"\xff", b"\x0b", b"\0", b"{", b"\x0a\x7f"):
        with pytest.raises(InvalidRequestError):
            gate.inspect(spans_by_scope(8192, 512) + junk * 300_000)


@given(body=st.binary(max_size=200))
def test_random_bytes_are_parsed_or_refused(body: bytes) -> None:
    """Nothing but an invalid request is ever raised."""
    with contextlib.suppress(InvalidRequestError):
        gate.inspect(body)


@given(data=st.data())
def test_damaged_requests_are_parsed_or_refused(data: st.DataObject) -> None:
    """A request with bytes replaced, added or cut off is parsed or refused."""
    body = bytearray(request([valid(), valid()], [valid()]))
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(body)))
        end = data.draw(st.integers(start, min(len(body), start + 4)))
        body[start:end] = data.draw(st.binary(max_size=4))
    with contextlib.suppress(InvalidRequestError):
        assert gate.inspect(bytes(body)).invalid >= 0
