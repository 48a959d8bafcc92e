# SPDX-License-Identifier: Apache-2.0
"""Tests of every entry with requests that are nearly right, and with bytes that are nothing."""

from __future__ import annotations

import gzip
import random
import zlib
from collections.abc import Callable, Iterator

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from otel_apinalytics.errors import InvalidRequestError
from otel_apinalytics.receiver import gate
from otel_apinalytics.receiver.bodies import decompress
from otel_apinalytics.receiver.events_json import encode_valid_events
from otel_apinalytics.receiver.otlp_json import request_of_json
from otel_apinalytics.receiver.records import varint
from tests.fuzz import mutations, targets
from tests.fuzz.door import (
    EVENT_PATHS,
    MISTAKEN_PATHS,
    OTLP_PATHS,
    Door,
    Sent,
    check_answer,
)
from tests.fuzz.targets import TARGETS, Target
from tests.support.otlp import make_request, make_span

Mutate = Callable[[bytes, random.Random], bytes]

SPAN = make_span().SerializeToString()
SPANS = mutations.field(2, SPAN)
SCOPE_SPANS = mutations.field(2, SPANS)

few = settings(max_examples=150, deadline=None)
some = settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
_COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "zstd": zstandard.compress,
}


def mutated(seeds: list[bytes], mutate: Mutate) -> st.SearchStrategy[bytes]:
    """Return what becomes of the seeds."""
    randoms = st.randoms(use_true_random=False)
    return st.builds(mutate, st.sampled_from(seeds), randoms)


MESSAGES = mutated(mutations.trace_requests(), mutations.mutate_message)
JSON = mutated(mutations.json_requests(), mutations.mutate_json)
EVENTS = mutated(mutations.event_requests(), mutations.mutate_json)


def test_real_requests() -> None:
    """As they are sent, none is refused: mutations begin with what is let in."""
    for body in mutations.trace_requests():
        targets.inspect_request(body)
        targets.walk_fields(body)
        gate.inspect(body)
    for body in mutations.json_requests():
        targets.read_json(body)
        request_of_json(body)
    for body in mutations.event_requests():
        targets.read_events(body)
        encode_valid_events(body)


@few
@given(body=st.binary(max_size=400))
@pytest.mark.parametrize("name", TARGETS)
def test_any_bytes(name: str, body: bytes) -> None:
    """What is no request at all is refused, or is as good as empty."""
    TARGETS[name](body)


@some
@given(body=MESSAGES)
@pytest.mark.parametrize("target", [targets.inspect_request, targets.walk_fields])
def test_nearly_a_request(target: Target, body: bytes) -> None:
    """Cut, flipped, of wrong types, in groups, nested: it is counted as it is, or refused."""
    target(body)


@some
@given(body=JSON)
def test_nearly_a_request_in_json(body: bytes) -> None:
    """Whatever is of the wrong type: it becomes a request that is let in, or it is refused."""
    targets.read_json(body)


@some
@given(body=EVENTS)
def test_nearly_events(body: bytes) -> None:
    """Each event is either encoded or refused."""
    targets.read_events(body)


@few
@given(
    parts=st.lists(st.binary(max_size=200), min_size=1, max_size=4),
    name=st.sampled_from(sorted(_COMPRESSORS)),
    randomness=st.randoms(use_true_random=False),
)
def test_nearly_compressed(parts: list[bytes], name: str, randomness: random.Random) -> None:
    """Members that follow each other, cut or damaged, are what they were, or refused."""
    body = b"".join(_COMPRESSORS[name](part) for part in parts)
    if name != "deflate":
        assert decompress(body, name, targets.LIMIT_BYTES) == b"".join(parts)
    targets.decompress_body(mutations.mutate_message(body, randomness))


@few
@given(text=st.text(st.characters(max_codepoint=255)))
def test_odd_credentials(text: str) -> None:
    """Any text may stand in the headers."""
    targets.find_credentials(text.encode("latin-1"))


# ---- what is large ----


@pytest.mark.parametrize("levels", [1, 20, 49, 50, 99, 100, 101, 1000])
def test_nested_values(levels: int) -> None:
    """Values that hold each other never cost the request: the gate does not look at them."""
    span = make_span().SerializeToString()
    attribute = mutations.field(1, b"deep") + mutations.field(2, mutations.nested_value(levels))
    spans = mutations.field(2, span + mutations.field(9, attribute))
    body = mutations.field(1, mutations.field(2, spans))
    targets.inspect_request(body)
    assert gate.inspect(body).spans == 1


def test_many_attributes() -> None:
    """A span of a hundred thousand attributes is counted as one."""
    pair = mutations.field(9, mutations.field(1, b"k"))
    span = make_span().SerializeToString() + pair * 100_000
    body = mutations.field(1, mutations.field(2, mutations.field(2, span)))
    targets.inspect_request(body)
    assert gate.inspect(body).spans == 1


@pytest.mark.parametrize(
    "body",
    [
        mutations.group(1, SCOPE_SPANS),
        mutations.field(1, mutations.group(2, SPANS)),
        mutations.field(1, mutations.group(1, b"") + SCOPE_SPANS),
        mutations.field(1, mutations.field(2, mutations.group(2, SPAN))),
    ],
    ids=["resource spans", "scope spans", "resource", "span"],
)
def test_a_group_in_the_place_of_a_message(body: bytes) -> None:
    """It is refused: parsers pass over it, but the engine takes it for the message."""
    with pytest.raises(InvalidRequestError, match="group"):
        gate.inspect(body + make_request(make_span()))


@pytest.mark.parametrize("number", [1, 1000])
def test_what_is_in_a_group_is_counted(number: int) -> None:
    """Behind a group, or in one, nothing hides from the walk over what is large."""
    hidden = mutations.group(number, mutations.field(1, bytes(gate.MAX_PART_BYTES)))
    targets.inspect_request(hidden + make_request(make_span()))


@pytest.mark.parametrize(
    "body",
    [
        b'[{"' + b" " * 1_000_000 + b'":1}]',
        b'[{"\\n' + b"x" * 1_000_000 + b'":1}]',
        b'[{"timestamp":"' + b"x" * 1_000_000 + b'"}]',
        b"[" * 100_000,
        b"[" + b"{}," * 700_000 + b"{}]",
        b"[" + b"1," * 700_000 + b"1]",
    ],
    ids=["spaces", "lines", "value", "nested", "empty", "numbers"],
)
def test_large_events(body: bytes) -> None:
    """What is large and wrong is refused in few words, and no search in it is quadratic."""
    targets.read_events(body)


@pytest.mark.parametrize(
    "body",
    [
        b'{"resourceSpans":' + b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"resourceSpans":[{"scopeSpans":[{"spans":[' + b"{}," * 140_000 + b"{}]}]}]}",
        b'{"resourceSpans":[' + b"{}," * 2_100_000 + b"{}]}",
        b'{"resourceSpans":[{"scopeSpans":[{"spans":[{"flags":"' + b"x" * 1_000_000 + b'"}]}]}]}',
        b'{"resourceSpans":[{"scopeSpans":[{"spans":[{"flags":' + b"1" * 4_000 + b"}]}]}]}",
    ],
    ids=["arrays", "objects", "spans", "resources", "text", "digits"],
)
def test_large_json(body: bytes) -> None:
    """What is large and wrong is refused in few words, before it takes much memory."""
    targets.read_json(body)


@pytest.mark.parametrize("name", ["gzip", "zstd"])
def test_a_body_of_empty_members(name: str) -> None:
    """A million members that hold nothing are not all looked at."""
    targets.decompress_body(_COMPRESSORS[name](b"") * 1_000_000)


# ---- over HTTP ----

_BODIES = st.one_of(MESSAGES, JSON, EVENTS, st.binary(max_size=100))
_VALUES = st.one_of(
    st.sampled_from([b"", b" ", b"\xff\xfe", b"x" * 5000, b"\0", b"a\r\nb: c", b"0", b"-1"]),
    st.binary(max_size=20),
)
_TYPES = st.sampled_from(
    [b"application/x-protobuf", b"application/json", b"application/json; charset=latin-1",
     b" Application/JSON ", b"application/protobuf", b"text/plain", b"application/json,text/html"]
)  # fmt: skip
_ENCODINGS = st.sampled_from(
    [b"gzip", b"GZIP", b"deflate", b"zstd", b"identity", b"br", b"gzip, gzip"]
)
_KEYS = st.sampled_from([b"w-key"] * 8 + [b"r-key", b"nothing", b"\xff", b""])
_QUERIES = st.sampled_from(
    [b"", b"partial=true", b"partial=", b"partial=%ff", b"x=1", b"&&=", b"%"]
)


@st.composite
def requests(draw: st.DrawFn) -> Sent:
    """Return requests: most come to the right place with a right key, all else is odd."""
    body = draw(_BODIES)
    headers = [(b"x-auth-key", draw(_KEYS))] if draw(st.integers(0, 9)) else []
    if draw(st.integers(0, 9)):
        headers.append((b"content-type", draw(st.one_of(_TYPES, _VALUES))))
    if not draw(st.integers(0, 2)):
        encoding = draw(st.one_of(_ENCODINGS, _VALUES))
        headers.append((b"content-encoding", encoding))
        if compress := _COMPRESSORS.get(encoding.decode("latin-1").lower()):
            body = compress(body)
            body = body[: draw(st.sampled_from([len(body), len(body), len(body) // 2]))]
    for name in (b"idempotency-key", b"authorization", b"x-auth-user", b"content-length"):
        if not draw(st.integers(0, 9)):
            headers.append((name, draw(_VALUES)))
    cut = draw(st.integers(0, len(body)))
    return Sent(
        draw(st.sampled_from(["POST"] * 8 + ["GET", "HEAD", "PUT", "OPTIONS", "BREW"])),
        draw(st.sampled_from(OTLP_PATHS * 2 + EVENT_PATHS + MISTAKEN_PATHS)),
        draw(_QUERIES),
        headers,
        [body[:cut], body[cut:]],
    )


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    """Run the routes that take data, with a real log."""
    running = Door(tmp_path_factory.mktemp("door"))
    yield running
    running.close()


@some
@given(sent=requests())
def test_any_request_over_http(door: Door, sent: Sent) -> None:
    """Each is answered in its own encoding, and none with a fault of ours."""
    check_answer(sent, door.ask(sent))


@pytest.mark.parametrize("path", OTLP_PATHS)
def test_too_large_over_http(door: Door, path: str) -> None:
    """A body beyond the limit is refused as such."""
    headers = [(b"x-auth-key", b"w-key"), (b"content-type", b"application/x-protobuf")]
    sent = Sent("POST", path, b"", headers, [bytes(1 << 20), b"\0"])
    answer = door.ask(sent)
    check_answer(sent, answer)
    assert answer.status == 413


def test_each_varint_length() -> None:
    """Lengths that are written longer than they need are read as they are, or refused."""
    body = make_request(make_span())
    inner = body[1 + len(varint(len(body))) :]
    length = varint(len(inner))
    for padding in range(10):
        longer = bytes([*length[:-1], length[-1] | 0x80, *[0x80] * padding, 0])
        targets.inspect_request(b"\x0a" + longer + inner)
