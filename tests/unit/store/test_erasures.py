# SPDX-License-Identifier: Apache-2.0
"""Tests of erasures, with a real engine: in which order things are done, and who gets a receipt."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from otel_apinalytics.errors import NotFoundError, RetryableError
from otel_apinalytics.store.erasing import Counts
from otel_apinalytics.store.erasures import Erasures, Receipt
from tests.support.store import Store, refuse
from tests.support.waiting import wait_for

DEADLINE_S = 60.0


class Erasing:
    """Erasures of a store, and what they asked for, in order."""

    def __init__(self, store: Store) -> None:
        self.steps: list[str] = []
        self.completed: list[Receipt] = []
        #: Called when the log is to be settled, and when all is to be on disk.
        self.settle: Callable[[], None] = lambda: None
        self.make_durable: Callable[[], None] = lambda: None
        store.before_command = lambda sql: self.steps.append(sql.split()[0])
        self.erasures = Erasures(
            store.engine,
            lambda: self._step("settle", self.settle),
            lambda: self._step("make durable", self.make_durable),
            lambda: 2,
            self.completed.append,
        )

    def _step(self, name: str, run: Callable[[], None]) -> None:
        self.steps.append(name)
        run()

    def erase(self, consumer: str = "acme") -> Receipt:
        """Erase a consumer of the shop, and wait for the receipt."""
        receipt = self.erasures.receipt(self.erasures.begin("shop", consumer), "shop", DEADLINE_S)
        assert receipt is not None
        return receipt


@pytest.fixture
def erasing(store: Store) -> Iterator[Erasing]:
    """Give erasures of a store."""
    erasing = Erasing(store)
    yield erasing
    erasing.erasures.stop()
    erasing.erasures.close()


def add(store: Store, consumer: str = "acme", number: int = 1, received: float = 1.0) -> None:
    """Insert an event."""
    store.run(
        "INSERT INTO events (timestamp, application, event_id, consumer_id, received_at) VALUES "
        f"('2026-01-05 00:00:00', 'shop', {number}, '{consumer}', "
        f"toDateTime64({received}, 6, 'UTC'))"
    )


def events(store: Store) -> int:
    """Return how many there are."""
    ((count,),) = store.ask("SELECT count() FROM events")
    return int(count)


def test_a_receipt_comes_when_all_is_on_disk(store: Store, erasing: Erasing) -> None:
    """What the log has is stored first, and looked for again when it is deleted."""
    add(store)
    add(store, "globex", 2)
    before = time.time()
    receipt = erasing.erase()
    assert erasing.steps == ["settle", "ALTER", "settle", "make durable"]
    assert (receipt.counts, receipt.application, receipt.consumer) == (Counts(1), "shop", "acme")
    assert before <= receipt.received_before <= receipt.completed_at <= time.time()
    assert receipt.copies_until >= receipt.completed_at + 720
    assert (receipt.segments_set_aside, receipt.bound_keys) == (2, ())
    assert erasing.completed == [receipt]
    assert events(store) == 1


def test_asked_again_it_finds_nothing(store: Store, erasing: Erasing) -> None:
    """It says so, with a name of its own."""
    add(store)
    first, second = erasing.erase(), erasing.erase()
    assert (first.counts, second.counts) == (Counts(1), Counts())
    assert first.erasure != second.erasure


def test_what_was_on_its_way_goes_too(store: Store, erasing: Erasing) -> None:
    """It is loaded while the rest is deleted."""
    add(store)
    numbers = iter([2, 3])

    def arrive() -> None:
        if erasing.steps.count("settle") > 1:
            for number in itertools.islice(numbers, 1):
                add(store, number=number)

    erasing.settle = arrive
    receipt = erasing.erase()
    assert (receipt.counts, events(store)) == (Counts(3), 0)


def test_what_comes_later_is_new(store: Store, erasing: Erasing) -> None:
    """It keeps no erasure from its end."""
    add(store)
    numbers = iter(range(2, 1000))

    def arrive() -> None:
        if erasing.steps.count("settle") > 1:
            add(store, number=next(numbers), received=time.time() + 60)

    erasing.settle = arrive
    assert erasing.erase().counts == Counts(1)
    assert events(store) == 1


def test_a_store_that_is_behind_gives_no_receipt(store: Store, erasing: Erasing) -> None:
    """Nor does a disk that fails at the end; asked again, it does the rest."""
    add(store)

    def fail() -> None:
        raise RetryableError("the store is behind")

    erasing.settle = fail
    with pytest.raises(RetryableError, match="behind"):
        erasing.erase()
    assert events(store) == 1
    erasing.settle = lambda: None

    def lose() -> None:
        raise OSError("the disk is gone")

    erasing.make_durable = lose
    with pytest.raises(RetryableError, match="begin it again"):
        erasing.erase()
    assert erasing.completed == []
    erasing.make_durable = lambda: None
    assert erasing.erase().counts == Counts()


def test_a_store_that_fails_is_asked_again(store: Store, erasing: Erasing) -> None:
    """Its fault is ours, and passes."""
    add(store)
    store.before_command = refuse
    with pytest.raises(RetryableError):
        erasing.erase()
    store.before_command = lambda sql: None
    assert erasing.erase().counts == Counts(1)


def test_one_that_takes_long_is_waited_for_elsewhere(store: Store, erasing: Erasing) -> None:
    """Its receipt can be asked for, by whoever administers the application."""
    add(store)
    go_on = threading.Event()
    erasing.settle = lambda: _wait(go_on)
    erasure = erasing.erasures.begin("shop", "acme")
    assert erasing.erasures.receipt(erasure, "shop", 0.01) is None
    for application in ("other", "sho"):
        with pytest.raises(NotFoundError):
            erasing.erasures.receipt(erasure, application, 0.01)
    go_on.set()
    receipt = erasing.erasures.receipt(erasure, None, DEADLINE_S)
    assert receipt is not None
    assert erasing.erasures.receipt(erasure, "shop", 0.0) == receipt
    with pytest.raises(NotFoundError):
        erasing.erasures.receipt("unknown", None, 0.0)


def test_one_that_has_not_begun_does_for_all_who_ask(store: Store, erasing: Erasing) -> None:
    """One that has begun may have missed what came since."""
    go_on = threading.Event()
    erasing.settle = lambda: _wait(go_on)
    running = erasing.erasures.begin("shop", "acme")
    wait_for(lambda: "settle" in erasing.steps)
    waiting = erasing.erasures.begin("shop", "acme")
    assert waiting != running
    assert erasing.erasures.begin("shop", "acme") == waiting
    assert erasing.erasures.begin("shop", "globex") not in (running, waiting)
    assert erasing.erasures.begin("other", "acme") not in (running, waiting)
    go_on.set()


def test_a_stop_ends_it_without_a_receipt(store: Store, erasing: Erasing) -> None:
    """Those that wait, too; it is begun again after the next start."""
    add(store)
    erasing.settle = erasing.erasures.stop
    running = erasing.erasures.begin("shop", "acme")
    with pytest.raises(RetryableError):
        erasing.erasures.receipt(running, "shop", DEADLINE_S)
    erasing.erasures.close()
    with pytest.raises(RetryableError):
        erasing.erasures.begin("shop", "acme")
    assert (erasing.completed, events(store)) == ([], 1)


def _wait(event: threading.Event) -> None:
    assert event.wait(DEADLINE_S)
