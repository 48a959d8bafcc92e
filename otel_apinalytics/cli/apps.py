# SPDX-License-Identifier: Apache-2.0
"""`apinalytics apps`: the applications of a service."""

from __future__ import annotations

import sys
from typing import Annotated
from urllib.parse import quote

import typer

from otel_apinalytics.cli.admin_options import NAME, NOTE, Administered, administers, given
from otel_apinalytics.errors import ClientError

_COLUMNS = ("application", "name", "active_keys", "is_operators", "created_at", "removed_at")
_Id = Annotated[str, typer.Argument(help="Its id.", metavar="APPLICATION")]

apps = typer.Typer(
    help="List, make and remove applications: each has its own events and keys.",
    no_args_is_help=True,
)


@apps.command("list")
@administers
def list_apps(service: Administered) -> None:
    """List the applications that the admin key may manage."""
    answer = service.client.get("/1/applications/")
    service.show_list(answer, answer["applications"], _COLUMNS)


@apps.command("show")
@administers
def show_app(service: Administered, application: _Id) -> None:
    """Show an application."""
    service.show(service.client.get(_path(application)))


@apps.command("create")
@administers
def create_app(
    service: Administered,
    application: _Id,
    name: Annotated[str | None, typer.Option(help=NAME)] = None,
    note: Annotated[str | None, typer.Option(help=NOTE)] = None,
) -> None:
    """Make an application; `apinalytics keys create` makes its keys. It may be there already."""
    service.show(service.client.put(_path(application), given(name=name, note=note)))


@apps.command("change")
@administers
def change_app(
    service: Administered,
    application: _Id,
    name: Annotated[str | None, typer.Option(help=NAME)] = None,
    note: Annotated[str | None, typer.Option(help=NOTE)] = None,
) -> None:
    """Change what an application is called."""
    changes = given(name=name, note=note)
    if not changes:
        raise typer.BadParameter("nothing to change: give --name or --note")
    service.show(service.client.patch(_path(application), changes))


@apps.command("remove")
@administers
def remove_app(
    service: Administered,
    application: _Id,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Revoke all keys of an application, for ever. What it has stored stays until it is too old."""
    if not yes:
        if not sys.stdin.isatty():
            raise ClientError(f"{application} is removed for ever: say --yes")
        typer.confirm(f"Let nobody in for {application} any more, for ever?", abort=True)
    service.show(service.client.delete(_path(application)))


@apps.command("hash-key")
@administers
def show_hash_key(service: Administered, application: _Id) -> None:
    """Show what secrets are hashed with, for OTEL_EXPORTER_APINALYTICS_HASH_KEY of exporters."""
    service.show_secret(service.client.get(f"{_path(application)}hash-key/"), "hash_key")


def _path(application: str) -> str:
    return f"/1/applications/{quote(application, safe='')}/"
