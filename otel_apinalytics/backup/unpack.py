# SPDX-License-Identifier: Apache-2.0
"""The archive of a backup becomes a directory; nothing is written outside of it."""

from __future__ import annotations

import os
import posixpath
import re
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Protocol

from otel_apinalytics.errors import BackupError
from otel_apinalytics.store.backup_manifest import MANIFEST, Manifest, parse_manifest

# What a link leads to: a database or a table of the engine.
_TABLE = re.compile(r"db/store/[0-9a-f]{3}/[0-9a-f-]{36}")
# Parts of a path that lead elsewhere than down.
_NOT_BELOW = {"", ".", ".."}
_MAX_MANIFEST_BYTES = 1 << 20
_READ_BYTES = 1 << 20


class Stream(Protocol):
    """Where an archive comes from."""

    def read(self, size: int, /) -> bytes:
        """Return up to so many bytes; none at the end."""
        ...


def unpack(stream: Stream, directory: Path) -> Manifest:
    """Write the members of a backup below an empty directory, and return its manifest.

    Raises:
        BackupError: It is no backup, or not a whole one.
        OSError: A file cannot be written.
    """
    links: dict[str, str] = {}
    files = size = 0
    manifest: Manifest | None = None
    try:
        for member, content in _members(stream):
            if manifest is not None:
                raise BackupError(f"the archive goes on after {MANIFEST}")
            if member.name == MANIFEST and content is not None:
                manifest = parse_manifest(content.read(_MAX_MANIFEST_BYTES))
                (directory / MANIFEST).write_bytes(manifest.to_json())
                continue
            files, size = files + 1, size + member.size
            if content is None:
                links[member.name] = member.linkname
            else:
                _write(directory / member.name, content)
    except tarfile.TarError as error:
        raise BackupError(f"the archive was cut off or is damaged: {error}") from error
    if manifest is None:
        raise BackupError(f"the archive was cut off: it has no {MANIFEST}")
    check_numbers(manifest, files, size)
    # Last: no file can be written through them.
    for name, target in links.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(target)
    return manifest


def check_numbers(manifest: Manifest, files: int, size: int) -> None:
    """Raise BackupError if there are not as many files and bytes as the manifest says."""
    if (files, size) != (manifest.files, manifest.size):
        raise BackupError(
            f"there are {files} files of {size} bytes, but {MANIFEST} says "
            f"{manifest.files} of {manifest.size}"
        )


def check_link(name: str, target: str) -> None:
    """Raise BackupError if a link does not lead to a table of the same backup."""
    directory = posixpath.dirname(name)
    place = posixpath.normpath(posixpath.join(directory, target))
    is_ours = name.startswith(("db/metadata/", "db/data/")) and _TABLE.fullmatch(place)
    # Not by way of other links: up, and then down to the table.
    if not is_ours or target != posixpath.relpath(place, directory):
        raise BackupError(f"no link of a backup: {name} -> {target}")


def _members(stream: Stream) -> Iterator[tuple[tarfile.TarInfo, IO[bytes] | None]]:
    """Yield members and their content, None for a link. Everything else is refused."""
    # It reads no more of the stream than `read` gives.
    with tarfile.open(fileobj=stream, mode="r|", bufsize=_READ_BYTES) as archive:  # type: ignore[call-overload]
        for member in archive:
            if not _NOT_BELOW.isdisjoint(member.name.split("/")) or "\0" in member.name:
                raise BackupError(f"no member of a backup: {member.name!r}")
            if member.issym():
                check_link(member.name, member.linkname)
                yield member, None
            elif member.isreg():
                yield member, archive.extractfile(member)
            else:
                raise BackupError(f"no member of a backup: {member.name!r}")


def _write(path: Path, content: IO[bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # A name comes once.
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with open(descriptor, "wb") as target:
        shutil.copyfileobj(content, target, _READ_BYTES)
