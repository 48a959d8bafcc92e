# SPDX-License-Identifier: Apache-2.0
"""Tests of text in CSV: nothing is computed, nothing is lost, and both renderings agree."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_apinalytics.query.csv_cells import guarded, guarded_sql

RunSql = Callable[..., list[list[Any]]]
# What spreadsheets take for the beginning of a formula.
FORMULAS = ("=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "＝1", "＋1", "－1", "＠A")  # noqa: RUF001
PLAIN = ("", " ", "acme", "1=1", "/a?b=c", "é", "#1", '"=1"', " =1", "0-1", ";=1", "\ufeff=")


@pytest.mark.parametrize("text", FORMULAS)
def test_a_formula_is_text(text: str) -> None:
    """An apostrophe is in front of it."""
    assert guarded(text) == f"'{text}"


@pytest.mark.parametrize("text", PLAIN)
def test_other_text_stays_as_it_is(text: str) -> None:
    """Also where such a character comes later."""
    assert guarded(text) == text


@given(st.text() | st.builds("".join, st.lists(st.sampled_from("=+-@'\t\r\n＝ a"))))  # noqa: RUF001
def test_what_was_sent_can_be_told(text: str) -> None:
    """Whoever takes off one apostrophe has it, also where there was one before."""
    assert guarded(text).removeprefix("'") == text
    assert not guarded(text).startswith(tuple("=+-@\t\r\n"))


@settings(deadline=None)
@given(st.lists(st.text() | st.sampled_from([*FORMULAS, *PLAIN, "'", "''"]), max_size=20))
def test_the_engine_writes_the_same(run_sql: RunSql, texts: list[str]) -> None:
    """In SQL as in Python."""
    rows = run_sql(f"SELECT {guarded_sql('text')} FROM (SELECT arrayJoin(%(texts)s) AS text)",
                   {"texts": texts}) if texts else []  # fmt: skip
    assert [text for (text,) in rows] == [guarded(text) for text in texts]
