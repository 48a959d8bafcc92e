# SPDX-License-Identifier: Apache-2.0
"""The load statements of the mapping as it is now: a change of the settings file takes effect."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from otel_apinalytics.errors import ConfigError
from otel_apinalytics.normalize.mapping import Mapping, MappingEntry
from otel_apinalytics.settings import MappingSetting
from otel_apinalytics.store.loads import Loads

_logger = logging.getLogger(__name__)


class LiveLoads:
    """Gives the statements for the newest mapping. Called by one thread.

    Args:
        mapping: The mapping at the start.
        file: The settings file, or None.
        reread: Reads the mapping again; called after the file changed.

    Raises:
        ConfigError: The mapping is not valid.
    """

    def __init__(
        self,
        mapping: Sequence[MappingSetting],
        file: Path | None,
        reread: Callable[[], Sequence[MappingSetting]],
    ) -> None:
        self._file = file
        self._reread = reread
        self._seen = self._state()
        self._mapping = to_mapping(mapping)
        self._loads = Loads(self._mapping)

    def __call__(self) -> Loads:
        """Return the statements. A new mapping that is not valid is reported, and not used."""
        state = self._state()
        if state != self._seen:
            self._seen = state
            try:
                self._use(to_mapping(self._reread()))
            except ConfigError as error:
                _logger.error("the mapping stays as it was: %s", error)
        return self._loads

    def _use(self, mapping: Mapping) -> None:
        if mapping != self._mapping:
            self._mapping = mapping
            self._loads = Loads(mapping)
            _logger.info("a mapping with %d entries is in use", len(mapping.entries))

    def _state(self) -> tuple[int, int, int] | None:
        try:
            found = self._file.stat() if self._file else None
        except OSError:
            # Editors replace a file; the next load looks again.
            return None
        return (found.st_mtime_ns, found.st_size, found.st_ino) if found else None


def to_mapping(entries: Sequence[MappingSetting]) -> Mapping:
    """Return the mapping that settings describe.

    Raises:
        ConfigError: An entry is not valid.
    """
    return Mapping(
        tuple(
            MappingEntry(entry.source, entry.target, entry.treatment, entry.application)
            for entry in entries
        )
    )
