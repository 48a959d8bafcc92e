# SPDX-License-Identifier: Apache-2.0
"""Fill tables of the documentation from catalogue and settings, or check them (`--check`)."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from otel_apinalytics.catalogue import FIELDS, VIRTUAL_FIELDS
from otel_apinalytics.settings import FILE_SUFFIX, PREFIX, SECRETS, Settings

ROOT = Path(__file__).resolve().parent.parent


def catalogue_table() -> str:
    """Return the table of event fields."""
    lines = ["| field | role | in JSON events | meaning |", "|---|---|---|---|"]
    for field in (*FIELDS, *VIRTUAL_FIELDS):
        role = f"{field.role.value}, in queries only" if field.virtual else field.role.value
        sent = "required" if field.required else "yes" if field.in_event else ""
        unit = f" Unit: {field.unit}." if field.unit else ""
        lines.append(f"| `{field.name}` | {role} | {sent} | {field.description}{unit} |")
    return "\n".join(lines)


def settings_table() -> str:
    """Return the table of settings."""
    lines = ["| variable | argument | in the file | default | meaning |", "|---|---|---|---|---|"]
    for name, field in Settings.model_fields.items():
        is_secret = name in SECRETS
        is_shown = not is_secret and field.default not in (None, ())
        default = f"`{str(field.default).replace('False', 'false')}`" if is_shown else ""
        lines.append(_settings_row(name, default, str(field.description)))
        if is_secret:
            lines.append(_settings_row(name + FILE_SUFFIX, "", f"File with `{name}`."))
    return "\n".join(lines)


def _settings_row(name: str, default: str, meaning: str) -> str:
    argument = f"--{name.replace('_', '-')}"
    return f"| `{PREFIX}{name.upper()}` | `{argument}` | `{name}` | {default} | {meaning} |"


# Where each table is, between its marks.
TABLES: dict[str, tuple[Path, Callable[[], str]]] = {
    "catalogue": (ROOT / "README.md", catalogue_table),
    "settings": (ROOT / "docs" / "settings.md", settings_table),
}


def fill(text: str, name: str, table: str) -> str:
    """Return a page with a fresh table."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    before, found, rest = text.partition(begin)
    _, found_end, after = rest.partition(end)
    if not (found and found_end):
        raise SystemExit(f"there is no place for the table of {name}")
    return f"{before}{begin}\n{table}\n{end}{after}"


def _main() -> None:
    for name, (page, table) in TABLES.items():
        current = page.read_text("utf-8")
        fresh = fill(current, name, table())
        if "--check" not in sys.argv[1:]:
            page.write_text(fresh, "utf-8")
        elif fresh != current:
            raise SystemExit(f"stale tables in {page.relative_to(ROOT)}; run `make docs`")


if __name__ == "__main__":
    _main()
