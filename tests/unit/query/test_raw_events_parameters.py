# SPDX-License-Identifier: Apache-2.0
"""Tests of the parameters of raw events: what is allowed, and how the rest is refused."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from otel_apinalytics.catalogue import FIELDS, VIRTUAL_FIELDS, FieldType
from otel_apinalytics.errors import InvalidRequestError
from otel_apinalytics.query.positions import Position, parse_cursor
from otel_apinalytics.query.raw_events_columns import selected
from otel_apinalytics.query.raw_events_parameters import MAX_LIMIT, RawEvents, parse_raw_events
from otel_apinalytics.query.raw_events_sql import Compiler
from otel_apinalytics.query.zones import LocalTime


@pytest.mark.parametrize("parameters", [[], [("format", "")], [("format", "ndjson")]])
def test_the_defaults(parameters: list[tuple[str, str]]) -> None:
    """A range is read as that of a timeseries; everything else may be left out."""
    assert parse_raw_events("1.5", "2", parameters) == RawEvents(1_500_000, 2_000_000)


def test_empty_parameters_mean_their_defaults() -> None:
    """As everywhere."""
    names = ("format", "fields", "include", "exclude", "tz", "limit", "cursor")
    assert parse_raw_events("1.5", "2", [(name, "") for name in names]) == RawEvents(
        1_500_000, 2_000_000
    )


def test_columns_are_those_that_are_named_in_their_order() -> None:
    """Stored and computed fields, maps and their entries, and the cursor."""
    names = [
        "url",
        "cursor",
        "metrics.tokens",
        "attributes",
        "attributes.k8s.pod/name:x-1",
        "weekday",
    ]
    asked = parse_raw_events("1", "2", [("fields", ",".join(names))])
    assert [column.name for column in asked.columns] == names
    assert [column.type for column in asked.columns] == [
        FieldType.TEXT, FieldType.TEXT, FieldType.NUMBER, FieldType.TEXT_MAP, FieldType.TEXT,
        FieldType.TEXT,
    ]  # fmt: skip
    every = [field.name for field in (*FIELDS, *VIRTUAL_FIELDS)]
    asked = parse_raw_events("1", "2", [("fields", ",".join(every))])
    assert [column.name for column in asked.columns] == every


@pytest.mark.parametrize(
    ("start", "end", "parameters", "named", "allowed"),
    [
        ("x", "2", [], ("start", "x"), "Unix time"),
        ("2", "2", [], ("end", "2"), "after start"),
        ("1", "2", [("format", "json")], ("format", "json"), "ndjson, csv, parquet"),
        ("1", "2", [("format", "NDJSON")], ("format", "NDJSON"), "ndjson"),
        ("1", "2", [("format", ""), ("format", "ndjson")], ("format", "ndjson"), "one value"),
        ("1", "2", [("group", "")], ("group", ""), "format"),
        ("1", "2", [("order", "desc")], ("order", "desc"), "cursor"),
        ("1", "2", [("include", "method")], ("include", "method"), "field:value"),
        ("1", "2", [("tz", "Mars")], ("tz", "Mars"), "IANA"),
        ("1", "2", [("limit", "0")], ("limit", "0"), str(MAX_LIMIT)),
        ("1", "2", [("limit", "-1")], ("limit", "-1"), str(MAX_LIMIT)),
        ("1", "2", [("limit", "1000001")], ("limit", "1000001"), str(MAX_LIMIT)),
        ("1", "2", [("fields", "url,")], ("fields", ""), "names of fields"),
        ("1", "2", [("fields", "url, method")], ("fields", " method"), "names of fields"),
        ("1", "2", [("fields", "url,url")], ("fields", "url,url"), "different"),
        ("1", "2", [("fields", "*")], ("fields", "*"), "cursor"),
        ("1", "2", [("fields", "attributes.")], ("fields", "attributes."), "attributes.NAME"),
        ("1", "2", [("fields", "url.x")], ("fields", "url.x"), "attributes.NAME"),
        ("1", "2", [("fields", "attributes.a`b")], ("fields", "attributes.a`b"), "letters"),
        ("1", "2", [("fields", "attributes.%(x)s")], ("fields", "attributes.%(x)s"), "letters"),
        ("1", "2", [("fields", "locality")], ("fields", "locality"), "names of fields"),
        ("1", "2", [("cursor", "x")], ("cursor", "x"), "X-Next-Cursor"),
        ("1", "2", [("cursor", "1-2-3-4")], ("cursor", "1-2-3-4"), "X-Next-Cursor"),
        ("1", "2", [("cursor", "1--2-3")], ("cursor", "1--2-3"), "X-Next-Cursor"),
        ("1", "2", [("cursor", "1-18446744073709551616-3")],
         ("cursor", "1-18446744073709551616-3"), "X-Next-Cursor"),
        ("1", "2", [("cursor", "1-2-4294967296")], ("cursor", "1-2-4294967296"), "X-Next-Cursor"),
    ],
)  # fmt: skip
def test_what_cannot_be_asked_of_raw_events(
    start: str, end: str, parameters: list[tuple[str, str]], named: tuple[str, str], allowed: str
) -> None:
    """The error names the parameter and its value, and says what is allowed."""
    with pytest.raises(InvalidRequestError) as caught:
        parse_raw_events(start, end, parameters)
    assert (caught.value.parameter, caught.value.value) == named
    assert allowed in (caught.value.allowed or "")


@given(
    start=st.text(max_size=12),
    end=st.text(max_size=12),
    parameters=st.lists(
        st.tuples(
            st.sampled_from(["format", "fields", "include", "tz", "limit", "cursor"]) | st.text(),
            st.text() | st.from_regex(r"\A(attributes\.|metrics\.|url|,)*.*\Z"),
        ),
        max_size=4,
    ),
)
def test_any_text_is_taken_or_refused(
    start: str, end: str, parameters: list[tuple[str, str]]
) -> None:
    """Nothing but an invalid request is ever raised."""
    for range_start, range_end in ((start, end), ("0", "86400")):
        with contextlib.suppress(InvalidRequestError):
            parse_raw_events(range_start, range_end, parameters)


@example("attributes.a:b/c-d_e.f")
@given(st.from_regex(r"\A(attributes|metrics)\.[^,]{1,20}\Z"))
def test_a_name_in_the_statement_is_no_more_than_a_name(name: str) -> None:
    """Whatever is in it: what could end it, or begin a parameter, is refused."""
    with contextlib.suppress(InvalidRequestError):
        columns = parse_raw_events("1", "2", [("fields", name)]).columns
        for form in ("ndjson", "csv", "parquet"):
            (sql,) = selected(columns, form, LocalTime(RawEvents(0, 1).zone, 0, 1))
            before, alias, rest = sql.rpartition("AS `")[0], sql.rpartition("AS `")[2][:-1], sql[-1]
            assert name not in before
            assert (alias, rest) == (name, "`")
            assert not {*"`\\%'\"\n\0"} & {*alias}


@pytest.mark.parametrize("parameter", ["include", "exclude", "cursor"])
def test_values_are_never_in_the_statement(parameter: str) -> None:
    """They are its parameters."""
    value = "1-424242-2" if parameter == "cursor" else "attributes.424242:42*4242"
    asked = parse_raw_events("1", "2", [(parameter, value)])
    statement = Compiler(asked, "424242").lines(0, 1, Position(424242, 424242, 424242), 1.0)
    assert "42424" not in statement.sql


@given(
    st.builds(
        Position, st.integers(0, 4_294_967_295_000_000), st.integers(0, 2**64 - 1),
        st.integers(0, 2**32 - 1),
    )
)  # fmt: skip
def test_a_cursor_is_read_as_the_position_that_it_was(position: Position) -> None:
    """Any that an event can have."""
    assert parse_cursor(position.cursor) == position
