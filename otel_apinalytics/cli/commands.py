# SPDX-License-Identifier: Apache-2.0
"""The command line: its commands, its log, and what it says of errors."""

from __future__ import annotations

import logging
import os
import sys

import typer

from otel_apinalytics.cli.apps import apps
from otel_apinalytics.cli.audit import audit
from otel_apinalytics.cli.backup import backup, restore
from otel_apinalytics.cli.config import config
from otel_apinalytics.cli.demo import demo
from otel_apinalytics.cli.doctor import doctor
from otel_apinalytics.cli.erase import erase
from otel_apinalytics.cli.events import events
from otel_apinalytics.cli.keys import keys
from otel_apinalytics.cli.ledger import ledger
from otel_apinalytics.cli.query import query
from otel_apinalytics.cli.ready import ready
from otel_apinalytics.cli.retention import retention
from otel_apinalytics.cli.serve import serve
from otel_apinalytics.cli.terminal import printable
from otel_apinalytics.errors import BackupError, ClientError, ConfigError

app = typer.Typer(
    help="API analytics on OpenTelemetry.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for command in (
    serve, demo, doctor, ready, config, query, events, ledger, audit, erase, backup, restore,
):  # fmt: skip
    app.command()(command)
app.add_typer(apps, name="apps")
app.add_typer(keys, name="keys")
app.add_typer(retention, name="retention")


def run() -> None:
    """Run the command line; what cannot be done is one line: exit code 2 for a setting, else 1."""
    _set_up_logging()
    try:
        app()
    except (ConfigError, BackupError, ClientError) as error:
        # A service says what its data say.
        words = printable(str(error), sys.stderr.encoding)
        typer.echo(f"apinalytics: {words}", err=True)
        sys.exit(2 if isinstance(error, ConfigError) else 1)


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
