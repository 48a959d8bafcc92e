# SPDX-License-Identifier: Apache-2.0
"""Conformance cases: read from a file, given as spans, and compared with events.

A file has one JSON object per line, a `Case`. What a span leaves out is as its structure says.
Cases share ids, so that the trace ids are made different before a case runs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias, cast

import msgspec
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span

from otel_apinalytics.catalogue import BY_NAME, INBOUND, OUTBOUND
from otel_apinalytics.normalize.mapping import Mapping as FieldMapping
from otel_apinalytics.normalize.mapping import MappingEntry
from otel_apinalytics.normalize.python import SpanView
from tests.support.otlp import Value, key_values

Scalar: TypeAlias = bool | int | float | str
Attributes: TypeAlias = dict[str, Scalar | list[Scalar]]
Event: TypeAlias = Mapping[str, Any]

START_NS = 1_700_000_000_000_000_000
ELAPSED_NS = 12_345_678
TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
SPAN_ID = "b9c7c989f97918e1"

_KINDS = ("UNSPECIFIED", "INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER")
_STATUSES = ("UNSET", "OK", "ERROR")
_MAPS = ("attributes", "metrics")
# Half a microsecond: the precision of times.
_TOLERANCE = 5e-7


class CaseFileError(Exception):
    """A file of cases that cannot be used; the message has file and line."""


class _Struct(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pass


class Scope(_Struct, frozen=True):
    """An instrumentation scope."""

    name: str = ""


class SpanEvent(_Struct, frozen=True):
    """An event within a span."""

    name: str
    attributes: Attributes = {}


class CaseSpan(_Struct, frozen=True):
    """A span as it is sent.

    Args:
        kind: Its name, or the OTLP number.
        span_id: Hexadecimal, of any length; by default each span of a case has one of its own.
        parent_span_id: Hexadecimal; empty for a root.
        flags: OTLP flags: 0x101 for a local parent, 0x301 for a remote one.
        resource: Where it is not the case's.
        scope: Where it is not the case's.
    """

    kind: Literal["UNSPECIFIED", "INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER"] | int = (
        "SERVER"
    )
    name: str = ""
    attributes: Attributes = {}
    trace_id: str = TRACE_ID
    span_id: str | None = None
    parent_span_id: str | None = None
    flags: int = 0
    trace_state: str = ""
    start_time_unix_nano: int = START_NS
    end_time_unix_nano: int | None = None
    status: Literal["UNSET", "OK", "ERROR"] = "UNSET"
    events: tuple[SpanEvent, ...] = ()
    resource: Attributes | None = None
    scope: Scope | None = None


class MappingLine(_Struct, frozen=True):
    """A line of the operator's mapping, named as in the settings file."""

    source: str = msgspec.field(name="from")
    target: str = msgspec.field(name="to")
    treatment: Literal["plain", "hash"] = msgspec.field(default="plain", name="as")


class CaseSettings(_Struct, frozen=True):
    """What the service is started with."""

    mapping: tuple[MappingLine, ...] = ()


class Expect(_Struct, frozen=True):
    """What must come out.

    Args:
        inbound: Number of inbound events; by default as many as `events` has.
        outbound: Number of outbound events; not looked at by default.
        events: Events in any order, each with the fields to look at. They are inbound unless they
            name another `direction`. A value is itself, null for missing, `{"any": [values]}`,
            `{"prefix": text}`, or `{"same": label}`: not missing, and equal wherever the label is.
        absent: Texts that occur nowhere in the events.
        rejected: Spans that the sender is told were rejected; not looked at by default.
    """

    inbound: int | None = None
    outbound: int | None = None
    events: tuple[dict[str, Any], ...] = ()
    absent: tuple[str, ...] = ()
    rejected: int | None = None


class Case(_Struct, frozen=True):
    """One case.

    Args:
        id: Its name, once per file.
        spans: What is sent, in one request.
        expect: What must come out.
        source: Where it comes from.
        resource: Attributes of the resource.
        scope: The instrumentation scope.
        settings: What the service is started with.
    """

    id: str
    spans: tuple[CaseSpan, ...]
    expect: Expect
    source: str = ""
    resource: Attributes = msgspec.field(default_factory=lambda: {"service.name": "svc"})
    scope: Scope = Scope()
    settings: CaseSettings = CaseSettings()


# ---- reading ----


def read_cases(path: Path) -> list[Case]:
    """Return the cases of a file, in order. Empty lines are passed over.

    Raises:
        CaseFileError: A line is not a case, or a second one with the same id.
    """
    cases: dict[str, Case] = {}
    try:
        lines = path.read_text("utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise CaseFileError(f"{path}: {error}") from error
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            case = _read_case(line)
        except ValueError as error:
            raise CaseFileError(f"{path}, line {number}: {error}") from error
        if case.id in cases:
            raise CaseFileError(f"{path}, line {number}: a second case with the id {case.id!r}")
        cases[case.id] = case
    return list(cases.values())


def _read_case(line: str) -> Case:
    case = msgspec.json.decode(line, type=Case)
    for number, span in enumerate(case.spans):
        for field in ("trace_id", "span_id", "parent_span_id"):
            _check_hexadecimal(f"spans[{number}].{field}", getattr(span, field) or "")
    for number, event in enumerate(case.expect.events):
        for name, value in event.items():
            _check_expected(f"expect.events[{number}].{name}", name, value)
    return case


def _check_hexadecimal(where: str, text: str) -> None:
    try:
        bytes.fromhex(text)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error


def _check_expected(where: str, name: str, value: Any) -> None:
    field, _, rest = name.partition(".")
    known = field in _MAPS if rest else name in BY_NAME and not BY_NAME[name].virtual
    if not known:
        raise ValueError(f"{where}: an event has no such field")
    if name == "trace_id" and isinstance(value, str):
        _check_hexadecimal(where, value)
    if name == "direction" and value not in (INBOUND, OUTBOUND):
        raise ValueError(f"{where}: must be {INBOUND} or {OUTBOUND}")
    if isinstance(value, list):
        raise ValueError(f"{where}: a list; one of several values is {{'any': [values]}}")
    if isinstance(value, dict) and name not in _MAPS and _operator(value) is None:
        raise ValueError(f"{where}: not one of {{'any': …}}, {{'prefix': …}}, {{'same': …}}")


# ---- giving ----


def unique_trace_id(case: Case, trace_id: str) -> bytes:
    """Return a trace id as it is sent: a valid one is this case's own, others stay as they are."""
    data = bytes.fromhex(trace_id)
    if len(data) != 16 or not any(data):
        return data
    mask = hashlib.sha256(case.id.encode()).digest()
    return bytes(a ^ b for a, b in zip(data, mask, strict=False))


def trace_ids(case: Case) -> set[str]:
    """Return the trace ids by which the events of a case are found, in hexadecimal."""
    return {unique_trace_id(case, span.trace_id).hex() for span in case.spans}


def span_views(case: Case) -> list[SpanView]:
    """Return the spans as the rules read them."""
    return [_span_view(case, number, span) for number, span in enumerate(case.spans)]


def export_request(case: Case) -> bytes:
    """Return the OTLP request with all spans of a case, in order."""
    request = ExportTraceServiceRequest()
    previous: CaseSpan | None = None
    for number, span in enumerate(case.spans):
        resource, scope = _resource(case, span), _scope(case, span)
        same_resource = previous is not None and _resource(case, previous) == resource
        if not same_resource:
            resource_spans = ResourceSpans()
            resource_spans.resource.attributes.extend(_key_values(resource))
            request.resource_spans.append(resource_spans)
        if not same_resource or previous is None or _scope(case, previous) != scope:
            scope_spans = ScopeSpans()
            scope_spans.scope.name = scope.name
            request.resource_spans[-1].scope_spans.append(scope_spans)
        sent = _otlp_span(_span_view(case, number, span))
        request.resource_spans[-1].scope_spans[-1].spans.append(sent)
        previous = span
    return request.SerializeToString()


def field_mapping(settings: CaseSettings) -> FieldMapping:
    """Return the operator's mapping as the rules take it."""
    return FieldMapping(
        tuple(MappingEntry(line.source, line.target, line.treatment) for line in settings.mapping)
    )


def _resource(case: Case, span: CaseSpan) -> Attributes:
    return case.resource if span.resource is None else span.resource


def _scope(case: Case, span: CaseSpan) -> Scope:
    return case.scope if span.scope is None else span.scope


def _span_view(case: Case, number: int, span: CaseSpan) -> SpanView:
    end_ns = span.end_time_unix_nano
    return SpanView(
        trace_id=unique_trace_id(case, span.trace_id),
        span_id=_span_id(number) if span.span_id is None else bytes.fromhex(span.span_id),
        parent_span_id=bytes.fromhex(span.parent_span_id or ""),
        name=span.name,
        kind=span.kind if isinstance(span.kind, int) else _KINDS.index(span.kind),
        start_ns=span.start_time_unix_nano,
        end_ns=span.start_time_unix_nano + ELAPSED_NS if end_ns is None else end_ns,
        status=_STATUSES.index(span.status),
        attributes=span.attributes,
        resource=_resource(case, span),
        scope=_scope(case, span).name,
        flags=span.flags,
        trace_state=span.trace_state,
        events=[(event.name, event.attributes) for event in span.events],
    )


def _span_id(number: int) -> bytes:
    return (int(SPAN_ID, 16) + number).to_bytes(8, "big")


def _otlp_span(view: SpanView) -> Span:
    span = Span(
        trace_id=view.trace_id,
        span_id=view.span_id,
        parent_span_id=view.parent_span_id,
        name=view.name,
        # Any number: a receiver must take those that it does not know.
        kind=view.kind,  # type: ignore[arg-type]
        start_time_unix_nano=view.start_ns,
        end_time_unix_nano=view.end_ns,
        attributes=_key_values(view.attributes),
        flags=view.flags,
        trace_state=view.trace_state,
    )
    span.status.code = view.status  # type: ignore[assignment]
    for name, attributes in view.events:
        span.events.add(name=name, time_unix_nano=view.start_ns, attributes=_key_values(attributes))
    return span


def _key_values(attributes: Mapping[str, Scalar | Sequence[Scalar]]) -> list[KeyValue]:
    return key_values(cast("Mapping[str, Value]", attributes))


# ---- comparing ----


def differences(case: Case, events: Sequence[Event], rejected: int) -> list[str]:
    """Return what is not as expected, a line for each difference.

    Args:
        case: The case.
        events: All events that its spans became, in the form of the raw read-out.
        rejected: Spans that the sender was told were rejected.
    """
    expect = case.expect
    sides = {side: [e for e in events if e["direction"] == side] for side in (INBOUND, OUTBOUND)}
    wanted: dict[str, list[dict[str, Any]]] = {INBOUND: [], OUTBOUND: []}
    for event in expect.events:
        wanted[event.get("direction", INBOUND)].append(_with_ids_as_sent(case, event))
    inbound = len(wanted[INBOUND]) if expect.inbound is None else expect.inbound
    return [
        *_count_difference("inbound events", inbound, len(sides[INBOUND])),
        *_count_difference("outbound events", expect.outbound, len(sides[OUTBOUND])),
        *_count_difference("rejected spans", expect.rejected, rejected),
        *_event_differences(wanted[INBOUND], sides[INBOUND]),
        *(f"outbound {line}" for line in _event_differences(wanted[OUTBOUND], sides[OUTBOUND])),
        *_present(expect.absent, events),
    ]


def _with_ids_as_sent(case: Case, event: dict[str, Any]) -> dict[str, Any]:
    if not isinstance(event.get("trace_id"), str):
        return event
    return {**event, "trace_id": unique_trace_id(case, event["trace_id"]).hex()}


def _count_difference(what: str, expected: int | None, got: int) -> list[str]:
    if expected is None or expected == got:
        return []
    return [f"{what}: expected {expected}, got {got}"]


def _event_differences(wanted: Sequence[Event], got: Sequence[Event]) -> list[str]:
    found = []
    pairs = _pairs(wanted, got)
    for number, event in enumerate(wanted):
        if number not in pairs:
            found.append(f"event {number}: there is none")
            continue
        found += [f"event {number}: {d}" for d in _field_differences(event, got[pairs[number]])]
    return found + _unequal(wanted, got, pairs)


def _pairs(wanted: Sequence[Event], got: Sequence[Event]) -> dict[int, int]:
    """Return which event is taken for which expectation: as many as can be that agree in full.

    The others get what is left that is nearest, so that the differences can be read.
    """
    distance = [[len(_field_differences(event, other)) for other in got] for event in wanted]
    holders: dict[int, int] = {}

    def place(number: int, tried: set[int]) -> bool:
        for index, different in enumerate(distance[number]):
            if different or index in tried:
                continue
            tried.add(index)
            if index not in holders or place(holders[index], tried):
                holders[index] = number
                return True
        return False

    left = [number for number in range(len(wanted)) if not place(number, set())]
    for number in left:
        free = [index for index in range(len(got)) if index not in holders]
        if free:
            holders[min(free, key=distance[number].__getitem__)] = number
    return {number: index for index, number in holders.items()}


def _field_differences(wanted: Event, got: Event) -> list[str]:
    return [
        f"{name}: expected {_shown(value)}, got {_shown(_field(got, name))}"
        for name, value in wanted.items()
        if not _agrees(value, _field(got, name))
    ]


def _field(event: Event, name: str) -> Any:
    field, _, key = name.partition(".")
    return (event.get(field) or {}).get(key) if key else event.get(field)


def _agrees(expected: Any, got: Any) -> bool:
    match _operator(expected):
        case "any", values:
            return any(_agrees(value, got) for value in values)
        case "prefix", prefix:
            return isinstance(got, str) and got.startswith(prefix)
        case "same", _:
            return not _is_missing(got)
    if _is_missing(expected) or _is_missing(got):
        return _is_missing(expected) and _is_missing(got)
    # In Python, true is 1.
    if isinstance(expected, bool) or isinstance(got, bool):
        return expected is got
    if isinstance(expected, (int, float)) and isinstance(got, (int, float)):
        return abs(expected - got) <= _TOLERANCE
    return bool(expected == got)


def _is_missing(value: Any) -> bool:
    return value is None or value in ("", {})


def _operator(expected: Any) -> tuple[str, Any] | None:
    if isinstance(expected, dict) and len(expected) == 1:
        (pair,) = expected.items()
        if pair[0] in ("any", "prefix", "same"):
            return pair
    return None


def _unequal(wanted: Sequence[Event], got: Sequence[Event], pairs: Mapping[int, int]) -> list[str]:
    values: dict[str, set[str]] = {}
    for number, index in pairs.items():
        for name, value in wanted[number].items():
            match _operator(value):
                case "same", label:
                    values.setdefault(label, set()).add(_shown(_field(got[index], name)))
    return [
        f"same {label!r}: got {', '.join(sorted(different))}"
        for label, different in values.items()
        if len(different) > 1
    ]


def _present(absent: Sequence[str], events: Sequence[Event]) -> list[str]:
    return [
        f"event {number}: {name}: contains {text!r}"
        for text in absent
        for number, event in enumerate(events)
        for name, value in event.items()
        if any(text in found for found in _texts(value))
    ]


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield str(key)
            yield from _texts(item)
    else:
        yield str(value)


def _shown(value: Any) -> str:
    return msgspec.json.encode(value).decode()
