# SPDX-License-Identifier: Apache-2.0
"""Admission: the one way in for both transports: authenticate, check, log.

Transports only translate: a request into these calls, and errors into their status codes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from types import MappingProxyType

from otel_apinalytics.errors import (
    ApinalyticsError,
    AuthenticationError,
    InvalidRequestError,
    PermissionDeniedError,
    RetryableError,
    TooManyRequestsError,
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
from otel_apinalytics.receiver.refusals import Refusals
from otel_apinalytics.store.key_ring import KeyRing
from otel_apinalytics.store.keys import Key, Scope
from otel_apinalytics.telemetry import Telemetry
from otel_apinalytics.wire.log_pb2 import LogHeader

#: In an answer, as a header or as trailing metadata: what the ledger knows the request by.
RECORD_ID = "X-Record-Id"


@dataclass(frozen=True, slots=True)
class Admitted:
    """What became of a request.

    Args:
        durable: Completes when the request is on disk; None where there was nothing to write. It
            fails with `RetryableError`.
        counts: Spans and bad ids in it.
        refused: Of events, what is wrong with those that are not kept.
        record_id: What the ledger knows the request by, in hex; empty where nothing was written.
    """

    durable: Future[None] | None
    counts: gate.Counts
    refused: tuple[InvalidRequestError, ...] = ()
    record_id: str = ""


class Admission:
    """Lets requests in, or says why not. Safe to use from many threads.

    Args:
        keys: The known keys.
        log: Where requests are written.
        duplicates: Knows what was received before.
        refusals: Where requests are counted that are not let in.
        telemetry: Where requests are counted.
    """

    def __init__(
        self,
        keys: KeyRing,
        log: RequestLog,
        duplicates: Duplicates,
        refusals: Refusals,
        telemetry: Telemetry,
    ) -> None:
        #: Where transports count what only they see.
        self.telemetry = telemetry
        self._keys = keys
        self._log = log
        self._duplicates = duplicates
        self._refusals = refusals

    def authenticate(
        self, application: str | None, secret: str | None, transport: str, address: str
    ) -> Key:
        """Return the write key that a request came with, before anything of it is read.

        Args:
            application: Application id as sent, or None.
            secret: The key in clear, or None.
            transport: How the request came.
            address: Where it came from.

        Raises:
            AuthenticationError: There is none, or it is unknown or not valid any more.
            PermissionDeniedError: It is no write key.
            TooManyRequestsError: The key's requests are used up for now.
        """
        try:
            return self._keys.authenticate(application, secret, Scope.WRITE, address=address)
        except (AuthenticationError, PermissionDeniedError, TooManyRequestsError) as error:
            self._refusals.add(transport, error, error.application, error.key_id)
            raise

    @property
    def has_room(self) -> bool:
        """Whether a request is worth reading."""
        return self._log.has_room

    def check_room(self) -> None:
        """Refuse a request before it is read.

        Raises:
            RetryableError: Too much waits to be loaded.
        """
        self._log.check_room()

    def admit_spans(self, key: Key, body: bytes, transport: str) -> Admitted:
        """Take an OTLP trace request in protobuf.

        Raises:
            InvalidRequestError: It does not parse, or is too large in some way.
            RetryableError: It cannot be taken now.
        """
        counts = gate.inspect(body)
        self._keys.take_rows(key, counts.spans)
        if counts.spans == 0:
            return Admitted(None, counts)
        header = new_header(
            key.application, key.key_id, transport, counts.spans, counts.batch_rules
        )
        header.digest = self._duplicates.digest(key.application, body)
        invalid = _invalid_ids(counts)

        def append() -> Future[None]:
            durable = self._log.append(spans_record(header, body))
            _when_kept(durable, lambda: self._count(header, "spans", invalid))
            return durable

        durable = self._append_once(header, "spans", invalid, append)
        return Admitted(durable, counts, record_id=header.record_id.hex())

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
        self._keys.take_rows(key, total)
        if total == 0:
            return Admitted(None, counts)

        whole = new_header(key.application, key.key_id, transport, total)
        # After a kill, a record with the digest says that the request was kept.
        whole.digest = digest

        def header(count: int, *, is_request: bool) -> LogHeader:
            made = new_header(key.application, key.key_id, transport, count)
            if is_request:
                made.digest, made.record_id = whole.digest, whole.record_id
            return made

        invalid = {outcomes.INVALID_EVENT: len(events.refused)}

        def append_refused() -> Future[None]:
            made = header(len(events.refused), is_request=not events.count)
            durable = self._log.append(rejected_at_the_door(made, outcomes.INVALID_EVENT))
            _when_kept(durable, lambda: self._count(made, "events", invalid))
            return durable

        def append() -> Future[None]:
            if not events.count:
                return append_refused()
            made = header(events.count, is_request=True)
            durable = self._log.append(events_record(made, events.batch))
            _when_kept(durable, lambda: self._count(made, "events"))
            if events.refused:
                # If the events are not kept, neither are the others counted: both come again.
                _when_kept(durable, lambda: _if_possible(append_refused))
            return durable

        durable = self._append_once(whole, "events", invalid, append) if digest else append()
        return Admitted(durable, counts, events.refused, whole.record_id.hex())

    def _append_once(
        self,
        header: LogHeader,
        kind: str,
        invalid: Mapping[str, int],
        append: Callable[[], Future[None]],
    ) -> Future[None]:
        """Append a request unless it was received before; then wait for the first, and count it."""
        digest = header.digest
        first = self._duplicates.claim(digest)
        if first is not None:
            _when_kept(
                first, lambda: _if_possible(lambda: self._append_duplicate(header, kind, invalid))
            )
            return first
        try:
            durable = append()
        except BaseException as error:
            self._duplicates.abandon(digest, error)
            raise
        self._duplicates.settle(digest, durable)
        return durable

    def _count(
        self, header: LogHeader, kind: str, invalid: Mapping[str, int] = MappingProxyType({})
    ) -> None:
        """Count what a record that is on disk counts, so that the metrics agree with the ledger."""
        self.telemetry.received(header.transport, kind, header.received_count)
        for reason, number in invalid.items():
            if number:
                self.telemetry.invalid(header.transport, reason, number)

    def _append_duplicate(
        self, header: LogHeader, kind: str, invalid: Mapping[str, int]
    ) -> Future[None]:
        """Append a record that says what was received once more, and that it is a duplicate."""

        def count() -> None:
            self._count(header, kind, invalid)
            self.telemetry.duplicate(header.transport, kind, header.received_count)

        durable = self._log.append(duplicate_record(header))
        _when_kept(durable, count)
        return durable

    def refused(self, transport: str, error: ApinalyticsError, key: Key) -> None:
        """Count a request that came with a good key and was not let in."""
        self._refusals.add(transport, error, key.application, key.key_id)


def _when_kept(durable: Future[None], then: Callable[[], None]) -> None:
    """Call `then` once a request is on disk; never, if it is not kept."""

    def settled(done: Future[None]) -> None:
        if not done.cancelled() and done.exception() is None:
            then()

    durable.add_done_callback(settled)


def _if_possible(append: Callable[[], Future[None]]) -> None:
    """Append a record that only counts something.

    It says what was received and what became of it: both are counted, or neither.
    """
    with contextlib.suppress(RetryableError):
        append()


def _invalid_ids(counts: gate.Counts) -> Mapping[str, int]:
    return {
        outcomes.INVALID_TRACE_ID: counts.invalid_trace_ids,
        outcomes.INVALID_SPAN_ID: counts.invalid_span_ids,
    }
