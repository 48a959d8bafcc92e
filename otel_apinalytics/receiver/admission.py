# SPDX-License-Identifier: Apache-2.0
"""Admission: the one way in for both transports: authenticate, check, log.

Transports only translate: a request into these calls, and errors into their status codes.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import datetime, timezone

from otel_apinalytics.errors import (
    ApinalyticsError,
    AuthenticationError,
    InvalidRequestError,
    PermissionDeniedError,
    RetryableError,
)
from otel_apinalytics.normalize import outcomes
from otel_apinalytics.receiver import gate
from otel_apinalytics.receiver.duplicates import Duplicates
from otel_apinalytics.receiver.events_json import encode_events, encode_valid_events
from otel_apinalytics.receiver.log import RequestLog
from otel_apinalytics.receiver.records import (
    duplicate_record,
    events_record,
    new_header,
    rejected_at_the_door,
    spans_record,
)
from otel_apinalytics.store.keys import Key, KeyRing, Scope
from otel_apinalytics.telemetry import Telemetry
from otel_apinalytics.wire.log_pb2 import LogHeader

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
        refused: Of events, what is wrong with those that are not kept.
    """

    durable: Future[None] | None
    counts: gate.Counts
    refused: tuple[InvalidRequestError, ...] = ()


class Admission:
    """Lets requests in, or says why not. Safe to use from many threads.

    Args:
        keys: The known keys.
        log: Where requests are written.
        duplicates: Knows what was received before.
        telemetry: Where requests are counted.
    """

    def __init__(
        self, keys: KeyRing, log: RequestLog, duplicates: Duplicates, telemetry: Telemetry
    ) -> None:
        #: Where transports count what only they see.
        self.telemetry = telemetry
        self._keys = keys
        self._log = log
        self._duplicates = duplicates
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
            InvalidRequestError: It does not parse, or is too large in some way.
            RetryableError: It cannot be taken now.
        """
        counts = gate.inspect(body)
        if counts.spans == 0:
            return Admitted(None, counts)
        header = new_header(
            key.application, key.key_id, transport, counts.spans, counts.batch_rules
        )
        header.digest = self._duplicates.digest(key.application, body)
        durable = self._append_once(
            header, "spans", lambda: self._log.append(spans_record(header, body))
        )
        self._count_when_durable(durable, transport, "spans", counts.spans, _invalid_ids(counts))
        return Admitted(durable, counts)

    def admit_events(
        self,
        key: Key,
        body: bytes,
        transport: str,
        *,
        partial: bool = False,
        idempotency_key: str | None = None,
    ) -> Admitted:
        """Take a JSON array of events, all of them or none.

        The same body again is recognized if its sender says that it may come twice, or if each
        event has ids: two calls may be equal in all that an event says.

        Args:
            key: The key that it came with.
            body: The array.
            transport: How it came.
            partial: Whether to take those that are valid, where some are not.
            idempotency_key: What the sender calls the request, equal in each try.

        Raises:
            InvalidRequestError: An event is not valid; it names index, field and reason.
            RetryableError: It cannot be taken now.
        """
        digest = self._duplicates.digest(key.application, (idempotency_key or "").encode(), body)
        name = digest if idempotency_key is not None else None
        events = encode_valid_events(body, name) if partial else encode_events(body, name)
        if name is None and not events.have_ids:
            digest = b""
        counts, total = gate.Counts(events.count), events.count + len(events.refused)
        if total == 0:
            return Admitted(None, counts)

        def header(count: int, *, is_request: bool) -> LogHeader:
            made = new_header(key.application, key.key_id, transport, count)
            # After a kill, a record with the digest says that the request was kept.
            made.digest = digest if is_request else b""
            return made

        def append() -> Future[None]:
            refused = rejected_at_the_door(
                header(len(events.refused), is_request=not events.count), outcomes.INVALID_EVENT
            )
            if not events.count:
                return self._log.append(refused)
            durable = self._log.append(
                events_record(header(events.count, is_request=True), events.batch)
            )
            if events.refused:
                # If the events are not kept, neither are the others counted: both come again.
                _when_kept(durable, lambda: self._append_count(refused))
            return durable

        whole = header(total, is_request=True)
        durable = self._append_once(whole, "events", append) if digest else append()
        refused = {outcomes.INVALID_EVENT: len(events.refused)}
        self._count_when_durable(durable, transport, "events", total, refused)
        return Admitted(durable, counts, events.refused)

    def _append_once(
        self, header: LogHeader, kind: str, append: Callable[[], Future[None]]
    ) -> Future[None]:
        """Append a request unless it was received before; then wait for the first, and count it."""
        digest = header.digest
        first = self._duplicates.claim(digest)
        if first is not None:
            _when_kept(first, lambda: self._record_duplicate(header, kind))
            return first
        try:
            durable = append()
        except BaseException as error:
            self._duplicates.abandon(digest, error)
            raise
        self._duplicates.settle(digest, durable)
        return durable

    def _count_when_durable(
        self,
        durable: Future[None],
        transport: str,
        kind: str,
        items: int,
        invalid: Mapping[str, int],
    ) -> None:
        """Count a request once it is on disk; what fails is counted as refused."""

        def count() -> None:
            self.telemetry.received(transport, kind, items)
            for reason, number in invalid.items():
                if number:
                    self.telemetry.invalid(transport, reason, number)

        _when_kept(durable, count)

    def _record_duplicate(self, header: LogHeader, kind: str) -> None:
        self.telemetry.duplicate(header.transport, kind, header.received_count)
        self._append_count(duplicate_record(header))

    def _append_count(self, record: bytes) -> None:
        """Append a record that only counts something.

        It says what was received and what became of it: both are counted, or neither.
        """
        with contextlib.suppress(RetryableError):
            self._log.append(record)

    def refused(self, transport: str, error: ApinalyticsError, application: str | None) -> None:
        """Count a refusal, and remember it for whoever wonders why there is no data."""
        self.telemetry.refused(transport, error)
        refusal = Refusal(datetime.now(timezone.utc), transport, str(error), application)
        with self._lock:
            self._refusals.append(refusal)

    def last_refusal(self, application: str) -> Refusal | None:
        """Return the latest refusal that is this application's, or may be, since the start."""
        with self._lock:
            return next(
                (r for r in reversed(self._refusals) if r.application in (None, application)), None
            )


def _when_kept(durable: Future[None], then: Callable[[], None]) -> None:
    """Call `then` once a request is on disk; never, if it is not kept."""

    def settled(done: Future[None]) -> None:
        if not done.cancelled() and done.exception() is None:
            then()

    durable.add_done_callback(settled)


def _invalid_ids(counts: gate.Counts) -> Mapping[str, int]:
    return {
        outcomes.INVALID_TRACE_ID: counts.invalid_trace_ids,
        outcomes.INVALID_SPAN_ID: counts.invalid_span_ids,
    }
