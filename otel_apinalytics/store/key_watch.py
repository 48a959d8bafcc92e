# SPDX-License-Identifier: Apache-2.0
"""Follows what other services change in the keys, and writes when keys were used."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING

from otel_apinalytics.store.engine import EngineError
from otel_apinalytics.threads import ended

if TYPE_CHECKING:
    from otel_apinalytics.store.key_ring import KeyRing

_logger = logging.getLogger(__name__)

# Half of the second within which a change holds everywhere.
_LOOK_S = 0.5
_USES_S = 60.0
# A fault that lasts is reported once in so long.
_SILENCE_S = 600.0


class KeyWatch:
    """A thread that keeps a key ring and the store in step.

    While the store is away, the keys are those that were known before.

    Args:
        ring: The keys.
        is_shared: Whether other services may use the store.
    """

    def __init__(self, ring: KeyRing, *, is_shared: bool) -> None:
        self._ring = ring
        self._is_shared = is_shared
        self._stopping = threading.Event()
        self._silent_until = 0.0
        self._thread = threading.Thread(target=self._run, name="keys", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def faults(self) -> list[str]:
        """Return in words what is wrong with a watch that was started."""
        return ended(self._thread)

    def close(self) -> None:
        """Stop, and write the last uses. Safe before `start`; the store must be open yet."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()
        self._write_uses()

    def _run(self) -> None:
        written_at = time.monotonic()
        while not self._stopping.wait(_LOOK_S if self._is_shared else _USES_S):
            if self._is_shared:
                self._refresh()
            if time.monotonic() >= written_at + _USES_S:
                self._write_uses()
                written_at = time.monotonic()

    def _refresh(self) -> None:
        try:
            self._ring.refresh()
        except EngineError:
            self._report("cannot follow the keys; those that were known before hold")

    def _write_uses(self) -> None:
        try:
            self._ring.write_uses()
        except EngineError:
            self._report("cannot write when keys were used last")

    def _report(self, problem: str) -> None:
        if time.monotonic() >= self._silent_until:
            self._silent_until = time.monotonic() + _SILENCE_S
            _logger.warning(problem, exc_info=True)
