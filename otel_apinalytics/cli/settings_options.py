# SPDX-License-Identifier: Apache-2.0
"""An option for each setting, made of the table of settings."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, get_args, get_type_hints

import typer
from pydantic import SecretStr

from otel_apinalytics.settings import FILE_SUFFIX, NAMES, SECRETS, Settings

ConfigFile = Annotated[Path | None, typer.Option("--config", help="TOML file with settings.")]
_ARGUMENTS = "arguments"


def with_settings(command: Callable[..., None]) -> Callable[..., None]:
    """Return a command with an option for each setting, beside its own.

    Args:
        command: Gets what was given as `arguments`, as `read_settings` takes them.
    """
    hints = get_type_hints(command, include_extras=True)
    own = [
        parameter.replace(annotation=hints[name], kind=inspect.Parameter.KEYWORD_ONLY)
        for name, parameter in inspect.signature(command).parameters.items()
        if name != _ARGUMENTS
    ]

    @functools.wraps(command)
    def with_options(**given: Any) -> None:
        arguments = {name: given.pop(name) for name in NAMES}
        command(**{_ARGUMENTS: arguments}, **given)

    parameters = [*own, *_options()]
    # What Typer makes options of.
    with_options.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    with_options.__annotations__ = {each.name: each.annotation for each in parameters}
    return with_options


def _options() -> Iterator[inspect.Parameter]:
    for name, field in Settings.model_fields.items():
        kinds = (field.annotation, *get_args(field.annotation))
        help_text = str(field.description)
        if bool in kinds:
            flag = name.replace("_", "-")
            yield _option(name, bool, help_text, f"--{flag}/--no-{flag}")
            continue
        metavar = next((word for kind, word in _METAVARS.items() if kind in kinds), "JSON")
        if name in SECRETS:
            secret = f"{help_text} Others see it here: better a file or a variable."
            yield _option(name, str, secret, metavar=metavar)
            yield _option(name + FILE_SUFFIX, str, f"File with {name}.", metavar="FILE")
        else:
            default = "" if field.default in (None, ()) else f" Default: {field.default}."
            yield _option(name, str, help_text + default, metavar=metavar)


_METAVARS = {Path: "PATH", int: "NUMBER", float: "NUMBER", str: "TEXT", SecretStr: "TEXT"}


def _option(
    name: str, kind: type, help_text: str, *declarations: str, metavar: str | None = None
) -> inspect.Parameter:
    option = typer.Option(*declarations, help=help_text, metavar=metavar, show_default=False)
    return inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[kind | None, option],
    )
