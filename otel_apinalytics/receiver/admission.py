# SPDX-License-Identifier: Apache-2.0
"""Admission: the one way in for both transports: authenticate, check, log.

Transports only translate: a request into these calls, and errors into their status codes.
"""

from __future__ import annotations

import threading
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import datetime, timezone

from otel_apinalytics.errors import (
    ApinalyticsError,
    AuthenticationError,
    PermissionDeniedError,
)
from otel_apinalytics.receiver import gate
from otel_apinalytics.receiver.events_json import encode_events
from otel_apinalytics.receiver.log import RequestLog
from otel_apinalytics.receiver.records import events_record, new_header, spans_record
from otel_apinalytics.store.keys import Key, KeyRing, Scope

# How long a transport waits for a request to be durable: longer than any sync that will still
# succeed, shorter than a client's patience in most SDKs.
DURABLE_TIMEOUT_S = 9.0
_REFUSALS_KEPT = 20


@dataclass(frozen=True, slots=True)
class Refusal:
    """A request that was not let in.

    Args:
        at: When, in UTC.
        transport: `grpc` or `http`.
        reason: Why, as the client was told.
        application: Whose request, or None where no known key came with it.
    """

    at: datetime
    transport: str
    reason: str
    application: str | None


@dataclass(frozen=True, slots=True)
class Admitted:
    """What became of a request.

    Args:
        durable: Completes when the request is on disk; None where there was nothing to write. It
            fails with `RetryableError`.
        counts: Spans and bad ids in it.
    """

    durable: Future[None] | None
    counts: gate.Counts


class Admission:
    """Lets requests in, or says why not. Safe to use from many threads.

    Args:
        keys: The known keys.
        log: Where requests are written.
    """

    def __init__(self, keys: KeyRing, log: RequestLog) -> None:
        self._keys = keys
        self._log = log
        self._lock = threading.Lock()
        self._refusals: deque[Refusal] = deque(maxlen=_REFUSALS_KEPT)

    def authenticate(self, application: str | None, secret: str | None, transport: str) -> Key:
        """Return the write key that a request came with.

        Raises:
            AuthenticationError: There is none, or it is unknown.
            PermissionDeniedError: It is no write key.
        """
        try:
            return self._keys.authenticate(application, secret, Scope.WRITE)
        except AuthenticationError as error:
            self.refused(transport, error, None)
            raise
        except PermissionDeniedError as error:
            self.refused(transport, error, error.application)
            raise

    def admit_spans(self, key: Key, body: bytes, transport: str) -> Admitted:
        """Take an OTLP trace request in protobuf.

        Raises:
            InvalidRequestError: It does not parse, or has too many spans.
            RetryableError: It cannot be taken now.
        """
        counts = gate.inspect(body)
        if counts.spans == 0:
            return Admitted(None, counts)
        header = new_header(
            key.application, key.key_id, transport, counts.spans, counts.batch_rules
        )
        return Admitted(self._log.append(spans_record(header, body)), counts)

    def admit_events(self, key: Key, body: bytes, transport: str) -> Admitted:
        """Take a JSON array of events, all of them or none.

        Raises:
            InvalidRequestError: An event is not valid; it names index, field and reason.
            RetryableError: It cannot be taken now.
        """
        batch, count = encode_events(body)
        counts = gate.Counts(count, 0, 0)
        if count == 0:
            return Admitted(None, counts)
        header = new_header(key.application, key.key_id, transport, count)
        return Admitted(self._log.append(events_record(header, batch)), counts)

    def refused(self, transport: str, error: ApinalyticsError, application: str | None) -> None:
        """Remember a refusal, for whoever wonders why there is no data."""
        refusal = Refusal(datetime.now(timezone.utc), transport, str(error), application)
        with self._lock:
            self._refusals.append(refusal)

    def last_refusal(self, application: str) -> Refusal | None:
        """Return the latest refusal that is this application's, or may be, since the start."""
        with self._lock:
            return next(
                (r for r in reversed(self._refusals) if r.application in (None, application)), None
            )
