# SPDX-License-Identifier: Apache-2.0
"""Clients of a running service: raw OTLP/gRPC and HTTP with keys."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import grpc
import urllib3

from otel_apinalytics.receiver.grpc_server import SERVICE

APPLICATION, WRITE_KEY, READ_KEY, ADMIN_KEY = "shop", "w-key", "r-key", "a-key"
KEY_SETTINGS = {
    "application_id": APPLICATION,
    "write_key": WRITE_KEY,
    "read_key": READ_KEY,
    "admin_key": ADMIN_KEY,
}
WRITE_HEADERS = {"X-Auth-User": APPLICATION, "X-Auth-Key": WRITE_KEY}
READ_HEADERS = {"X-Auth-User": APPLICATION, "X-Auth-Key": READ_KEY}
ADMIN_HEADERS = {"X-Auth-User": APPLICATION, "X-Auth-Key": ADMIN_KEY}
# Later than any event may be, in Unix seconds.
FAR_FUTURE = 4_102_444_800


@dataclass(frozen=True, slots=True)
class Client:
    """A client of one service.

    Args:
        grpc: Its gRPC address.
        http: Its HTTP address.
    """

    grpc: str
    http: str

    def export(self, body: bytes, key: str | None = WRITE_KEY) -> bytes:
        """Send an OTLP request and return the response.

        Raises:
            grpc.RpcError: It was refused.
        """
        metadata = (("x-auth-user", APPLICATION), ("x-auth-key", key)) if key else ()
        with self.exporter() as call:
            return bytes(call(body, metadata=metadata, timeout=30))

    @contextmanager
    def exporter(self) -> Iterator[Any]:
        """Give a callable that sends OTLP requests over one connection."""
        with grpc.insecure_channel(self.grpc) as channel:
            yield channel.unary_unary(f"/{SERVICE}/Export")

    def request(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> tuple[int, Any, Mapping[str, str]]:
        """Return status, body (parsed if it is JSON) and headers of an answer."""
        with urllib3.PoolManager(retries=False, timeout=30.0) as pool:
            url = f"http://{self.http}{path}"
            answer = pool.request(method, url, body=body, headers=dict(headers or {}))
        # Not application/x-ndjson, which is several documents.
        is_json = "/json" in answer.headers.get("content-type", "") and method != "HEAD"
        return answer.status, answer.json() if is_json else answer.data, answer.headers

    def post_events(self, events: Any, path: str = "/1/event/") -> tuple[int, Any]:
        """Send JSON events; return status and body."""
        headers = {**WRITE_HEADERS, "Content-Type": "application/json"}
        status, body, _ = self.request("POST", path, json.dumps(events).encode(), headers)
        return status, body

    def ask(
        self,
        parameters: Mapping[str, str] | Sequence[tuple[str, str]] = (),
        start: float | None = None,
        end: float | None = None,
    ) -> tuple[int, Any]:
        """Ask a timeseries question, by default over the hour around now."""
        now = int(time.time())
        start, end = now - 1800 if start is None else start, now + 1800 if end is None else end
        path = f"/1/timeseries/{start}/{end}/?{urlencode(parameters)}"
        status, body, _ = self.request("GET", path, headers=READ_HEADERS)
        return status, body

    def raw_events(self, start: float = 0, end: float = FAR_FUTURE) -> list[dict[str, Any]]:
        """Return the events of a range, by default all, as the raw read-out gives them."""
        path = f"/1/events/{start}/{end}/?format=ndjson"
        status, body, _ = self.request("GET", path, headers=READ_HEADERS)
        assert status == 200, body
        return [json.loads(line) for line in body.splitlines()]

    def groups(
        self,
        parameters: Mapping[str, str] | Sequence[tuple[str, str]] = (),
        start: float | None = None,
        end: float | None = None,
    ) -> dict[str, list[list[float]]]:
        """Ask a timeseries question and return its groups."""
        status, body = self.ask(parameters, start, end)
        assert status == 200, body
        groups: dict[str, list[list[float]]] = body["groups"]
        return groups

    def count(self) -> int:
        """Return the number of inbound events of the hour around now."""
        return int(self.groups()[APPLICATION][0][1])
