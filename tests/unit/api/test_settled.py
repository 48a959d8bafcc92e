# SPDX-License-Identifier: Apache-2.0
"""Tests of up to when counts are settled."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from otel_apinalytics.api.settled import SETTLED_UNTIL, Settled
from otel_apinalytics.errors import RetryableError
from otel_apinalytics.store.engine import EngineError


class Clock:
    """A clock that goes when it is told to."""

    now = 0.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


def says(*answers: float | Exception) -> Callable[[], float]:
    """Return what gives one answer after the other."""
    left = iter(answers)

    def answer() -> float:
        found = next(left)
        if isinstance(found, Exception):
            raise found
        return found

    return answer


@pytest.mark.parametrize(("loaded", "unique"), [(5.5, 9.0), (9.0, 5.5)])
def test_what_is_settled_is_loaded_and_there_once(loaded: float, unique: float) -> None:
    """The earlier of the two."""
    settled = Settled(says(loaded), says(unique))
    assert settled.until() == 5.5
    assert settled.headers() == {SETTLED_UNTIL: "5.5"}


def test_what_is_loaded_is_asked_first() -> None:
    """What is loaded between the two may have a copy."""
    order: list[str] = []

    def ask(name: str) -> float:
        order.append(name)
        return 1.0

    Settled(lambda: ask("loaded"), lambda: ask("unique")).until()
    assert order == ["loaded", "unique"]


def test_the_store_is_asked_once_a_second() -> None:
    """Whoever asks meanwhile gets the same."""
    clock = Clock()
    settled = Settled(says(1, 2), says(8, 9), clock)
    assert [settled.until(), settled.until()] == [1, 1]
    clock.now = 0.99
    assert settled.until() == 1
    clock.now = 1.0
    assert settled.until() == 2


@pytest.mark.parametrize("error", [EngineError("no", None), RetryableError("no")])
def test_a_store_that_does_not_say_keeps_no_answer_back(error: Exception) -> None:
    """Nothing is said then, until it does."""
    clock = Clock()
    settled = Settled(says(1, 2), says(error, 9), clock)
    assert settled.until() is None
    assert settled.headers() == {}
    clock.now = 2.0
    assert settled.until() == 2
