# SPDX-License-Identifier: Apache-2.0
"""`apinalytics config`: the settings that are in force, where each comes from, and no secret."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import typer
from pydantic import BaseModel, SecretStr

from otel_apinalytics.cli.settings_options import ConfigFile, with_settings
from otel_apinalytics.settings import (
    DEFAULT,
    FILE_SUFFIX,
    SECRETS,
    TABLES,
    Effective,
    Origin,
    Settings,
    read_effective,
)

_HIDDEN = "(not shown)"


@with_settings
def config(
    arguments: Mapping[str, Any],
    config_file: ConfigFile = None,
    toml: Annotated[
        bool, typer.Option("--toml", help="As a settings file; what is the default is a comment.")
    ] = False,
) -> None:
    """Print the settings that `serve` would have, and where each comes from; no secrets."""
    effective = read_effective(arguments, config_file)
    for line in _toml(effective) if toml else _table(effective):
        typer.echo(line)


def _table(effective: Effective) -> Iterator[str]:
    rows = [("setting", "value", "from")]
    for name, origin in effective.origins.items():
        source = (
            f"{origin.source}, in {origin.secret_file}" if origin.secret_file else origin.source
        )
        rows.append((name, _shown(getattr(effective.settings, name)), source))
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    for name, value, source in rows:
        yield f"{name:<{widths[0]}}  {value:<{widths[1]}}  {source}"


def _shown(value: Any) -> str:
    if value in (None, ()):
        return ""
    if isinstance(value, SecretStr):
        return _without_secrets(value.get_secret_value())
    if isinstance(value, str | Path):
        return str(value)
    return json.dumps(_plain(value), ensure_ascii=False)


def _without_secrets(secret: str) -> str:
    """Return where a DSN leads, without user, password and parameters; of a key, nothing."""
    scheme, separator, _ = secret.partition("://")
    if not secret or not separator:
        return _HIDDEN if secret else ""
    parts = urlsplit(secret)
    place = parts.netloc.rpartition("@")[2]
    more = "?…" if parts.query else ""
    return f"{scheme}://{'…@' if '@' in parts.netloc else ''}{place}{parts.path}{more}"


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(entry) for entry in value]
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", by_alias=True, exclude_none=True)
    return value


# ---- as a file ----


def _toml(effective: Effective) -> Iterator[str]:
    tables: list[str] = []
    for name, origin in effective.origins.items():
        value = getattr(effective.settings, name)
        yield f"# {Settings.model_fields[name].description}"
        if name in SECRETS:
            yield _secret_line(name, origin)
        elif value is None:
            yield f"# {name} ="
        elif value and name in TABLES:
            yield f"# [[{name}]]: below."
            tables += _tables(name, _plain(value))
        else:
            line = f"{name} = {_literal(_plain(value))}"
            yield f"# {line}" if origin.source == DEFAULT else line
        yield ""
    yield from tables


def _secret_line(name: str, origin: Origin) -> str:
    if origin.secret_file:
        return f"{name}{FILE_SUFFIX} = {_literal(origin.secret_file.absolute())}"
    if origin.source == DEFAULT:
        return f"# {name}{FILE_SUFFIX} ="
    return f"# {name}{FILE_SUFFIX} =  # given by {origin.source}; not shown"


def _tables(name: str, entries: list[dict[str, Any]]) -> Iterator[str]:
    for entry in entries:
        yield f"[[{name}]]"
        yield from (f"{key} = {_literal(value)}" for key, value in entry.items())
        yield ""


def _literal(value: Any) -> str:
    # TOML's numbers, booleans, lists and texts are JSON's, but for one character of these.
    plain = str(value) if isinstance(value, Path) else value
    return json.dumps(plain, ensure_ascii=False).replace("\x7f", "\\u007f")
