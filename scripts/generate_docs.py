# SPDX-License-Identifier: Apache-2.0
"""Fill the README's tables from the catalogue and the settings, or check them (`--check`)."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path

from otel_apinalytics.catalogue import FIELDS, VIRTUAL_FIELDS
from otel_apinalytics.settings import PREFIX, Settings

README = Path(__file__).resolve().parent.parent / "README.md"


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
    lines = ["| variable | default | meaning |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        default = "" if field.default in (None, "", ()) else f"`{field.default}`"
        lines.append(f"| `{PREFIX}{name.upper()}` | {default} | {field.description} |")
    return "\n".join(lines)


def fill(text: str) -> str:
    """Return the README with fresh tables."""
    for name, table in (("catalogue", catalogue_table()), ("settings", settings_table())):
        begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
        pattern = f"{re.escape(begin)}.*{re.escape(end)}"
        new = f"{begin}\n{table}\n{end}"
        # A function, for the tables may contain backslashes.
        text = re.sub(pattern, _constant(new), text, flags=re.DOTALL)
    return text


def _constant(text: str) -> Callable[[re.Match[str]], str]:
    return lambda _: text


if __name__ == "__main__":
    current = README.read_text("utf-8")
    fresh = fill(current)
    if "--check" in sys.argv[1:]:
        if fresh != current:
            raise SystemExit("stale tables in README.md; run `make docs`")
    else:
        README.write_text(fresh, "utf-8")
