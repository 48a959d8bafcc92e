# SPDX-License-Identifier: Apache-2.0
"""Erasures: all that is stored of one consumer is deleted, one consumer after the other.

The engine keeps the text of its deletions for a while, so that these name a consumer by a salted
hash only. A deletion that was begun goes on after a restart; asked again, an erasure does the rest.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from otel_apinalytics.errors import NotFoundError, RetryableError
from otel_apinalytics.store.engine import EngineError
from otel_apinalytics.store.erasing import Counts, Subject, bound_keys, erase_found

if TYPE_CHECKING:
    from otel_apinalytics.store.engine import Engine

_logger = logging.getLogger(__name__)

# More than two are needed only while what was received before is on its way to the log.
_ROUNDS = 5
# What a deletion replaced stays for 120 s (migration 0006), and until the engine looks: every ten
# minutes where nothing else happens.
_COPIES_S = 900
# Receipts that can be asked for again.
_KEPT = 1000


@dataclass(frozen=True, slots=True)
class Receipt:
    """What was erased.

    Args:
        erasure: Name of the erasure.
        application: Whose consumer it was.
        consumer: Its id.
        received_before: What was acknowledged before is erased; Unix seconds.
        completed_at: When that was done, and on disk; Unix seconds.
        copies_until: Until when what was deleted may be on the disk in files that nobody reads;
            Unix seconds.
        counts: How much it was.
        segments_set_aside: Segments of the log that are kept and never loaded; some of it may be
            in them.
        bound_keys: Ids of keys that see nothing but its rows, and say so.
    """

    erasure: str
    application: str
    consumer: str = field(repr=False)
    received_before: float
    completed_at: float
    copies_until: float
    counts: Counts
    segments_set_aside: int
    bound_keys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Begun:
    erasure: str
    subject: Subject
    receipt: Future[Receipt]


class Erasures:
    """The erasures of one service. Safe to use from many threads.

    Args:
        engine: The store.
        settle: Waits until all that was acknowledged before is stored, on disk, and nowhere else.
            Raises `RetryableError`.
        make_durable: Puts on disk what the store has. Raises `RetryableError`, `EngineError` or
            `OSError`.
        set_aside: Returns how many segments of the log are kept and never loaded.
        completed: Called with each receipt.
    """

    def __init__(
        self,
        engine: Engine,
        settle: Callable[[], None],
        make_durable: Callable[[], None],
        set_aside: Callable[[], int],
        completed: Callable[[Receipt], None],
    ) -> None:
        self._engine = engine
        self._settle = settle
        self._make_durable = make_durable
        self._set_aside = set_aside
        self._completed = completed
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._begun: OrderedDict[str, _Begun] = OrderedDict()
        # One at a time: each may write days of events again.
        self._worker = ThreadPoolExecutor(1, "erasures")

    def begin(
        self, application: str, consumer: str, note: Callable[[str], None] = lambda erasure: None
    ) -> str:
        """Begin to erase a consumer, and return the erasure's name.

        One that waits for its turn does for what is acknowledged until then, too.

        Args:
            application: Whose consumer.
            consumer: Its id.
            note: Called with the erasure's name before anything is erased.

        Raises:
            RetryableError: The service is stopping.
        """
        subject = Subject(application, consumer)
        waiting = self._waiting(subject)
        erasure = waiting or uuid.uuid4().hex
        note(erasure)
        if not waiting:
            self._submit(erasure, subject)
        return erasure

    def _waiting(self, subject: Subject) -> str | None:
        with self._lock:
            for begun in self._begun.values():
                is_begun = begun.receipt.running() or begun.receipt.done()
                if begun.subject == subject and not is_begun:
                    return begun.erasure
        return None

    def _submit(self, erasure: str, subject: Subject) -> None:
        with self._lock:
            try:
                receipt = self._worker.submit(self._run, erasure, subject)
            except RuntimeError:
                raise RetryableError("the service is stopping") from None
            self._begun[erasure] = _Begun(erasure, subject, receipt)
            self._forget()

    def receipt(self, erasure: str, application: str | None, timeout_s: float) -> Receipt | None:
        """Wait for the receipt of an erasure; return None if it is still under way.

        Args:
            erasure: Its name.
            application: Whose it must be; None for anybody's.
            timeout_s: How long to wait.

        Raises:
            NotFoundError: There is none of that name since the start of the service.
            RetryableError: It failed for now; it may be begun again.
        """
        with self._lock:
            begun = self._begun.get(erasure)
        if begun is None or application not in (None, begun.subject.application):
            raise NotFoundError(
                "there is no such erasure since the service started; begin it again",
                parameter="erasure",
                value=erasure,
            )
        try:
            return begun.receipt.result(timeout_s)
        except FutureTimeoutError:
            return None
        except CancelledError:
            raise RetryableError("the service is stopping") from None
        except (EngineError, OSError) as error:
            raise RetryableError("the store cannot erase now; begin it again") from error

    def stop(self) -> None:
        """Begin nothing more, and wait for no deletion. Does not block."""
        self._stopping.set()
        self._worker.shutdown(wait=False, cancel_futures=True)

    def close(self) -> None:
        """Wait until nothing is done here any more. After `stop`."""
        self._worker.shutdown(wait=True)

    def _run(self, erasure: str, subject: Subject) -> Receipt:
        try:
            receipt = self._erase(erasure, subject)
        except (EngineError, OSError) as error:
            _logger.error("erasure %s failed: %s", erasure, error)
            raise
        self._completed(receipt)
        return receipt

    def _erase(self, erasure: str, subject: Subject) -> Receipt:
        received_before = time.time()
        erased = Counts()
        # At first whatever there is, also if a clock was wrong when it was received.
        limit: float | None = None
        for _ in range(_ROUNDS):
            self._settle()
            found = erase_found(self._engine, subject, limit, self._stopping)
            if self._stopping.is_set():
                raise RetryableError("the service is stopping")
            if found == Counts():
                break
            erased += found
            limit = received_before
        else:
            raise RetryableError("what was received before still arrives; begin it again")
        self._make_durable()
        completed_at = time.time()
        return Receipt(
            erasure,
            subject.application,
            subject.consumer,
            received_before,
            completed_at,
            completed_at + _COPIES_S,
            erased,
            self._set_aside(),
            bound_keys(self._engine, subject),
        )

    def _forget(self) -> None:
        done = [name for name, begun in self._begun.items() if begun.receipt.done()]
        for name in done[: max(0, len(self._begun) - _KEPT)]:
            del self._begun[name]
