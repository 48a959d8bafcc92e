# SPDX-License-Identifier: Apache-2.0
"""`apinalytics erase`: deletes all that is stored of one consumer, and prints a receipt."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from otel_apinalytics.cli.admin_options import Administered, administers


@administers
def erase(
    service: Administered,
    consumer: Annotated[str, typer.Option(help="The consumer's id, as answers have it.")],
    application: Annotated[
        str | None, typer.Option(help="Whose; that of the admin key by default.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask first.")] = False,
) -> None:
    """Erase a consumer: events, dead letters, and where the audit names it. Backups keep it."""
    if not yes and sys.stdin.isatty():
        typer.confirm(f"Erase all that is stored of {consumer!r}, for ever?", abort=True, err=True)
    wanted = {"consumer": consumer, **({"application": application} if application else {})}
    answer = service.client.post("/1/erase/", wanted)
    while not answer["complete"]:
        # Each answer comes when it is done, or after some seconds.
        typer.echo(f"erasure {answer['erasure']} is under way …", err=True)
        answer = service.client.get(f"/1/erase/{answer['erasure']}/")
    service.show(answer)
