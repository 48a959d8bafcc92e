# SPDX-License-Identifier: Apache-2.0
"""`apinalytics events`: the events themselves, to standard output or a file, of any size."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated
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
from otel_apinalytics.errors import ClientError

if TYPE_CHECKING:
    from otel_apinalytics.client import Client, Parameters

_BLOCK_BYTES = 1 << 16
_NEXT_CURSOR = "X-Next-Cursor"


class EventsFormat(str, Enum):
    """How events are written."""

    NDJSON = "ndjson"
    CSV = "csv"
    PARQUET = "parquet"


def events(
    start: Annotated[str, typer.Option(help="Unix seconds, RFC 3339, or before now.")] = "-24h",
    end: Annotated[str, typer.Option(help="Likewise; excluded.")] = "now",
    form: Annotated[
        EventsFormat, typer.Option("--format", help="A JSON object a line, or another.")
    ] = EventsFormat.NDJSON,
    fields: Annotated[
        str, typer.Option(help="Names between commas. Default: all that is stored.")
    ] = "",
    include: Annotated[
        list[str] | None, typer.Option(help="field:value; repeatable. status_code:5xx, url:/api/*")
    ] = None,
    exclude: Annotated[list[str] | None, typer.Option(help="Likewise; is left out.")] = None,
    tz: Annotated[str, typer.Option(help="IANA zone of hour_of_day and weekday.")] = "",
    limit: Annotated[
        int | None, typer.Option(min=1, help="A page of so many. Default: all of them.")
    ] = None,
    cursor: Annotated[str, typer.Option(help="Begin behind the event with this cursor.")] = "",
    output: Annotated[
        Path | None, typer.Option(help="File to write; it is there once it is whole.")
    ] = None,
    server: ServerUrl = None,
    read_key: ReadKey = None,
    ca_file: CaFile = None,
    client_certificate_file: ClientCertificateFile = None,
    client_key_file: ClientKeyFile = None,
) -> None:
    """Write the events of a range, by default of a day, in order of time."""
    from otel_apinalytics.client import Client

    if form is EventsFormat.PARQUET and output is None and sys.stdout.isatty():
        raise typer.BadParameter("Parquet is not for a terminal", param_hint="--output")
    single = {
        "format": form.value,
        "fields": fields,
        "tz": tz,
        "limit": str(limit or ""),
        "cursor": cursor,
    }
    parameters = [
        *((name, text) for name, text in single.items() if text),
        *(("include", text) for text in include or ()),
        *(("exclude", text) for text in exclude or ()),
    ]
    service = server_of(server, "read", read_key, ca_file, client_certificate_file, client_key_file)
    path = f"/1/events/{quote(start, safe='')}/{quote(end, safe='')}/"
    with Client(service) as client, _target(output) as target:
        more = _write(client, path, parameters, target)
    if more:
        typer.echo(f"there are more: --cursor {more}", err=True)


def _write(client: Client, path: str, parameters: Parameters, target: IO[bytes]) -> str | None:
    """Write an answer as it comes; return the cursor of the next page, if there is one."""
    from urllib3.exceptions import HTTPError

    with client.stream(path, parameters=parameters) as answer:
        try:
            for block in answer.stream(_BLOCK_BYTES):
                target.write(block)
        except HTTPError as error:
            raise client.interrupted(error) from error
        return answer.headers.get(_NEXT_CURSOR)


@contextlib.contextmanager
def _target(output: Path | None) -> Iterator[IO[bytes]]:
    """Give where to write; a file gets its name when all is written."""
    if output is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    partial = output.with_name(f"{output.name}.partial")
    try:
        with partial.open("wb") as target:
            yield target
        os.replace(partial, output)
    except OSError as error:
        raise ClientError(f"cannot write to {partial}: {error.strerror}") from error
    finally:
        partial.unlink(missing_ok=True)
