# SPDX-License-Identifier: Apache-2.0
"""`apinalytics query`: asks a timeseries question, and shows a table, or prints CSV or JSON."""

from __future__ import annotations

import contextlib
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
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
from otel_apinalytics.errors import ClientError, InvalidRequestError

if TYPE_CHECKING:
    from rich.console import Console, Group

    from otel_apinalytics.cli.query_table import Heading
    from otel_apinalytics.client import Client

_USUAL_LIMIT = 10
_USUAL_GROUP = "consumer_id"
# The longest range, in hours, of buckets so wide: charts have about a hundred.
_USUAL_GRANULARITIES = ((2, "minute"), (4 * 24, "hour"))
_UNITS = {"count": None, "unique": None, "rate": "/s", "error_rate": "%"}
# Where there was no call there is a number, and it is 0.
_ZERO = ("count", "sum", "rate", "unique")


class QueryFormat(str, Enum):
    """How an answer is printed."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"
    SERIES = "series"


@dataclass(frozen=True, slots=True)
class Question:
    """What to ask.

    Args:
        start: Start of the range.
        end: End of the range.
        aggregation: The aggregation.
        value: What it is of; empty for the usual.
        granularity: What a bucket is; empty for one over the whole range.
        tz: Zone; empty for UTC.
        groups: Dimensions that split the answer.
        others: Further parameters.
    """

    start: str
    end: str
    aggregation: str
    value: str
    granularity: str
    tz: str
    groups: Sequence[str]
    others: Sequence[tuple[str, str]]

    def path(self) -> str:
        """Return the path of its range."""
        return timeseries_path(self.start, self.end)

    def parameters(self) -> list[tuple[str, str]]:
        """Return its parameters, but for granularity and format."""
        single = {"aggregation": self.aggregation, "value": self.value, "tz": self.tz}
        groups = [("group", name) for name in self.groups]
        return [*((k, v) for k, v in single.items() if v), *groups, *self.others]


def timeseries_path(start: str, end: str) -> str:
    """Return the path of a range."""
    return f"/1/timeseries/{quote(start, safe='')}/{quote(end, safe='')}/"


def query(
    question: Annotated[
        str,
        typer.Argument(
            metavar="[VALUE/]AGGREGATION",
            help="Such as count, p95, error_rate, request_bytes/sum.",
        ),
    ] = "",
    start: Annotated[str, typer.Option(help="Unix seconds, RFC 3339, or before now.")] = "-24h",
    end: Annotated[str, typer.Option(help="Likewise; excluded.")] = "now",
    aggregation: Annotated[
        str, typer.Option(help="Instead of the argument; count is the default.")
    ] = "",
    value: Annotated[
        str, typer.Option(help="What is aggregated; response_us is the default.")
    ] = "",
    group: Annotated[
        list[str] | None,
        typer.Option(
            help="Dimension that splits the answer; repeatable, '' for none. Default: consumer_id."
        ),
    ] = None,
    include: Annotated[
        list[str] | None, typer.Option(help="field:value; repeatable. status_code:5xx, url:/api/*")
    ] = None,
    exclude: Annotated[list[str] | None, typer.Option(help="Likewise; is left out.")] = None,
    granularity: Annotated[
        str, typer.Option(help="Bucket, such as hour or 300. Default: by the range.")
    ] = "",
    limit: Annotated[
        int, typer.Option(min=1, help="The largest groups, the rest in one.")
    ] = _USUAL_LIMIT,
    tz: Annotated[str, typer.Option(help="IANA zone of times and days. Default: UTC.")] = "",
    fill: Annotated[str, typer.Option(help="In CSV and JSON: none, zero or null.")] = "",
    exact: Annotated[bool, typer.Option("--exact", help="Exact percentiles.")] = False,
    form: Annotated[
        QueryFormat | None,
        typer.Option("--format", help="Default: table on a terminal, else csv."),
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Ask and draw again and again.")] = False,
    every: Annotated[float, typer.Option(min=0.1, help="Seconds between two of them.")] = 5.0,
    server: ServerUrl = None,
    read_key: ReadKey = None,
    ca_file: CaFile = None,
    client_certificate_file: ClientCertificateFile = None,
    client_key_file: ClientKeyFile = None,
) -> None:
    """Ask who calls, how often, how fast: by default the calls of a day by consumer and hour."""
    from otel_apinalytics.client import Client

    value, aggregation = _what(question, value, aggregation)
    groups = [] if aggregation == "unique" else [_USUAL_GROUP]
    if group is not None:
        groups = [name for name in group if name]
    asked = Question(
        start=start,
        end=end,
        aggregation=aggregation,
        value=value,
        granularity=granularity or _usual_granularity(start, end),
        tz=tz,
        groups=groups,
        others=[
            *(("include", text) for text in include or ()),
            *(("exclude", text) for text in exclude or ()),
            *([("limit", str(limit))] if groups else []),
            *([("exact", "true")] if exact else []),
        ],
    )
    form = form or (QueryFormat.TABLE if sys.stdout.isatty() else QueryFormat.CSV)
    if watch and form is not QueryFormat.TABLE:
        raise typer.BadParameter("only a table on a terminal is drawn again", param_hint="--watch")
    service = server_of(server, "read", read_key, ca_file, client_certificate_file, client_key_file)
    with Client(service) as client:
        if form is QueryFormat.TABLE:
            _show(client, asked, every if watch else None)
        else:
            more = [("granularity", asked.granularity), ("fill", fill), ("format", form.value)]
            _print(client, asked, more)


def _what(question: str, value: str, aggregation: str) -> tuple[str, str]:
    """Return what is aggregated, and how; empty for the usual value."""
    if question and (value or aggregation):
        raise typer.BadParameter("give either the argument, or --value and --aggregation")
    if question:
        value, _, aggregation = question.rpartition("/")
    return value, aggregation or "count"


def _usual_granularity(start: str, end: str) -> str:
    from otel_apinalytics.query.times import parse_range

    try:
        start_us, end_us = parse_range(start, end)
    except InvalidRequestError:
        # The service says what is wrong with it.
        return "hour"
    hours = (end_us - start_us) / 3.6e9
    return next((name for most, name in _USUAL_GRANULARITIES if hours <= most), "day")


def _print(client: Client, asked: Question, more: Sequence[tuple[str, str]]) -> None:
    from urllib3.exceptions import HTTPError

    parameters = [*asked.parameters(), *more]
    with client.stream(asked.path(), parameters=parameters) as answer:
        try:
            for block in answer.stream(1 << 16):
                sys.stdout.buffer.write(block)
        except HTTPError as error:
            raise client.interrupted(error) from error
    if dict(more)["format"] != QueryFormat.CSV.value:
        sys.stdout.buffer.write(b"\n")


def _show(client: Client, asked: Question, every_s: float | None) -> None:
    from rich.console import Console

    console = Console(highlight=False)
    heading = _heading(client, asked)
    if every_s is None:
        console.print(_view(client, asked, heading, console))
        return
    # SIGTERM takes the same way out as Ctrl-C: the cursor is shown again.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with contextlib.suppress(KeyboardInterrupt):
        _redraw(client, asked, heading, console, every_s)


def _redraw(
    client: Client, asked: Question, heading: Heading, console: Console, every_s: float
) -> None:
    from rich.console import Group
    from rich.live import Live
    from rich.text import Text

    view = _view(client, asked, heading, console)
    with Live(view, console=console, auto_refresh=False) as live:
        live.refresh()
        while True:
            time.sleep(every_s)
            try:
                view = _view(client, asked, heading, console)
                live.update(view, refresh=True)
            except ClientError as error:
                problem = Text(f"{error}; trying again", style="red")
                live.update(Group(view, problem), refresh=True)


def _view(client: Client, asked: Question, heading: Heading, console: Console) -> Group:
    from otel_apinalytics.cli.query_table import query_view

    parameters = [*asked.parameters(), ("format", "series")]
    overall = client.get(asked.path(), parameters)
    # The same range, also where it ends now.
    path = timeseries_path(*(f"{overall[bound]:.6f}" for bound in ("start", "end")))
    fill = "zero" if asked.aggregation in _ZERO else "null"
    trend = client.get(path, [*parameters, ("granularity", asked.granularity), ("fill", fill)])
    return query_view(heading, overall, trend, console)


def _heading(client: Client, asked: Question) -> Heading:
    from otel_apinalytics.cli.query_table import Heading
    from otel_apinalytics.query.zones import parse_zone

    try:
        zone = parse_zone(asked.tz)
    except InvalidRequestError as error:
        raise typer.BadParameter(f"{error}: {asked.tz}", param_hint="--tz") from error
    if asked.aggregation in _UNITS:
        unit = _UNITS[asked.aggregation]
        of = f" of {asked.value}" if asked.value else ""
    else:
        value = asked.value or "response_us"
        unit = next(_units(client, value), None)
        of = f" of {value}"
    return Heading(
        what=f"{asked.aggregation}{of}",
        unit=unit,
        aggregation=asked.aggregation,
        groups=asked.groups,
        granularity=asked.granularity,
        zone=zone,
        zone_name=asked.tz or "UTC",
    )


def _units(client: Client, name: str) -> Iterator[Any]:
    for field in client.get("/1/fields/")["fields"]:
        if field["name"] == name:
            yield field["unit"]
