# SPDX-License-Identifier: Apache-2.0
"""Tests of streamed answers: whatever happens, the blocks are closed, and nothing looks whole."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Generator, Iterator

import pytest
from starlette.types import Message

from otel_apinalytics.api.streaming import BlocksResponse
from tests.support.waiting import wait_for


class Blocks:
    """Blocks that know whether they were closed; an exception among them is raised."""

    def __init__(self, *steps: bytes | Exception) -> None:
        self.closed = threading.Event()
        self.taken = 0
        self.generator = self._generate(iter(steps))

    def _generate(self, steps: Iterator[bytes | Exception]) -> Generator[bytes, None, None]:
        try:
            for step in steps:
                self.taken += 1
                if isinstance(step, Exception):
                    raise step
                yield step
        finally:
            self.closed.set()


class Exchange:
    """One request: what was sent, and a client that goes or stalls when it is told to."""

    def __init__(self, blocks: Blocks, patience_s: float = 30.0) -> None:
        self.blocks = blocks
        self.response = BlocksResponse(blocks.generator, "text/lines", patience_s)
        self.messages: list[Message] = []

    def run(self, on_body: Callable[[asyncio.Event], Awaitable[None]] | None = None) -> None:
        """Answer; `on_body` is called at each part of the body, with what lets the client go."""

        async def exchange() -> None:
            gone = asyncio.Event()

            async def receive() -> Message:
                await gone.wait()
                return {"type": "http.disconnect"}

            async def send(message: Message) -> None:
                self.messages.append(message)
                if on_body and message["type"] == "http.response.body":
                    await on_body(gone)

            scope = {"type": "http", "asgi": {"spec_version": "2.3"}}
            await self.response(scope, receive, send)

        asyncio.run(exchange())

    @property
    def body(self) -> bytes:
        """The body as far as it was sent."""
        return b"".join(message.get("body", b"") for message in self.messages[1:])

    @property
    def is_complete(self) -> bool:
        """Whether the client was told that this is all."""
        return not self.messages[-1].get("more_body", True)


@pytest.mark.parametrize(
    "steps", [(), (b"a\n",), (b"a\n", b"", b"b\n"), (b"x" * 200_000, b"y" * 65_536)]
)
def test_all_blocks_are_sent(steps: tuple[bytes, ...]) -> None:
    """In small pieces, and then the mark of the end."""
    exchange = Exchange(Blocks(*steps))
    exchange.run()
    assert exchange.body == b"".join(steps)
    assert exchange.is_complete
    assert max(len(message.get("body", b"")) for message in exchange.messages) <= 65_536
    assert (b"content-type", b"text/lines; charset=utf-8") in exchange.messages[0]["headers"]
    assert exchange.blocks.closed.is_set()


def test_a_fault_in_the_middle_is_no_end() -> None:
    """The server hears of it, and breaks the connection."""
    exchange = Exchange(Blocks(b"a\n", ValueError("fault"), b"b\n"))
    with pytest.raises(ValueError, match="fault"):
        exchange.run()
    assert exchange.body == b"a\n"
    assert not exchange.is_complete
    assert exchange.blocks.closed.is_set()


def test_a_client_that_goes_away_stops_the_stream() -> None:
    """No further block is taken, and what they come from is free again."""
    exchange = Exchange(Blocks(*[b"a\n"] * 1000))

    async def go(gone: asyncio.Event) -> None:
        gone.set()
        await asyncio.Event().wait()

    exchange.run(go)
    assert not exchange.is_complete
    assert exchange.blocks.taken < 1000
    wait_for(exchange.blocks.closed.is_set)


def test_a_client_that_takes_nothing_is_given_up() -> None:
    """It would hold what the blocks come from for ever."""
    exchange = Exchange(Blocks(*[b"a\n"] * 10), patience_s=0.01)

    async def stall(_: asyncio.Event) -> None:
        await asyncio.Event().wait()

    exchange.run(stall)
    assert not exchange.is_complete
    wait_for(exchange.blocks.closed.is_set)


def test_a_block_that_is_being_made_is_waited_for() -> None:
    """A generator cannot be closed while it runs."""
    may_go_on, running = threading.Event(), threading.Event()
    exchange = Exchange(Blocks())

    def slow() -> Generator[bytes, None, None]:
        try:
            yield b"a\n"
            running.set()
            may_go_on.wait()
            while True:
                yield b"b\n"
        finally:
            exchange.blocks.closed.set()

    exchange.response = BlocksResponse(slow(), "text/lines")
    leaving: list[asyncio.Task[None]] = []

    async def leave(gone: asyncio.Event) -> None:
        while not running.is_set():
            await asyncio.sleep(0)
        gone.set()
        may_go_on.set()

    async def go(gone: asyncio.Event) -> None:
        leaving.append(asyncio.create_task(leave(gone)))

    exchange.run(go)
    assert not exchange.is_complete
    wait_for(exchange.blocks.closed.is_set)
