# SPDX-License-Identifier: Apache-2.0
"""The forms of a timeseries answer: that of 2014, a list of series, and CSV."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Any

from otel_apinalytics.query.csv_cells import BYTE_ORDER_MARK, guarded
from otel_apinalytics.query.times import seconds_of
from otel_apinalytics.query.timeseries import Answer, Points


def as_2014(answer: Answer) -> dict[str, Any]:
    """Return the shape of 2014: `groups` maps the group's value to pairs of time and value.

    Values of several groups are one key, as JSON text. What the service of 2014 had not is there
    only if it says something.
    """
    other = _other_key({_text(key, answer) for key in answer.series if key is not None})
    groups = {
        other if key is None else _text(key, answer): points
        for key, points in answer.series.items()
    }
    return {"groups": groups, **_summary(answer, {"key": other})}


def as_series(
    answer: Answer, settled_until: float | None = None, hint: str | None = None
) -> dict[str, Any]:
    """Return a list of series, each with the values of its groups by field, and its points.

    Args:
        answer: The answer.
        settled_until: Up to when its counts are settled, Unix seconds.
        hint: What to do about an answer without data.
    """
    names = [operand.name for operand in answer.question.groups]
    series = [
        {"group": None if key is None else dict(zip(names, key, strict=True)), "points": points}
        for key, points in answer.series.items()
    ]
    remarks = {"settled_until": settled_until, "hint": hint}
    return {
        "series": series,
        **_summary(answer, {}),
        **{name: value for name, value in remarks.items() if value is not None},
    }


def as_csv(answer: Answer) -> str:
    """Return a line for each point: time, groups, whether they are folded, value, whether sampled.

    RFC 4180; times are RFC 3339 in the question's zone. The last column is that of the answer: a
    line by itself says what its number is.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    names = [operand.name for operand in answer.question.groups]
    has_folded = bool(names) and answer.question.limit is not None
    writer.writerow(["time", *names, *(["folded"] if has_folded else []), "value", "sampled"])
    sampled = _csv_flag(answer.is_sampled)
    for key, points in answer.series.items():
        values = [""] * len(names) if key is None else [guarded(text) for text in key]
        folded = [_csv_flag(key is None)] if has_folded else []
        writer.writerows(
            [time, *values, *folded, "" if value is None else value, sampled]
            for time, value in _local_points(points, answer)
        )
    return BYTE_ORDER_MARK + text.getvalue()


def _csv_flag(value: bool) -> str:
    return "true" if value else "false"


def _summary(answer: Answer, other: dict[str, Any]) -> dict[str, Any]:
    question = answer.question
    summary: dict[str, Any] = {
        "start": seconds_of(question.start_us),
        "end": seconds_of(question.end_us),
        "granularity": _granularity_ms(answer),
    }
    if answer.folded:
        summary["other"] = {**other, "groups": answer.folded}
    if answer.is_sampled:
        summary["sampled"] = True
    return summary


def _granularity_ms(answer: Answer) -> int | None:
    question = answer.question
    if question.granularity is None:
        return (question.end_us - question.start_us) // 1000
    width_s = question.granularity.width_s
    return None if width_s is None else width_s * 1000


def _text(key: tuple[str, ...], answer: Answer) -> str:
    if not key:
        return answer.application
    if len(key) == 1:
        return key[0]
    return json.dumps(key, ensure_ascii=False, separators=(",", ":"))


def _other_key(taken: set[str]) -> str:
    """Return a key that no group in the answer has."""
    key = "other"
    while key in taken:
        key = f"({key})"
    return key


def _local_points(points: Points, answer: Answer) -> Iterator[tuple[str, Any]]:
    zone = answer.question.zone
    for time_s, value in points:
        time = datetime.fromtimestamp(time_s, zone).isoformat()
        yield time.replace("+00:00", "Z") if zone is timezone.utc else time, value
