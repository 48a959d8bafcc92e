# SPDX-License-Identifier: Apache-2.0
"""The command line: `apinalytics serve`, `demo`, `backup`, `restore`."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from otel_apinalytics.errors import BackupError, ConfigError

if TYPE_CHECKING:
    from otel_apinalytics.service import Service
    from otel_apinalytics.settings import Settings
    from otel_apinalytics.store.backup_manifest import Manifest

app = typer.Typer(
    help="API analytics on OpenTelemetry.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
_INSECURE = "Listen elsewhere than on localhost without TLS; something in front does it."


@app.command()
def serve(
    data_dir: Annotated[
        Path | None, typer.Option(help="Directory of everything that is kept.")
    ] = None,
    store: Annotated[
        str | None,
        typer.Option(help="chdb:///directory or clickhouse://user:password@host/database."),
    ] = None,
    grpc: Annotated[str | None, typer.Option(help="Where OTLP/gRPC listens, host:port.")] = None,
    http: Annotated[str | None, typer.Option(help="Where HTTP listens, host:port.")] = None,
    config: Annotated[Path | None, typer.Option(help="TOML file with settings.")] = None,
    insecure: Annotated[bool | None, typer.Option("--insecure", help=_INSECURE)] = None,
) -> None:
    """Take spans and events, answer questions, until SIGTERM or SIGINT."""
    from otel_apinalytics.service import Service
    from otel_apinalytics.settings import read_settings

    arguments = {
        "data_dir": data_dir,
        "store": store,
        "grpc": grpc,
        "http": http,
        "insecure": insecure,
    }
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    # The service works in its data directory.
    config = config.absolute() if config else None
    settings = read_settings(arguments, config)
    service = Service(settings, config, lambda: read_settings(arguments, config))
    service.start()
    typer.echo(_welcome(service, settings))
    stop.wait()
    typer.echo("stopping: finishing what was accepted …")
    service.stop()


@app.command()
def demo(
    once: Annotated[
        bool, typer.Option("--once", help="Exit after the answers; non-zero if a count is wrong.")
    ] = False,
    seconds: Annotated[float, typer.Option(help="How long to send traffic.", min=0.5)] = 6.0,
    data_dir: Annotated[
        Path | None, typer.Option(help="Keep the data here; default is a temporary directory.")
    ] = None,
    grpc: Annotated[str, typer.Option(help="Where OTLP/gRPC listens.")] = "localhost:4317",
    http: Annotated[str, typer.Option(help="Where HTTP listens.")] = "localhost:4318",
    insecure: Annotated[bool, typer.Option("--insecure", help=_INSECURE)] = False,
) -> None:
    """Serve, run an instrumented API, send it traffic, and ask the first questions."""
    from otel_apinalytics.demo.run import run_demo

    # SIGTERM takes the same way out as Ctrl-C: the API is ended, the data are removed.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        counted = run_demo(
            once=once, seconds=seconds, data_dir=data_dir, grpc=grpc, http=http, insecure=insecure
        )
    except KeyboardInterrupt:
        typer.echo("stopped")
        return
    if not counted:
        raise typer.Exit(1)


@app.command()
def backup(
    directory: Annotated[Path, typer.Argument(help="Where to; empty, or not there yet.")],
    server: Annotated[
        str | None, typer.Option(help="URL of the service; default is that of APINALYTICS_HTTP.")
    ] = None,
    admin_key: Annotated[
        str | None, typer.Option(help="Others see it here: better set APINALYTICS_ADMIN_KEY.")
    ] = None,
    ca_file: Annotated[
        Path | None, typer.Option(help="PEM: CA of the service's certificate, if it is private.")
    ] = None,
    client_certificate_file: Annotated[
        Path | None, typer.Option(help="PEM: certificate to show, if the service wants one.")
    ] = None,
    client_key_file: Annotated[Path | None, typer.Option(help="PEM: its private key.")] = None,
) -> None:
    """Make a backup of a service that runs: a directory that can be served and restored."""
    from otel_apinalytics.backup.fetch import Server, fetch_backup
    from otel_apinalytics.settings import read_settings

    settings = read_settings({"admin_key": admin_key})
    if settings.admin_key is None:
        raise BackupError("no admin key: set APINALYTICS_ADMIN_KEY")
    url = server or f"{'https' if settings.tls_certificate_file else 'http'}://{settings.http}"
    service = Server(
        url,
        settings.admin_key.get_secret_value(),
        ca_file,
        client_certificate_file,
        client_key_file,
    )
    with _private_files():
        manifest = fetch_backup(service, directory)
    typer.echo(f"{directory}: {_in_numbers(manifest)}")
    if not manifest.has_secret_key:
        typer.echo("The secret key is not in it: keep a copy of its file elsewhere.")


@app.command()
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


def _welcome(service: Service, settings: Settings) -> str:
    from otel_apinalytics.service import exporter_settings
    from otel_apinalytics.store.keys import Scope

    keys = service.first_keys
    tls = service.tls_files
    listening = f"OTLP/gRPC on {service.grpc_address}, HTTP on {service.http_address}"
    lines = [f"{listening} with TLS" if tls else listening, ""]
    lines.append(f"  application  {keys.application}")
    if keys.created:
        lines += [f"  {scope.value:<5} key    {secret}" for scope, secret in keys.created.items()]
        lines += ["", "Keys are stored hashed: this is the only time that these are shown."]
    write_key = keys.created.get(Scope.WRITE)
    if write_key is None:
        write_key = "$APINALYTICS_WRITE_KEY" if settings.write_key else "<write key>"
    lines += ["", "Point an OpenTelemetry SDK here:", ""]
    block = exporter_settings(service.grpc_address, keys.application, write_key, tls)
    lines += [f"  {line}" for line in block.splitlines()]
    page = f"{'https' if tls else 'http'}://{service.http_address}/"
    lines += ["", f"Then open {page} and type in the read key.", ""]
    return "\n".join(lines)


def main() -> None:
    """Run the command line; what cannot be done is one line: exit code 2 for a setting, else 1."""
    _set_up_logging()
    try:
        app()
    except ConfigError as error:
        typer.echo(f"apinalytics: {error}", err=True)
        sys.exit(2)
    except BackupError as error:
        typer.echo(f"apinalytics: {error}", err=True)
        sys.exit(1)


def _set_up_logging() -> None:
    handler = logging.StreamHandler()
    handler.addFilter(_is_ours_or_an_error)
    logging.basicConfig(
        level=logging.INFO,
        handlers=[handler],
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")


def _is_ours_or_an_error(record: logging.LogRecord) -> bool:
    # Libraries warn about each of their own tries; what comes of it is an error of ours.
    return record.name.startswith("otel_apinalytics") or record.levelno >= logging.ERROR
