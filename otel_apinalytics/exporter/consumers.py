# SPDX-License-Identifier: Apache-2.0
"""A consumer, and how one is written onto the spans of a request: no secret ever is."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from contextvars import ContextVar
from dataclasses import dataclass
from uuid import UUID

from opentelemetry import trace
from opentelemetry.sdk.trace import Span

from otel_apinalytics.exporter.hashing import hashed_or_none
from otel_apinalytics.exporter.quiet import log_once
from otel_apinalytics.exporter.request_spans import server_spans_of
from otel_apinalytics.normalize import rules
from otel_apinalytics.normalize.identity import identity
from otel_apinalytics.normalize.transforms import is_missing

_logger = logging.getLogger(__name__)
_SAID = {rule.field: rule.said for rule in rules.RULES if rule.said}
_IDS = (*_SAID["consumer_id"], f"{rules.EXPLICIT_PREFIX}consumer_id")
# What the rules read first.
_ID = _IDS[0]
_NAME = rules.SAID_ATTRIBUTES["consumer_name"]
_APP, _ORGANIZATION, _PLAN = (_SAID[name][0] for name in ("app_id", "organization_id", "plan_id"))


@dataclass(frozen=True, slots=True)
class Consumer:
    """Who calls. A text that looks like a secret is hashed, or left out without a hash key.

    Args:
        id: What they are known by, the same in each call; None for somebody unknown.
        name: What they are called.
        app: Their calling application.
        organization: The organization, tenant or account that they belong to.
        plan: Plan or product that their calls are billed under.
    """

    id: str | int | UUID | None
    name: str | None = None
    app: str | int | UUID | None = None
    organization: str | int | UUID | None = None
    plan: str | int | UUID | None = None


def put_on_request(consumer: Consumer) -> bool:
    """Put a consumer on the SERVER spans of the current request; the last one stays, as a whole.

    Return whether there is a span that takes it. Where the SERVER span is not known it is the
    current one, from which the service copies it to the span around it.
    """
    spans = recording_spans()
    if spans:
        _put(_attributes(consumer), spans)
    return bool(spans)


def recording_spans() -> list[trace.Span]:
    """Return the SERVER spans of the current request, or where none is known the current span."""
    current = trace.get_current_span()
    spans: list[trace.Span] = [*server_spans_of(current)] or [current]
    return [span for span in spans if span.is_recording()]


def put_on_span(consumer: Consumer, span: Span) -> None:
    """Put a consumer on a span."""
    _put(_attributes(consumer), [span])


def has_consumer(span: trace.Span) -> bool:
    """Return whether somebody said of this span who calls."""
    if not isinstance(span, Span) or not span.attributes:
        return False
    return any(map(span.attributes.get, _IDS))


# ---- before there is a span ----


class Pending:
    """A consumer that is known before the request's SERVER span begins; the first one takes it."""

    def __init__(self, consumer: Consumer) -> None:
        self._consumer: Consumer | None = consumer

    def take(self) -> Consumer | None:
        """Return the consumer, once."""
        consumer, self._consumer = self._consumer, None
        return consumer


# Not in OpenTelemetry's context: who makes a SERVER span begins a new one.
pending: ContextVar[Pending | None] = ContextVar("apinalytics_pending_consumer", default=None)

# ---- as attributes ----


def is_nobody(id: object) -> bool:
    """Return whether an id stands for "there is none"."""
    return id is None or (isinstance(id, str) and is_missing(id))


def sendable(value: object) -> str:
    """Return a value as it may be sent; empty where there is none, or it must not be."""
    if is_nobody(value):
        return ""
    if not isinstance(value, (str, int, UUID)) or isinstance(value, bool):
        kind = type(value).__name__
        log_once(_logger, "what says who calls is text, an integer or a UUID, not %s", kind)
        return ""
    # Half a surrogate pair would make the whole batch impossible to send.
    text = str(value).encode("utf-8", "replace").decode()
    return hashed_or_none(identity.python(text)) or ""


def _put(attributes: dict[str, str], spans: Iterable[trace.Span]) -> None:
    for span in spans:
        before = span.attributes or {} if isinstance(span, Span) else {}
        # An attribute cannot be taken away; an empty one is missing.
        span.set_attributes({n: v for n, v in attributes.items() if v or before.get(n)})


def _attributes(consumer: Consumer) -> dict[str, str]:
    """Return what to write of a consumer; nothing of nobody."""
    if is_nobody(consumer.id):
        return {}
    attributes = {
        _ID: sendable(consumer.id),
        _NAME: sendable(consumer.name),
        _APP: sendable(consumer.app),
        _ORGANIZATION: sendable(consumer.organization),
        _PLAN: sendable(consumer.plan),
    }
    # Somebody whose id cannot be sent is not the one that was named before.
    return attributes if attributes[_ID] else dict.fromkeys(attributes, "")
