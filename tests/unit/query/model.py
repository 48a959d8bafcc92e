# SPDX-License-Identifier: Apache-2.0
"""A model of timeseries: what a question should give, event by event, in fractions."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from fractions import Fraction
from zoneinfo import ZoneInfo

Key = tuple[str, ...] | None
Value = Fraction | None
Series = dict[Key, dict[int, Fraction]]


@dataclass(frozen=True)
class Call:
    """An event of the model; text that is missing is empty.

    Args:
        number: Its identity.
        time_us: Unix microseconds.
        consumer_id: A dimension.
        method: Another.
        plan: `attributes.plan`.
        status_code: A dimension that is a number.
        response_us: An integer measure.
        units: `metrics.units`, a float.
        weight: Thousandths of requests.
        is_error: Whether it failed.
        is_stream: Whether it is in no percentile of time.
    """

    number: int
    time_us: int
    consumer_id: str
    method: str
    plan: str
    status_code: int | None
    response_us: int | None
    units: float | None
    weight: int
    is_error: bool
    is_stream: bool

    def text(self, field: str, zone: ZoneInfo) -> str:
        """Return a dimension."""
        local = datetime.fromtimestamp(self.time_us // 1_000_000, zone)
        return {
            "consumer_id": self.consumer_id,
            "method": self.method,
            "attributes.plan": self.plan,
            "status_code": str(self.status_code or ""),
            "status_class": f"{self.status_code // 100}xx" if self.status_code else "",
            "is_error": str(self.is_error).lower(),
            "hour_of_day": str(local.hour),
            "weekday": str(local.isoweekday()),
        }[field]

    def measure(self, field: str) -> Fraction | None:
        """Return a measure."""
        found = self.response_us if field == "response_us" else self.units
        return None if found is None else Fraction(found)


@dataclass(frozen=True)
class Question:
    """A question of the model, in the words of the API.

    Args:
        start_us: Start of the range, Unix microseconds.
        end_us: End of the range.
        aggregation: Its name.
        value: A measure; of unique, a dimension.
        granularity: A number of seconds, a word, or nothing.
        tz: A zone.
        groups: Dimensions.
        include: Pairs of field and value.
        exclude: Likewise.
        limit: A number of groups, or None.
    """

    start_us: int
    end_us: int
    aggregation: str = "count"
    value: str = "response_us"
    granularity: str = ""
    tz: str = "UTC"
    groups: tuple[str, ...] = ()
    include: tuple[tuple[str, str], ...] = ()
    exclude: tuple[tuple[str, str], ...] = ()
    limit: int | None = None

    def parameters(self) -> list[tuple[str, str]]:
        """Return the parameters that ask it."""
        return [
            ("aggregation", self.aggregation),
            ("value", self.value),
            ("granularity", self.granularity),
            ("tz", self.tz),
            *(("group", name) for name in self.groups),
            *(("include", f"{field}:{value}") for field, value in self.include),
            *(("exclude", f"{field}:{value}") for field, value in self.exclude),
            ("limit", str(self.limit or "")),
            ("exact", "true"),
        ]


def answer(question: Question, calls: Sequence[Call]) -> Series:
    """Return the points of each group; of None, those of all groups that are folded."""
    zone = ZoneInfo(question.tz)
    found = [call for call in calls if matches(question, call, zone)]
    keys = {call.number: tuple(call.text(g, zone) for g in question.groups) for call in found}
    named = _named(question, found, keys)
    cells: dict[tuple[Key, int], list[Call]] = defaultdict(list)
    if not question.groups and not question.granularity:
        cells[(), question.start_us // 1_000_000] = []
    for call in found:
        key: Key = keys[call.number]
        cells[key if key in named else None, bucket(question, call.time_us, zone)].append(call)
    series: Series = defaultdict(dict)
    for (key, start), members in sorted(cells.items(), key=lambda cell: cell[0][1]):
        if (value := _aggregate(question, members, _seconds(question, start, zone))) is not None:
            series[key][start] = value
    return dict(series)


def bucket(question: Question, time_us: int, zone: ZoneInfo) -> int:
    """Return the start of a time's bucket, Unix seconds."""
    time_s = time_us // 1_000_000
    if not question.granularity:
        return question.start_us // 1_000_000
    if question.granularity.isdigit():
        return time_s - time_s % int(question.granularity)
    day = datetime.fromtimestamp(time_s, zone).date()
    if question.granularity == "week":
        day -= timedelta(days=day.weekday())
    if question.granularity == "month":
        day = day.replace(day=1)
    return round(datetime.combine(day, time(), zone).timestamp())


def _seconds(question: Question, start: int, zone: ZoneInfo) -> Fraction:
    if not question.granularity:
        return Fraction(question.end_us - question.start_us, 1_000_000)
    if question.granularity.isdigit():
        end = start + int(question.granularity)
    else:
        later = datetime.fromtimestamp(start, zone).date() + timedelta(
            days={"day": 1, "week": 7, "month": 31}[question.granularity]
        )
        if question.granularity == "month":
            later = later.replace(day=1)
        end = round(datetime.combine(later, time(), zone).timestamp())
    inside = min(end * 1_000_000, question.end_us) - max(start * 1_000_000, question.start_us)
    return Fraction(inside, 1_000_000)


def matches(question: Question, call: Call, zone: ZoneInfo) -> bool:
    """Return whether a question is about an event."""
    fields: dict[str, list[str]] = defaultdict(list)
    for field, value in question.include:
        fields[field].append(value)
    return (
        question.start_us <= call.time_us < question.end_us
        and all(
            any(_is(call.text(field, zone), value) for value in values)
            for field, values in fields.items()
        )
        and not any(_is(call.text(field, zone), value) for field, value in question.exclude)
    )


def _is(text: str, value: str) -> bool:
    if value.endswith("xx") and len(text) == 3 and text.isdigit():
        return text[0] == value[0]
    if not re.search(r"(?<!\\)\*", value):
        return text == value.replace(r"\*", "*")
    pattern = re.escape(value).replace(r"\\\*", "\0").replace(r"\*", ".*").replace("\0", r"\*")
    return text != "" and re.fullmatch(pattern, text, re.DOTALL) is not None


def _named(
    question: Question, calls: Sequence[Call], keys: Mapping[int, tuple[str, ...]]
) -> set[tuple[str, ...]]:
    """Return the groups that are not folded."""
    if question.limit is None:
        return {*keys.values()} or {()}
    members: dict[tuple[str, ...], list[Call]] = defaultdict(list)
    for call in calls:
        members[keys[call.number]].append(call)
    seconds = Fraction(question.end_us - question.start_us, 1_000_000)
    ranks = {key: _aggregate(question, group, seconds) for key, group in members.items()}
    ordered = sorted((-rank, key) for key, rank in ranks.items() if rank is not None)
    named = {key for _, key in ordered[: question.limit]}
    return named if len(ordered) > question.limit else {*members} or {()}


def _aggregate(question: Question, calls: Sequence[Call], seconds: Fraction) -> Value:
    name = question.aggregation
    weight = Fraction(sum(call.weight for call in calls), 1000)
    if name in ("count", "rate"):
        return weight / (seconds if name == "rate" else 1)
    if name == "error_rate":
        errors = sum(call.weight for call in calls if call.is_error)
        return Fraction(errors, 1000) / weight if weight else None
    if name == "unique":
        zone = ZoneInfo(question.tz)
        return Fraction(len({call.text(question.value, zone) for call in calls} - {""}))
    values = [
        (number, call.weight)
        for call in calls
        if (number := call.measure(question.value)) is not None
        and not (name[0] == "p" and question.value == "response_us" and call.is_stream)
    ]
    return _OF_VALUES[name](values) if values else None


def _sum(values: Sequence[tuple[Fraction, int]]) -> Fraction:
    return sum((number * weight for number, weight in values), Fraction(0)) / 1000


def _mean(values: Sequence[tuple[Fraction, int]]) -> Fraction:
    return _sum(values) * 1000 / sum(weight for _, weight in values)


def _percentile(level: Fraction) -> Callable[[Sequence[tuple[Fraction, int]]], Fraction]:
    def of(values: Sequence[tuple[Fraction, int]]) -> Fraction:
        rank, reached = level * sum(weight for _, weight in values), 0
        for number, weight in sorted(values):
            reached += weight
            if reached >= rank:
                return number
        raise AssertionError

    return of


_OF_VALUES: Mapping[str, Callable[[Sequence[tuple[Fraction, int]]], Fraction]] = {
    "sum": _sum,
    "mean": _mean,
    "min": lambda values: min(values)[0],
    "max": lambda values: max(values)[0],
    "p50": _percentile(Fraction(1, 2)),
    "percentile_99.9": _percentile(Fraction(999, 1000)),
}
AGGREGATIONS = ("count", "rate", "error_rate", "unique", *_OF_VALUES)
