# SPDX-License-Identifier: Apache-2.0
"""What all statements share: their parameters, the condition on tenant and time, their faults."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from otel_apinalytics.errors import InvalidRequestError, RetryableError
from otel_apinalytics.store.engine import MAX_MEMORY_BYTES, EngineError

# Of a part or a table that the disk lost, until it is taken out.
_PASSING_CODES = frozenset({33, 60, 228})
# Where the store's time type ends.
MAX_SECONDS = 4_294_967_295


@dataclass(frozen=True, slots=True)
class Statement:
    """A SELECT and its parameters; quoting is left to the client library."""

    sql: str
    parameters: Mapping[str, Any]


def tenant_condition() -> str:
    """Return the condition on an application's events; `application` is its parameter."""
    return "events.application = %(application)s"


def range_condition(start: str = "start_us", end: str = "end_us") -> str:
    """Return the condition on an application's events of a half-open range of time.

    Its columns are qualified, so that no alias of a SELECT takes their place.

    Args:
        start: Name of the parameter with the start, Unix microseconds; `application` is another.
        end: Name of the parameter with the end, Unix microseconds.
    """
    start_time = f"fromUnixTimestamp64Micro(%({start})s, 'UTC')"
    end_time = f"fromUnixTimestamp64Micro(%({end})s, 'UTC')"
    return (
        f"{tenant_condition()}"
        # The key's second column; the exact bounds follow.
        f" AND events.hour >= toStartOfHour({start_time})"
        f" AND events.hour <= toStartOfHour({end_time})"
        f" AND events.timestamp >= {start_time} AND events.timestamp < {end_time}"
    )


def seconds_until(deadline: float) -> float:
    """Return the seconds that are left; never zero, which the engine takes for no limit.

    Args:
        deadline: Monotonic seconds.
    """
    return max(deadline - time.monotonic(), 0.001)


@contextlib.contextmanager
def engine_faults(timeout_s: float, advice: str) -> Iterator[None]:
    """Say what an engine's fault means to whoever asked.

    Args:
        timeout_s: Longest time that the question may take.
        advice: What to do about a question that is too large.

    Raises:
        InvalidRequestError: The question takes too long or too much memory.
        RetryableError: The store is not available.
        EngineError: The statement is wrong: a defect of the service.
    """
    try:
        yield
    except EngineError as error:
        if error.is_limit:
            memory = f"{MAX_MEMORY_BYTES >> 30} GiB of memory"
            limit = memory if error.is_of_memory else f"{timeout_s:g} s"
            raise InvalidRequestError(f"the question takes more than {limit}: {advice}") from error
        if error.is_transient or error.code in _PASSING_CODES:
            raise RetryableError("the store is not available now") from error
        # A statement of ours that the engine does not take.
        raise
