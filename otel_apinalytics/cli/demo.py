# SPDX-License-Identifier: Apache-2.0
"""`apinalytics demo`: the service, an instrumented API and its traffic, in one command."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Annotated

import typer

from otel_apinalytics.cli.serve import INSECURE


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
    insecure: Annotated[bool, typer.Option("--insecure", help=INSECURE)] = False,
) -> None:
    """Serve, run an instrumented API, send it traffic, and ask the first questions."""
    from otel_apinalytics.demo.run import run_demo

    os.umask(0o077)
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
