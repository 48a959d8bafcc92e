# SPDX-License-Identifier: Apache-2.0
"""Whoever tries keys that there are not is slowed down; who has one goes on."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import grpc
import pytest
import urllib3

from tests.support.clients import ADMIN_HEADERS, READ_KEY, WRITE_KEY, Client
from tests.support.otlp import make_request, make_span
from tests.support.service_process import service_process


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    """Talk to a service of its own: its memory of strangers is."""
    with service_process(tmp_path / "data") as service:
        yield service.client


def test_guesses(client: Client) -> None:
    """They are answered without a look at the key, and nothing waits for that."""
    assert status_of(client, READ_KEY) == 200
    wanted = json.dumps({"scope": "read"}).encode()
    unused = client.request("POST", "/1/keys/", wanted, ADMIN_HEADERS)[1]["key"]
    with urllib3.PoolManager(retries=False) as pool:
        for number in itertools.count():
            guess = {"X-Auth-Key": f"guess-{number}"}
            answer = pool.request("GET", f"http://{client.http}/1/fields/", headers=guess)
            if answer.status != 401:
                break
            assert number < 10_000
        assert answer.status == 429
        assert int(answer.headers["Retry-After"]) > 0
        error = answer.json()["error"]
        assert (error["code"], error["parameter"]) == ("too_many_requests", None)
        keep_guessing(client, pool, unused)
    metrics = client.request("GET", "/metrics")[1].decode()
    (line,) = (line for line in metrics.splitlines() if 'total{reason="slowed"' in line)
    assert float(line.rpartition(" ")[2]) > 0


def keep_guessing(client: Client, pool: urllib3.PoolManager, unused: str) -> None:
    """See that a good key is not told from a guess, unless it was used from here before."""
    seen = set()
    for number in range(200):
        guess(pool, client, {"X-Auth-Key": f"more-{number}"})
        status, _, _ = client.request("GET", "/1/fields/", None, {"X-Auth-Key": unused})
        seen.add(status)
        if status == 200:
            # It has become one of those that were used from here.
            break
    assert seen <= {200, 429}
    assert status_of(client, READ_KEY) == 200
    assert client.request("GET", "/1/keys/", None, ADMIN_HEADERS)[0] == 200
    # No key at all is no guess.
    assert client.request("GET", "/1/fields/")[0] == 401


def guess(pool: urllib3.PoolManager, client: Client, headers: Mapping[str, str]) -> None:
    """Use up what time has given back."""
    while pool.request("GET", f"http://{client.http}/1/fields/", headers=headers).status == 401:
        pass


def test_guesses_by_grpc(client: Client) -> None:
    """They may be sent again, as OTLP says; who has a key sends on."""
    body = make_request(make_span({}))
    client.export(body)
    with client.exporter() as export:
        for number in itertools.count():
            with pytest.raises(grpc.RpcError) as caught:
                export(body, metadata=(("x-auth-key", f"guess-{number}"),), timeout=30)
            error: Any = caught.value
            if error.code() is not grpc.StatusCode.UNAUTHENTICATED:
                break
            assert number < 10_000
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "google.rpc.retryinfo-bin" in dict(error.trailing_metadata())
    client.export(body, key=WRITE_KEY)


def status_of(client: Client, secret: str) -> int:
    """Return the status of a question."""
    return client.request("GET", "/1/fields/", None, {"X-Auth-Key": secret})[0]
