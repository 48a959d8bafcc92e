# SPDX-License-Identifier: Apache-2.0
"""Tests of the archive as a stream: what is read of it, and in which pieces it comes."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest

from otel_apinalytics.store.tar_stream import END, TarStream

LONG = "/".join(["d" * 90] * 5)


def read(archive: tarfile.TarFile, member: tarfile.TarInfo | str) -> bytes:
    """Return a file's content."""
    stream = archive.extractfile(member)
    assert stream is not None
    return stream.read()


@pytest.mark.parametrize("size", [0, 1, 511, 512, 513, (1 << 20) - 1, 1 << 20, 3_000_000])
def test_files_of_any_size(tmp_path: Path, size: int) -> None:
    """In pieces of a megabyte at most, and all that follows is found."""
    content = os.urandom(size)
    (tmp_path / "file").write_bytes(content)
    tar = TarStream()
    blocks = [*tar.file("a/file", tmp_path / "file"), tar.content("b", b"after"), END]
    assert max(map(len, blocks)) <= 1 << 20
    with tarfile.open(fileobj=io.BytesIO(b"".join(blocks))) as archive:
        assert archive.getnames() == ["a/file", "b"]
        assert [read(archive, name) for name in archive.getnames()] == [content, b"after"]
    assert (tar.files, tar.size) == (2, size + 5)


def test_content_and_links_are_read_again() -> None:
    """Names of any length, and what links lead to."""
    tar = TarStream()
    archive = tar.content(LONG, b"x" * 700) + tar.link("link", f"../{LONG}") + END
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r|") as opened:
        file = opened.next()
        assert file is not None
        assert (file.name, file.mode, read(opened, file)) == (LONG, 0o600, b"x" * 700)
        link = opened.next()
        assert link is not None
        assert (link.name, link.linkname, link.issym()) == ("link", f"../{LONG}", True)
        assert opened.next() is None
    assert (tar.files, tar.size) == (2, 700)


def test_a_file_that_became_shorter(tmp_path: Path) -> None:
    """It does not become a whole archive."""
    path = tmp_path / "file"
    path.write_bytes(bytes(3 << 20))
    blocks = TarStream().file("file", path)
    next(blocks)
    next(blocks)
    os.truncate(path, 10)
    with pytest.raises(OSError, match="shorter"):
        list(blocks)
