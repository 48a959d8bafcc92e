# SPDX-License-Identifier: Apache-2.0
"""An answer of any size: blocks from a thread to the client, and what if either of them fails."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Generator

from starlette.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse
from starlette.types import Message, Send

# What is handed to the server at a time; a slow line needs minutes for a block, but not for this.
_PIECE_BYTES = 64 * 1024
# Seconds within which a client must take a piece. One that does not must not hold up others. A slow
# one has to read a few megabytes first, which the operating system keeps for it.
PATIENCE_S = 120.0

_logger = logging.getLogger(__name__)


class _StalledError(Exception):
    """The client has taken nothing for too long."""


class BlocksResponse(StreamingResponse):
    """Sends blocks as fast as the client takes them, and closes their generator whatever happens.

    An error that comes after the beginning ends the connection without the mark that completes the
    answer, so that no client takes what it got for the whole.

    Args:
        blocks: The body. Its steps block, and are taken in other threads.
        media_type: Content type.
        patience_s: Seconds within which the client must take a piece.
    """

    def __init__(
        self,
        blocks: Generator[bytes, None, None],
        media_type: str,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self._blocks = blocks
        self._patience_s = patience_s
        # A step may outlast the request that waits for it.
        self._lock = threading.Lock()
        super().__init__(self._pieces(), media_type=media_type)

    async def stream_response(self, send: Send) -> None:
        """Send all, or raise, or return without the end: the server breaks the connection then."""

        async def send_in_time(message: Message) -> None:
            try:
                await asyncio.wait_for(send(message), self._patience_s)
            except asyncio.TimeoutError:
                raise _StalledError from None

        try:
            await super().stream_response(send_in_time)
        except _StalledError:
            _logger.warning("a client took nothing for %g s: broken off", self._patience_s)
        finally:
            # Not awaited: where the client is gone, this task is cancelled and can wait no more.
            asyncio.get_running_loop().run_in_executor(None, self._close)

    async def _pieces(self) -> AsyncIterator[bytes]:
        while (block := await run_in_threadpool(self._next)) is not None:
            for start in range(0, len(block), _PIECE_BYTES):
                yield block[start : start + _PIECE_BYTES]

    def _next(self) -> bytes | None:
        with self._lock:
            return next(self._blocks, None)

    def _close(self) -> None:
        with self._lock:
            self._blocks.close()
