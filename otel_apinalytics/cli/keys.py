# SPDX-License-Identifier: Apache-2.0
"""`apinalytics keys`: the keys of a service's applications."""

from __future__ import annotations

import re
from enum import Enum
from typing import Annotated, Any
from urllib.parse import quote

import typer

from otel_apinalytics.cli.admin_options import NAME, NOTE, Administered, administers, given

_COLUMNS = (
    "key_id", "application", "scope", "state", "name", "bound_to", "expires_at", "last_used_at",
)  # fmt: skip
_NEVER, _DEFAULT = "never", "default"
_FROM_NOW = re.compile(r"[0-9]+[smhdw]")
_TIMES = "30d, 24h, 2027-01-31T12:00:00Z"

_KeyId = Annotated[str, typer.Argument(help="Public name of the key.", metavar="KEY_ID")]

keys = typer.Typer(
    help="List, make, rotate and revoke keys. A new key is shown once.", no_args_is_help=True
)


class KeyScope(str, Enum):
    """What a key may do."""

    WRITE = "write"
    READ = "read"
    ADMIN = "admin"


@keys.command("list")
@administers
def list_keys(
    service: Administered,
    application: Annotated[
        str | None, typer.Option(help="Whose; those of all that the admin key may manage.")
    ] = None,
) -> None:
    """List keys, also those that let nobody in any more."""
    parameters = [("application", application)] if application else []
    answer = service.client.get("/1/keys/", parameters)
    service.show_list(answer, answer["keys"], _COLUMNS)


@keys.command("show")
@administers
def show_key(service: Administered, key_id: _KeyId) -> None:
    """Show what is known of a key; not the key itself, which is kept nowhere."""
    service.show(service.client.get(_path(key_id)))


@keys.command("create")
@administers
def create_key(
    service: Administered,
    scope: Annotated[KeyScope, typer.Argument(help="write, read or admin.", metavar="SCOPE")],
    application: Annotated[
        str | None, typer.Option(help="Whose; that of the admin key by default.")
    ] = None,
    name: Annotated[str, typer.Option(help=NAME)] = "",
    note: Annotated[str, typer.Option(help=NOTE)] = "",
    expires: Annotated[str | None, typer.Option(help=f"When it ends: {_TIMES}.")] = None,
    bound_to: Annotated[
        str | None,
        typer.Option(
            help="FIELD:VALUE of the only events that a read key sees: consumer_id, app_id, "
            "organization_id or plan_id.",
            metavar="FIELD:VALUE",
        ),
    ] = None,
    requests_per_minute: Annotated[int | None, typer.Option(help="Its limit.")] = None,
    rows_per_minute: Annotated[
        int | None, typer.Option(help="Its limit: spans, events, points.")
    ] = None,
) -> None:
    """Make a key, and show it once; into a pipe goes nothing but the key."""
    wanted: dict[str, Any] = {"scope": scope.value, "name": name, "note": note}
    wanted |= given(
        application=application,
        expires_at=_time(expires),
        bound_to=_binding(bound_to),
        requests_per_minute=requests_per_minute,
        rows_per_minute=rows_per_minute,
    )
    service.show_secret(service.client.post("/1/keys/", wanted), "key")


@keys.command("change")
@administers
def change_key(
    service: Administered,
    key_id: _KeyId,
    name: Annotated[str | None, typer.Option(help=NAME)] = None,
    note: Annotated[str | None, typer.Option(help=NOTE)] = None,
    expires: Annotated[
        str | None, typer.Option(help=f"When it ends: {_TIMES}; or {_NEVER}.")
    ] = None,
    requests_per_minute: Annotated[
        str | None, typer.Option(help=f"Its limit, or {_DEFAULT}.", metavar="NUMBER")
    ] = None,
    rows_per_minute: Annotated[
        str | None, typer.Option(help=f"Its limit, or {_DEFAULT}.", metavar="NUMBER")
    ] = None,
) -> None:
    """Change name, note, end or limits of a key."""
    changes: dict[str, Any] = given(name=name, note=note)
    if expires is not None:
        changes["expires_at"] = None if expires == _NEVER else _time(expires)
    limits = given(requests_per_minute=requests_per_minute, rows_per_minute=rows_per_minute)
    changes |= {field: _limit(field, text) for field, text in limits.items()}
    if not changes:
        raise typer.BadParameter("nothing to change: give an option")
    service.show(service.client.patch(_path(key_id), changes))


@keys.command("rotate")
@administers
def rotate_key(
    service: Administered,
    key_id: _KeyId,
    overlap: Annotated[
        str, typer.Option(help="How long the old key lets its holders in yet, or until when.")
    ] = "24h",
    expires: Annotated[
        str | None,
        typer.Option(help=f"When the new key ends: {_TIMES}. By default, it is for as long."),
    ] = None,
) -> None:
    """Make another key of the same kind, show it once, and let the old one end a while later."""
    body = {"old_expires_at": _time(overlap)}
    if expires is not None:
        body["expires_at"] = _time(expires)
    answer = service.client.post(f"{_path(key_id)}rotate/", body)
    old = answer["old"]
    shown = {**answer, "old": f"{old['key_id']}, until {old['expires_at']}"}
    service.show_secret(answer if service.as_json else shown, "key")


@keys.command("revoke")
@administers
def revoke_key(service: Administered, key_id: _KeyId) -> None:
    """Let nobody in with a key any more, for ever."""
    service.show(service.client.delete(_path(key_id)))


def _path(key_id: str) -> str:
    return f"/1/keys/{quote(key_id, safe='')}/"


def _time(text: str | None) -> str | None:
    """Return a time as the API takes it: a length is from now on."""
    return f"+{text}" if text and _FROM_NOW.fullmatch(text) else text


def _binding(text: str | None) -> dict[str, str] | None:
    if text is None:
        return None
    field, colon, value = text.partition(":")
    if not colon:
        raise typer.BadParameter(f"{text!r} is not FIELD:VALUE", param_hint="--bound-to")
    return {field: value}


def _limit(field: str, text: str) -> int | None:
    if text == _DEFAULT:
        return None
    if not (text.isascii() and text.isdigit()):
        hint = f"--{field.replace('_', '-')}"
        raise typer.BadParameter(f"{text!r} is no number, nor {_DEFAULT}", param_hint=hint)
    return int(text)
