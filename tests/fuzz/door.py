# SPDX-License-Identifier: Apache-2.0
"""The HTTP application in this process, with a real request log; requests to it, real or not."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, cast

from fastapi import FastAPI
from google.protobuf import json_format
from google.rpc import error_details_pb2  # noqa: F401 - so that details of a status can be read
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from otel_apinalytics.api.error_answers import install_error_answers
from otel_apinalytics.receiver.admission import Admission
from otel_apinalytics.receiver.duplicates import Duplicates
from otel_apinalytics.receiver.http_routes import event_routes
from otel_apinalytics.receiver.log import RequestLog, SealedSegment, open_log_directory
from otel_apinalytics.receiver.otlp_http import otlp_routes
from otel_apinalytics.receiver.refusals import Refusals
from otel_apinalytics.store.engine import Engine, Rows
from otel_apinalytics.store.key_ring import KeyRing
from otel_apinalytics.telemetry import Telemetry

OTLP_PATHS = ("/v1/traces", "/v1/traces/", "/v1/metrics", "/v1/logs")
EVENT_PATHS = ("/1/event/", "/1/event", "/1/events", "/1/events/")
MISTAKEN_PATHS = ("/", "/v1", "/v1/trace", "/traces", "/v1/traces/v1/traces", "/api/v2/spans")
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
LIMIT_BYTES = 1 << 20
_MEDIA_TYPES = ("application/x-protobuf", "application/protobuf", "application/json")
_TAKEN = 200


@dataclass(frozen=True, slots=True)
class Sent:
    """A request.

    Args:
        method: In capitals.
        path: Without the query.
        query: What is behind the question mark.
        headers: Names in lower case.
        chunks: The body, as it arrives.
    """

    method: str
    path: str
    query: bytes
    headers: Sequence[tuple[bytes, bytes]]
    chunks: Sequence[bytes]


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back; of a header that is there twice, the last."""

    status: int
    headers: dict[str, str]
    body: bytes


class _Keys:
    """As much of a store as keys need: one that may write, and one that may only read."""

    def look_up(self, sql: str) -> Rows:
        keys = [("w-key", "write"), ("r-key", "read")]
        made_at = datetime(2026, 1, 1)  # noqa: DTZ001 - as the client gives it
        of_no_interest = ("", "", None, "", "", None, None, None, made_at)
        rows = [
            ("app", name, scope, sha256(name.encode()).digest(), made_at, *of_no_interest)
            for name, scope in keys
        ]
        return Rows((), rows if " FROM keys " in sql and "UNION" not in sql else [])


class Door:
    """The routes that take data, and what is behind them up to the log. Nothing is loaded.

    Args:
        directory: Where the log lives.
    """

    def __init__(self, directory: Path) -> None:
        identity = open_log_directory(directory, bytes(32))
        self._log = RequestLog(directory, identity, self._drop)
        self._log.start()
        self._duplicates = Duplicates(directory, bytes(32))
        telemetry = Telemetry()
        admission = Admission(
            KeyRing(cast(Engine, _Keys()), telemetry),
            self._log,
            self._duplicates,
            Refusals(self._log, telemetry),
            telemetry,
        )
        self._app = FastAPI(redirect_slashes=False)
        install_error_answers(self._app)
        self._app.router.routes[:0] = [
            *otlp_routes(admission, LIMIT_BYTES),
            *event_routes(admission, LIMIT_BYTES),
        ]
        self._loop = asyncio.new_event_loop()
        self._loop.set_default_executor(ThreadPoolExecutor(1))

    def ask(self, sent: Sent) -> Answer:
        """Return the answer to a request."""
        return self._loop.run_until_complete(self._ask(sent))

    def close(self) -> None:
        """Stop the log's thread, and give up its files."""
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()
        self._log.close()
        self._duplicates.close()

    def _drop(self, segment: SealedSegment) -> None:
        segment.path.unlink()
        self._log.released(segment, 0.0)

    async def _ask(self, sent: Sent) -> Answer:
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": sent.method,
            "scheme": "http",
            "path": sent.path,
            "raw_path": sent.path.encode(),
            "query_string": sent.query,
            "root_path": "",
            "headers": list(sent.headers),
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 4318),
        }
        arriving = [
            {"type": "http.request", "body": chunk, "more_body": True} for chunk in sent.chunks
        ]
        arriving.append({"type": "http.request", "body": b"", "more_body": False})
        messages: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            return arriving.pop(0) if arriving else {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            messages.append(message)

        await self._app(scope, receive, send)
        headers = {
            name.decode("latin-1").lower(): value.decode("latin-1")
            for name, value in messages[0]["headers"]
        }
        body = b"".join(message.get("body", b"") for message in messages[1:])
        return Answer(messages[0]["status"], headers, body)


def check_answer(sent: Sent, answer: Answer) -> None:
    """Assert that an answer is one that a client of this path can read."""
    assert answer.status in (200, 400, 401, 403, 404, 405, 413, 415), answer
    if sent.path in OTLP_PATHS:
        _check_otlp(sent, answer)
    elif sent.path in EVENT_PATHS:
        assert answer.headers["content-type"] == "application/json"
        found = json.loads(answer.body)
        assert ("received" in found) == (answer.status == _TAKEN)
        assert ("error" in found) == (answer.status != _TAKEN)


def _check_otlp(sent: Sent, answer: Answer) -> None:
    if sent.method not in METHODS:
        # The application's own answer: it is no request of OTLP.
        assert answer.status == 405
        return
    wanted = media_type_of(sent)
    found = answer.headers["content-type"].partition(";")[0]
    assert answer.status == _TAKEN or answer.status >= 400
    if wanted is None:
        assert answer.status in (401, 403, 405, 415)
        assert found == "text/plain"
        assert answer.body
        return
    assert found == wanted, answer
    assert answer.status != 415
    message = Status() if answer.status != _TAKEN else ExportTraceServiceResponse()
    if wanted == "application/json":
        json_format.Parse(answer.body, message)
    else:
        message.ParseFromString(answer.body)
    if isinstance(message, Status):
        assert message.code
        assert message.message


def media_type_of(sent: Sent) -> str | None:
    """Return the media type of OTLP that a request says it has, if it does."""
    values = [value for name, value in sent.headers if name == b"content-type"]
    text = values[0].decode("latin-1").partition(";")[0].strip().lower() if values else ""
    return text if text in _MEDIA_TYPES else None
