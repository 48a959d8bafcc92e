# SPDX-License-Identifier: Apache-2.0
"""`apinalytics serve`: runs the service in the foreground, and says how to use it."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from otel_apinalytics.cli.settings_options import ConfigFile, with_settings
from otel_apinalytics.cli.welcome import SCOPES, Welcome, key_text, program_name, welcome_text

if TYPE_CHECKING:
    from otel_apinalytics.service import Service
    from otel_apinalytics.settings import Settings

INSECURE = "Listen elsewhere than on localhost without TLS; something in front does it."


@with_settings
def serve(arguments: Mapping[str, Any], config: ConfigFile = None) -> None:
    """Take spans and events, answer questions, until SIGTERM or SIGINT."""
    from otel_apinalytics.service import Service
    from otel_apinalytics.settings import read_settings
    from otel_apinalytics.threads import MAIN_SLEEP_S

    # What is stored is readable in the engine's files, which it makes as everybody's.
    os.umask(0o077)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    # The service works in its data directory.
    config = config.absolute() if config else None
    here, program = Path.cwd(), program_name()
    settings = read_settings(arguments, config, here)
    service = Service(settings, config, lambda: read_settings(arguments, config, here))
    service.start()
    typer.echo(welcome_text(_welcome(service, settings, program)))
    while not stop.wait(MAIN_SLEEP_S):
        pass
    typer.echo("stopping: finishing what was accepted …")
    service.stop()


def _welcome(service: Service, settings: Settings, program: str) -> Welcome:
    from otel_apinalytics.service import exporter_settings

    keys = service.first_keys
    created = {scope.value: secret for scope, secret in keys.created.items()}
    given = tuple(scope for scope in SCOPES if getattr(settings, f"{scope}_key"))
    write_key = key_text("write", created, given)
    return Welcome(
        grpc=service.grpc_address,
        http=service.http_address,
        has_tls=service.tls_files is not None,
        application=keys.application,
        created=created,
        given=given,
        sdk_settings=exporter_settings(
            service.grpc_address, keys.application, write_key, service.tls_files
        ),
        # The service works in it.
        data_dir=Path.cwd(),
        program=program,
    )
