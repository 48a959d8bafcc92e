# SPDX-License-Identifier: Apache-2.0
"""Waiting for room and until a request is durable: with a thread, and without one for each.

A request that finds the log full waits a moment before it is read. Where more comes than can be
loaded, this slows senders down at less cost than to receive everything in order to refuse it.
"""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import TimeoutError as FutureTimeoutError

from otel_apinalytics.errors import RetryableError
from otel_apinalytics.receiver.admission import Admission, Admitted

# Longer than any sync that will still succeed, shorter than a client's patience in most SDKs.
_TIMEOUT_S = 9.0
_TOO_SLOW = "the request log is too slow now"
# About what a segment takes to be loaded, which is when there is room again; far less than the ten
# seconds that clients wait for an answer.
_ROOM_S = 1.0
_POLL_S = 0.02


def wait_for_room(admission: Admission, permits: threading.Semaphore) -> None:
    """Wait in this thread until there is room for a request.

    Args:
        admission: Knows whether there is.
        permits: How many may wait at once; others are refused at once.

    Raises:
        RetryableError: There is none.
    """
    if not admission.has_room and permits.acquire(blocking=False):
        try:
            patience = time.monotonic() + _ROOM_S
            while not admission.has_room and time.monotonic() < patience:
                time.sleep(_POLL_S)
        finally:
            permits.release()
    admission.check_room()


async def room(admission: Admission) -> None:
    """Wait until there is room for a request.

    Raises:
        RetryableError: There is none.
    """
    patience = time.monotonic() + _ROOM_S
    while not admission.has_room and time.monotonic() < patience:
        await asyncio.sleep(_POLL_S)
    admission.check_room()


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
