# SPDX-License-Identifier: Apache-2.0
"""The options of commands that ask a running service: where it is, and how to be let in."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from otel_apinalytics.cli.local_key import find_local_service, local_key
from otel_apinalytics.errors import ClientError

if TYPE_CHECKING:
    from otel_apinalytics.client import Server
    from otel_apinalytics.local_service import LocalService
    from otel_apinalytics.settings import Settings

_PANEL = "Service"
ServerUrl = Annotated[
    str | None,
    typer.Option(
        "--server",
        help="URL of the service; default is that of APINALYTICS_HTTP.",
        rich_help_panel=_PANEL,
    ),
]
ReadKey = Annotated[
    str | None,
    typer.Option(
        help="Others see it here: better set APINALYTICS_READ_KEY.", rich_help_panel=_PANEL
    ),
]
AdminKey = Annotated[
    str | None,
    typer.Option(
        help="Others see it here: better set APINALYTICS_ADMIN_KEY.", rich_help_panel=_PANEL
    ),
]
CaFile = Annotated[
    Path | None,
    typer.Option(
        help="PEM: CA of the service's certificate, if it is private.", rich_help_panel=_PANEL
    ),
]
ClientCertificateFile = Annotated[
    Path | None,
    typer.Option(
        help="PEM: certificate to show, if the service wants one.", rich_help_panel=_PANEL
    ),
]
ClientKeyFile = Annotated[
    Path | None, typer.Option(help="PEM: its private key.", rich_help_panel=_PANEL)
]
DataDir = Annotated[
    Path | None,
    typer.Option(
        help="Data directory of a service on this machine, instead of an admin key.",
        rich_help_panel=_PANEL,
    ),
]
ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", help="TOML file with settings.", rich_help_panel=_PANEL),
]


def server_of(
    url: str | None,
    scope: str,
    key: str | None,
    ca_file: Path | None,
    client_certificate_file: Path | None,
    client_key_file: Path | None,
    config: Path | None = None,
    data_dir: Path | None = None,
) -> Server:
    """Return the service that options and settings name.

    Args:
        url: Where it is, a URL or `host:port`; None for where the settings say that it listens.
        scope: What the key is for: `read` or `admin`.
        key: The key; None for that of the settings.
        ca_file: As for `Server`.
        client_certificate_file: As for `Server`.
        client_key_file: As for `Server`.
        config: TOML file with settings, or None.
        data_dir: Of a service on this machine, which says where it is; without `key`, its admin key
            is made of its secret key file. None for that of the settings, where neither URL nor
            admin key are known.

    Raises:
        ClientError: There is no key.
        ConfigError: A setting is wrong.
    """
    from otel_apinalytics.client import Server
    from otel_apinalytics.settings import read_settings

    given: dict[str, Any] = {f"{scope}_key": key or None, "data_dir": data_dir}
    settings = read_settings(given, config)
    kept = settings.admin_key if scope == "admin" else settings.read_key
    secret = kept and kept.get_secret_value()
    # The key of this machine's service goes nowhere else unless that is asked for.
    if scope == "admin" and not (url and key) and (data_dir or not (url or secret)):
        service = _service_in(settings)
        url, secret = url or service.url, key or local_key(settings, service)
    if not secret:
        raise ClientError(f"no {scope} key: set APINALYTICS_{scope.upper()}_KEY")
    scheme = "https" if settings.tls_certificate_file else "http"
    address = url or settings.http
    return Server(
        address if "://" in address else f"{scheme}://{address}",
        secret,
        scope,
        ca_file,
        client_certificate_file,
        client_key_file,
    )


def _service_in(settings: Settings) -> LocalService:
    """Return the service that runs in the data directory.

    Raises:
        ClientError: None does, or its files may not be read.
    """
    found = find_local_service(settings)
    if found is None:
        raise ClientError(
            "no admin key: set APINALYTICS_ADMIN_KEY, or name the data directory of a service that "
            f"runs on this machine with --data-dir; none runs in {settings.data_dir}"
        )
    return found
