# SPDX-License-Identifier: Apache-2.0
"""Fixture: a store in a process of its own, for tests that fill and empty its tables."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.engine_fixtures import MemoryEngine
from tests.support.store import Store


@pytest.fixture(scope="module")
def _engine() -> Iterator[MemoryEngine]:
    engine = MemoryEngine()
    yield engine
    engine.close()


@pytest.fixture
def store(_engine: MemoryEngine) -> Store:
    """Return an empty store."""
    store = Store(_engine)
    store.clear()
    return store
