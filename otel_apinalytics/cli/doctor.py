# SPDX-License-Identifier: Apache-2.0
"""`apinalytics doctor`: checks a service from outside, and says what to do about what is wrong."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlsplit

import typer

from otel_apinalytics.cli.server_options import (
    AdminKey,
    CaFile,
    ClientCertificateFile,
    ClientKeyFile,
    ReadKey,
    ServerUrl,
)
from otel_apinalytics.cli.terminal import printable

if TYPE_CHECKING:
    from otel_apinalytics.doctor.checks import Check, Target

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
) -> None:
    """Check a service from outside, and send a probe by each way in that is counted nowhere.

    Checks what can be checked with the keys that there are. Exit code 1 if anything is wrong.
    """
    from otel_apinalytics.doctor.examination import examine

    keys = {"write_key": write_key, "read_key": read_key, "admin_key": admin_key}
    target = _target(
        server,
        grpc,
        keys,
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
    server: str | None, grpc: str | None, keys: Mapping[str, str | None], **tls: Any
) -> Target:
    from otel_apinalytics.doctor.checks import SCOPES, Target
    from otel_apinalytics.settings import read_settings

    given = {name: key or None for name, key in keys.items()}
    settings = read_settings(given)
    scheme = "https" if settings.tls_certificate_file else "http"
    address = server or settings.http
    url = address if "://" in address else f"{scheme}://{address}"
    secrets = {scope: getattr(settings, f"{scope}_key") for scope in SCOPES}
    return Target(
        url=url.rstrip("/"),
        grpc=grpc or (_grpc_of(url) if server else settings.grpc),
        keys={scope: secret.get_secret_value() for scope, secret in secrets.items() if secret},
        **tls,
    )


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
