# SPDX-License-Identifier: Apache-2.0
"""The embedded store's tables as they are at one moment: definitions, and rows in files that stay.

The engine never changes a part of a table, it writes others and deletes it. A frozen part is a set
of hard links to its files, beside the tables.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from otel_apinalytics.store.engine import Engine

_NAME = "backup"
_TABLES = (
    "SELECT name FROM system.tables "
    "WHERE database = currentDatabase() AND engine LIKE '%%MergeTree' ORDER BY name"
)


@dataclass(frozen=True, slots=True)
class FrozenTables:
    """The tables at one moment. Paths are relative to the engine's directory.

    Args:
        at: When that was, in UTC.
        links: Symbolic links, by which the engine finds tables by name, and where they lead.
        definitions: Small files, and what they hold.
        rows: Number of rows of each table; equal ones that were not merged yet count each.
        directory: Where the frozen parts are.
    """

    at: datetime
    links: Mapping[str, str]
    definitions: Mapping[str, bytes]
    rows: Mapping[str, int]
    directory: Path

    def parts(self) -> Iterator[tuple[str, Path]]:
        """Yield each file of the parts: its path in a data directory, and where it is now."""
        for parent, directories, files in os.walk(self.directory):
            directories.sort()
            for name in sorted(files):
                path = Path(parent, name)
                yield path.relative_to(self.directory).as_posix(), path


def freeze_tables(engine: Engine, directory: Path) -> FrozenTables:
    """Freeze all tables. What is frozen stays until `remove_frozen`.

    The tables are of one moment only if nothing is stored meanwhile; merges do no harm.

    Args:
        engine: The embedded engine.
        directory: Its directory.

    Raises:
        EngineError: The engine refused it.
        OSError: The definitions cannot be read.
    """
    remove_frozen(directory)
    at = datetime.now(timezone.utc)
    for (table,) in engine.query(_TABLES).rows:
        engine.command(f"ALTER TABLE {table} FREEZE WITH NAME '{_NAME}'")
    links = _links(directory)
    frozen = directory / "shadow" / _NAME
    return FrozenTables(
        at=at,
        links={str(link.relative_to(directory)): os.readlink(link) for link in links},
        definitions=dict(_definitions(directory, links)),
        rows={
            link.name: _rows(frozen / _place(directory, link))
            for link in links
            if link.parent.parent.name == "data"
        },
        directory=frozen,
    )


def remove_frozen(directory: Path) -> None:
    """Remove what was frozen, if anything was; also what a process left that was killed.

    Args:
        directory: The engine's directory.

    Raises:
        OSError: It cannot be removed.
    """
    if (directory / "shadow").exists():
        shutil.rmtree(directory / "shadow")


def _links(directory: Path) -> list[Path]:
    found = [*directory.glob("metadata/*"), *directory.glob("data/*/*")]
    return sorted(path for path in found if path.is_symlink())


def _definitions(directory: Path, links: list[Path]) -> Iterator[tuple[str, bytes]]:
    for link in links:
        place = _place(directory, link)
        for file in sorted((directory / place).iterdir()):
            if file.suffix == ".sql" or file.name == "format_version.txt":
                yield str(place / file.name), file.read_bytes()


def _place(directory: Path, link: Path) -> Path:
    return link.resolve().relative_to(directory.resolve())


def _rows(table: Path) -> int:
    return sum(int(count.read_bytes()) for count in table.glob("*/count.txt"))
