# SPDX-License-Identifier: Apache-2.0
"""Delivery over HTTP: one connection that is kept, a deadline over all attempts.

What is tried again, and how: OpenTelemetry Protocol 1.11, "OTLP/HTTP response" and "Throttling".
"""

from __future__ import annotations

import contextlib
import http.client
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
from typing import Any
from urllib.parse import urlsplit

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.response import HTTPResponse

from otel_apinalytics import __version__
from otel_apinalytics.errors import ConfigError
from otel_apinalytics.exporter.patience import STEP_S, Patience
from otel_apinalytics.exporter.reading import Reading
from otel_apinalytics.exporter.settings import GZIP, ExporterSettings
from otel_apinalytics.exporter.troubles import CONNECTION_ERRORS, in_words, is_lasting, kind

PATH = "/1/event/?partial=true"
RETRYABLE = (429, 502, 503, 504)
_FIRST_BACK_OFF_S = 0.25
_MAX_BACK_OFF_S = 5.0
# Whoever asks for more is asked again nevertheless.
_MAX_RETRY_AFTER_S = 300.0
_MAX_ANSWER_BYTES = 1 << 20
# A piece of a body is sent within a call that cannot be cut short.
_PIECE_BYTES = 1 << 16
_OK = 200


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
        self._connection.response_class = self._response  # type: ignore[assignment]
        self._looking_up: threading.Thread | None = None
        # Since the service last took something, over all bodies.
        self._failures = 0
        self._failed_s = self._back_off_s = 0.0
        self._trouble = "no time is left"
        # Not before the service wants it, whatever is to be sent.
        self._asked_s = 0.0

    def post(self, body: bytes, *, is_patient: bool) -> Answer:
        """Return the answer to a body.

        Args:
            body: The body.
            is_patient: Whether to wait for the time of another attempt. Who is not tries once, if
                it is time.

        Raises:
            UndeliveredError: There was none in time, or none that is final.
        """
        while self._is_time(is_patient):
            is_reused = not self._connection.is_closed
            try:
                answer = self._try(body)
            except CONNECTION_ERRORS as error:
                self._connection.close()
                self._trouble = in_words(error)
                # Servers close connections that were idle, with the next request on its way.
                self._failed(at_once=is_reused and not self._failures)
                if is_lasting(error):
                    break
                self._count(kind(error))
            else:
                if answer.status not in RETRYABLE:
                    self._failures = 0
                    return answer
                self._trouble = f"it answered {answer.status}"
                self._failed()
        raise UndeliveredError(self._trouble)

    def close(self) -> None:
        """Close the connection. The next request makes a new one."""
        self._connection.close()

    def renew(self, patience: Patience) -> None:
        """Begin anew in a process that was forked off: the connection is the parent's."""
        self._patience = patience
        self._looking_up = None
        # Only this process's end of it is closed; nothing is sent.
        self._connection.close()

    def _is_time(self, is_patient: bool) -> bool:
        """Return whether to try, after a wait if there is to be one."""
        while (wait_s := self._wait_s()) > 0:
            is_vain = self._patience.is_ending and wait_s > self._patience.left_s()
            if is_vain or not is_patient or not self._patience.pause(min(wait_s, STEP_S)):
                return False
        return self._patience.left_s() > 0

    def _wait_s(self) -> float:
        # At the end there is no time for long pauses.
        longest_s = _FIRST_BACK_OFF_S if self._patience.is_ending else _MAX_BACK_OFF_S
        again_s = self._failed_s + min(self._back_off_s, longest_s)
        return max(again_s, self._asked_s) - time.monotonic()

    def _failed(self, *, at_once: bool = False) -> None:
        self._failed_s = time.monotonic()
        self._back_off_s = 0.0 if at_once else _back_off_s(self._failures)
        self._failures += 1

    def _try(self, body: bytes) -> Answer:
        response = self._exchange(body)
        content = self._read(response)
        self._count(str(response.status))
        asked_s = _retry_after_s(response.headers.get("Retry-After"))
        if asked_s is not None and response.status in RETRYABLE:
            self._asked_s = time.monotonic() + min(asked_s, _MAX_RETRY_AFTER_S)
        if response.status != _OK:
            # It may not have read all of the request.
            self._connection.close()
        return Answer(response.status, content)

    def _exchange(self, body: bytes) -> HTTPResponse:
        connection = self._connection
        if not connection.is_closed and not connection.is_connected:
            connection.close()
        if connection.is_closed:
            self._look_up()
        connection.timeout = self._patience.call_s()
        headers = {**self._headers, "content-length": str(len(body))}
        pieces = self._pieces(body)
        try:
            connection.request("POST", self._path, pieces, headers, preload_content=False)
        except (ConnectionError, ssl.SSLEOFError):
            # Who refuses a large body may answer, and end the connection, before it is sent.
            with contextlib.suppress(*CONNECTION_ERRORS):
                return connection.getresponse()
            raise
        return connection.getresponse()

    def _response(self, sock: socket.socket, *args: Any, **kwargs: Any) -> http.client.HTTPResponse:
        source: Any = Reading(sock, self._patience)
        return http.client.HTTPResponse(source, *args, **kwargs)

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
        with contextlib.suppress(OSError, UnicodeError):
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
            if self._patience.left_s() <= 0:
                raise TimeoutError("no whole answer in time")
            if len(content) > _MAX_ANSWER_BYTES:
                # What follows is not of interest.
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
    # In lower case, as those of the settings are: none is sent twice.
    headers = {
        "user-agent": f"otel-apinalytics-exporter/{__version__} python/{sys.version_info.major}."
        f"{sys.version_info.minor}",
        **{name: value for name, value in settings.headers.items() if name not in _OWN_HEADERS},
        "content-type": "application/json",
    }
    if settings.compression == GZIP:
        headers["content-encoding"] = GZIP
    if settings.application_id:
        headers["x-auth-user"] = settings.application_id
    if settings.write_key:
        headers["x-auth-key"] = settings.write_key
    return headers


_OWN_HEADERS = ("content-length", "content-type", "content-encoding", "transfer-encoding")


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
        if when.tzinfo is None:
            when = when.replace(tzinfo=timezone.utc)
        return max(0.0, (when - datetime.now(timezone.utc)).total_seconds())
    except (ValueError, OverflowError):
        return None
