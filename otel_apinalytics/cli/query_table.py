# SPDX-License-Identifier: Apache-2.0
"""A timeseries as a table: a row for each group, with its value and a small chart."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, tzinfo
from typing import Any

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from otel_apinalytics.cli.terminal import number, printable, sparkline

# Of the other columns, as far as they need it.
_OTHERS_WIDTH = 50
_MIN_CHART, _MAX_CHART = 10, 120
_MISSING = "(missing)"
_ADDS_UP = ("count", "sum")
_DAY_S = 86_400


@dataclass(frozen=True, slots=True)
class Heading:
    """What a table is about.

    Args:
        what: What is aggregated, in words.
        unit: Its unit; `%` for a fraction of one, or None.
        aggregation: The aggregation.
        groups: The fields that split it.
        granularity: Width of a bucket as it was asked for.
        zone: Of the times.
        zone_name: Its name.
    """

    what: str
    unit: str | None
    aggregation: str
    groups: Sequence[str]
    granularity: str
    zone: tzinfo
    zone_name: str

    def time(self, seconds: float, *, with_day: bool = True) -> str:
        """Return a time in the zone."""
        local = datetime.fromtimestamp(seconds, self.zone)
        return f"{local:%Y-%m-%d %H:%M}" if with_day else f"{local:%H:%M}"


def query_view(
    heading: Heading, overall: Mapping[str, Any], trend: Mapping[str, Any], console: Console
) -> Group:
    """Return what is shown of an answer.

    Args:
        heading: What it is about.
        overall: The list of series over the whole range, one point in each.
        trend: The same by bucket.
        console: Where it will be shown.
    """
    title = f"{heading.what}{_by(heading.groups)}, by {heading.granularity}, "
    title += f"{heading.time(overall['start'])} to {heading.time(overall['end'])} "
    lines = [Text(printable(f"{title}({heading.zone_name})", console.encoding), style="bold")]
    if any(series["points"] for series in overall["series"]):
        return Group(*lines, _table(heading, overall, trend, console), *_notes(overall))
    lines.append(Text("No calls in this time; `apinalytics ledger` says what arrived."))
    return Group(*lines)


def _by(groups: Sequence[str]) -> str:
    return f" by {', '.join(groups)}" if groups else ""


def _notes(overall: Mapping[str, Any]) -> list[Text]:
    sampled = Text("Some calls were sampled: numbers are scaled back.", style="dim")
    return [sampled] if overall.get("sampled") else []


def _table(
    heading: Heading, overall: Mapping[str, Any], trend: Mapping[str, Any], console: Console
) -> Table:
    charts = {_key(series): series["points"] for series in trend["series"]}
    width = min(max(console.width - _OTHERS_WIDTH, _MIN_CHART), _MAX_CHART)
    to_text = _to_text(console.encoding)
    table = Table(box=None, pad_edge=False)
    for name in heading.groups:
        table.add_column(to_text(name), overflow="ellipsis", no_wrap=True, max_width=40)
    table.add_column(to_text(heading.aggregation), justify="right", no_wrap=True)
    table.add_column(to_text(f"by {heading.granularity}"), no_wrap=True)
    table.add_column("peak", justify="right", no_wrap=True)

    def add_row(names: list[Text], value: float | None, points: list[list[Any]]) -> None:
        values = [value for _, value in points]
        chart = sparkline(values, width, ascii_only=console.options.ascii_only)
        table.add_row(
            *names,
            to_text(number(value, heading.unit)),
            Text(chart, style="cyan"),
            to_text(_peak(heading, points)),
        )

    for series in overall["series"]:
        folded = overall.get("other", {}).get("groups", 0)
        value = series["points"][0][1] if series["points"] else None
        names = _names(series["group"], heading.groups, folded, to_text)
        add_row(names, value, charts.get(_key(series), []))
    if heading.aggregation in _ADDS_UP and len(overall["series"]) > 1:
        names = [Text("total", style="bold"), *(Text() for _ in heading.groups[1:])]
        total = sum(series["points"][0][1] for series in overall["series"] if series["points"])
        add_row(names, total, _total(trend["series"]))
    return table


def _to_text(encoding: str) -> Callable[[str], Text]:
    # Not as markup: names come from whoever calls the API.
    return lambda text: Text(printable(text, encoding))


def _key(series: Mapping[str, Any]) -> tuple[str, ...] | None:
    return None if series["group"] is None else tuple(series["group"].values())


def _names(
    group: Mapping[str, str] | None,
    fields: Sequence[str],
    folded: int,
    to_text: Callable[[str], Text],
) -> list[Text]:
    if group is None:
        noun = "group" if folded == 1 else "groups"
        other = Text(f"other ({folded} {noun})", style="dim")
        return [other, *(Text() for _ in fields[1:])]
    return [to_text(name) if name else Text(_MISSING, style="dim") for name in group.values()]


def _total(series: Sequence[Mapping[str, Any]]) -> list[list[Any]]:
    sums: dict[int, float] = {}
    for each in series:
        for time, value in each["points"]:
            sums[time] = sums.get(time, 0) + (value or 0)
    return [[time, value] for time, value in sorted(sums.items())]


def _peak(heading: Heading, points: Sequence[Sequence[Any]]) -> str:
    known = [(value, -time) for time, value in points if value is not None]
    if not known:
        return ""
    value, time = max(known)
    return f"{number(value, heading.unit)} at {heading.time(-time)}"
