# SPDX-License-Identifier: Apache-2.0
"""Conformance end to end: OTLP/gRPC into a running service, and back out of the raw read-out."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from tests.conformance.outcomes import Groups, Outcome, assert_conforms
from tests.support.cases import Case, CaseSettings, Event, export_request, trace_ids
from tests.support.clients import Client
from tests.support.otlp import make_request, make_span
from tests.support.service_process import service_process
from tests.support.waiting import wait_for


@pytest.fixture(scope="module")
def groups(cases: Sequence[Case], tmp_path_factory: pytest.TempPathFactory) -> Groups:
    """Run the cases, those of the same settings in one service."""

    def run(settings: CaseSettings, group: Sequence[Case]) -> Mapping[str, Outcome]:
        directory = tmp_path_factory.mktemp("service")
        config = directory / "apinalytics.toml"
        config.write_text(_settings_file(settings), "utf-8")
        with service_process(directory / "data", None, config) as service:
            return _run(service.client, group)

    return Groups(cases, run)


def test_service_conforms(case: Case, groups: Groups) -> None:
    """What the service keeps of the spans, and answers to their sender, is what is expected."""
    assert_conforms(case, groups.outcome(case))


def _run(client: Client, group: Sequence[Case]) -> dict[str, Outcome]:
    answers = {case.id: _send(client, case) for case in group}
    # What is sent first is stored first. An event may show while the rest of its load does not
    # yet, but no longer when one of a later load does.
    for _ in range(2):
        _send_mark(client)
    by_trace: dict[str, list[Event]] = {}
    for event in client.raw_events():
        by_trace.setdefault(event["trace_id"], []).append(event)
    return {
        case.id: replace(
            answers[case.id],
            events=[event for trace in trace_ids(case) for event in by_trace.get(trace, ())],
        )
        for case in group
    }


def _send(client: Client, case: Case) -> Outcome:
    try:
        body = client.export(export_request(case))
    except grpc.RpcError as error:
        return Outcome(refused=str(error))
    rejected = ExportTraceServiceResponse.FromString(body).partial_success.rejected_spans
    return Outcome(rejected=rejected)


def _send_mark(client: Client) -> None:
    trace_id = os.urandom(16)
    client.export(make_request(make_span(trace_id=trace_id)))
    wait_for(lambda: any(event["trace_id"] == trace_id.hex() for event in client.raw_events()))


def _settings_file(settings: CaseSettings) -> str:
    # A JSON string is a TOML string.
    return "\n".join(
        f"[[mapping]]\nfrom = {json.dumps(line.source)}\nto = {json.dumps(line.target)}\n"
        f"as = {json.dumps(line.treatment)}\n"
        for line in settings.mapping
    )
