# SPDX-License-Identifier: Apache-2.0
"""Backups of the embedded store, as tar archives that are made while they are sent.

What is unpacked is a data directory. It has no request log, for what is in the log is stored before
the tables are frozen; nor what the engine remembers of loads, for a new log has other ones.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

from otel_apinalytics import __version__
from otel_apinalytics.errors import InvalidRequestError, RetryableError
from otel_apinalytics.store.backup_manifest import MANIFEST, SECRET_KEY, Manifest, fingerprint_of
from otel_apinalytics.store.engine import Engine, EngineError
from otel_apinalytics.store.frozen import FrozenTables, freeze_tables, remove_frozen
from otel_apinalytics.store.schema import newest_version
from otel_apinalytics.store.tar_stream import END, TarStream

_logger = logging.getLogger(__name__)

_RETRY_AFTER_S = 30.0


@dataclass(frozen=True, slots=True)
class SecretKey:
    """The secret key, with which the hashes in the store were made.

    Args:
        content: The key.
        is_kept_here: Whether it belongs to the data directory, and so to a backup.
    """

    content: bytes = field(repr=False)
    is_kept_here: bool


class Backups:
    """Makes backups, one at a time. Safe to use from many threads.

    Args:
        engine: The store.
        secret_key: Its secret key.
        at_rest: Gives a time in which all that was acknowledged before is stored, and nothing else
            is being stored. Raises `RetryableError` where the store is behind.
    """

    def __init__(
        self,
        engine: Engine,
        secret_key: SecretKey,
        at_rest: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self._engine = engine
        self._secret_key = secret_key
        self._at_rest = at_rest
        self._one_at_a_time = threading.Lock()
        if engine.directory is not None:
            # Left by a process that was killed.
            _clean_up(engine.directory)

    def begin(self) -> Generator[bytes, None, None]:
        """Freeze the tables, and return the archive in blocks.

        Loads wait for this call, but not for the reader. The generator must be read to its end or
        closed; its steps may be taken by different threads.

        Raises:
            InvalidRequestError: The store is a server.
            RetryableError: A backup is being made already; or the store is behind, or fails.
        """
        directory = self._engine.directory
        if directory is None:
            raise InvalidRequestError(
                "the store is a ClickHouse server: make its backups there, with its own BACKUP"
            )
        if not self._one_at_a_time.acquire(blocking=False):
            raise RetryableError("a backup is being made already", retry_after_s=_RETRY_AFTER_S)
        archive = self._archive(directory)
        # Up to the frozen tables: what fails until then is an answer of its own.
        next(archive)
        return archive

    def _archive(self, directory: Path) -> Generator[bytes, None, None]:
        started = time.monotonic()
        try:
            tables = self._freeze(directory)
            yield b""
            tar = TarStream()
            yield from self._members(tables, tar)
            manifest = self._manifest(tables, tar)
            yield tar.content(MANIFEST, manifest.to_json()) + END
            seconds = time.monotonic() - started
            _logger.info("a backup was sent: %d bytes in %.1f s", manifest.size, seconds)
        finally:
            _clean_up(directory)
            self._one_at_a_time.release()

    def _freeze(self, directory: Path) -> FrozenTables:
        try:
            with self._at_rest():
                return freeze_tables(self._engine, directory)
        except EngineError as error:
            raise RetryableError("the store is not available now") from error

    def _members(self, tables: FrozenTables, tar: TarStream) -> Generator[bytes, None, None]:
        for name, target in tables.links.items():
            yield tar.link(f"db/{name}", target)
        for name, content in tables.definitions.items():
            yield tar.content(f"db/{name}", content)
        for name, path in tables.parts():
            yield from tar.file(f"db/{name}", path)
        if self._secret_key.is_kept_here:
            yield tar.content(SECRET_KEY, self._secret_key.content)

    def _manifest(self, tables: FrozenTables, tar: TarStream) -> Manifest:
        return Manifest(
            program_version=__version__,
            schema_version=newest_version(),
            created_at=tables.at.isoformat(timespec="seconds"),
            files=tar.files,
            size=tar.size,
            rows=dict(tables.rows),
            has_secret_key=self._secret_key.is_kept_here,
            secret_key_fingerprint=fingerprint_of(self._secret_key.content),
        )


def _clean_up(directory: Path) -> None:
    try:
        remove_frozen(directory)
    except OSError as error:
        # The next backup tries again, and so does the next start.
        _logger.error("what was frozen for a backup cannot be removed: %s", error)
