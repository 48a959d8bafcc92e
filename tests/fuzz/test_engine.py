# SPDX-License-Identifier: Apache-2.0
"""What the gate lets in the engine loads, or rejects by record; others of its batch are loaded."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from google.protobuf.message import DecodeError

from otel_apinalytics.errors import InvalidRequestError
from otel_apinalytics.normalize import outcomes
from otel_apinalytics.receiver import gate
from otel_apinalytics.receiver.records import header_of, new_header, spans_record
from otel_apinalytics.wire.log_pb2 import TraceRequest
from tests.fuzz import mutations
from tests.support.otlp import make_request, make_span

Load: TypeAlias = Callable[[Sequence[bytes]], dict[str, Any]]

_CHILD = Path(__file__).parent / "loading_child.py"
_MUTATED = 16
_GOOD_SPANS = 3
_BATCHES = 2
_MOST_UNDECODABLE = 2
_ENDS = (outcomes.STORED, outcomes.FILTERED, outcomes.REJECTED)


@pytest.fixture(scope="module")
def load() -> Iterator[Load]:
    """Return a function that loads records as one segment, and tells what became of them."""
    child = subprocess.Popen(
        [sys.executable, str(_CHILD)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdin is not None
    assert child.stdout is not None
    source, results = child.stdin, child.stdout

    def ask(records: Sequence[bytes]) -> dict[str, Any]:
        print(json.dumps([record.hex() for record in records]), file=source, flush=True)
        line = results.readline()
        assert line, f"the process ended with {child.wait()}"
        answer: dict[str, Any] = json.loads(line)
        return answer

    yield ask
    child.communicate()


def record_of(request: bytes) -> bytes | None:
    """Return what the door writes of a request; None if it writes nothing."""
    try:
        counts = gate.inspect(request)
    except InvalidRequestError:
        return None
    if not counts.spans:
        return None
    header = new_header("app", "key", "http", counts.spans, counts.batch_rules)
    return spans_record(header, request)


def check_loaded(load: Load, requests: Sequence[bytes]) -> dict[str, Any]:
    """Load the requests that the gate lets in, a good one among them; assert what must hold."""
    spans = [make_span() for _ in range(_GOOD_SPANS)]
    good = record_of(make_request(*spans))
    assert good is not None
    mutated = [record for request in requests if (record := record_of(request)) is not None]
    middle = len(mutated) // 2
    records = [*mutated[:middle], good, *mutated[middle:]]
    found = load(records)
    assert not found["left"], "a segment was not loaded"
    good_ids = {span.span_id.hex().upper() for span in spans}
    assert good_ids <= set(found["stored"]), "spans of a good record are not stored"
    ledger: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for record_id, outcome, _, count in found["ledger"]:
        ledger[record_id][outcome] += int(count)
    wrong = [
        (record.hex(), dict(of_record))
        for record in records
        for of_record in [ledger[header_of(record).record_id.hex().upper()]]
        if of_record[outcomes.RECEIVED] != header_of(record).received_count
        or of_record[outcomes.RECEIVED] != sum(of_record[outcome] for outcome in _ENDS)
    ]
    assert not wrong, f"{len(wrong)} of {len(records)} records are not accounted for: {wrong[:3]}"
    return found


@pytest.mark.parametrize("seed", range(_BATCHES))
def test_each_record_is_accounted_for(load: Load, seed: int) -> None:
    """Received is stored, filtered and rejected, record by record, whatever came with it."""
    choose = random.Random(seed)
    seeds = [request for request in mutations.trace_requests() if record_of(request) is not None]
    requests: list[bytes] = []
    undecodable = 0
    while len(requests) < _MUTATED:
        request = mutations.mutate_message(choose.choice(seeds), choose)
        if record_of(request) is None:
            continue
        if not decodes(request):
            # Each is found by halving, and each half is a load.
            undecodable += 1
            if undecodable > _MOST_UNDECODABLE:
                continue
        requests.append(request)
    check_loaded(load, requests)


def test_odd_records(load: Load) -> None:
    """What is deep, wide, said twice, or of no known number, is loaded; what has no end is not."""
    span = make_span().SerializeToString()
    deep = mutations.field(1, b"deep") + mutations.field(2, mutations.nested_value(1000))
    last_number = b"\xff" * 9 + b"\1"
    odd = [
        span + mutations.field(9, deep),
        span + mutations.field(9, mutations.field(1, b"k")) * 100_000,
        span + mutations.field(5, b"another name") * 2,
        span + mutations.field(15, b"\x18\1") + mutations.field(15, b"\x18\2"),
        span + mutations.tag(6, 0) + last_number,
        span + mutations.tag(2**29 - 1, 0) + last_number,
        span + mutations.field(2, b""),
        mutations.field(1, b"x") + span,
    ]
    decoded = [_request_of(each) for each in odd]
    # The engine refuses a group; without it, it takes the record.
    decoded.append(_request_of(span + mutations.group(500, mutations.field(1, b"x"))))
    # The key of an attribute claims to be longer than the attribute.
    undecodable = _request_of(span + mutations.field(9, b"\x0a\x7fkey"))
    assert len(check_loaded(load, decoded)["dead_letters"]) == 0
    assert len(check_loaded(load, [*decoded, undecodable])["dead_letters"]) == 1


def _request_of(span: bytes) -> bytes:
    return mutations.field(1, mutations.field(2, mutations.field(2, span)))


def decodes(request: bytes) -> bool:
    """Return whether a request is one in all its parts, also those that the gate passes over."""
    try:
        TraceRequest.FromString(request)
    except DecodeError:
        return False
    return True
