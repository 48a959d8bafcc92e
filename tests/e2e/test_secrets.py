# SPDX-License-Identifier: Apache-2.0
"""Secrets that senders put into spans: none is in clear on disk, in a table or in the output."""

from __future__ import annotations

import base64
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.support.clients import READ_HEADERS, Client
from tests.support.files import files_below
from tests.support.otlp import INTERNAL, key_values, make_request, make_span
from tests.support.service_process import service_process
from tests.support.waiting import wait_for

HEADER = "http.request.header."
_DAY_NS = 86_400_000_000_000
_JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJzZWNyZXQtand0In0.s3cretSignature"


def secret(name: str) -> str:
    """Return a secret that is nowhere else: no compression makes anything of it."""
    return f"{name}-Zq7xVw2Kp9"


def attributes(kind: str) -> dict[str, Mapping[str, Any]]:
    """Return attributes with secrets, by the names of these; `kind` tells several sets apart."""
    key = secret(f"key-{kind}")
    credentials = base64.b64encode(f"alice:{secret(f'password-{kind}')}".encode()).decode()
    signature, token = secret(f"signature-{kind}"), secret(f"token-{kind}")
    return {
        key: {HEADER + "x-api-key": [key]},
        secret(f"underscore-{kind}"): {HEADER + "x_api_key": [secret(f"underscore-{kind}")]},
        secret(f"metadata-{kind}"): {
            "rpc.system": "grpc",
            "rpc.request.metadata.api-key": [secret(f"metadata-{kind}")],
        },
        secret(f"bearer-{kind}"): {HEADER + "authorization": f"Bearer {secret(f'bearer-{kind}')}"},
        credentials: {HEADER + "authorization": [f"Basic {credentials}"]},
        secret(f"cookie-{kind}"): {HEADER + "cookie": [f"session={secret(f'cookie-{kind}')}"]},
        secret(f"tyk-{kind}"): {"tyk.api.apikey": secret(f"tyk-{kind}")},
        _JWT + kind: {"enduser.id": _JWT + kind},
        _JWT + "header" + kind: {HEADER + "x-client-id": [_JWT + "header" + kind]},
        _JWT + "path" + kind: {"url.path": f"/reset/{_JWT}path{kind}/now"},
        signature: {"url.path": "/a", "url.query": f"X-Goog-Signature={signature}&b=1"},
        token: {"http.target": f"/a?b=1&access_token={token}"},
        secret(f"userinfo-{kind}"): {"url.full": f"https://u:{secret(f'userinfo-{kind}')}@h/a"},
        secret(f"old-{kind}"): {
            "http.url": f"https://u:{secret(f'old-{kind}')}@h/a?api_key={secret(f'old-{kind}')}"
        },
        # Of what no rule reads, nothing is kept at all.
        secret(f"unread-{kind}"): {"app.password": secret(f"unread-{kind}")},
    }


STORED, REJECTED, CHILD = attributes("stored"), attributes("rejected"), attributes("child")
MALFORMED = secret("malformed")
SECRETS = [*STORED, *REJECTED, *CHILD, MALFORMED]


def call(of: Mapping[str, Any], **changes: Any) -> Span:
    """Return a SERVER span with these attributes and a path."""
    return make_span({"url.path": "/", "http.request.method": "GET", **of}, **changes)


def send_all(client: Client) -> None:
    """Send spans that are stored, rejected, filtered and undecodable, with secrets in each."""
    spans = [call(of) for of in STORED.values()]
    # The door does not see that these are out of range: they are rejected by the load.
    far = time.time_ns() + 2 * _DAY_NS
    spans += [call(of, start_ns=far) for of in REJECTED.values()]
    for of in CHILD.values():
        parent = call({})
        child = make_span(dict(of), kind=INTERNAL, trace_id=parent.trace_id)
        child.parent_span_id = parent.span_id
        spans += [child, parent]
    client.export(make_request(*spans))
    marker = key_values({HEADER + "x-api-key": [MALFORMED]})[0].SerializeToString()
    body = make_request(call({HEADER + "x-api-key": [MALFORMED]}))
    assert marker in body
    # The key claims to be longer than the attribute.
    client.export(body.replace(marker, marker[:1] + b"\x7f" + marker[2:]))


def in_clear(directory: Path) -> Iterator[tuple[str, str]]:
    """Yield file and secret for each secret that is in a file."""
    for path, content in files_below(directory):
        yield from ((str(path), text) for text in SECRETS if text.encode() in content)


# The engine allows one directory per process. Compressed files hide what a table holds.
_ALL_TABLES = """
import sys
from otel_apinalytics.store.engine import Engine
engine = Engine(sys.argv[1])
for (table,) in engine.query("SELECT name FROM system.tables WHERE database = currentDatabase() "
                             "AND engine LIKE '%%MergeTree'").rows:
    names, rows = engine.query(f"SELECT * FROM {table}")
    print(table, names, *rows, sep="\\n")
engine.close()
"""


def all_tables(data_dir: Path) -> str:
    """Return all rows of all tables of a service that was stopped."""
    result = subprocess.run(
        [sys.executable, "-c", _ALL_TABLES, f"chdb://{data_dir / 'db'}"],
        capture_output=True,
        text=True,
        check=True,
    )
    return result.stdout


def test_no_secret_is_left_after_a_load(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Of what is stored or rejected, hashes are kept; the log and the output have nothing."""
    with service_process(tmp_path) as service:
        send_all(service.client)
        # The malformed request was sent last, and has a load of its own at the end.
        wait_for(lambda: "undecodable" in _rejected(service.client))
        wait_for(lambda: len(service.client.raw_events()) >= len(STORED) + len(CHILD))
        assert list(in_clear(tmp_path)) == []
        answers = repr(service.client.raw_events())
        assert service.stop() == 0
        assert service.process.stdout is not None
        output = service.output + service.process.stdout.read() + capfd.readouterr().err
    tables = all_tables(tmp_path)
    # The look is at something: names, hashes and what is kept of the rest.
    assert "key_" in tables
    assert "alice" in tables
    assert "time_out_of_range" in tables
    assert "undecodable" in output or "cannot be loaded" in output
    for text in SECRETS:
        assert text not in tables
        assert text not in answers
        assert text not in output
    assert list(in_clear(tmp_path)) == []


def test_no_secret_is_left_by_a_kill_before_the_load(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The log has what was acknowledged, sealed; so it is after the next start as well."""
    with service_process(tmp_path) as service:
        send_all(service.client)
        service.kill()
        assert service.process.stdout is not None
        output = service.output + service.process.stdout.read()
    assert list(in_clear(tmp_path)) == []
    with service_process(tmp_path) as service:
        wait_for(lambda: "undecodable" in _rejected(service.client))
        assert service.stop() == 0
    output += capfd.readouterr().err
    tables = all_tables(tmp_path)
    for text in SECRETS:
        assert text not in output
        assert text not in tables
    assert list(in_clear(tmp_path)) == []


def _rejected(client: Client) -> dict[str, int]:
    _, status, _ = client.request("GET", "/1/status/", None, READ_HEADERS)
    reasons: dict[str, int] = status["outcomes"].get("rejected", {})
    return reasons
