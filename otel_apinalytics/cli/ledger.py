# SPDX-License-Identifier: Apache-2.0
"""`apinalytics ledger`: what was received, and what became of it."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Mapping
from datetime import datetime, timezone
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote

import typer

from otel_apinalytics.cli.server_options import (
    CaFile,
    ClientCertificateFile,
    ClientKeyFile,
    ReadKey,
    ServerUrl,
    server_of,
)

if TYPE_CHECKING:
    from rich.console import Console

_OUTCOMES = ("received", "stored", "duplicate", "filtered", "rejected")
_REFUSED = "refused"


class LedgerFormat(str, Enum):
    """How the ledger is printed."""

    TABLE = "table"
    JSON = "json"


def ledger(
    start: Annotated[str, typer.Option(help="Unix seconds, RFC 3339, or before now.")] = "-24h",
    end: Annotated[str, typer.Option(help="Likewise; excluded.")] = "now",
    granularity: Annotated[str, typer.Option(help="Of the rows in JSON.")] = "hour",
    form: Annotated[
        LedgerFormat | None,
        typer.Option("--format", help="Default: table on a terminal, else json."),
    ] = None,
    server: ServerUrl = None,
    read_key: ReadKey = None,
    ca_file: CaFile = None,
    client_certificate_file: ClientCertificateFile = None,
    client_key_file: ClientKeyFile = None,
) -> None:
    """Account for what was received, by default within a day, by outcome and reason."""
    from otel_apinalytics.client import Client

    service = server_of(server, "read", read_key, ca_file, client_certificate_file, client_key_file)
    path = f"/1/ledger/{quote(start, safe='')}/{quote(end, safe='')}/"
    with Client(service) as client:
        answer = client.get(path, [("granularity", granularity)])
    form = form or (LedgerFormat.TABLE if sys.stdout.isatty() else LedgerFormat.JSON)
    if form is LedgerFormat.JSON:
        typer.echo(json.dumps(answer, ensure_ascii=False))
        return
    from rich.console import Console

    _show(answer, Console(highlight=False))


def _show(answer: Mapping[str, Any], console: Console) -> None:
    from rich.table import Table

    items: Counter[tuple[str, str]] = Counter()
    for row in answer["rows"]:
        items[row["outcome"], row["reason"]] += row["items"]
    table = Table(box=None, pad_edge=False)
    table.add_column("outcome")
    table.add_column("reason")
    table.add_column("items", justify="right")
    for outcome in _OUTCOMES:
        table.add_row(outcome, "", f"{answer['totals'][outcome]:,}", style="bold")
        for (found, reason), number in sorted(items.items()):
            if found == outcome and reason:
                table.add_row("", reason, f"{number:,}")
    table.add_row("difference", "", f"{answer['totals']['difference']:,}", style="bold")
    for (found, reason), number in sorted(items.items()):
        if found == _REFUSED:
            table.add_row("refused requests", reason, f"{number:,}")
    console.print(
        f"{_time(answer['start'])} to {_time(answer['end'])} (UTC), "
        f"settled until {_time(answer['settled_until'])}",
        style="bold",
    )
    console.print(table)


def _time(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, timezone.utc):%Y-%m-%d %H:%M}"
