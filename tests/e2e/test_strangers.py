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

from tests.support.clients import ADMIN_HEADERS, READ_HEADERS, READ_KEY, WRITE_KEY, Client
from tests.support.otlp import make_request, make_span
from tests.support.service_process import service_process
from tests.support.waiting import wait_for


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


@pytest.mark.parametrize(
    ("trusted", "believed"), [("", False), ('["127.0.0.1", "::1"]', True), ('["192.0.2.1"]', False)]
)
def test_who_says_that_it_is_somebody_else(tmp_path: Path, trusted: str, believed: bool) -> None:
    """Any program here may send the header: only a proxy that settings name is believed."""
    with service_process(tmp_path / "data", trusted_proxies=trusted) as service:
        client = service.client
        for said in ("192.0.2.7", "nobody"):
            headers = {**READ_HEADERS, "X-Forwarded-For": f"198.51.100.1, {said}"}
            assert client.request("GET", f"/1/fields/?said={said}", None, headers)[0] == 400
        entries = wait_for(
            lambda: client.request("GET", "/1/audit/-1h/now/?action=read", None, ADMIN_HEADERS)[1][
                "entries"
            ],
            until=lambda found: "nobody" in json.dumps(found),
        )
        addresses = {
            each["value"]: entry["client_address"]
            for entry in entries
            for each in entry["parameters"]
            if each["name"] == "said"
        }
        own = ("127.0.0.1", "::1")
        assert addresses["192.0.2.7"] in (("192.0.2.7",) if believed else own)
        assert addresses["nobody"] in own
        slowed = slow_down(client)
        other = {"X-Auth-Key": "guess", "X-Forwarded-For": "192.0.2.8"}
        # Somebody else is one only if that is believed.
        assert slowed == 429
        assert client.request("GET", "/1/fields/", None, other)[0] == (401 if believed else 429)


def slow_down(client: Client) -> int:
    """Try keys that there are not for somebody until they are not looked at; return the status."""
    with urllib3.PoolManager(retries=False) as pool:
        for number in range(10_000):
            headers = {"X-Auth-Key": f"guess-{number}", "X-Forwarded-For": "192.0.2.9"}
            answer = pool.request("GET", f"http://{client.http}/1/fields/", headers=headers)
            if answer.status != 401:
                return answer.status
    return 401
