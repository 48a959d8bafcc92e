# SPDX-License-Identifier: Apache-2.0
"""The command line: `apinalytics serve`, `apinalytics demo`."""

from __future__ import annotations

import logging
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from otel_apinalytics.errors import ConfigError

if TYPE_CHECKING:
    from otel_apinalytics.service import Service

app = typer.Typer(
    help="API analytics on OpenTelemetry.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


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
) -> None:
    """Take spans and events, answer questions, until SIGTERM or SIGINT."""
    from otel_apinalytics.service import Service
    from otel_apinalytics.settings import read_settings

    arguments = {"data_dir": data_dir, "store": store, "grpc": grpc, "http": http}
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    service = Service(read_settings(arguments, config))
    service.start()
    _print_welcome(service)
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
) -> None:
    """Serve, run an instrumented API, send it traffic, and ask the first questions."""
    from otel_apinalytics.demo.run import run_demo

    if not run_demo(once=once, seconds=seconds, data_dir=data_dir, grpc=grpc, http=http):
        raise typer.Exit(1)


def _print_welcome(service: Service) -> None:
    from otel_apinalytics.service import exporter_settings
    from otel_apinalytics.store.keys import Scope

    keys = service.first_keys
    lines = [f"OTLP/gRPC on {service.grpc_address}, HTTP on {service.http_address}", ""]
    if keys.secrets:
        lines.append("The keys below are stored hashed: this is the only time they are shown.")
    else:
        lines.append("The keys were shown at the first start; put the write key in below.")
    lines += [f"  application  {keys.application}"]
    lines += [f"  {scope.value:<5} key    {secret}" for scope, secret in keys.secrets.items()]
    lines += ["", "Point an OpenTelemetry SDK here:", ""]
    block = exporter_settings(service.grpc_address, keys.application, keys.secrets.get(Scope.WRITE))
    lines += [f"  {line}" for line in block.splitlines()]
    lines += ["", f"Then open http://{service.http_address}/ and type in the read key.", ""]
    typer.echo("\n".join(lines))


def main() -> None:
    """Run the command line; a setting that cannot work is one line and exit code 2."""
    logging.basicConfig(
        level=logging.INFO,
        stream=sys.stderr,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    try:
        app()
    except ConfigError as error:
        typer.echo(f"apinalytics: {error}", err=True)
        sys.exit(2)
