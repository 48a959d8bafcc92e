# SPDX-License-Identifier: Apache-2.0
"""Waiting until a request is durable: with a thread, and without one for each that waits."""

from __future__ import annotations

import asyncio
from concurrent.futures import TimeoutError as FutureTimeoutError

from otel_apinalytics.errors import RetryableError
from otel_apinalytics.receiver.admission import Admitted

# Longer than any sync that will still succeed, shorter than a client's patience in most SDKs.
_TIMEOUT_S = 9.0
_TOO_SLOW = "the request log is too slow now"


def wait_durable(admitted: Admitted) -> None:
    """Wait until a request is on disk, in this thread.

    Raises:
        RetryableError: It could not be written, or not in time.
    """
    if admitted.durable is None:
        return
    try:
        admitted.durable.result(_TIMEOUT_S)
    except FutureTimeoutError:
        # Kept only if it is being written at this moment.
        admitted.durable.cancel()
        raise RetryableError(_TOO_SLOW) from None


async def durable(admitted: Admitted) -> None:
    """Wait until a request is on disk.

    Raises:
        RetryableError: It could not be written, or not in time.
    """
    if admitted.durable is None:
        return
    try:
        # On time-out this cancels the future: it is kept only if it is being written right now.
        await asyncio.wait_for(asyncio.wrap_future(admitted.durable), _TIMEOUT_S)
    except asyncio.TimeoutError:
        raise RetryableError(_TOO_SLOW) from None
