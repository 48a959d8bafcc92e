# SPDX-License-Identifier: Apache-2.0
"""The exporter for Python programs: spans become events, and who calls is said.

Each name is loaded when it is asked for: what only says who calls needs no HTTP client.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from otel_apinalytics.exporter.asgi import ConsumerMiddleware
    from otel_apinalytics.exporter.consumers import Consumer
    from otel_apinalytics.exporter.hashing import consumer_of_key
    from otel_apinalytics.exporter.identity import set_consumer
    from otel_apinalytics.exporter.processor import ConsumerSpanProcessor
    from otel_apinalytics.exporter.span_exporter import ApinalyticsSpanExporter
    from otel_apinalytics.exporter.wsgi import WSGIConsumerMiddleware

__all__ = [
    "ApinalyticsSpanExporter",
    "Consumer",
    "ConsumerMiddleware",
    "ConsumerSpanProcessor",
    "WSGIConsumerMiddleware",
    "consumer_of_key",
    "set_consumer",
]
_MODULES = {
    "ApinalyticsSpanExporter": "span_exporter",
    "Consumer": "consumers",
    "ConsumerMiddleware": "asgi",
    "ConsumerSpanProcessor": "processor",
    "WSGIConsumerMiddleware": "wsgi",
    "consumer_of_key": "hashing",
    "set_consumer": "identity",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
