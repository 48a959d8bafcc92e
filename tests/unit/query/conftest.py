# SPDX-License-Identifier: Apache-2.0
"""Fixtures: the engine in memory, as the code under test knows an engine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from otel_apinalytics.store.engine import Engine, Rows
from tests.engine_fixtures import MemoryEngine


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


@pytest.fixture(scope="session")
def memory_store(memory_engine: MemoryEngine) -> Engine:
    """Return an engine that answers from memory."""
    return MemoryStore(memory_engine)
