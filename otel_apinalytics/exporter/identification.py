# SPDX-License-Identifier: Apache-2.0
"""How a middleware says who makes a request: when it begins, or else when its response does."""

from __future__ import annotations

import logging
from types import TracebackType

from otel_apinalytics.exporter.consumers import (
    Consumer,
    Pending,
    has_consumer,
    pending,
    put_on_request,
    recording_spans,
)
from otel_apinalytics.exporter.processor import register
from otel_apinalytics.exporter.quiet import Contained

_logger = logging.getLogger(__name__)
_contained = Contained(_logger, "the consumer of a request could not be found: %s")


class Identification:
    """One request, for as long as the application is at it."""

    def __init__(self) -> None:
        self._pending: Pending | None = None
        self._is_over = False

    def __enter__(self) -> Identification:
        register()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # Whoever uses this thread or task next is somebody else.
        if self._pending:
            self._pending.take()

    def request_begins(self, consumer: Consumer | None) -> None:
        """Say who makes the request, as far as that is known before the application is called."""
        if consumer is None:
            return
        self._is_over = True
        with _contained:
            # Frameworks may begin the SERVER span within the application that is wrapped.
            if not put_on_request(consumer):
                self._pending = Pending(consumer)
                pending.set(self._pending)

    def is_wanted(self) -> bool:
        """Return whether nobody has said who makes the request; asked when the response begins."""
        if self._is_over:
            return False
        self._is_over = True
        with _contained:
            return not any(has_consumer(span) for span in recording_spans())
        return False

    def response_begins(self, consumer: Consumer | None) -> None:
        """Say who makes the request, as the application leaves it."""
        with _contained:
            if consumer:
                put_on_request(consumer)
