# SPDX-License-Identifier: Apache-2.0
"""The Python rendering of the rules: from a span to an event, the same that the engine makes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TypeAlias

from otel_apinalytics.catalogue import INBOUND, MAX_RESPONSE_US, OUTBOUND
from otel_apinalytics.normalize import rules
from otel_apinalytics.normalize import transforms as t
from otel_apinalytics.normalize.rules import Rule

Scalar: TypeAlias = str | bool | int | float
Attributes: TypeAlias = Mapping[str, Scalar | Sequence[Scalar]]
_DAY_US = 24 * 3600 * 1_000_000


@dataclass(frozen=True, slots=True)
class SpanView:
    """What the rules read of a span.

    Args:
        trace_id: 16 bytes if valid.
        span_id: 8 bytes if valid.
        parent_span_id: 8 bytes, or empty for a root.
        name: The span's name.
        kind: OTLP number of the kind; 2 is SERVER, 3 is CLIENT.
        start_ns: Start in Unix nanoseconds, 0 if unknown.
        end_ns: End in Unix nanoseconds, 0 if unknown.
        status: OTLP number of the status; 2 is ERROR.
        attributes: The span's attributes.
        resource: The resource's attributes.
    """

    trace_id: bytes
    span_id: bytes
    parent_span_id: bytes
    name: str
    kind: int
    start_ns: int
    end_ns: int
    status: int
    attributes: Attributes
    resource: Attributes


@dataclass(frozen=True, slots=True)
class Normalized:
    """What became of a span.

    Args:
        outcome: stored, filtered or rejected.
        reason: Why it is not stored; empty if it is.
        fields: The event's fields by their names in the catalogue; missing text is empty, a missing
            number is None. Times are Unix microseconds.
    """

    outcome: str
    reason: str
    fields: Mapping[str, str | int | bool | None]


def normalize_span(span: SpanView, received_ns: int) -> Normalized:
    """Return what the rules make of a span. Never raises.

    Args:
        span: The span.
        received_ns: When it arrived, Unix nanoseconds.
    """
    found = _found(rules.SPAN_RULES, span.attributes)
    found |= _found(rules.RESOURCE_RULES, span.resource)
    timestamp_us = (span.start_ns or span.end_ns or received_ns) // 1000
    reason = _reason(span, found, timestamp_us, received_ns)
    status_code = int(found["status_code"]) if found["status_code"] else None
    fields: dict[str, str | int | bool | None] = {
        "timestamp": timestamp_us,
        "consumer_id": found["consumer_id"] or "",
        "consumer_source": found["consumer_source"] or "",
        "method": found["method"] or "",
        "url": _url(found["path"], found["query"]),
        "function": _function(found["named_function"], found["method"], found["route"]),
        "route": found["route"] or "",
        "response_us": _response_us(span),
        "status_code": status_code,
        "is_error": (status_code or 0) >= 500 or span.status == rules.STATUS_ERROR,
        "direction": OUTBOUND if span.kind == rules.KIND_CLIENT else INBOUND,
        "service": found["service"] or "",
        "host": found["host"] or "",
    }
    if not reason:
        outcome = rules.STORED
    elif reason in rules.REJECT_REASONS:
        outcome = rules.REJECTED
    else:
        outcome = rules.FILTERED
    return Normalized(outcome, reason, fields)


def _found(table: Sequence[Rule], attributes: Attributes) -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for rule in table:
        value, name = _first_usable(rule, attributes)
        found[rule.target] = value
        if rule.named_by:
            found[rule.named_by] = name
    return found


def _first_usable(rule: Rule, attributes: Attributes) -> tuple[str | None, str | None]:
    for source in rule.sources:
        for name in source.attributes:
            text = _text(attributes[name]) if name in attributes else None
            if text is None or t.is_missing(text):
                continue
            value = source.transform.python(text)
            if value is not None:
                return value, name
            break
    return None, None


def _text(value: Scalar | Sequence[Scalar]) -> str | None:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return _float_text(value)
    # Of an array, the first element: captured headers are arrays of one.
    return _text(value[0]) if value else None


def _float_text(value: float) -> str:
    """Return a number as the engine's toString() writes it."""
    if not math.isfinite(value):
        return str(value)
    number = Decimal(repr(value))
    if value == 0 or 1e-6 <= abs(value) < 1e21:
        text = f"{number:f}"
        return text.rstrip("0").rstrip(".") if "." in text else text
    digits, exponent = f"{number.normalize():e}".split("e")
    return f"{digits}e{int(exponent)}"


def _reason(
    span: SpanView, found: Mapping[str, str | None], timestamp_us: int, received_ns: int
) -> str:
    if len(span.trace_id) != 16 or not any(span.trace_id):
        return rules.INVALID_TRACE_ID
    if len(span.span_id) != 8 or not any(span.span_id):
        return rules.INVALID_SPAN_ID
    if span.kind not in (rules.KIND_SERVER, rules.KIND_CLIENT):
        return rules.OTHER_KIND
    if all(found[name] is None for name in rules.EVIDENCE):
        return rules.WITHOUT_HTTP
    if timestamp_us > received_ns // 1000 + _DAY_US:
        return rules.TIME_OUT_OF_RANGE
    return ""


def _response_us(span: SpanView) -> int | None:
    if not span.start_ns or not span.end_ns:
        return None
    elapsed_us = max(0, span.end_ns - span.start_ns) // 1000
    return elapsed_us if elapsed_us <= MAX_RESPONSE_US else None


def _url(path: str | None, query: str | None) -> str:
    redacted = t.redacted_query.python(query) if query else None
    url = (path or "") + (f"?{redacted}" if redacted else "")
    return t.bounded_url.python(url) or ""


def _function(named: str | None, method: str | None, route: str | None) -> str:
    if named:
        return named
    if route:
        return f"{method} {route}" if method else route
    return rules.UNKNOWN_FUNCTION
