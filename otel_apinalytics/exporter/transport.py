# SPDX-License-Identifier: Apache-2.0
"""Delivery over HTTP: one connection that is kept, a deadline over all attempts.

What is tried again, and how: OpenTelemetry Protocol 1.11, "OTLP/HTTP response" and "Throttling".
"""

from __future__ import annotations

import contextlib
import http.client
import itertools
import random
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError
from urllib3.response import HTTPResponse

from otel_apinalytics import __version__
from otel_apinalytics.errors import ConfigError
from otel_apinalytics.exporter.patience import Patience
from otel_apinalytics.exporter.settings import GZIP, ExporterSettings

PATH = "/1/event/?partial=true"
RETRYABLE = (429, 502, 503, 504)
_FIRST_BACK_OFF_S = 0.25
_MAX_BACK_OFF_S = 5.0
# Whoever asks for more is asked again nevertheless.
_MAX_RETRY_AFTER_S = 300.0
_MAX_ANSWER_BYTES = 1 << 20
# A piece of a body is sent within a call that cannot be cut short.
_PIECE_BYTES = 1 << 16
_CONNECTION_ERRORS = (HTTPError, http.client.HTTPException, OSError)


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer that is final.

    Args:
        status: HTTP status.
        body: As much of the body as is of interest.
    """

    status: int
    body: bytes


class UndeliveredError(Exception):
    """A request was not taken in time; the message says why."""


class Transport:
    """Sends bodies to the service. Not for several threads at once.

    Args:
        settings: Where to, and how.
        patience: How long.
        count: Called with the status of each answer, or the kind of error.

    Raises:
        ConfigError: A certificate cannot be used.
    """

    def __init__(
        self, settings: ExporterSettings, patience: Patience, count: Callable[[str], None]
    ) -> None:
        self._patience = patience
        self._count = count
        self._headers = _headers(settings)
        self._path = urlsplit(settings.endpoint).path + PATH
        self._connection = _connection(settings)
        self._looking_up: threading.Thread | None = None
        # Not before the service wants it, whatever is to be sent.
        self._not_before_s = 0.0

    def post(self, body: bytes) -> Answer:
        """Return the answer to a body.

        Raises:
            UndeliveredError: There was none in time, or none that is final.
        """
        reason = "no time is left"
        wait_s = self._not_before_s - time.monotonic()
        for attempt in itertools.count():
            if not self._pause(wait_s):
                raise UndeliveredError(reason)
            is_reused = not self._connection.is_closed
            try:
                answer, wait_s = self._try(body, attempt)
            except ssl.SSLCertVerificationError as error:
                self._connection.close()
                raise UndeliveredError(
                    f"its certificate is not valid: {error.verify_message}"
                ) from error
            except _CONNECTION_ERRORS as error:
                self._connection.close()
                self._count(_kind(error))
                reason = f"{type(error).__name__}: {error}"
                # Servers close connections that were idle, with the next request on its way.
                wait_s = 0.0 if is_reused and attempt == 0 else _back_off_s(attempt)
                continue
            if answer.status not in RETRYABLE:
                return answer
            reason = f"it answered {answer.status}"
        raise AssertionError  # pragma: no cover

    def close(self) -> None:
        """Close the connection. The next request makes a new one."""
        self._connection.close()

    def renew(self, patience: Patience) -> None:
        """Begin anew in a process that was forked off: the connection is the parent's."""
        self._patience = patience
        self._looking_up = None
        # Only this process's end of it is closed; nothing is sent.
        self._connection.close()

    def _pause(self, seconds: float) -> bool:
        if seconds > self._patience.left_s() and self._patience.is_ending:
            return False
        return self._patience.pause(seconds)

    def _try(self, body: bytes, attempt: int) -> tuple[Answer, float]:
        """Return an answer, and how long to wait before the next attempt."""
        response = self._exchange(body)
        content = self._read(response)
        self._count(str(response.status))
        wait_s = _back_off_s(attempt)
        asked_s = _retry_after_s(response.headers.get("Retry-After"))
        if asked_s is not None and response.status in RETRYABLE:
            wait_s = min(asked_s, _MAX_RETRY_AFTER_S)
            self._not_before_s = time.monotonic() + wait_s
        return Answer(response.status, content), wait_s

    def _exchange(self, body: bytes) -> HTTPResponse:
        connection = self._connection
        if not connection.is_closed and not connection.is_connected:
            connection.close()
        if connection.is_closed:
            self._look_up()
        connection.timeout = self._patience.call_s()
        headers = {**self._headers, "Content-Length": str(len(body))}
        connection.request("POST", self._path, self._pieces(body), headers, preload_content=False)
        if not self._patience.await_data(connection.sock):
            raise TimeoutError("no answer in time")
        connection.timeout = self._patience.call_s()
        return connection.getresponse()

    def _look_up(self) -> None:
        """Look the host up, so that connecting finds it at once: that cannot be cut short."""
        if self._looking_up is None or not self._looking_up.is_alive():
            thread = threading.Thread(target=self._ask_for_host, name="apinalytics", daemon=True)
            # When the interpreter ends, there are no new threads.
            with contextlib.suppress(RuntimeError):
                thread.start()
                self._looking_up = thread
        if self._looking_up is not None and not self._patience.await_end(self._looking_up):
            raise TimeoutError(f"{self._connection.host} is still being looked up")

    def _ask_for_host(self) -> None:
        # Whether there is such a host, connecting says.
        with contextlib.suppress(OSError):
            socket.getaddrinfo(self._connection.host, self._connection.port)

    def _pieces(self, body: bytes) -> Iterator[bytes]:
        for start in range(0, len(body), _PIECE_BYTES):
            if self._patience.left_s() <= 0:
                raise TimeoutError("not sent in time")
            yield body[start : start + _PIECE_BYTES]

    def _read(self, response: HTTPResponse) -> bytes:
        content = bytearray()
        while piece := response.read1(_PIECE_BYTES):
            content += piece
            if len(content) > _MAX_ANSWER_BYTES or self._patience.left_s() <= 0:
                # What follows is not of interest, or does not come.
                self._connection.close()
                break
        return bytes(content)


def _connection(settings: ExporterSettings) -> HTTPConnection:
    address = urlsplit(settings.endpoint)
    host = address.hostname or ""
    if address.scheme == "http":
        return HTTPConnection(host, address.port)
    return HTTPSConnection(host, address.port, ssl_context=_ssl_context(settings))


def _ssl_context(settings: ExporterSettings) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=settings.certificate)
        if settings.client_certificate:
            # A key with a password must not make a program ask for it.
            context.load_cert_chain(
                settings.client_certificate, settings.client_key, password=lambda: ""
            )
    except (OSError, ValueError) as error:
        raise ConfigError(f"a certificate or its key cannot be used: {error}") from error
    return context


def _headers(settings: ExporterSettings) -> dict[str, str]:
    headers = {
        "User-Agent": f"otel-apinalytics-exporter/{__version__} python/{sys.version_info.major}."
        f"{sys.version_info.minor}",
        **{name: value for name, value in settings.headers.items() if name not in _OWN_HEADERS},
        "Content-Type": "application/json",
    }
    if settings.compression == GZIP:
        headers["Content-Encoding"] = GZIP
    if settings.application_id:
        headers["X-Auth-User"] = settings.application_id
    if settings.write_key:
        headers["X-Auth-Key"] = settings.write_key
    return headers


_OWN_HEADERS = ("content-length", "content-type", "content-encoding", "transfer-encoding")


def _kind(error: Exception) -> str:
    is_timeout = isinstance(error, TimeoutError) or "timed out" in str(error)
    return "timeout" if is_timeout else "connection_error"


def _back_off_s(attempt: int) -> float:
    """Return a delay that doubles with each attempt, from half of it to all."""
    longest_s = min(_FIRST_BACK_OFF_S * 2.0 ** min(attempt, 10), _MAX_BACK_OFF_S)
    return random.uniform(longest_s / 2, longest_s)  # noqa: S311


def _retry_after_s(text: str | None) -> float | None:
    """Return the delay that a header asks for: seconds, or a date (RFC 9110, section 10.2.3)."""
    if text is None:
        return None
    if text.strip().isdecimal():
        return float(text)
    try:
        when = parsedate_to_datetime(text)
    except ValueError:
        return None
    if when.tzinfo is None:
        when = when.replace(tzinfo=timezone.utc)
    return max(0.0, (when - datetime.now(timezone.utc)).total_seconds())
