# SPDX-License-Identifier: Apache-2.0
"""Tests of taking turns with the program's threads."""

from __future__ import annotations

import time

import pytest

from otel_apinalytics.exporter import turns
from otel_apinalytics.exporter.turns import Turns

REST_S = 0.02


@pytest.fixture
def rests(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Give a list of the rests that are taken, which are as long as beside a thread that computes.

    That keeps the turn for its 5 ms, or for more where the machine is slow.
    """
    taken: list[float] = []
    sleep = time.sleep

    def rest(seconds: float) -> None:
        taken.append(seconds)
        sleep(REST_S)

    monkeypatch.setattr(time, "sleep", rest)
    return taken


def work(taking: Turns, number: int) -> None:
    """Do so many pieces of work, each as long as a turn."""
    for _ in range(number):
        while not taking.is_over:
            pass
        taking.rest()


def test_a_rest_follows_each_turn(rests: list[float]) -> None:
    """And then another turn begins."""
    work(Turns(), 2)
    assert len(rests) == 2


def test_a_turn_is_not_over_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is something to be done in it."""
    monkeypatch.setattr(turns, "_TURN_S", 1000.0)
    taking = Turns()
    assert not taking.is_over
    taking.rest()
    assert not taking.is_over


def test_beside_a_busy_thread_there_is_an_end_of_rests(rests: list[float]) -> None:
    """Where each costs milliseconds, hundreds would make a batch last for seconds."""
    work(Turns(), 300)
    assert len(rests) <= turns._MAX_RESTING_S / REST_S + 1
