# SPDX-License-Identifier: Apache-2.0
"""Loading: the records of one segment into the store; those that cannot be loaded are found.

Records that fail together are tried in parts, until those are left that fail alone. Before one of
them is rejected, a record without content tries the same statements: what fails with that is a
fault of the store or of ours, and no record pays for it. Where the process died during loads,
another one tries whether it was for their sake.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Sequence

from otel_apinalytics.normalize.outcomes import UNDECODABLE, UNLOADABLE
from otel_apinalytics.receiver.attempts import Attempts, Place
from otel_apinalytics.receiver.messages import Messages
from otel_apinalytics.receiver.records import (
    control_record,
    rejected_record,
    without_unknown_fields,
)
from otel_apinalytics.receiver.trial import survives
from otel_apinalytics.store.engine import Engine, EngineError, LoadStatement
from otel_apinalytics.store.loads import Loads

_logger = logging.getLogger(__name__)

# What does not pass by itself is tried so often before records are looked at one by one.
_TRIES = 3
_PAUSE_S = 0.25
_PARTS = 8
# So many attempts that did not end are a reason to ask whose fault that is.
_UNENDED = 2


class Loading:
    """One load of a segment. Doing it again is harmless: tokens skip what is there, keys the rest.

    Args:
        engine: The store.
        loads: The statements.
        attempts: Which parts ended the process before.
        token: Names the segment's content; parts get names of their own.
        wait: Waits so many seconds; returns whether to stop waiting altogether.
        survives: Says whether a process lives on that runs statements on messages.
    """

    def __init__(
        self,
        engine: Engine,
        loads: Loads,
        attempts: Attempts,
        token: str,
        wait: Callable[[float], bool],
        survives: Callable[[Sequence[LoadStatement], Messages], bool] = survives,
    ) -> None:
        self._engine = engine
        self._loads = loads
        self._attempts = attempts
        self._token = token
        self._wait = wait
        self._survives = survives

    def load(self, messages: Messages, first: int = 0, *, is_suspect: bool = False) -> int:
        """Load messages, the records from number `first` on.

        Args:
            messages: The messages.
            first: Number of the first record.
            is_suspect: Whether one of them may end the process.

        Returns:
            How many were rejected.

        Raises:
            EngineError: The store's fault, not the records': everything may be tried again.
            OSError: Whether they end the process cannot be found out now.
        """
        if not len(messages):
            return 0
        place = (first, first + len(messages))
        fault: EngineError | None = None
        ends_process = (
            is_suspect or self._attempts.unended(place) >= _UNENDED
        ) and self._ends_process(messages)
        if not ends_process:
            # Whatever ended the process before, it was something else.
            self._attempts.forget(place)
            fault = self._try(messages, place)
            if fault is None:
                return 0
        if len(messages) == 1:
            return self._load_without(messages, place, fault)
        rejected = 0
        size = -(-len(messages) // _PARTS)
        for begin in range(0, len(messages), size):
            end = min(begin + size, len(messages))
            with contextlib.closing(messages.part(begin, end)) as part:
                rejected += self.load(part, first + begin, is_suspect=ends_process)
        return rejected

    def _try(self, messages: Messages, place: Place, suffix: str = "") -> EngineError | None:
        """Load messages; return why they cannot be loaded, or None if they are."""
        fault: EngineError | None = None
        for number in range(_TRIES):
            if number and self._wait(number * _PAUSE_S):
                raise fault or EngineError("stopped", None)
            try:
                with self._attempts.begun(place):
                    self._insert(messages, f"{self._token}/{place[0]}-{place[1]}{suffix}")
            except EngineError as error:
                if error.is_transient:
                    raise
                fault = error
                if error.is_of_data:
                    break
            else:
                return None
        return fault

    def _load_without(self, messages: Messages, place: Place, fault: EngineError | None) -> int:
        """Load a record that fails alone: without what no rule reads, else without its payload."""
        record = messages.record(0)
        if fault is not None:
            self._raise_if_not_its_own(messages, fault)
            cleaned = without_unknown_fields(record)
            if cleaned is not None and cleaned != record:
                with contextlib.closing(messages.of(cleaned)) as again:
                    if self._try(again, place, "/known") is None:
                        return 0
        reason = UNDECODABLE if fault is not None and fault.is_of_data else UNLOADABLE
        _logger.error("a record is rejected (%s): %s", reason, fault or "it ends the process")
        with contextlib.closing(messages.of(rejected_record(record, reason))) as rejected:
            self._insert(rejected, f"{self._token}/{place[0]}-{place[1]}/rejected")
        return 1

    def _ends_process(self, messages: Messages) -> bool:
        """Return whether a process ends that loads messages, and one without content does not."""
        if self._wait(0.0):
            raise EngineError("stopped", None)
        if self._survives(self._statements(messages), messages):
            return False
        with contextlib.closing(self._without_content(messages)) as empty:
            if not self._survives(self._statements(empty), empty):
                raise OSError("no process can load now: there may be too little memory")
        return True

    def _raise_if_not_its_own(self, messages: Messages, fault: EngineError) -> None:
        with contextlib.closing(self._without_content(messages)) as empty:
            try:
                self._insert(empty, "")
            except EngineError:
                raise fault from None

    def _without_content(self, messages: Messages) -> Messages:
        """Return messages for which the same statements run."""
        return messages.of(*(control_record(p, messages.batch_rules) for p in messages.payloads))

    def _insert(self, messages: Messages, token: str) -> None:
        for number, statement in enumerate(self._statements(messages)):
            self._engine.load(statement, messages.path, token and f"{token}/{number}")

    def _statements(self, messages: Messages) -> Sequence[LoadStatement]:
        return self._loads.for_payloads(messages.payloads, messages.batch_rules)
