# SPDX-License-Identifier: Apache-2.0
"""How a middleware says who makes a request: when it begins, or else when its response does."""

from __future__ import annotations

import logging
from collections.abc import Callable
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
    """One request, for as long as the application is at it.

    Args:
        find: Returns who makes it, or None if that is not known yet.
    """

    def __init__(self, find: Callable[[], Consumer | None]) -> None:
        self._find = find
        self._pending: Pending | None = None
        self._is_over = False

    def __enter__(self) -> Identification:
        with _contained:
            register()
            if consumer := self._find():
                self._is_over = True
                # Frameworks may begin the SERVER span within the application that is wrapped.
                if not put_on_request(consumer):
                    self._pending = Pending(consumer)
                    pending.set(self._pending)
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

    def response_begins(self) -> None:
        """Look again: an authentication within the application has been done by now."""
        if self._is_over:
            return
        self._is_over = True
        with _contained:
            said = any(has_consumer(span) for span in recording_spans())
            if not said and (consumer := self._find()):
                put_on_request(consumer)
