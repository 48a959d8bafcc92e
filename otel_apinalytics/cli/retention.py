# SPDX-License-Identifier: Apache-2.0
"""`apinalytics retention`: how long an application's data is kept, and what goes when."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from otel_apinalytics.cli.admin_options import Administered, administers

_DEFAULT = "default"
# As the API says it.
_AS_SETTINGS = "null"
_COLUMNS = ("table", "day", "rows", "removed_after")
_Application = Annotated[str | None, typer.Option(help="Whose; that of the admin key by default.")]
_Limit = Annotated[
    str | None, typer.Option(help=f"A number, or {_DEFAULT} for that of the settings.")
]

retention = typer.Typer(
    help="Show and set how long an application's data is kept.", no_args_is_help=True
)


@retention.command("show")
@administers
def show_retention(service: Administered, application: _Application = None) -> None:
    """Show the limits of an application, and when each day is removed."""
    parameters = [("application", application)] if application else []
    _show(service, service.client.get("/1/retention/", parameters))


@retention.command("set")
@administers
def set_retention(
    service: Administered,
    application: _Application = None,
    events_days: _Limit = None,
    rejected_days: _Limit = None,
    rejected_rows: _Limit = None,
    ledger_days: _Limit = None,
    audit_days: _Limit = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would go, and change nothing.")
    ] = False,
) -> None:
    """Set limits of an application; they hold from the next deletion on.

    That is within an hour; for --rejected-rows, within a minute.
    """
    given = {
        "events_days": events_days,
        "rejected_days": rejected_days,
        "rejected_rows": rejected_rows,
        "ledger_days": ledger_days,
        "audit_days": audit_days,
    }
    changes = {name: _limit(name, text) for name, text in given.items() if text is not None}
    if not changes:
        raise typer.BadParameter("nothing to set: give an option")
    body = {**changes, **({"application": application} if application else {})}
    if dry_run:
        wanted = [
            (name, _AS_SETTINGS if value is None else str(value)) for name, value in body.items()
        ]
        _show(service, service.client.get("/1/retention/", wanted))
    else:
        _show(service, service.client.put("/1/retention/", body))


def _limit(name: str, text: str) -> int | None:
    if text == _DEFAULT:
        return None
    if text.isascii() and text.isdigit():
        return int(text)
    raise typer.BadParameter(
        f"{text!r} is neither a number nor {_DEFAULT}", param_hint=f"--{name.replace('_', '-')}"
    )


def _show(service: Administered, answer: dict[str, Any]) -> None:
    if sys.stdout.isatty() and not service.as_json:
        for name, limit in answer["limits"].items():
            typer.echo(f"{name:<13}  {limit['value']:>9,}  {limit['source']}")
        typer.echo()
    service.show_list(answer, answer["days"], _COLUMNS)
