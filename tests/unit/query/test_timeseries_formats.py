# SPDX-License-Identifier: Apache-2.0
"""Tests of the forms of an answer: keys, what is said beside the points, and CSV."""

from __future__ import annotations

import csv
import io

import pytest

from otel_apinalytics.query.csv_cells import guarded
from otel_apinalytics.query.timeseries import Answer, GroupKey, Points
from otel_apinalytics.query.timeseries_formats import as_2014, as_csv, as_series
from otel_apinalytics.query.timeseries_parameters import parse_timeseries

# 2017-03-26T00:00:00+01:00; an hour later the clocks go forward.
NIGHT = 1_490_482_800


def make_answer(
    series: dict[GroupKey, Points],
    *parameters: tuple[str, str],
    folded: int = 0,
    is_sampled: bool = False,
) -> Answer:
    """Return an answer about an hour and a half."""
    question = parse_timeseries(str(NIGHT), f"{NIGHT + 5400}.5", parameters)
    return Answer(question, "shop", series, folded, is_sampled, is_empty=False)


def rows(answer: Answer) -> list[list[str]]:
    """Return the lines of its CSV, as a reader of CSV has them."""
    text = as_csv(answer)
    assert text.startswith("\ufeff")
    return list(csv.reader(io.StringIO(text.removeprefix("\ufeff"), newline=""), strict=True))


def test_the_shape_of_2014() -> None:
    """Nothing that it had not, unless there is something to say."""
    answer = make_answer({(): [(NIGHT, 3)]}, ("granularity", "hour"))
    assert as_2014(answer) == {
        "groups": {"shop": [(NIGHT, 3)]},
        "start": NIGHT,
        "end": NIGHT + 5400.5,
        "granularity": 3_600_000,
    }


@pytest.mark.parametrize(
    ("granularity", "expected"),
    [("", 5_400_500), ("7", 7000), ("day", 86_400_000), ("week", 604_800_000), ("month", None)],
)
def test_granularity_is_in_milliseconds(granularity: str, expected: int | None) -> None:
    """That of a month is none: they differ."""
    answer = make_answer({}, ("granularity", granularity))
    assert as_2014(answer)["granularity"] == expected
    assert as_series(answer)["granularity"] == expected


@pytest.mark.parametrize(
    ("series", "groups", "expected"),
    [
        ({("",): [], ("a",): []}, ["method"], ["", "a"]),
        ({("c1", "GET"): [], ("é\"", ""): []}, ["consumer_id", "method"],
         ['["c1","GET"]', '["é\\"",""]']),
        ({("a",): [], None: []}, ["method"], ["a", "other"]),
        # Groups that are called so.
        ({("other",): [], None: []}, ["method"], ["other", "(other)"]),
        ({("other",): [], ("(other)",): [], None: []}, ["url"],
         ["other", "(other)", "((other))"]),
    ],
)  # fmt: skip
def test_keys(series: dict[GroupKey, Points], groups: list[str], expected: list[str]) -> None:
    """One for each group: that of the folded ones is no other's, and is named."""
    folded = 7 if None in series else 0
    answer = make_answer(series, *(("group", name) for name in groups), folded=folded)
    found = as_2014(answer)
    assert list(found["groups"]) == expected
    assert found.get("other") == ({"key": expected[-1], "groups": 7} if folded else None)


def test_series_have_their_groups_by_field() -> None:
    """What is folded has none."""
    answer = make_answer(
        {("c1", ""): [(NIGHT, 1)], None: [(NIGHT, None)]},
        ("group", "consumer_id"),
        ("group", "attributes.plan"),
        folded=2,
        is_sampled=True,
    )
    assert as_series(answer) == {
        "series": [
            {"group": {"consumer_id": "c1", "attributes.plan": ""}, "points": [(NIGHT, 1)]},
            {"group": None, "points": [(NIGHT, None)]},
        ],
        "start": NIGHT,
        "end": NIGHT + 5400.5,
        "granularity": 5_400_500,
        "other": {"groups": 2},
        "sampled": True,
    }
    assert as_series(make_answer({(): []}))["series"] == [{"group": {}, "points": []}]


def test_series_say_what_is_settled_and_what_to_do() -> None:
    """Where there is something to say."""
    answer = make_answer({(): []})
    said = as_series(answer, 12.5, "look there")
    assert (said["settled_until"], said["hint"]) == (12.5, "look there")
    assert not {"settled_until", "hint"} & {*as_series(answer)}


@pytest.mark.parametrize("sampled", [False, True])
def test_sampled_data_is_marked(sampled: bool) -> None:
    """In both forms of JSON, and in every line of CSV."""
    answer = make_answer({(): [(NIGHT, 1), (NIGHT + 1, 2)]}, is_sampled=sampled)
    assert [row[-1] for row in rows(answer)[1:]] == [str(sampled).lower()] * 2
    for found in (as_2014(answer), as_series(answer)):
        assert found.get("sampled", False) is sampled


def test_csv_has_a_line_for_each_point() -> None:
    """Times are local, with their offset; what is missing is empty."""
    answer = make_answer(
        {("a", "GET"): [(NIGHT, 3), (NIGHT + 3600, None)], None: [(NIGHT, 2.5)]},
        ("group", "consumer_id"),
        ("group", "method"),
        ("tz", "Europe/Berlin"),
        ("limit", "1"),
        folded=3,
    )
    assert rows(answer) == [
        ["time", "consumer_id", "method", "folded", "value", "sampled"],
        ["2017-03-26T00:00:00+01:00", "a", "GET", "false", "3", "false"],
        ["2017-03-26T01:00:00+01:00", "a", "GET", "false", "", "false"],
        ["2017-03-26T00:00:00+01:00", "", "", "true", "2.5", "false"],
    ]
    assert rows(make_answer({(): [(0, 1), (4_294_967_295, 0.1)]}, ("limit", "3"))) == [
        ["time", "value", "sampled"],
        ["1970-01-01T00:00:00Z", "1", "false"],
        ["2106-02-07T06:28:15Z", "0.1", "false"],
    ]


@pytest.mark.parametrize(
    "text", ['a"b', "a,b", "a\r\nb", "a\nb", " a", "é€😀", "=1+1", "@SUM(1)", "-1", "\t", "'", "\0"]
)
def test_csv_keeps_text_and_computes_none(text: str) -> None:
    """Quoted, and with an apostrophe in front where a spreadsheet would compute it."""
    answer = make_answer({(text,): [(NIGHT, -1)]}, ("group", "consumer_id"))
    if text == "\0":
        # Python's reader takes none.
        assert f",{text},-1,false\r\n" in as_csv(answer)
    else:
        assert rows(answer)[1][1:] == [guarded(text), "-1", "false"]


def test_lines_of_csv_end_as_its_standard_says() -> None:
    """RFC 4180, section 2."""
    assert as_csv(make_answer({(): [(0, 1)]})).split("\r\n")[1:] == [
        "1970-01-01T00:00:00Z,1,false",
        "",
    ]
