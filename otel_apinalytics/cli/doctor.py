# SPDX-License-Identifier: Apache-2.0
"""`apinalytics doctor`: checks a service from outside, and says what to do about what is wrong."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlsplit

import typer

from otel_apinalytics.cli.local_key import find_local_service, local_key
from otel_apinalytics.cli.server_options import (
    AdminKey,
    CaFile,
    ClientCertificateFile,
    ClientKeyFile,
    ConfigFile,
    DataDir,
    ReadKey,
    ServerUrl,
)
from otel_apinalytics.cli.terminal import printable
from otel_apinalytics.errors import ClientError

if TYPE_CHECKING:
    from otel_apinalytics.doctor.checks import Check, Target
    from otel_apinalytics.local_service import LocalService
    from otel_apinalytics.settings import Settings

_PANEL = "Service"
_MARKS = {"ok": "✓", "failed": "✗", "skipped": "-"}
_ASCII_MARKS = {"ok": "ok  ", "failed": "FAIL", "skipped": "skip"}
_GRPC_PORT = 4317


def doctor(
    wait: Annotated[
        float, typer.Option(min=0, help="Seconds to look for a probe before it counts as lost.")
    ] = 30.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was found as JSON.")] = False,
    server: ServerUrl = None,
    grpc: Annotated[
        str | None,
        typer.Option(
            help="host:port of OTLP/gRPC; default is port 4317 of --server, or APINALYTICS_GRPC.",
            rich_help_panel=_PANEL,
        ),
    ] = None,
    write_key: Annotated[
        str | None,
        typer.Option(
            help="Others see it here: better set APINALYTICS_WRITE_KEY.", rich_help_panel=_PANEL
        ),
    ] = None,
    read_key: ReadKey = None,
    admin_key: AdminKey = None,
    ca_file: CaFile = None,
    client_certificate_file: ClientCertificateFile = None,
    client_key_file: ClientKeyFile = None,
    config: ConfigFile = None,
    data_dir: DataDir = None,
) -> None:
    """Check a service from outside, and send a probe by each way in that is counted nowhere.

    Checks what can be checked with the keys that there are. Exit code 1 if anything is wrong. A
    service on this machine is found by its data directory, unless it is named otherwise.
    """
    from otel_apinalytics.doctor.examination import examine

    keys = {"write_key": write_key, "read_key": read_key, "admin_key": admin_key}
    target = _target(
        server,
        grpc,
        {**keys, "data_dir": data_dir},
        config,
        ca_file=ca_file,
        client_certificate_file=client_certificate_file,
        client_key_file=client_key_file,
    )
    checks: list[Check] = []
    for check in examine(target, os.environ, wait):
        checks.append(check)
        if not as_json:
            for line in _lines(check):
                typer.echo(line)
    healthy = all(check.state.value != "failed" for check in checks)
    if as_json:
        found = {"server": target.url, "healthy": healthy, "checks": [asdict(c) for c in checks]}
        typer.echo(json.dumps(found, ensure_ascii=False))
    else:
        typer.echo(_summary(checks))
    if not healthy:
        raise typer.Exit(1)


def _target(
    server: str | None,
    grpc: str | None,
    given: Mapping[str, str | Path | None],
    config: Path | None,
    **tls: Any,
) -> Target:
    from otel_apinalytics.doctor.checks import SCOPES, Target
    from otel_apinalytics.settings import DEFAULT, read_effective

    effective = read_effective({name: value or None for name, value in given.items()}, config)
    settings = effective.settings
    secrets = {scope: getattr(settings, f"{scope}_key") for scope in SCOPES}
    keys = {scope: secret.get_secret_value() for scope, secret in secrets.items() if secret}
    is_named = server or (effective.origins["http"].source != DEFAULT and not given["data_dir"])
    local = None if is_named else _local_service(settings, is_wanted=bool(given["data_dir"]))
    if local is not None:
        keys = {"admin": keys.get("admin") or local_key(settings, local), **keys}
        return Target(url=local.url, grpc=grpc or local.grpc, keys=keys, **tls)
    scheme = "https" if settings.tls_certificate_file else "http"
    address = server or settings.http
    url = address if "://" in address else f"{scheme}://{address}"
    return Target(
        url=url.rstrip("/"),
        grpc=grpc or (_grpc_of(url) if server else settings.grpc),
        keys=keys,
        **tls,
    )


def _local_service(settings: Settings, *, is_wanted: bool) -> LocalService | None:
    """Return the service that runs in the data directory.

    Args:
        settings: What names the directory.
        is_wanted: Whether no other one would do.

    Raises:
        ClientError: None does, and no other one would do; or it may not be looked for.
    """
    found = find_local_service(settings)
    if found is None and is_wanted:
        raise ClientError(f"no service runs in {settings.data_dir}")
    return found


def _grpc_of(url: str) -> str:
    """Return where gRPC listens on the machine of a URL, as a rule."""
    host = urlsplit(url).hostname or ""
    return f"[{host}]:{_GRPC_PORT}" if ":" in host else f"{host}:{_GRPC_PORT}"


def _lines(check: Check) -> list[str]:
    encoding = sys.stdout.encoding or "ascii"
    marks, arrow = (_MARKS, "→") if _can_show(encoding) else (_ASCII_MARKS, "->")
    mark = marks[check.state.value]
    lines = [f"{mark} {check.name:<12}  {check.message}"]
    if check.advice:
        lines.append(f"{' ' * len(mark)} {'':<12}  {arrow} {check.advice}")
    return [printable(line, encoding) for line in lines]


def _can_show(encoding: str) -> bool:
    try:
        "✓✗→".encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def _summary(checks: Sequence[Check]) -> str:
    states = [check.state.value for check in checks]
    words = [
        f"{states.count(state)} {word}"
        for state, word in (("ok", "fine"), ("failed", "wrong"), ("skipped", "not checked"))
    ]
    return f"\n{', '.join(words)}"
