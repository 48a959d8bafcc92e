# SPDX-License-Identifier: Apache-2.0
"""Tests of rendering: the moulds give what the rules give, and the door takes it."""

from __future__ import annotations

import base64
import gc
import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceState

from otel_apinalytics.catalogue import BY_NAME, INBOUND, MAX_INTEGER
from otel_apinalytics.exporter.counters import Fate
from otel_apinalytics.exporter.events import bodies, body_of
from otel_apinalytics.exporter.noise import EXCLUDED_PATHS, EXCLUDED_USER_AGENTS, Noise
from otel_apinalytics.exporter.rendering import _MAX_MOULDS, Rendering
from otel_apinalytics.exporter.spans import Views
from otel_apinalytics.normalize import call, rules
from otel_apinalytics.normalize.lookup import look_up
from otel_apinalytics.normalize.mapping import NO_MAPPING
from otel_apinalytics.normalize.mapping import Mapping as FieldMapping
from otel_apinalytics.normalize.outcomes import STORED
from otel_apinalytics.normalize.python import Normalized, SpanView, normalize
from otel_apinalytics.normalize.reading import Part, Reader
from otel_apinalytics.receiver.events_json import encode_valid_events
from tests.engine_fixtures import APPLICATION, HASH_KEY
from tests.support.sdk_spans import calls, served
from tests.unit.normalize.strategies import MAPPING, RECEIVED_NS, mappings, spans

_ALL_KINDS = st.sampled_from([rules.KIND_SERVER, rules.KIND_SERVER, rules.KIND_CLIENT, 1])
_PHASES = (Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink)


def rendering(mapping: FieldMapping = NO_MAPPING, **options: Any) -> Rendering:
    """Return a rendering that leaves no noise out."""
    noise = options.pop("noise", Noise((), ()))
    reader = Reader(mapping, HASH_KEY, APPLICATION)
    return Rendering(reader, noise, **{"client_spans": True, **options})


def expected(made: Normalized) -> dict[str, Any]:
    """Return the JSON of an event as the fields say it, without what is taken for granted."""
    event: dict[str, Any] = {}
    for name, value in made.fields.items():
        is_huge = isinstance(value, int) and name != "timestamp" and value > MAX_INTEGER
        if value is None or value is False or value in ("", b"", {}) or is_huge:
            continue
        if isinstance(value, str):
            value = value[: BY_NAME[name].maximum]
        event[name] = value.hex() if isinstance(value, bytes) else value
    event["timestamp"] = made.fields["timestamp"]
    if event["direction"] == INBOUND:
        del event["direction"]
    if event["weight"] == 1:
        del event["weight"]
    return event


def as_sent(text: str) -> dict[str, Any]:
    """Return an event as it was written, with its time in microseconds."""
    event: dict[str, Any] = json.loads(text)
    # Its place in the store, which is no field.
    del event["span_service"], event["span_name"]
    return {**event, "timestamp": round(event["timestamp"] * 1_000_000)}


def assert_same(rendered: Sequence[str | Fate], made: Iterable[Normalized]) -> None:
    """Demand the events that the rules make, in their order, and of each other span a reason."""
    all_made = list(made)
    stored = [expected(one) for one in all_made if one.outcome == STORED]
    assert [as_sent(one) for one in rendered if isinstance(one, str)] == stored
    assert rendered.count(Fate.FILTERED) == len(all_made) - len(stored)


_SDK_KINDS = {
    rules.KIND_SERVER: SpanKind.SERVER,
    rules.KIND_CLIENT: SpanKind.CLIENT,
    rules.KIND_INTERNAL: SpanKind.INTERNAL,
}


def as_sdk(span: SpanView, resource: Resource) -> ReadableSpan:
    """Return the span of the SDK that a view could be of."""
    trace_id, parent_id = int.from_bytes(span.trace_id, "big"), span.parent_span_id
    is_remote = bool(span.flags & rules.FLAGS_PARENT_REMOTE)
    state = TraceState.from_header([span.trace_state]) if span.trace_state else None
    parent = SpanContext(trace_id, int.from_bytes(parent_id, "big"), is_remote)
    return ReadableSpan(
        name=span.name,
        context=SpanContext(
            trace_id, int.from_bytes(span.span_id[:8], "big"), False, trace_state=state
        ),
        parent=parent if parent_id else None,
        resource=resource,
        attributes=dict(span.attributes),
        events=[Event(name, dict(attributes)) for name, attributes in span.events],
        kind=_SDK_KINDS[span.kind],
        status=Status(StatusCode(span.status) if span.status in (0, 1, 2) else StatusCode.UNSET),
        start_time=span.start_ns,
        end_time=span.end_ns,
        instrumentation_scope=InstrumentationScope(span.scope),
    )


@st.composite
def batches(draw: st.DrawFn) -> list[ReadableSpan]:
    """Give spans of which some differ only in what calls of one kind differ in."""
    made: list[ReadableSpan] = []
    reader = Reader(NO_MAPPING, None, None)
    for span in draw(st.lists(spans, min_size=1, max_size=4)):
        resource = Resource(dict(span.resource))
        parent = span.parent_span_id if len(span.parent_span_id) == 8 else b""
        first = replace(span, kind=draw(_ALL_KINDS), parent_span_id=parent)
        made.append(as_sdk(first, resource))
        common = reader.parted(first.attributes)[Part.COMMON][::2]
        kept = {name: value for name, value in first.attributes.items() if name in common}
        for other in draw(st.lists(spans, max_size=2)):
            own = {
                name: value
                for name, value in other.attributes.items()
                if name not in reader.parted(other.attributes)[Part.COMMON][::2]
            }
            again = replace(first, span_id=other.span_id, attributes={**kept, **own})
            made.append(as_sdk(again, resource))
    return made


@settings(deadline=None, max_examples=100, phases=_PHASES)
@given(batch=batches(), mapping=mappings)
def test_moulds_change_nothing(batch: list[ReadableSpan], mapping: FieldMapping) -> None:
    """Whatever spans hold, the events are those that the rules make of them, each time."""
    ours = rendering(mapping)
    reader = Reader(mapping, HASH_KEY, APPLICATION)
    views = Views()
    seen = [views.of(span, span.context) for span in batch]
    for _ in range(2):
        rendered = list(ours.events(batch, RECEIVED_NS, is_last=True))
        assert_same(rendered, normalize(seen, RECEIVED_NS, reader))


_ATTRIBUTES = sorted({e.attribute for t in look_up(MAPPING) for e in t.entries if e.of_span})
_BASES: tuple[Mapping[str, Any], ...] = (
    {"http.request.method": "GET", "http.route": "/users/{id}", "url.path": "/users/7"},
    {"http.method": "GET", "http.status_code": 404, "http.target": "/v2/x?api-version=3"},
    {"rpc.system": "grpc", "rpc.service": "shop.Shop", "rpc.method": "Get"},
)
_VALUES = (
    "alice", "wss://u@h.example:81/v1/p?token=q", "7", "192.0.2.7", "curl/8.1 x", "/v3/9", "*",
    "true", "sk_live_0123456789", "/users/7",
)  # fmt: skip


@pytest.mark.parametrize("kind", [SpanKind.SERVER, SpanKind.CLIENT])
@pytest.mark.parametrize("base", _BASES, ids=lambda base: next(iter(base)))
def test_each_attribute_counts(base: Mapping[str, Any], kind: SpanKind) -> None:
    """Whatever one attribute is set to, after another call of the kind that did not have it."""
    ours, views = rendering(MAPPING), Views()
    reader = Reader(MAPPING, HASH_KEY, APPLICATION)
    resource = Resource({"service.name": "shop"})
    batch = [
        ReadableSpan(
            name="GET",
            context=SpanContext(1, number + 1, False),
            resource=resource,
            attributes={**base, **changed},
            kind=kind,
            start_time=1,
            end_time=2,
        )
        for number, changed in enumerate(
            [{}, *({name: value} for name in _ATTRIBUTES for value in _VALUES), {}]
        )
    ]
    seen = [views.of(span, span.context) for span in batch]
    rendered = list(ours.events(batch, RECEIVED_NS, is_last=True))
    assert_same(rendered, normalize(seen, RECEIVED_NS, reader))


@settings(deadline=None, max_examples=40, phases=_PHASES)
@given(batch=batches(), mapping=mappings)
def test_the_door_takes_every_event(batch: list[ReadableSpan], mapping: FieldMapping) -> None:
    """Whatever spans hold."""
    rendered = rendering(mapping).events(batch, RECEIVED_NS, is_last=True)
    events = [one for one in rendered if isinstance(one, str)]
    taken = encode_valid_events(body_of(events))
    assert [str(error) for error in taken.refused] == []
    assert taken.count == len(events)
    assert taken.have_ids


_BASIC = "Basic " + base64.b64encode(b"user:s3cret").decode()
_SECRETS: tuple[Mapping[str, Any], ...] = (
    {"http.request.header.authorization": [_BASIC]},
    {"http.request.header.x_api_key": ["s3cret"]},
    {"url.query": "page=1&token=s3cret"},
    {"url.path": "/reset/ghp_s3cret0123456789abcd"},
    {"url.full": "https://user:s3cret@api.example.com/users/7"},
    {"enduser.id": "eyJhbGci.s3cret.c2ln"},
    {"apinalytics.function": "reset?token=s3cret"},
)


@pytest.mark.parametrize("hash_key", [HASH_KEY, None], ids=["with a hash key", "without"])
@pytest.mark.parametrize("secret", _SECRETS, ids=lambda secret: next(iter(secret)))
def test_a_secret_is_neither_sent_nor_kept(
    secret: Mapping[str, Any], hash_key: bytes | None
) -> None:
    """Of calls that follow each other; what they were made of is not remembered."""
    ours = Rendering(Reader(NO_MAPPING, hash_key, None), Noise((), ()), client_spans=True)
    batch = served([secret, secret, {}, secret])
    events = [json.loads(str(one)) for one in ours.events(batch, time.time_ns())]
    assert len(events) == 4
    assert "s3cret" not in repr(events)
    kept = [ours._pieces, *((key, mould.found, mould.text) for key, mould in ours._moulds.items())]
    assert "s3cret" not in repr(kept)
    assert "s3cret" not in repr(gc.get_referents(call._known_label))


def test_a_secret_in_a_name_is_neither_sent_nor_kept() -> None:
    """Some name their spans by the whole target; other parts of the name stay."""
    (span,) = calls(1)
    ours = rendering()
    for _ in range(2):
        span._name = "GET /users/7?page=1&token=s3cret"
        (text,) = ours.events([span], time.time_ns())
        assert json.loads(str(text))["span_name"] == "GET /users/7?page=1&token=REDACTED"
    assert "s3cret" not in repr((ours._pieces, list(ours._moulds)))


def only(ours: Rendering, attributes: Mapping[str, Any], **span: Any) -> Any:
    """Return what becomes of one call."""
    (one,) = ours.events(served([attributes], **span), time.time_ns())
    return json.loads(one) if isinstance(one, str) else one


def test_noise_is_left_out_of_what_is_served() -> None:
    """But not of the calls that the program makes."""
    ours = rendering(noise=Noise(EXCLUDED_PATHS, EXCLUDED_USER_AGENTS))
    now = {"url.path": "/healthz"}
    for _ in range(2):
        assert only(ours, now) is Fate.EXCLUDED
        assert only(ours, {"user_agent.original": "kube-probe/1"}) is Fate.EXCLUDED
        assert only(ours, {**now, "http.route": ""}) is Fate.EXCLUDED
        assert only(ours, now, kind=SpanKind.CLIENT)["direction"] == "outbound"


def test_client_spans_are_sent_if_asked_for() -> None:
    """By default they are not."""
    ours = rendering(client_spans=False)
    assert only(ours, {}, kind=SpanKind.CLIENT) is Fate.FILTERED
    assert only(ours, {})["method"] == "GET"


@pytest.mark.parametrize("kind", [SpanKind.INTERNAL, SpanKind.PRODUCER, SpanKind.CONSUMER])
def test_other_spans_are_no_events(kind: SpanKind) -> None:
    """Whatever attributes they have."""
    assert only(rendering(), {}, kind=kind) is Fate.FILTERED


def test_resources_are_told_apart() -> None:
    """Calls of the same kind, of services that follow each other."""
    ours = rendering()
    for number in range(100):
        assert only(ours, {}, resource={"service.name": f"s{number}"})["service"] == f"s{number}"


@pytest.mark.parametrize("text", ["\ud800", "a\udfffb", "é😀"])
def test_text_without_an_encoding_is_marked(text: str) -> None:
    """Half of a surrogate pair costs no event."""
    event = only(rendering(), {"apinalytics.consumer.id": text})
    assert event["consumer_id"] == text.encode("utf-8", "replace").decode()


def test_attributes_of_other_types_are_passed_over() -> None:
    """The SDK takes bytes, mappings and None as well."""
    odd = {"enduser.id": b"x", "user.id": {"a": 1}, "client.id": [None], "tenant.id": "acme"}
    event = only(rendering(), odd)
    assert event["consumer_id"] == "acme"


def test_moulds_are_bounded() -> None:
    """Routes without an end cost no memory without an end."""
    ours = rendering()
    many = [{"http.route": f"/{number}"} for number in range(3 * _MAX_MOULDS)]
    assert sum(isinstance(one, str) for one in ours.events(served(many), time.time_ns())) == len(
        many
    )
    assert len(ours._moulds) <= _MAX_MOULDS


def test_a_span_that_is_still_open_costs_nothing() -> None:
    """Its end is unknown, and so is how long it took."""
    (span,) = calls(1)
    span._end_time = None
    (event,) = rendering().events([span], time.time_ns())
    assert isinstance(event, str)
    assert "response_us" not in json.loads(event)


def _sizes(groups: Sequence[Sequence[str]]) -> list[int]:
    return [len(group) for group in groups]


def test_bodies_are_bounded() -> None:
    """In bytes and in events; what is larger by itself goes alone."""
    assert _sizes(list(bodies([]))) == []
    assert _sizes(list(bodies(["{}"] * 20_000))) == [8192, 8192, 3616]
    large = "x" * (1 << 20)
    assert _sizes(list(bodies([large, large, large, 3 * large, "{}"]))) == [1, 1, 1, 1, 1]
    assert _sizes(list(bodies([large, "{}", "{}"]))) == [3]
