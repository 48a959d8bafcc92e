# SPDX-License-Identifier: Apache-2.0
"""What commands that administer share: how they find the service, and how they show its answers."""

from __future__ import annotations

import functools
import inspect
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from otel_apinalytics.cli.server_options import (
    AdminKey,
    CaFile,
    ClientCertificateFile,
    ClientKeyFile,
    ConfigFile,
    DataDir,
    ServerUrl,
    server_of,
)
from otel_apinalytics.cli.terminal import printable

if TYPE_CHECKING:
    from otel_apinalytics.client import Client

#: What options are for that several commands have.
NAME, NOTE = "What people call it.", "Anything that people want to remember of it."
_SERVICE = "service"
_JSON = Annotated[
    bool, typer.Option("--json", help="Print the answer of the API, also on a terminal.")
]
_OPTIONS: Mapping[str, tuple[Any, object]] = {
    "as_json": (_JSON, False),
    "server": (ServerUrl, None),
    "admin_key": (AdminKey, None),
    # In the order of `server_of`.
    "ca_file": (CaFile, None),
    "client_certificate_file": (ClientCertificateFile, None),
    "client_key_file": (ClientKeyFile, None),
    "config": (ConfigFile, None),
    "data_dir": (DataDir, None),
}


@dataclass(frozen=True, slots=True)
class Administered:
    """A service that is administered, and how its answers are shown.

    Args:
        client: The service.
        as_json: Whether its answers are wanted as they are.
    """

    client: Client
    as_json: bool

    def show(self, answer: Mapping[str, Any]) -> None:
        """Show one thing: a line for each field, or JSON."""
        if self._wants_json:
            typer.echo(json.dumps(answer, ensure_ascii=False))
            return
        width = max(map(len, answer))
        for name, value in answer.items():
            typer.echo(f"{name:<{width}}  {_text(value)}".rstrip())

    def show_list(
        self, answer: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], columns: Sequence[str]
    ) -> None:
        """Show several things: a table, or JSON.

        Args:
            answer: The answer of the API.
            rows: What is in it.
            columns: The fields that have room beside each other.
        """
        from rich.console import Console
        from rich.table import Table

        if self._wants_json:
            typer.echo(json.dumps(answer, ensure_ascii=False))
            return
        table = Table(*columns, box=None, pad_edge=False)
        for row in rows:
            table.add_row(*(_text(row[column]) for column in columns))
        Console(highlight=False, markup=False).print(table)

    def show_secret(self, answer: Mapping[str, Any], secret: str) -> None:
        """Show one thing with a secret; into a pipe, nothing but the secret.

        Args:
            answer: The answer of the API.
            secret: The field that is secret.
        """
        if sys.stdout.isatty() or self.as_json:
            self.show(answer)
        else:
            typer.echo(answer[secret])

    @property
    def _wants_json(self) -> bool:
        return self.as_json or not sys.stdout.isatty()


def given(**options: Any) -> dict[str, Any]:
    """Return the options that were given."""
    return {name: value for name, value in options.items() if value is not None}


def administers(command: Callable[..., None]) -> Callable[..., None]:
    """Return a command with the options of a service that it asks with an admin key.

    Args:
        command: Gets the service as `service`, beside its own arguments.
    """
    hints = get_type_hints(command, include_extras=True)
    own = [
        parameter.replace(annotation=hints[name], kind=inspect.Parameter.KEYWORD_ONLY)
        for name, parameter in inspect.signature(command).parameters.items()
        if name != _SERVICE
    ]

    @functools.wraps(command)
    def with_options(**given: Any) -> None:
        from otel_apinalytics.client import Client

        as_json, server, key, *others = (given.pop(name) for name in _OPTIONS)
        found = server_of(server, "admin", key, *others)
        with Client(found) as client:
            command(**{_SERVICE: Administered(client, as_json)}, **given)

    shared = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)
        for name, (kind, default) in _OPTIONS.items()
    ]
    parameters = [*own, *shared]
    # What Typer makes options of.
    with_options.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    with_options.__annotations__ = {each.name: each.annotation for each in parameters}
    return with_options


def _text(value: Any) -> str:
    """Return a value for people; it can do nothing to a terminal."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, dict):
        value = ", ".join(f"{name}:{entry}" for name, entry in value.items())
    return printable(str(value), sys.stdout.encoding)
