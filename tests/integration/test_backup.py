# SPDX-License-Identifier: Apache-2.0
"""Backups of a running service: who gets one, what is in it, and what is left after it."""

from __future__ import annotations

import contextlib
import io
import json
import posixpath
import tarfile
from collections.abc import Iterator, Mapping
from types import SimpleNamespace
from typing import Any, cast

import pytest

from otel_apinalytics.errors import InvalidRequestError, RetryableError
from otel_apinalytics.service import Service
from otel_apinalytics.store.backup import Backups, SecretKey
from otel_apinalytics.store.backup_manifest import fingerprint_of
from otel_apinalytics.store.engine import Engine
from tests.support.clients import ADMIN_KEY, READ_KEY, WRITE_KEY, Client
from tests.support.otlp import make_request, make_span

KEY = SecretKey(bytes(32), is_kept_here=True)


def get(client: Client, key: str | None, path: str = "/1/backup/") -> tuple[int, Any, Any]:
    """Ask for a backup."""
    return client.request("GET", path, headers={"X-Auth-Key": key} if key else {})


def read(archive: bytes) -> dict[str, tarfile.TarInfo]:
    """Return the members by name, in order."""
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:") as opened:
        return {member.name: member for member in opened}


@contextlib.contextmanager
def at_once() -> Iterator[None]:
    """Nothing is being stored here."""
    yield


@pytest.mark.parametrize(
    ("key", "status"), [(None, 401), ("unknown", 401), (READ_KEY, 403), (WRITE_KEY, 403)]
)
def test_it_needs_an_admin_key(client: Client, key: str | None, status: int) -> None:
    """Other keys are of one application; a backup has the data of all."""
    found, body, _ = get(client, key)
    assert found == status
    assert "key" in body["error"]["message"]


@pytest.mark.parametrize("path", ["/1/backup/", "/1/backup"])
def test_the_archive_is_whole(client: Client, service: Service, path: str) -> None:
    """The manifest is last and counts what is before; the rows are those of the tables."""
    client.export(make_request(*[make_span() for _ in range(30)]))
    status, archive, headers = get(client, ADMIN_KEY, path)
    assert (status, headers["content-type"]) == (200, "application/x-tar")
    members = read(archive)
    *names, last = members
    assert last == "backup.json"
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        stream = opened.extractfile(last)
        assert stream is not None
        manifest = json.loads(stream.read())
    assert manifest["files"] == len(names)
    assert manifest["size"] == sum(members[name].size for name in names)
    assert manifest["created_at"].endswith("+00:00")
    # The acknowledged spans are in it, although nothing waited for them to be loaded.
    rows: Mapping[str, int] = manifest["rows"]
    assert rows["events"] >= 30
    assert set(rows) == {
        name
        for (name,) in service.engine.query(
            "SELECT name FROM system.tables "
            "WHERE database = currentDatabase() AND engine LIKE '%%MergeTree'"
        ).rows
    }


def test_what_is_in_it(client: Client) -> None:
    """Definitions, parts, the secret key; not the log, nor what the engine remembers of loads."""
    client.export(make_request(make_span()))
    _, archive, _ = get(client, ADMIN_KEY)
    members = read(archive)
    tops = {name.split("/")[0] for name in members}
    assert tops == {"db", "secret.key", "backup.json"}
    assert {name.split("/")[1] for name in members if "/" in name} == {"data", "metadata", "store"}
    unwanted = ("deduplication_log", "mutation_", "detached", "/tmp", "shadow")  # noqa: S108 - of names in an archive
    assert [name for name in members if any(word in name for word in unwanted)] == []
    for table in ("events", "rejected", "ledger_records", "keys", "applications"):
        link = members[f"db/data/default/{table}"]
        assert link.issym()
        place = posixpath.normpath(posixpath.join("db/data/default", link.linkname))
        assert f"{place}/format_version.txt" in members
    assert {member.mode for member in members.values() if member.isreg()} == {0o600}
    assert any(name.endswith("/events_view.sql") for name in members)


def test_the_key_is_in_it_only_if_it_is_kept_there(service: Service) -> None:
    """In either case the manifest says which it is, and gives nothing of it away."""
    for is_kept in (True, False):
        backups = Backups(service.engine, SecretKey(b"k" * 32, is_kept), at_once)
        archive = b"".join(backups.begin())
        assert ("secret.key" in read(archive)) is is_kept
        assert archive.count(b"k" * 32) == is_kept
        assert fingerprint_of(b"k" * 32).encode() in archive


def test_loads_wait_for_the_freeze_only(service: Service) -> None:
    """A slow reader holds up nothing but another backup."""
    held: list[bool] = []

    @contextlib.contextmanager
    def at_rest() -> Iterator[None]:
        held.append(True)
        yield
        held.append(False)

    backups = Backups(service.engine, KEY, at_rest)
    archive = backups.begin()
    assert held == [True, False]
    with pytest.raises(RetryableError, match="already"):
        backups.begin()
    archive.close()
    assert len(b"".join(backups.begin())) > 0


def test_nothing_is_left_of_one_that_is_not_read(service: Service) -> None:
    """Neither of one that was closed, nor of one that was forgotten."""
    assert service.engine.directory is not None
    shadow = service.engine.directory / "shadow"
    backups = Backups(service.engine, KEY, at_once)
    archive = backups.begin()
    next(archive)
    assert shadow.exists()
    archive.close()
    assert not shadow.exists()
    backups.begin()
    assert not shadow.exists()
    # What a killed process left is removed with the next start.
    archive = backups.begin()
    Backups(service.engine, KEY, at_once)
    assert not shadow.exists()
    archive.close()


def test_a_store_that_is_behind(service: Service) -> None:
    """It is said at once, and can be tried again."""
    is_behind = [True, False]

    @contextlib.contextmanager
    def at_rest() -> Iterator[None]:
        if is_behind.pop(0):
            raise RetryableError("the store is behind")
        yield

    backups = Backups(service.engine, KEY, at_rest)
    with pytest.raises(RetryableError, match="behind"):
        backups.begin()
    assert len(b"".join(backups.begin())) > 0


def test_a_server_makes_its_own() -> None:
    """Its files are not ours to read."""
    server = cast(Engine, SimpleNamespace(directory=None))
    with pytest.raises(InvalidRequestError, match="ClickHouse server"):
        Backups(server, KEY, at_once).begin()
