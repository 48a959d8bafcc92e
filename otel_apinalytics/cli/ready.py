# SPDX-License-Identifier: Apache-2.0
"""`apinalytics ready`: whether a service takes data, for whatever watches over it."""

from __future__ import annotations

import json
import ssl
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from otel_apinalytics.cli.server_options import ClientCertificateFile, ClientKeyFile, ServerUrl
from otel_apinalytics.cli.settings_options import ConfigFile
from otel_apinalytics.errors import ClientError

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse

_TIMEOUT_S = 5.0


def ready(
    server: ServerUrl = None,
    config: ConfigFile = None,
    client_certificate_file: ClientCertificateFile = None,
    client_key_file: ClientKeyFile = None,
) -> None:
    """Say whether a service takes data now; exit code 1 if not.

    No key is sent, so that its certificate need not be trusted, nor have the name that is used.
    """
    from otel_apinalytics.settings import read_settings

    settings = read_settings({}, config)
    scheme = "https" if settings.tls_certificate_file else "http"
    address = server or settings.http
    url = address if "://" in address else f"{scheme}://{address}"
    answer = _ask(f"{url.rstrip('/')}/health/ready", client_certificate_file, client_key_file)
    try:
        state = json.loads(answer.data)
        words = ", ".join([str(state["status"]), *map(str, state.get("reasons", ()))])
    except (ValueError, LookupError, TypeError, AttributeError):
        said = f"{url} answers with {answer.status}, and is no apinalytics service"
        raise ClientError(said) from None
    typer.echo(words)
    if answer.status != 200:
        raise typer.Exit(1)


def _ask(url: str, certificate: Path | None, key: Path | None) -> BaseHTTPResponse:
    from urllib3 import PoolManager
    from urllib3.exceptions import HTTPError

    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        if certificate is not None:
            context.load_cert_chain(certificate, key)
        with PoolManager(retries=False, timeout=_TIMEOUT_S, ssl_context=context) as pool:
            return pool.request("GET", url, redirect=False)
    except OSError as error:
        raise ClientError(f"cannot use {certificate}: {error.strerror or error}") from error
    except HTTPError as error:
        raise ClientError(f"no service answers at {url}") from error
