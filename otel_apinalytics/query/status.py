# SPDX-License-Identifier: Apache-2.0
"""Why there is data, or none: what the ledger says of an application's last day."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from otel_apinalytics.errors import RetryableError
from otel_apinalytics.normalize.outcomes import RECEIVED
from otel_apinalytics.store.engine import Engine, EngineError


@dataclass(frozen=True, slots=True)
class Status:
    """What arrived within the last 24 hours.

    Args:
        last_received: Minute in which something arrived last, UTC; None for nothing.
        outcomes: Outcome → reason → spans and events; of `refused`, requests, which are beside the
            equation.
    """

    last_received: datetime | None
    outcomes: Mapping[str, Mapping[str, int]]


def run_status(engine: Engine, application: str, timeout_s: float) -> Status:
    """Ask the ledger, for at most `timeout_s` seconds.

    Raises:
        RetryableError: The store is not available.
    """
    try:
        rows = engine.query(
            "SELECT outcome, reason, sum(items), max(minute) FROM ledger "
            "WHERE application = %(application)s AND minute > now() - INTERVAL 1 DAY "
            f"GROUP BY outcome, reason SETTINGS max_execution_time = {timeout_s}",
            {"application": application},
        ).rows
    except EngineError as error:
        raise RetryableError("the store is not available now") from error
    outcomes: dict[str, dict[str, int]] = {}
    for outcome, reason, items, _ in rows:
        outcomes.setdefault(str(outcome), {})[str(reason)] = int(items)
    # A request that was refused did not arrive.
    received = (minute for outcome, _, _, minute in rows if outcome == RECEIVED)
    return Status(max(received, default=None), outcomes)
