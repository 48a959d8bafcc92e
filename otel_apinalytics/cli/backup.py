# SPDX-License-Identifier: Apache-2.0
"""`apinalytics backup` and `restore`: copies of a data directory."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from otel_apinalytics.cli.server_options import (
    AdminKey,
    CaFile,
    ClientCertificateFile,
    ClientKeyFile,
    ServerUrl,
    server_of,
)
from otel_apinalytics.errors import BackupError

if TYPE_CHECKING:
    from otel_apinalytics.store.backup_manifest import Manifest


def backup(
    directory: Annotated[Path, typer.Argument(help="Where to; empty, or not there yet.")],
    server: ServerUrl = None,
    admin_key: AdminKey = None,
    ca_file: CaFile = None,
    client_certificate_file: ClientCertificateFile = None,
    client_key_file: ClientKeyFile = None,
) -> None:
    """Make a backup of a service that runs: a directory that can be served and restored."""
    from otel_apinalytics.backup.fetch import fetch_backup

    service = server_of(
        server, "admin", admin_key, ca_file, client_certificate_file, client_key_file
    )
    with _private_files():
        manifest = fetch_backup(service, directory)
    typer.echo(f"{directory}: {_in_numbers(manifest)}")
    if not manifest.has_secret_key:
        typer.echo("The secret key is not in it: keep a copy of its file elsewhere.")


def restore(
    directory: Annotated[Path, typer.Argument(help="The backup.")],
    data_dir: Annotated[Path, typer.Option(help="Where to; empty, or not there yet.")],
    secret_key_file: Annotated[
        Path | None, typer.Option(help="The secret key, where it is not in the backup.")
    ] = None,
) -> None:
    """Make a data directory from a backup, which stays as it is."""
    from otel_apinalytics.backup.restore import restore_backup
    from otel_apinalytics.settings import read_settings

    key_file = read_settings({"secret_key_file": secret_key_file}).secret_key_file
    with _private_files():
        manifest = restore_backup(directory, data_dir, key_file)
    key = "" if manifest.has_secret_key else f"APINALYTICS_SECRET_KEY_FILE={key_file} "
    typer.echo(f"{data_dir}: {_in_numbers(manifest)}")
    typer.echo(f"Next: {key}apinalytics serve --data-dir {data_dir}")


@contextlib.contextmanager
def _private_files() -> Iterator[None]:
    """Give a time in which what is written is its owner's alone, and SIGTERM is as Ctrl-C."""
    os.umask(0o077)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    except KeyboardInterrupt:
        raise BackupError("stopped; nothing is left of it") from None


def _in_numbers(manifest: Manifest) -> str:
    rows = ", ".join(f"{table} {number}" for table, number in manifest.rows.items())
    return f"{manifest.files} files, {manifest.size} bytes, of {manifest.created_at}; rows: {rows}"
