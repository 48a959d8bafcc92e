# SPDX-License-Identifier: Apache-2.0
"""`apinalytics serve`: runs the service in the foreground, and says how to use it."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from otel_apinalytics.service import Service
    from otel_apinalytics.settings import Settings

INSECURE = "Listen elsewhere than on localhost without TLS; something in front does it."


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
    insecure: Annotated[bool | None, typer.Option("--insecure", help=INSECURE)] = None,
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
