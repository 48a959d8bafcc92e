# SPDX-License-Identifier: Apache-2.0
"""What the exporter did, in numbers: for whoever asks, and as OpenTelemetry metrics."""

from __future__ import annotations

from collections import Counter
from enum import Enum

from opentelemetry.metrics import Meter


class Fate(Enum):
    """What became of a span that was handed to the exporter: each that does not wait has one."""

    SENT = "sent"  # The service took the event.
    REFUSED = "refused"  # The service will never take it; the log says why.
    FAILED = "failed"  # It could not be delivered, and does not wait any more.
    EXCLUDED = "excluded"  # Noise, by the settings.
    FILTERED = "filtered"  # No API call, or a part of another one.


class Counters:
    """Counts spans by what became of them, and requests by how they were answered.

    Args:
        meter: Where they are metrics as well.
    """

    def __init__(self, meter: Meter) -> None:
        self._spans: Counter[str] = Counter()
        self._requests: Counter[str] = Counter()
        self._span_metric = meter.create_counter(
            "apinalytics.exporter.spans", "{span}", "Spans by what became of them."
        )
        self._request_metric = meter.create_counter(
            "apinalytics.exporter.requests", "{request}", "Requests by their answer."
        )

    @property
    def failed(self) -> int:
        """Spans that were lost."""
        return self._spans[Fate.FAILED.value]

    def add_spans(self, fate: Fate, number: int) -> None:
        """Count spans."""
        if number:
            self._spans[fate.value] += number
            self._span_metric.add(number, {"outcome": fate.value})

    def add_request(self, answer: str) -> None:
        """Count a request by its status, or by the kind of error."""
        self._requests[answer] += 1
        self._request_metric.add(1, {"answer": answer})

    def clear(self) -> None:
        """Begin anew in a process that was forked off: what was counted is the parent's."""
        self._spans.clear()
        self._requests.clear()

    def snapshot(self) -> dict[str, dict[str, int]]:
        """Return the numbers: of `spans` by what became of them, of `requests` by their answer."""
        spans = {fate.value: self._spans[fate.value] for fate in Fate}
        return {"spans": spans, "requests": dict(self._requests)}
