# SPDX-License-Identifier: Apache-2.0
"""Fixtures: the engine in memory, as the code under test knows an engine."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pytest

from otel_apinalytics.store.engine import Engine, Rows
from tests.engine_fixtures import MemoryEngine

# Few, so that small tables have several blocks.
_BLOCK_ROWS = 7


class MemoryStore(Engine):
    """Answers questions by the engine in the child process.

    Args:
        engine: The engine.
    """

    def __init__(self, engine: MemoryEngine) -> None:
        self._engine = engine

    def query(self, sql: str, parameters: Mapping[str, Any] | None = None) -> Rows:
        """Return the rows of a SELECT.

        Raises:
            AssertionError: The engine refused it.
        """
        rows = self._engine.ask(query=sql, parameters=dict(parameters or {}))
        return Rows((), [tuple(row) for row in rows])

    def stream(self, statements: Iterable[tuple[str, Mapping[str, Any]]]) -> Iterator[bytes]:
        """Yield the text of SELECTs of one column, a few rows at a time.

        Raises:
            AssertionError: The engine refused one.
        """
        for sql, parameters in statements:
            lines = [line.encode() for (line,) in self.query(sql, parameters).rows]
            for start in range(0, len(lines), _BLOCK_ROWS):
                yield b"".join(lines[start : start + _BLOCK_ROWS])


@pytest.fixture(scope="session")
def memory_store(memory_engine: MemoryEngine) -> Engine:
    """Return an engine that answers from memory."""
    return MemoryStore(memory_engine)
