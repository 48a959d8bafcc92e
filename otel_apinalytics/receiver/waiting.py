# SPDX-License-Identifier: Apache-2.0
"""Waiting until a request is durable, without a thread for each that waits."""

from __future__ import annotations

import asyncio

from otel_apinalytics.errors import RetryableError
from otel_apinalytics.receiver.admission import DURABLE_TIMEOUT_S, Admitted


async def durable(admitted: Admitted) -> None:
    """Wait until a request is on disk.

    Raises:
        RetryableError: It could not be written, or not in time.
    """
    if admitted.durable is None:
        return
    try:
        # On time-out this cancels the future: it is kept only if it is being written right now.
        await asyncio.wait_for(asyncio.wrap_future(admitted.durable), DURABLE_TIMEOUT_S)
    except asyncio.TimeoutError:
        raise RetryableError("the request log is too slow now") from None
