# SPDX-License-Identifier: Apache-2.0
"""What a running service occupies, as seen from outside: memory, descriptors, threads and files."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from benchmarks.running_service import RunningService

# partition_firstblock_lastblock_level, and the version of a mutated one.
_PART = re.compile(r"(?P<partition>\w+?)_(\d+)_(\d+)_(\d+)(?:_(\d+))?")
_UNFINISHED = ("tmp", "delete_tmp")


@dataclass(frozen=True, slots=True)
class Footprint:
    """What a service occupies at a moment.

    Args:
        rss_mb: Resident memory.
        descriptors: Open files, sockets included.
        threads: Threads.
        active: Parts that queries read, of all tables.
        inactive: Parts that were merged into others and are not deleted yet.
        temporary: Files and directories that are to go when what makes them ends.
        segments: Segments of the request log.
        disk_mb: All files of the data directory.
    """

    rss_mb: float
    descriptors: int
    threads: int
    active: int
    inactive: int
    temporary: int
    segments: int
    disk_mb: float


class _Part(NamedTuple):
    partition: str
    first: int
    last: int
    level: int
    mutation: int


def footprint(service: RunningService, data_dir: Path, scratch: Path) -> Footprint:
    """Look at a service.

    Args:
        service: The service.
        data_dir: Its data directory.
        scratch: Where it makes temporary files that are not in there (`TMPDIR`).
    """
    tables = list(data_dir.glob("db/data/*/*"))
    names = [list(_names(table)) for table in tables]
    parts = [[part for name in found if (part := _part(name))] for found in names]
    inactive = sum(sum(_is_covered(part, found) for part in found) for found in parts)
    places = [scratch, data_dir / "db" / "tmp", data_dir / "db" / "shadow"]
    temporary = sum(len(list(_names(place))) for place in places)
    temporary += sum(name.startswith(_UNFINISHED) for found in names for name in found)
    temporary += len(list(data_dir.glob("log/*.attempts")))
    return Footprint(
        rss_mb=service.rss_mb(),
        descriptors=service.process.num_fds(),
        threads=service.process.num_threads(),
        active=sum(map(len, parts)) - inactive,
        inactive=inactive,
        temporary=temporary,
        segments=len(list(data_dir.glob("log/*.log"))),
        disk_mb=sum(_sizes(data_dir)) / 1e6,
    )


def _names(directory: Path) -> Iterator[str]:
    # What is looked at may be deleted meanwhile.
    with contextlib.suppress(FileNotFoundError):
        yield from os.listdir(directory)


def _part(name: str) -> _Part | None:
    match = _PART.fullmatch(name)
    if match is None:
        return None
    partition, *numbers = match.groups()
    return _Part(partition, *(int(number or 0) for number in numbers))


def _is_covered(part: _Part, others: Iterable[_Part]) -> bool:
    """Return whether a part was merged, or mutated, into another one."""
    return any(
        other != part
        and other.partition == part.partition
        and other.first <= part.first
        and other.last >= part.last
        and (other.level, other.mutation) >= (part.level, part.mutation)
        for other in others
    )


def _sizes(directory: Path) -> Iterator[int]:
    for place, _, names in os.walk(directory):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                yield os.lstat(os.path.join(place, name)).st_size
