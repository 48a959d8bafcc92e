# SPDX-License-Identifier: Apache-2.0
"""The span exporter: what the SDK calls. It never raises, and blocks no longer than it may."""

from __future__ import annotations

import logging
import os
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from opentelemetry import context
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from otel_apinalytics.errors import ConfigError
from otel_apinalytics.exporter.endings import send_at_end_of_child

if TYPE_CHECKING:
    from otel_apinalytics.exporter.sender import Sender

_logger = logging.getLogger("otel_apinalytics.exporter")
# Instrumentations ask for the first two, older ones for the name. The first two are private: one
# day they may be gone.
_SUPPRESSIONS = (
    *(getattr(context, f"_SUPPRESS_{what}INSTRUMENTATION_KEY", "") for what in ("", "HTTP_")),
    "suppress_instrumentation",
)


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
        return self._sender.counts() if self._sender else {}

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send a batch; return once that succeeded or there is no use in trying on.

        What the service could not take for now waits, and is sent before the next batch.
        """
        if self._sender is None:
            return SpanExportResult.FAILURE
        with _untraced():
            is_taken = self._sender.send(spans)
        return SpanExportResult.SUCCESS if is_taken else SpanExportResult.FAILURE

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Try to send what waits; return whether nothing does any more.

        Args:
            timeout_millis: How long that may take.
        """
        if self._sender is None:
            return True
        with _untraced():
            return self._sender.flush(timeout_millis / 1000)

    def shutdown(self, timeout_millis: float = 30000) -> None:
        """Send what waits, in a moment; what is exported from then on is dropped.

        May be called again.

        Args:
            timeout_millis: How long to wait at the most.
        """
        if self._sender is not None:
            with _untraced():
                self._sender.shutdown(timeout_millis / 1000)


@contextmanager
def _untraced() -> Iterator[None]:
    """Let nobody trace the exporter's own requests."""
    current = context.get_current()
    for key in _SUPPRESSIONS:
        current = context.set_value(key, True, current)
    token = context.attach(current)
    try:
        yield
    finally:
        context.detach(token)


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

    # Where there is a file of declarative configuration, nothing but that is to be read.
    environment = {} if os.environ.get("OTEL_CONFIG_FILE") else os.environ
    for problem in unknown_variables(environment):
        _logger.warning("%s", problem)
    return Sender(read_settings(arguments, environment))


def _renew_after_fork(sender: Sender) -> None:
    send_at_end_of_child()
    # Where there is no fork, there is nothing to register. `Sender` also looks at the process id,
    # for those who fork without telling Python.
    if not hasattr(os, "register_at_fork"):
        return
    kept = weakref.ref(sender)

    def renew() -> None:
        if (living := kept()) is not None:
            living.after_fork()
            send_at_end_of_child()

    os.register_at_fork(after_in_child=renew)
