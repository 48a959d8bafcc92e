# SPDX-License-Identifier: Apache-2.0
"""The span exporter: what the SDK calls. It never raises, and blocks no longer than it may."""

from __future__ import annotations

import logging
import os
import weakref
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from opentelemetry.context import (
    _SUPPRESS_HTTP_INSTRUMENTATION_KEY,
    _SUPPRESS_INSTRUMENTATION_KEY,
    attach,
    detach,
    get_current,
    set_value,
)
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from otel_apinalytics.errors import ConfigError

if TYPE_CHECKING:
    from otel_apinalytics.exporter.sender import Sender

_logger = logging.getLogger("otel_apinalytics.exporter")
# Instrumentations ask for the first two, older ones for the name.
_SUPPRESSIONS = (
    _SUPPRESS_INSTRUMENTATION_KEY, _SUPPRESS_HTTP_INSTRUMENTATION_KEY, "suppress_instrumentation",
)  # fmt: skip


class ApinalyticsSpanExporter(SpanExporter):
    """Sends SERVER spans as events to an Apinalytics service.

    Each argument stands for the variable `OTEL_EXPORTER_APINALYTICS_<NAME>` and wins over it; the
    documentation has the table. With a wrong value the exporter logs it and is off. It is meant for
    a `BatchSpanProcessor`; with a `SimpleSpanProcessor` each request would wait for the service.

    Args:
        endpoint: Address of the service's HTTP port.
        application_id: The application.
        write_key: A write key of the application.
        headers: Further headers of each request, as a mapping or as `name=value,other=value`.
        timeout: Seconds that a batch may take, over all attempts.
        compression: `gzip` or `none`.
        certificate: File with the authorities that the service's certificate is checked against.
        client_certificate: File with the certificate to show to the service.
        client_key: File with the key of that certificate.
        hash_key: The application's hash key; without it, no hashed id is sent.
        client_spans: Whether the calls that the program makes are sent, too.
        excluded_paths: Paths of requests that are not sent.
        excluded_user_agents: How the user agents of requests begin that are not sent.
        unknown: Anything else is a mistake, and treated as one.
    """

    def __init__(
        self,
        endpoint: str | None = None,
        application_id: str | None = None,
        write_key: str | None = None,
        headers: Mapping[str, str] | str | None = None,
        timeout: float | str | None = None,
        compression: str | None = None,
        certificate: str | os.PathLike[str] | None = None,
        client_certificate: str | os.PathLike[str] | None = None,
        client_key: str | os.PathLike[str] | None = None,
        hash_key: str | None = None,
        client_spans: bool | str | None = None,
        excluded_paths: Sequence[str] | str | None = None,
        excluded_user_agents: Sequence[str] | str | None = None,
        **unknown: Any,
    ) -> None:
        arguments = {
            "endpoint": endpoint,
            "application_id": application_id,
            "write_key": write_key,
            "headers": headers,
            "timeout": timeout,
            "compression": compression,
            "certificate": certificate,
            "client_certificate": client_certificate,
            "client_key": client_key,
            "hash_key": hash_key,
            "client_spans": client_spans,
            "excluded_paths": excluded_paths,
            "excluded_user_agents": excluded_user_agents,
            **unknown,
        }
        self._sender = _sender_or_none(arguments)

    @property
    def counters(self) -> dict[str, dict[str, int]]:
        """What became of the spans, and how requests were answered; empty if it is off."""
        return self._sender.counters.snapshot() if self._sender else {}

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send a batch; return once that succeeded or there is no use in trying on."""
        if self._sender is None:
            return SpanExportResult.FAILURE
        context = get_current()
        for key in _SUPPRESSIONS:
            context = set_value(key, True, context)
        token = attach(context)
        try:
            is_taken = self._sender.send(spans)
        finally:
            detach(token)
        return SpanExportResult.SUCCESS if is_taken else SpanExportResult.FAILURE

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Return at once: whatever was exported has been sent, nothing is held back."""
        return True

    def shutdown(self, timeout_millis: float = 30000) -> None:
        """End what is in progress; what is exported from then on is dropped. May be called again.

        Args:
            timeout_millis: How long to wait for what is in progress.
        """
        if self._sender is not None:
            self._sender.shutdown(timeout_millis / 1000)


def _sender_or_none(arguments: Mapping[str, Any]) -> Sender | None:
    # An error would cost the program all of its tracing, other exporters included.
    try:
        sender = _sender(arguments)
    except ConfigError as error:
        _logger.error("%s; the exporter is off", error)
        return None
    except Exception:
        _logger.exception("the exporter cannot start, and is off")
        return None
    _renew_after_fork(sender)
    return sender


def _sender(arguments: Mapping[str, Any]) -> Sender:
    # Here, and not with this module: what only says who calls needs none of it.
    from otel_apinalytics.exporter.sender import Sender
    from otel_apinalytics.exporter.settings import read_settings, unknown_variables

    for problem in unknown_variables(os.environ):
        _logger.warning("%s", problem)
    return Sender(read_settings(arguments, os.environ))


def _renew_after_fork(sender: Sender) -> None:
    # Where there is no fork, there is nothing to register. `Sender` also looks at the process id,
    # for those who fork without telling Python.
    if not hasattr(os, "register_at_fork"):
        return
    kept = weakref.ref(sender)

    def renew() -> None:
        if (living := kept()) is not None:
            living.after_fork()

    os.register_at_fork(after_in_child=renew)
