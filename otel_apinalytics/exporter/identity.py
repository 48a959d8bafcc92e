# SPDX-License-Identifier: Apache-2.0
"""Saying who calls, from anywhere in an application: OpenTelemetry has no API consumer."""

from __future__ import annotations

import logging
from uuid import UUID

from otel_apinalytics.exporter.consumers import Consumer, put_on_request
from otel_apinalytics.exporter.processor import register
from otel_apinalytics.exporter.quiet import Contained

_logger = logging.getLogger(__name__)
_contained = Contained(_logger, "set_consumer: nothing is set: %s")


def set_consumer(
    id: str | int | UUID | None,
    *,
    name: str | None = None,
    app: str | int | UUID | None = None,
    organization: str | int | UUID | None = None,
    plan: str | int | UUID | None = None,
) -> None:
    """Say who makes the current request.

    Puts the consumer on the request's SERVER span, whichever span is current: in any function,
    task, or thread that got the request's context. The last call of a request stays, as a whole.
    Does nothing outside of a request, or where the id is None or empty. Raises nothing: a wrong
    argument is logged, once.

    Args:
        id: What the consumer is known by, the same in each call. A text that looks like a secret
            is hashed; of an API key take `consumer_of_key(key)`.
        name: What they are called.
        app: Their calling application.
        organization: The organization, tenant or account that they belong to.
        plan: Plan or product that their calls are billed under.
    """
    with _contained:
        # Where tracing was set up in code, and without our processor.
        register()
        put_on_request(Consumer(id, name, app, organization, plan))
