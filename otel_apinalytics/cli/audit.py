# SPDX-License-Identifier: Apache-2.0
"""`apinalytics audit`: who asked through which key, and who changed what."""

from __future__ import annotations

import sys
from enum import Enum
from typing import Annotated, Any
from urllib.parse import quote

import typer

from otel_apinalytics.cli.admin_options import Administered, administers

_COLUMNS = ("at", "key", "action", "route", "parameters", "status", "rows")


class AuditFormat(str, Enum):
    """How entries are written for programs."""

    NDJSON = "ndjson"
    CSV = "csv"


@administers
def audit(
    service: Administered,
    start: Annotated[str, typer.Option(help="Unix seconds, RFC 3339, or before now.")] = "-24h",
    end: Annotated[str, typer.Option(help="Likewise; excluded.")] = "now",
    application: Annotated[str, typer.Option(help="Of keys of this application.")] = "",
    key: Annotated[str, typer.Option(help="Of the key with this id.")] = "",
    action: Annotated[
        str, typer.Option(help="read, key.make …; key for all that is done to keys.")
    ] = "",
    limit: Annotated[int, typer.Option(min=1, help="How many, the newest ones.")] = 1000,
    form: Annotated[
        AuditFormat | None, typer.Option("--format", help="An entry a line, or CSV.")
    ] = None,
) -> None:
    """List who asked through which key, and who changed what, by default within a day."""
    from urllib3.exceptions import HTTPError

    filters = {"application": application, "key": key, "action": action, "limit": str(limit)}
    parameters = [(name, text) for name, text in filters.items() if text]
    path = f"/1/audit/{quote(start, safe='')}/{quote(end, safe='')}/"
    if form is not None:
        with service.client.stream(path, None, [*parameters, ("format", form.value)]) as answer:
            try:
                content = answer.read()
            except HTTPError as error:
                raise service.client.interrupted(error) from error
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()
        return
    answer = service.client.get(path, parameters)
    service.show_list(answer, [_row(entry) for entry in answer["entries"]], _COLUMNS)


def _row(entry: dict[str, Any]) -> dict[str, Any]:
    parameters = [f"{each['name']}={each['value']}" for each in entry["parameters"]]
    return {
        **entry,
        "at": entry["at"][:19],
        "key": entry["key_name"] or entry["key_id"],
        "parameters": " ".join(parameters),
    }
