# SPDX-License-Identifier: Apache-2.0
"""The durable image of a directory: what is left of it if the power goes now."""

from __future__ import annotations

import os
import random
import stat
from collections.abc import Mapping
from pathlib import Path

from tests.support.disk.tree import Inode, Scanner, Tree, inode_of

# How likely it is that something survives that was not synced; a disk that wrote back nearly all,
# or names but hardly any content, does other harm than one that is even-handed.
_LIKELIHOODS = (0.1, 0.5, 0.9, 1.0)


class DurableImage:
    """What was synced: content by file, names by directory. Not thread safe.

    Args:
        root: The directory. What stands in it now is durable.
    """

    def __init__(self, root: Path) -> None:
        self._scanner = Scanner(root)
        self._tree = self._scanner.scan()

    def sync_all(self) -> None:
        """Take note that everything is durable; nothing may change meanwhile."""
        self._tree = self._scanner.scan()

    def sync(self, path: str) -> None:
        """Take note that one file or directory is durable.

        Args:
            path: Where it can be opened, such as `/proc/<pid>/fd/<number>`.
        """
        descriptor = os.open(path, os.O_RDONLY)
        try:
            inode = inode_of(descriptor)
            if stat.S_ISDIR(os.fstat(descriptor).st_mode):
                self._sync_directory(inode, os.readlink(path))
            else:
                with open(descriptor, "rb", closefd=False) as stream:
                    self._tree.files[inode] = stream.read()
        finally:
            os.close(descriptor)

    def _sync_directory(self, inode: Inode, path: str) -> None:
        """Make the names in a directory durable, and nothing of what they name."""
        tree, names = self._tree, {}
        with os.scandir(path) as entries:
            for entry in entries:
                try:
                    child = inode_of(entry.path)
                    if entry.is_symlink():
                        tree.links[child] = os.readlink(entry.path)
                except FileNotFoundError:
                    # Deleted meanwhile: the process goes on while this is done.
                    continue
                names[entry.name] = child
                if entry.is_dir(follow_symlinks=False):
                    self._moved(child)
                    tree.directories.setdefault(child, {})
                elif not entry.is_symlink():
                    tree.files.setdefault(child, b"")
        tree.directories[inode] = names

    def _moved(self, directory: Inode) -> None:
        """Forget where a directory stood before: it has one name."""
        for names in self._tree.directories.values():
            for name in [name for name, inode in names.items() if inode == directory]:
                del names[name]

    def strict(self) -> Tree:
        """Return what survives of the power cut: nothing that was not synced."""
        return self._tree

    def mixed(self, choice: random.Random) -> Tree:
        """Return what survives of the power cut: what was synced, and by chance some of the rest.

        A file's new content survives whole, cut short, or not at all. Each change of a name does or
        does not; those of one file or directory that was moved do so together.

        Args:
            choice: Makes the choices.
        """
        synced, live = self._tree, self._scanner.scan()
        names_survive, contents_survive = choice.choice(_LIKELIHOODS), choice.choice(_LIKELIHOODS)
        mixed = Tree(synced.root, {}, dict(synced.files), {**synced.links, **live.links})
        for inode, content in live.files.items():
            old = mixed.files.setdefault(inode, b"")
            if content != old:
                mixed.files[inode] = _mixed_content(old, content, contents_survive, choice)
        survives: dict[Inode, bool] = {}
        for inode in dict.fromkeys([*synced.directories, *live.directories]):
            old_names = synced.directories.get(inode, {})
            names = mixed.directories[inode] = dict(old_names)
            for name, child in _changes(old_names, live.directories.get(inode, {})).items():
                subject = child or old_names[name]
                if subject not in survives:
                    survives[subject] = choice.random() < names_survive
                if survives[subject] and child:
                    names[name] = child
                elif survives[subject]:
                    del names[name]
        return mixed


def _changes(old: Mapping[str, Inode], new: Mapping[str, Inode]) -> dict[str, Inode | None]:
    """Return the names that changed, and what they stand for now; None for nothing."""
    return {
        name: new.get(name)
        for name in dict.fromkeys([*old, *new])
        if old.get(name) != new.get(name)
    }


def _mixed_content(old: bytes, new: bytes, likelihood: float, choice: random.Random) -> bytes:
    if choice.random() < likelihood:
        return new
    if choice.random() < 0.5:
        return old
    shortest = len(old) if new.startswith(old) else 0
    return new[: choice.randrange(shortest, len(new) + 1)]
