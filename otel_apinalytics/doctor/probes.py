# SPDX-License-Identifier: Apache-2.0
"""Probes: a span or an event by each way in, followed to what the ledger says of it.

They are marked, so that the service accounts for them and counts them nowhere else.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from otel_apinalytics import __version__
from otel_apinalytics.client import Client
from otel_apinalytics.doctor.checks import (
    ADMIN,
    READ,
    WRITE,
    Check,
    State,
    Target,
    failed,
    ok,
    skipped,
)
from otel_apinalytics.doctor.grpc_checks import EXPORT, channel_to, words_of
from otel_apinalytics.doctor.key_checks import message_of
from otel_apinalytics.errors import ClientError
from otel_apinalytics.normalize.outcomes import FILTERED, PROBE, RECEIVED
from otel_apinalytics.normalize.rules import PROBE_ATTRIBUTE

_RECORD_ID = "x-record-id"
_PROTOBUF = "application/x-protobuf"
_SEND_TIMEOUT_S = 30.0
_INTERVAL_S = 0.25


class _NotTakenError(Exception):
    """A probe was refused, or did not reach the service."""


@dataclass(frozen=True, slots=True)
class _Sent:
    """A probe that was taken.

    Args:
        record_id: What the ledger knows it by.
        at: When it was acknowledged, monotonic seconds.
    """

    record_id: str
    at: float


def check_probes(target: Target, patience_s: float) -> Iterator[Check]:
    """Send a probe by each way in, and follow each for at most so long."""
    ways: tuple[tuple[str, Callable[[Target], str]], ...] = (
        ("span by grpc", _by_grpc),
        ("span by http", _by_http),
        ("json event", _as_event),
    )
    if WRITE not in target.keys:
        yield from (skipped(name, "not sent: no write key can be used") for name, _ in ways)
        return
    sent: dict[str, _Sent] = {}
    for name, send in ways:
        try:
            sent[name] = _Sent(send(target), time.monotonic())
        except (_NotTakenError, ClientError) as error:
            yield failed(name, str(error), "see the checks above")
    for name, probe in sent.items():
        yield _follow(target, name, probe, patience_s)


# ---- three ways in ----


def _span_request() -> bytes:
    now_ns = time.time_ns()
    mark = KeyValue(key=PROBE_ATTRIBUTE, value=AnyValue(string_value=__version__))
    span = Span(
        trace_id=os.urandom(16),
        span_id=os.urandom(8),
        name="apinalytics doctor",
        kind=Span.SPAN_KIND_SERVER,
        start_time_unix_nano=now_ns,
        end_time_unix_nano=now_ns,
        attributes=[mark],
    )
    request = ExportTraceServiceRequest()
    request.resource_spans.add().scope_spans.add().spans.append(span)
    return request.SerializeToString()


def _by_grpc(target: Target) -> str:
    metadata = (("x-auth-key", target.keys[WRITE]),)
    with channel_to(target, target.grpc) as channel:
        try:
            _, call = channel.unary_unary(EXPORT).with_call(
                _span_request(), metadata=metadata, timeout=_SEND_TIMEOUT_S
            )
        except grpc.RpcError as error:
            raise _NotTakenError(words_of(error)) from error
    return str(dict(call.trailing_metadata() or ()).get(_RECORD_ID, ""))


def _by_http(target: Target) -> str:
    with target.client(WRITE) as client:
        answer = client.exchange("POST", "/v1/traces", _span_request(), _PROTOBUF)
    if answer.status != 200:
        try:
            said = Status.FromString(answer.content).message
        except DecodeError:
            said = ""
        raise _NotTakenError(said or f"the service answers with {answer.status}")
    return answer.headers.get(_RECORD_ID, "")


def _as_event(target: Target) -> str:
    event = {"timestamp": time.time(), "attributes": {PROBE_ATTRIBUTE: __version__}}
    with target.client(WRITE) as client:
        answer = client.exchange("POST", "/1/event/", json.dumps([event]).encode())
    if answer.status != 200:
        raise _NotTakenError(message_of(answer))
    return answer.headers.get(_RECORD_ID, "")


# ---- to a query ----


def _follow(target: Target, name: str, sent: _Sent, patience_s: float) -> Check:
    scope = next((scope for scope in (READ, ADMIN) if scope in target.keys), None)
    if scope is None or not sent.record_id:
        why = "no read key can be used" if scope is None else "its answer has no X-Record-Id"
        return skipped(name, f"taken and on disk; not followed to a query: {why}")
    path = f"/1/ledger/-1h/now/?record_id={sent.record_id}"
    with target.client(scope) as client:
        while True:
            found = _account(client, path)
            if isinstance(found, Check):
                return Check(name, found.state, found.message, found.advice)
            if found is not None:
                return _judge(name, found, time.monotonic() - sent.at)
            if time.monotonic() - sent.at > patience_s:
                return failed(
                    name,
                    f"taken, and not found by a query within {patience_s:g} s",
                    "the store is behind or does not answer: look at the log of the service",
                )
            time.sleep(_INTERVAL_S)


def _account(client: Client, path: str) -> dict[tuple[str, str], int] | Check | None:
    """Return what became of a record; None if that is not known yet; else why nobody says it."""
    answer = client.exchange("GET", path)
    if answer.status != 200:
        # A key may be bound to a consumer, whose is no probe.
        state = State.SKIPPED if answer.status == 403 else State.FAILED
        said = message_of(answer)
        return Check("", state, f"taken and on disk; not followed to a query: {said}")
    rows: list[dict[str, Any]] = answer.json()["rows"]
    outcomes = {(row["outcome"], row["reason"]): int(row["items"]) for row in rows}
    return outcomes if set(outcomes) - {(RECEIVED, "")} else None


def _judge(name: str, outcomes: dict[tuple[str, str], int], seconds: float) -> Check:
    if outcomes == {(RECEIVED, ""): 1, (FILTERED, PROBE): 1}:
        return ok(name, f"taken, on disk, and found by a query after {seconds:.1f} s")
    said = ", ".join(f"{outcome} {reason}".strip() for outcome, reason in outcomes)
    return failed(
        name, f"the ledger says of it: {said}", "the service is of another version: install one"
    )
