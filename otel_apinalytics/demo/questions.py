# SPDX-License-Identifier: Apache-2.0
"""The five example questions of 2014, and answers laid out to be read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

import urllib3
from rich.table import Table


@dataclass(frozen=True, slots=True)
class Question:
    """A question with the parameters that ask it."""

    text: str
    parameters: Mapping[str, str]
    unit: str = "requests"


QUESTIONS: Sequence[Question] = (
    Question("How many requests in all?", {}),
    Question("How many requests by hour?", {"granularity": "hour"}),
    Question(
        "How many requests by consumer and hour?", {"granularity": "hour", "group": "consumer_id"}
    ),
    Question(
        "How slow are the slowest 5 % for each consumer?",
        {"aggregation": "percentile_95", "group": "consumer_id"},
        "µs, p95",
    ),
    Question(
        "How long does each function take on average?",
        {"aggregation": "mean", "group": "function"},
        "µs, mean",
    ),
)


def question_url(http_address: str, start: int, end: int, parameters: Mapping[str, str]) -> str:
    """Return the URL that asks for the range from `start` to `end`, in Unix seconds."""
    query = f"?{urlencode(parameters)}" if parameters else ""
    return f"http://{http_address}/1/timeseries/{start}/{end}/{query}"


def ask(http: urllib3.PoolManager, url: str, application: str, read_key: str) -> dict[str, Any]:
    """Return the answer to a timeseries question.

    Raises:
        RuntimeError: The service answered with an error.
    """
    headers = {"X-Auth-User": application, "X-Auth-Key": read_key}
    response = http.request("GET", url, headers=headers)
    if response.status != 200:
        raise RuntimeError(f"{url} answered {response.status}: {response.data.decode()}")
    answer: dict[str, Any] = response.json()
    return answer


def answer_table(question: Question, answer: Mapping[str, Any]) -> Table:
    """Return an answer as a table: group, bucket, value."""
    table = Table(show_edge=False, pad_edge=False, box=None)
    grouped, by_time = "group" in question.parameters, "granularity" in question.parameters
    if grouped:
        table.add_column(question.parameters["group"], style="cyan")
    if by_time:
        table.add_column("from", style="dim")
    table.add_column(question.unit, justify="right", style="bold")
    for group, points in answer["groups"].items():
        for second, value in points:
            row = [group or "(unknown)"] if grouped else []
            if by_time:
                row.append(f"{datetime.fromtimestamp(second).astimezone():%Y-%m-%d %H:%M}")
            table.add_row(*row, f"{value:,.0f}")
    return table
