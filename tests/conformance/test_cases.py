# SPDX-License-Identifier: Apache-2.0
"""The harness of the conformance cases: what is wrong is seen, in the file and in the events."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.conformance.run import main
from tests.support.cases import (
    Case,
    CaseFileError,
    differences,
    export_request,
    read_cases,
    span_views,
    trace_ids,
)

SPANS = [{"name": "a"}, {"name": "b", "kind": 3, "parent_span_id": "b9c7c989f97918e1"}]


def make_case(path: Path, expect: dict[str, Any], spans: Any = SPANS, **more: Any) -> Case:
    """Return a case as it is read from a file."""
    file = path / "cases.jsonl"
    file.write_text(json.dumps({"id": "C", "spans": spans, "expect": expect, **more}), "utf-8")
    (case,) = read_cases(file)
    return case


def event(**fields: Any) -> dict[str, Any]:
    """Return an event as the raw read-out gives it, as far as the harness needs it."""
    return {"direction": "inbound", **fields}


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{", "truncated"),
        ('{"id": "B", "spans": []}', "`expect`"),
        ('{"id": "B", "spans": [{"kind": "server"}], "expect": {}}', "$.spans[0].kind"),
        ('{"id": "B", "spans": [{"trace_id": "xy"}], "expect": {}}', "spans[0].trace_id"),
        ('{"id": "B", "spans": [], "expect": {"event": []}}', "`event`"),
        ('{"id": "B", "spans": [], "expect": {"events": [{"rout": "/"}]}}', "events[0].rout"),
        ('{"id": "B", "spans": [], "expect": {"events": [{"url": ["/"]}]}}', "events[0].url"),
        ('{"id": "B", "spans": [], "expect": {"events": [{"url": {"is": 1}}]}}', "events[0].url"),
        ('{"id": "B", "spans": [], "expect": {"events": [{"trace_id": "x"}]}}', "trace_id"),
        ('{"id": "B", "spans": [], "expect": {"events": [{"direction": "in"}]}}', "direction"),
        ('{"id": "A", "spans": [], "expect": {}}', "second case"),
    ],
)
def test_a_malformed_case_is_named_by_its_line(
    tmp_path: Path, line: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The reader says file and line, and what is wrong; the command ends with 2."""
    file = tmp_path / "cases.jsonl"
    file.write_text('{"id": "A", "spans": [], "expect": {}}\n\n' + line, "utf-8")
    with pytest.raises(CaseFileError) as raised:
        read_cases(file)
    assert f"{file}, line 3: " in str(raised.value)
    assert words in str(raised.value)
    assert main([str(file)]) == 2
    assert "line 3" in capsys.readouterr().err


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    """Its name is in the message."""
    with pytest.raises(CaseFileError, match=r"no\.jsonl"):
        read_cases(tmp_path / "no.jsonl")


def test_spans_and_request_are_the_same(tmp_path: Path) -> None:
    """Ids, relations and defaults are equal in both; resources and scopes are kept apart."""
    spans = [*SPANS, {"name": "c", "resource": {"service.name": "other"}}, {"scope": {"name": "s"}}]
    case = make_case(tmp_path, {}, spans)
    views = span_views(case)
    request = ExportTraceServiceRequest.FromString(export_request(case))
    sent = [
        (span, scope.scope.name, resource.resource.attributes[0].value.string_value)
        for resource in request.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]
    assert [(s.trace_id, s.span_id, s.parent_span_id, s.kind, s.name) for s, *_ in sent] == [
        (v.trace_id, v.span_id, v.parent_span_id, v.kind, v.name) for v in views
    ]
    assert [(scope, service) for _, scope, service in sent] == [
        ("", "svc"),
        ("", "svc"),
        ("", "other"),
        ("s", "svc"),
    ]
    assert len({view.span_id for view in views}) == 4
    assert views[1].parent_span_id == views[0].span_id
    assert views[0].start_ns == 1_700_000_000_000_000_000
    assert views[0].end_ns == 1_700_000_000_012_345_678


def test_trace_ids_are_a_cases_own_and_invalid_ones_stay(tmp_path: Path) -> None:
    """Spans of a trace stay together; what is invalid is sent as it is."""
    spans = [{}, {}, {"trace_id": "00" * 16}, {"trace_id": "0af7"}, {"trace_id": "11" * 16}]
    one, other = make_case(tmp_path, {}, spans), make_case(tmp_path, {}, spans, id="D")
    ids = [view.trace_id for view in span_views(one)]
    assert ids[0] == ids[1] != ids[4]
    assert ids[2:4] == [bytes(16), b"\x0a\xf7"]
    assert {"00" * 16, "0af7"} == trace_ids(one) & trace_ids(other)


@pytest.mark.parametrize(
    ("expected", "got", "agree"),
    [
        (None, None, True),
        (None, "", True),
        (None, {}, True),
        (None, 0, False),
        (None, False, False),
        ("", None, True),
        ("a", "a", True),
        ("a", "b", False),
        ("a", None, False),
        (1, 1.0, True),
        (1, True, False),
        (0, False, False),
        (True, 1, False),
        (True, True, True),
        (1_700_000_000.25, 1_700_000_000.25, True),
        (1_700_000_000.25, 1_700_000_000.250001, False),
        (200, "200", False),
        ({"any": [None, "x"]}, "", True),
        ({"any": ["x", "y"]}, "y", True),
        ({"any": ["x", "y"]}, "z", False),
        ({"any": ["x", {"prefix": "ip_"}]}, "ip_1", True),
        ({"prefix": "ip_"}, "ip_1", True),
        ({"prefix": "ip_"}, "xip_1", False),
        ({"prefix": "ip_"}, None, False),
        ({"same": "x"}, "anything", True),
        ({"same": "x"}, None, False),
    ],
)
def test_values(tmp_path: Path, expected: Any, got: Any, agree: bool) -> None:
    """A value, one of several, a beginning, or missing."""
    case = make_case(tmp_path, {"events": [{"url": expected}]})
    found = differences(case, [event(url=got)], 0)
    assert found == ([] if agree else found)
    assert bool(found) is not agree
    assert all(line.startswith("event 0: url: expected ") for line in found)


def test_events_in_any_order_are_paired(tmp_path: Path) -> None:
    """A loose expectation leaves the event that a stricter one needs."""
    case = make_case(tmp_path, {"events": [{"route": "/a"}, {"route": "/a", "status_code": 500}]})
    failed, passed = event(route="/a", status_code=500), event(route="/a", status_code=200)
    assert differences(case, [failed, passed], 0) == []
    assert differences(case, [passed, failed], 0) == []
    assert differences(case, [passed, passed], 0) == ["event 1: status_code: expected 500, got 200"]


def test_counts(tmp_path: Path) -> None:
    """Too many and too few events, of both directions, and rejected spans."""
    expect = {"inbound": 1, "outbound": 0, "rejected": 1, "events": [{"route": "/a"}]}
    case = make_case(tmp_path, expect)
    outbound = {"direction": "outbound", "route": "/a"}
    assert differences(case, [event(route="/a"), event(route="/b"), outbound], 0) == [
        "inbound events: expected 1, got 2",
        "outbound events: expected 0, got 1",
        "rejected spans: expected 1, got 0",
    ]
    assert differences(case, [], 1) == [
        "inbound events: expected 1, got 0",
        "event 0: there is none",
    ]


def test_outbound_events_are_named_as_such(tmp_path: Path) -> None:
    """An inbound event does not stand for an outbound one."""
    case = make_case(tmp_path, {"events": [{"direction": "outbound", "route": "/a"}]})
    assert differences(case, [{"direction": "outbound", "route": "/a"}], 0) == []
    assert differences(case, [event(route="/a")], 0) == [
        "inbound events: expected 0, got 1",
        "outbound event 0: there is none",
    ]


def test_maps(tmp_path: Path) -> None:
    """One entry, or the map as a whole."""
    expect = {"events": [{"attributes.a": "1", "metrics.b": None, "attributes": {"a": "1"}}]}
    case = make_case(tmp_path, expect)
    assert differences(case, [event(attributes={"a": "1"}, metrics={})], 0) == []
    assert len(differences(case, [event(attributes={"a": "2"}, metrics={"b": 1})], 0)) == 3


def test_same_values_differ(tmp_path: Path) -> None:
    """All fields of a label are equal, or all their values are shown."""
    expect = {"events": [{"url": {"same": "x"}, "span_id": s} for s in ("01", "02")]}
    case = make_case(tmp_path, expect)
    assert (
        differences(case, [event(url=u, span_id=s) for u, s in (("a", "01"), ("a", "02"))], 0) == []
    )
    assert differences(
        case, [event(url=u, span_id=s) for u, s in (("a", "01"), ("b", "02"))], 0
    ) == ["""same 'x': got "a", "b\""""]


def test_what_must_be_absent_is_found_anywhere(tmp_path: Path) -> None:
    """Also within longer text, in maps and in events that nothing was said about."""
    case = make_case(tmp_path, {"inbound": 2, "absent": ["s3cret", 'q"uote']})
    events = [event(url="/?x=s3cret", attributes={"s3cret-key": 'a q"uote'}), event(route="s3")]
    assert differences(case, events, 0) == [
        "event 0: url: contains 's3cret'",
        "event 0: attributes: contains 's3cret'",
        "event 0: attributes: contains 'q\"uote'",
    ]


def test_ids_are_expected_as_they_are_in_the_file(tmp_path: Path) -> None:
    """The trace id that is sent differs, and the expectation follows it."""
    case = make_case(tmp_path, {"events": [{"trace_id": "0af7651916cd43dd8448eb211c80319c"}]})
    (sent,) = trace_ids(case)
    assert sent != "0af7651916cd43dd8448eb211c80319c"
    assert differences(case, [event(trace_id=sent)], 0) == []
