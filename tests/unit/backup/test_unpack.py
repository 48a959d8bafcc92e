# SPDX-License-Identifier: Apache-2.0
"""Tests of unpacking: a whole backup and nothing else, and nothing outside of its directory."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest

from otel_apinalytics.backup.unpack import check_link, unpack
from otel_apinalytics.errors import BackupError
from otel_apinalytics.store.backup_manifest import MANIFEST, Manifest
from otel_apinalytics.store.tar_stream import END, TarStream

TABLE = "db/store/abc/abcdef01-2345-6789-abcd-ef0123456789"
LINK, TARGET = "db/data/default/events", f"../../{TABLE.removeprefix('db/')}"


def manifest_of(tar: TarStream) -> bytes:
    """Return the last member of an archive."""
    manifest = Manifest(
        program_version="1",
        schema_version=1,
        created_at="",
        files=tar.files,
        size=tar.size,
        rows={},
        has_secret_key=True,
        secret_key_fingerprint="",
    )
    return tar.content(MANIFEST, manifest.to_json())


def whole() -> list[bytes]:
    """Return the members of a backup, and its end."""
    tar = TarStream()
    members = [
        tar.link(LINK, TARGET),
        tar.content(f"{TABLE}/format_version.txt", b"1"),
        tar.content(f"{TABLE}/part/data.bin", b"x" * 3000),
        tar.content("secret.key", b"k" * 32),
    ]
    return [*members, manifest_of(tar), END]


def with_member(member: tarfile.TarInfo, content: bytes = b"") -> io.BytesIO:
    """Return an archive that another program might have made, with a fitting manifest."""
    tar = TarStream()
    member.size = len(content)
    padding = bytes(-len(content) % tarfile.BLOCKSIZE)
    archive = member.tobuf(tarfile.PAX_FORMAT) + content + padding
    tar.files, tar.size = 1, len(content)
    return io.BytesIO(archive + manifest_of(tar) + END)


def test_a_whole_backup(tmp_path: Path) -> None:
    """All of it is there, the link leads to the table."""
    manifest = unpack(io.BytesIO(b"".join(whole())), tmp_path)
    assert (manifest.files, manifest.size) == (4, 3033)
    assert (tmp_path / LINK / "part" / "data.bin").read_bytes() == b"x" * 3000
    assert os.readlink(tmp_path / LINK) == TARGET
    assert (tmp_path / "secret.key").read_bytes() == b"k" * 32
    assert (tmp_path / MANIFEST).exists()


def test_one_that_was_cut_off_anywhere(tmp_path: Path) -> None:
    """What a broken connection leaves is never taken for a backup, also at a member's end."""
    archive = b"".join(whole())
    needed = len(archive) - len(END)
    ends = {sum(map(len, whole()[:number])) for number in range(5)}
    for size in sorted({*range(0, needed, 97), *ends}):
        directory = tmp_path / str(size)
        directory.mkdir()
        with pytest.raises(BackupError):
            unpack(io.BytesIO(archive[:size]), directory)


@pytest.mark.parametrize("missing", range(4))
def test_one_that_lacks_a_member(tmp_path: Path, missing: int) -> None:
    """The numbers do not agree."""
    members = whole()
    del members[missing]
    with pytest.raises(BackupError, match="files of"):
        unpack(io.BytesIO(b"".join(members)), tmp_path)


def test_one_that_goes_on(tmp_path: Path) -> None:
    """What follows the manifest is not counted in it."""
    members = whole()
    members[-1:] = [TarStream().content("more", b""), END]
    with pytest.raises(BackupError, match="goes on"):
        unpack(io.BytesIO(b"".join(members)), tmp_path)


@pytest.mark.parametrize(
    "name",
    ["../out", "/etc/out", "//out", "db/../../out", "db//out", "./out", "", ".", "..", "db/a\0b"],
)
def test_files_elsewhere(tmp_path: Path, name: str) -> None:
    """No name leads out of the directory."""
    directory = tmp_path / "a" / "backup"
    directory.mkdir(parents=True)
    member = tarfile.TarInfo("replaced")
    member.pax_headers = {"path": name}
    with pytest.raises(BackupError, match="no member"):
        unpack(with_member(member, b"x"), directory)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize(
    "kind", [tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE]
)
def test_kinds_that_no_backup_has(tmp_path: Path, kind: bytes) -> None:
    """Files and symbolic links only."""
    member = tarfile.TarInfo("db/store/x")
    member.type, member.linkname = kind, "/etc/passwd"
    with pytest.raises(BackupError, match="no member"):
        unpack(with_member(member), tmp_path)


@pytest.mark.parametrize(
    ("name", "target"),
    [
        (LINK, "/etc"),
        (LINK, "../../../.."),
        (LINK, f"{TARGET}/.."),
        (LINK, f"x/../{TARGET}"),
        (LINK, f"../default/{TARGET}"),
        (LINK, "../../store/abc"),
        (LINK, "../other/events"),
        (LINK, ""),
        (f"{TABLE}/part", TARGET),
        ("secret.key", f"db/{TARGET}"),
        ("db", TABLE),
    ],
)
def test_links_elsewhere(name: str, target: str) -> None:
    """A link leads from where tables have names to a table, and not by way of another link."""
    with pytest.raises(BackupError, match="no link"):
        check_link(name, target)


def test_no_file_is_written_through_a_link(tmp_path: Path) -> None:
    """Links are made after all files."""
    tar = TarStream()
    archive = tar.link(LINK, TARGET) + tar.content(f"{LINK}/evil", b"x") + manifest_of(tar) + END
    with pytest.raises(FileExistsError):
        unpack(io.BytesIO(archive), tmp_path)
    assert not (tmp_path / TABLE).exists()


def test_what_is_no_archive(tmp_path: Path) -> None:
    """Such as the page of a proxy."""
    with pytest.raises(BackupError, match="cut off or is damaged"):
        unpack(io.BytesIO(b"<html>" * 1000), tmp_path)
