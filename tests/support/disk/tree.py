# SPDX-License-Identifier: Apache-2.0
"""A directory tree in memory, by inode: what stands on a disk at one instant."""

from __future__ import annotations

import ctypes
import os
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

_LIBC = ctypes.CDLL(None, use_errno=True)
_AT_FDCWD = -100
_AT_EMPTY_PATH = 0x1000
_HANDLE_BYTES = 128
# What was changed so shortly before it was looked at may have been changed again within the same
# tick of the file system's clock.
_TICK_NS = 50_000_000

# A file or directory, for as long as it exists: an inode's number is given to another one later.
Inode = bytes


class _Handle(ctypes.Structure):
    _fields_ = (
        ("size", ctypes.c_uint),
        ("kind", ctypes.c_int),
        ("value", ctypes.c_ubyte * _HANDLE_BYTES),
    )


def inode_of(path: str | int) -> Inode:
    """Return what tells a file from all others, ever; a symbolic link is not followed.

    Raises:
        OSError: It is not there, or its file system has no such thing.
    """
    handle, mount = _Handle(size=_HANDLE_BYTES), ctypes.c_int()
    directory, name = (path, "") if isinstance(path, int) else (_AT_FDCWD, path)
    flags = _AT_EMPTY_PATH if isinstance(path, int) else 0
    arguments = (ctypes.byref(handle), ctypes.byref(mount), flags)
    if _LIBC.name_to_handle_at(directory, os.fsencode(name), *arguments) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), str(path))
    return bytes(handle.value[: handle.size])


@dataclass(slots=True)
class Tree:
    """Directories, files and symbolic links; a file may have several names.

    Args:
        root: The uppermost directory.
        directories: What stands in each directory, by name.
        files: The content of each file.
        links: Where each symbolic link leads.
    """

    root: Inode
    directories: dict[Inode, dict[str, Inode]] = field(default_factory=dict)
    files: dict[Inode, bytes] = field(default_factory=dict)
    links: dict[Inode, str] = field(default_factory=dict)

    def write(self, target: Path) -> None:
        """Make the tree in a new directory."""
        self._write_directory(self.root, target, {})

    def _write_directory(self, inode: Inode, target: Path, written: dict[Inode, Path]) -> None:
        target.mkdir(mode=0o700)
        for name, child in self.directories[inode].items():
            path = target / name
            if child in self.directories:
                self._write_directory(child, path, written)
            elif child in self.links:
                path.symlink_to(self.links[child])
            elif child in written:
                path.hardlink_to(written[child])
            else:
                path.touch(mode=0o600)
                path.write_bytes(self.files[child])
                written[child] = path

    def names(self, inode: Inode | None = None, below: str = "") -> Iterator[tuple[str, Inode]]:
        """Yield the path of each file, and the file."""
        for name, child in self.directories[inode or self.root].items():
            if child in self.directories:
                yield from self.names(child, f"{below}{name}/")
            elif child in self.files:
                yield f"{below}{name}", child


class Scanner:
    """Reads a directory again and again, and only what changed since.

    Args:
        root: The directory. Nothing may change in it while it is read.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        # By inode number: times and size when it was read, which file it was, what was in it.
        self._read: dict[int, tuple[tuple[int, int, int], Inode, bytes]] = {}

    def scan(self) -> Tree:
        """Return what stands there now."""
        tree = Tree(inode_of(str(self._root)))
        read: dict[int, tuple[tuple[int, int, int], Inode, bytes]] = {}
        self._scan(str(self._root), tree.root, tree, read)
        self._read = read
        return tree

    def _scan(
        self,
        path: str,
        inode: Inode,
        tree: Tree,
        read: dict[int, tuple[tuple[int, int, int], Inode, bytes]],
    ) -> None:
        names = tree.directories[inode] = {}
        settled = time.time_ns() - _TICK_NS
        with os.scandir(path) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    child = names[entry.name] = inode_of(entry.path)
                    self._scan(entry.path, child, tree, read)
                elif entry.is_symlink():
                    child = names[entry.name] = inode_of(entry.path)
                    tree.links[child] = os.readlink(entry.path)
                else:
                    status = entry.stat(follow_symlinks=False)
                    times = (status.st_ctime_ns, status.st_mtime_ns, status.st_size)
                    known = self._read.get(status.st_ino)
                    if known is None or known[0] != times:
                        known = (times, inode_of(entry.path), _content(entry.path, status))
                    _, child, content = known
                    names[entry.name] = child
                    tree.files[child] = content
                    if status.st_ctime_ns < settled:
                        read[status.st_ino] = known


def _content(path: str, status: os.stat_result) -> bytes:
    # A socket or a pipe has none.
    return Path(path).read_bytes() if stat.S_ISREG(status.st_mode) else b""
