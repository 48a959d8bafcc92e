# SPDX-License-Identifier: Apache-2.0
"""The span processor that leads from any span to its request's SERVER span, and may say who calls.

`opentelemetry-instrument` adds one by itself; who sets up tracing in code adds it there.
"""

from __future__ import annotations

import logging
import time
import weakref
from collections.abc import Callable

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor

from otel_apinalytics.exporter.consumers import (
    Consumer,
    has_consumer,
    pending,
    put_on_span,
)
from otel_apinalytics.exporter.quiet import Contained
from otel_apinalytics.exporter.request_spans import is_server, remember, server_spans_of
from otel_apinalytics.exporter.sources import (
    Ask,
    attribute_source,
    consumer_said,
    first_said,
    header_source,
)

_logger = logging.getLogger(__name__)
_contained = Contained(_logger, "the consumer of a request could not be found: %s")
_with_processor: weakref.WeakSet[trace.TracerProvider] = weakref.WeakSet()


class ConsumerSpanProcessor(SpanProcessor):
    """Lets `set_consumer` find the SERVER span from any depth of a request. Safe to add twice.

    With arguments it also says who calls, when the SERVER span is about to end, unless somebody has
    said so before: the first of these that gives something.

    Args:
        consumer: From the SERVER span, with all its attributes, to an id, a `Consumer`, or None.
        attribute: Attribute that has the id, of the SERVER span or of a span within it.
        header: Request header that has the id, if the instrumentation captures it
            (`OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SERVER_REQUEST`).
        secret: Whether attribute and header are secrets, to be hashed. Headers with credentials and
            keys, such as `authorization` and `x-api-key`, always are.
    """

    def __init__(
        self,
        *,
        consumer: Ask[ReadableSpan] | None = None,
        attribute: str | None = None,
        header: str | None = None,
        secret: bool = False,
    ) -> None:
        self._ask = consumer
        self._attribute = attribute_source(attribute, secret) if attribute else None
        self._header = header_source(header, secret) if header else None

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Remember the span, and give it a consumer that is known already."""
        with _contained:
            remember(span, parent_context)
            if is_server(span):
                self._begin_request(span)
            elif self._attribute:
                _before_end(span, self._end_part)

    def _begin_request(self, span: Span) -> None:
        if (waiting := pending.get()) and (consumer := waiting.take()):
            put_on_span(consumer, span)
        if self._ask or self._attribute or self._header:
            _before_end(span, self._end_request)

    def _end_request(self, span: Span) -> None:
        with _contained:
            if not has_consumer(span) and (found := self._find(span)):
                put_on_span(found, span)

    def _end_part(self, span: Span) -> None:
        with _contained:
            if self._attribute and (found := self._attribute.consumer_on(span.attributes)):
                for around in server_spans_of(span):
                    if around.is_recording() and not has_consumer(around):
                        put_on_span(found, around)

    def _find(self, span: Span) -> Consumer | None:
        ask, attribute, header = self._ask, self._attribute, self._header
        return first_said(
            lambda: consumer_said(ask(span)) if ask else None,
            lambda: attribute.consumer_on(span.attributes) if attribute else None,
            lambda: header.consumer_on(span.attributes) if header else None,
        )


def register() -> None:
    """Add the processor to the program's tracer provider, once; nothing if there is none yet."""
    with _contained:
        provider = trace.get_tracer_provider()
        add = getattr(provider, "add_span_processor", None)
        if add is not None and provider not in _with_processor:
            _with_processor.add(provider)
            add(ConsumerSpanProcessor())


def _before_end(span: Span, action: Callable[[Span], None]) -> None:
    """Have something done to a span when it is about to end.

    The SDK tells its processors of an ending span only when it cannot be written any more.
    """
    following = vars(span).get("end")
    # A span that held itself would wait for the garbage collector.
    held = weakref.ref(span)

    def end(end_time: int | None = None) -> None:
        ended = time.time_ns() if end_time is None else end_time
        if (ending := held()) is not None:
            action(ending)
            (following or type(ending).end.__get__(ending))(ended)

    span.end = end  # type: ignore[method-assign]
