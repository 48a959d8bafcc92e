# SPDX-License-Identifier: Apache-2.0
"""Tests of families of spans that come in several batches: they are as if they had come in one."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanContext, SpanKind, Tracer

from otel_apinalytics.exporter.counters import Fate
from otel_apinalytics.exporter.noise import Noise
from otel_apinalytics.exporter.relatives import MAX_CHILDREN, MAX_TOLD, MAX_WAIT_NS, MAX_WAITING
from otel_apinalytics.exporter.rendering import Rendering
from otel_apinalytics.exporter.spans import Views
from otel_apinalytics.normalize.mapping import NO_MAPPING
from otel_apinalytics.normalize.outcomes import STORED
from otel_apinalytics.normalize.python import normalize_spans
from otel_apinalytics.normalize.reading import Reader

CALL = {"http.request.method": "GET", "url.path": "/shop/7", "http.route": "/shop"}
INNER = {**CALL, "http.route": "/shop/{id}"}
SERVER, INTERNAL = SpanKind.SERVER, SpanKind.INTERNAL
# A span: its kind, its attributes, the spans within it.
Family = tuple[SpanKind, Mapping[str, Any], Sequence[Any]]


def rendering() -> Rendering:
    """Return one that leaves no noise out."""
    return Rendering(Reader(NO_MAPPING, None, None), Noise((), ()), client_spans=False)


def spans_of(*families: Family) -> list[ReadableSpan]:
    """Return the spans of families in the order in which they ended: parents come last."""
    memory = InMemorySpanExporter()
    resource = Resource({"service.name": "shop"})
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(memory))
    tracer = provider.get_tracer("tests")
    for family in families:
        _make(tracer, family)
    return list(memory.get_finished_spans())


def _make(tracer: Tracer, family: Family) -> None:
    kind, attributes, children = family
    with tracer.start_as_current_span("GET", kind=kind, attributes=dict(attributes)):
        for child in children:
            _make(tracer, child)


def events(
    ours: Rendering, spans: Sequence[ReadableSpan], now_ns: int | None = None, **options: Any
) -> list[dict[str, Any]]:
    """Return the events that a batch gives."""
    rendered = ours.events(spans, now_ns or time.time_ns(), **options)
    return [json.loads(one) for one in rendered if isinstance(one, str)]


def test_a_server_span_within_one_that_comes_later_is_no_call() -> None:
    """The outer one is, with what the inner one knows better; and each span has its fate."""
    inner, outer = spans_of((SERVER, CALL, [(SERVER, {**INNER, "enduser.id": "alice"}, [])]))
    ours = rendering()
    assert list(ours.events([inner], time.time_ns())) == []
    assert ours.waiting == 1
    fate, text = ours.events([outer], time.time_ns())
    assert fate is Fate.FILTERED
    assert isinstance(text, str)
    event = json.loads(text)
    assert (event["route"], event["consumer_id"]) == ("/shop/{id}", "alice")
    assert ours.waiting == 0


def test_what_a_span_within_said_in_an_earlier_batch() -> None:
    """Is the call's consumer, whichever spans came between; the next call has it not."""
    ours = rendering()
    child, call = spans_of((SERVER, CALL, [(INTERNAL, {"enduser.id": "alice"}, [])]))
    assert events(ours, [child]) == []
    (other,) = events(ours, spans_of((SERVER, CALL, [])))
    assert "consumer_id" not in other
    assert [event["consumer_id"] for event in events(ours, [call])] == ["alice"]
    assert "consumer_id" not in events(ours, [call])[0]


_TOLD: list[Mapping[str, Any]] = [
    {}, {"enduser.id": "a"}, {"enduser.id": "b"}, {"tenant.id": "c"},
]  # fmt: skip
_CALLED: list[Mapping[str, Any]] = [CALL, INNER, {"x": 1}, {**CALL, "enduser.id": "d"}]
_OWN = st.tuples(st.just(SERVER), st.sampled_from(_CALLED)) | st.tuples(
    st.just(INTERNAL), st.sampled_from(_TOLD)
)


def _around(children: st.SearchStrategy[Family]) -> st.SearchStrategy[Family]:
    return st.builds(lambda own, within: (*own, within), _OWN, st.lists(children, max_size=3))


_LEAVES: st.SearchStrategy[Family] = _OWN.map(lambda own: (*own, []))
_FAMILIES = st.lists(st.recursive(_LEAVES, _around, max_leaves=8), min_size=1, max_size=3)


@settings(deadline=None, max_examples=150)
@given(families=_FAMILIES, data=st.data())
def test_batches_make_no_difference(families: list[Family], data: st.DataObject) -> None:
    """However a program's spans are cut into batches, the events are those of the rules."""
    spans = spans_of(*families)
    ours, views = rendering(), Views()
    received_ns = time.time_ns()
    made = normalize_spans([views.of(span, span.context) for span in spans], received_ns)
    expected = {
        one.fields["span_id"].hex(): (one.fields["consumer_id"], one.fields["route"])
        for one in made
        if one.outcome == STORED and isinstance(one.fields["span_id"], bytes)
    }
    got = []
    for batch in _cut(spans, data):
        got += events(ours, batch, received_ns)
    # A parent of whatever kind has come by now: nobody waits at the end.
    assert ours.waiting == 0
    assert len(got) == len(expected)
    found = {e["span_id"]: (e.get("consumer_id", ""), e.get("route", "")) for e in got}
    assert found == expected


def _cut(spans: Sequence[ReadableSpan], data: st.DataObject) -> Iterator[Sequence[ReadableSpan]]:
    ends = data.draw(st.sets(st.integers(0, len(spans))))
    begin = 0
    for end in [*sorted(ends), len(spans)]:
        yield spans[begin:end]
        begin = end


def orphans(number: int) -> list[ReadableSpan]:
    """Return SERVER spans that say that their parent is in the same process; it never comes."""
    return [
        ReadableSpan(
            name="GET",
            context=SpanContext(1, 2 * n + 2, False),
            parent=SpanContext(1, 2 * n + 1, False),
            kind=SERVER,
            attributes=CALL,
            resource=Resource({}),
            start_time=1,
            end_time=2,
        )
        for n in range(number)
    ]


def test_the_wait_is_bounded_in_time() -> None:
    """A span whose parent never comes counts by itself, in the first batch after that."""
    ours, now_ns = rendering(), time.time_ns()
    assert events(ours, orphans(2), now_ns) == []
    assert events(ours, [], now_ns + MAX_WAIT_NS - 1) == []
    assert len(events(ours, [], now_ns + MAX_WAIT_NS)) == 2
    assert ours.waiting == 0


def test_the_wait_is_bounded_in_number() -> None:
    """The first ones need not wait any longer."""
    ours, many = rendering(), orphans(MAX_WAITING + 3)
    sent = events(ours, many)
    assert [event["span_id"] for event in sent] == [
        format(span.context.span_id, "016x") for span in many[:3]
    ]
    assert ours.waiting == MAX_WAITING


def test_nobody_waits_at_the_end() -> None:
    """What waits is sent with the last batch, and what comes in it."""
    ours, many = rendering(), orphans(5)
    assert events(ours, many[:3]) == []
    assert len(events(ours, many[3:], is_last=True)) == 5


def test_what_waits_is_the_parent_process_s() -> None:
    """A child that was forked off forgets it."""
    ours = rendering()
    child, call = spans_of((SERVER, CALL, [(INTERNAL, {"enduser.id": "alice"}, [])]))
    assert events(ours, [child, *orphans(3)]) == []
    ours.forget()
    assert ours.waiting == 0
    assert "consumer_id" not in events(ours, [call], is_last=True)[0]


@pytest.mark.parametrize(("others", "is_known"), [(MAX_TOLD - 1, True), (MAX_TOLD, False)])
def test_what_was_said_is_bounded(others: int, is_known: bool) -> None:
    """Spans without an end that say something to parents that are no calls cost no such memory."""
    ours = rendering()
    child, call = spans_of((SERVER, CALL, [(INTERNAL, {"enduser.id": "alice"}, [])]))
    assert events(ours, [child]) == []
    for number in range(others):
        context = SpanContext(7, 2 * number + 2, False)
        parent = SpanContext(7, 2 * number + 1, False)
        said = ReadableSpan(
            name="x", context=context, parent=parent, attributes={"enduser.id": "x"}
        )
        assert events(ours, [said]) == []
    (event,) = events(ours, [call])
    assert ("consumer_id" in event) is is_known


def test_children_are_bounded() -> None:
    """Of a call that lasts for long, what the first ones say is kept."""
    ours = rendering()
    saying: list[Family] = [(INTERNAL, {"enduser.id": f"u-{n}"}, []) for n in range(100)]
    *children, call = spans_of((SERVER, CALL, saying))
    for child in children:
        assert events(ours, [child]) == []
    assert [len(said) for said in ours._relatives._told.values()] == [MAX_CHILDREN]
    assert events(ours, [call])[0]["consumer_id"] == "u-0"
