# SPDX-License-Identifier: Apache-2.0
"""Tests of the transforms: what each one gives, and that Python and the engine give the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from otel_apinalytics.normalize import transforms as t
from otel_apinalytics.normalize.transforms import Transform

RunSql = Callable[..., list[list[Any]]]

TRANSFORMS = {name: value for name, value in vars(t).items() if isinstance(value, Transform)}
PHASES = (Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink)

# A lone surrogate has no form in UTF-8, so no wire carries one. Everything else does, NUL included.
any_text = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40)
pieces = [
    *"aZ019&?#:/@[].= \n\0\\'é€😀\u0130\u017f\u212a",
    "://", "https://h", "//", "get", "Unknown", "[redacted]", "key=", "&TOKEN=s",
    "&x-amz-signature=",
]  # fmt: skip
made_text = st.lists(st.sampled_from(pieces), min_size=1, max_size=12).map("".join)
digits = st.text(st.sampled_from("0123456789+-.e x٣"), min_size=1, max_size=4)
lengths = st.sampled_from([1023, 1024, 1025, 2047, 2048, 2049])
long_text = st.builds(lambda c, n: c * n, st.sampled_from(["a", "é", "😀"]), lengths)
known_words = st.sampled_from([*t.MISSING_WORDS[1:], *t.KNOWN_METHODS, *t.SECRET_PARAMETERS])
texts = any_text | made_text | digits | long_text | known_words


def in_engine(run_sql: RunSql, columns: Sequence[str], values: Sequence[bytes]) -> list[list[Any]]:
    """Return the values of SQL expressions for each of the values of the column `text`."""
    literals = ", ".join(f"'{value.hex()}'" for value in values)
    source = f"SELECT CAST(unhex(arrayJoin([{literals}])) AS Nullable(String)) AS text"
    return run_sql(f"SELECT {', '.join(columns)} FROM ({source})")


@pytest.mark.parametrize(
    ("transform", "text", "expected"),
    [
        (t.as_is, "Ab ", "Ab "),
        (t.as_is, "x" * 5000, "x" * 5000),
        (t.label, "a" * 1024, "a" * 1024),
        (t.label, "é" * 1025, "é" * 1024),
        (t.bounded_url, "/" * 2049, "/" * 2048),
        (t.method, "GET", "GET"),
        (t.method, "delete", "DELETE"),
        (t.method, "Query", "QUERY"),
        (t.method, "PROPFIND", "_OTHER"),
        (t.method, "GET ", "_OTHER"),
        (t.method, "opt\u0131ons", "_OTHER"),
        (t.path, "/a/b", "/a/b"),
        (t.path, "/a?b=c#d", "/a"),
        (t.path, "/a#d?b=c", "/a"),
        (t.path, "a", "a"),
        (t.path, "*", "*"),
        (t.path, "?b=c", None),
        (t.path, "#d", None),
        (t.path, "https://h/a?b", "/a"),
        (t.path, "https://h", "/"),
        (t.path, "https://h?b", "/"),
        (t.path, "https://", "/"),
        (t.path, "/go/https://h/a", "/go/https://h/a"),
        (t.path, "://h/a", "://h/a"),
        (t.path, "//h/a", "//h/a"),
        (t.path, "/ü/😀", "/ü/😀"),
        (t.path, "https://ü/😀", "/😀"),
        (t.query, "/a?b=c", "b=c"),
        (t.query, "/a?b=c#d", "b=c"),
        (t.query, "/a?b?c", "b?c"),
        (t.query, "/a#d?b", None),
        (t.query, "/a?", None),
        (t.query, "/a", None),
        (t.query, "https://h?b", "b"),
        (t.bare_query, "a=1", "a=1"),
        (t.bare_query, "?a=1", "a=1"),
        (t.bare_query, "??a", "?a"),
        (t.bare_query, "?", None),
        (t.host, "example.com", "example.com"),
        (t.host, "example.com:8080", "example.com"),
        (t.host, ":8080", None),
        (t.host, "[::1]:8080", "::1"),
        (t.host, "[::1]", "::1"),
        (t.host, "[]", None),
        (t.host, "::1", "::1"),
        (t.url_host, "https://example.com/a", "example.com"),
        (t.url_host, "https://example.com:443", "example.com"),
        (t.url_host, "https://user:p@ss@example.com:443/a@b", "example.com"),
        (t.url_host, "https://[::1]:443/a", "::1"),
        (t.url_host, "https:///a", None),
        (t.url_host, "/go/https://h/a", None),
        (t.url_host, "example.com/a", None),
        (t.redacted_query, "a=1&token=x&b=2", "a=1&token=REDACTED&b=2"),
        (t.redacted_query, "API_KEY=x", "API_KEY=REDACTED"),
        (t.redacted_query, "sig=a=b;c&sig=", "sig=REDACTED&sig=REDACTED"),
        (t.redacted_query, "token=1&token=2", "token=REDACTED&token=REDACTED"),
        (t.redacted_query, "token=1\n2&a", "token=REDACTED&a"),
        (t.redacted_query, "monkey=1&keys=2&key", "monkey=1&keys=2&key"),
        (t.redacted_query, "X-Amz-Signature=x", "X-Amz-Signature=REDACTED"),
        (t.status_code, "100", "100"),
        (t.status_code, "599", "599"),
        (t.status_code, "099", None),
        (t.status_code, "600", None),
        (t.status_code, "0", None),
        (t.status_code, "20", None),
        (t.status_code, "2000", None),
        (t.status_code, "2e2", None),
        (t.status_code, "+99", None),
        (t.status_code, "20\0", None),
        (t.status_code, "٢٠٠", None),
    ],
)
def test_transform(run_sql: RunSql, transform: Transform, text: str, expected: str | None) -> None:
    """Each transform gives what the table says, in both renderings."""
    assert transform.python(text) == expected
    assert in_engine(run_sql, [transform.sql("text")], [text.encode()]) == [[expected]]


@pytest.mark.parametrize("name", t.SECRET_PARAMETERS)
def test_every_secret_parameter_is_redacted(name: str) -> None:
    """A parameter of the list loses its value, in any case and any place."""
    redact = t.redacted_query.python
    assert redact(f"{name}=s3cret") == f"{name}=REDACTED"
    assert redact(f"a=1&{name.upper()}=s3cret&b=2") == f"a=1&{name.upper()}=REDACTED&b=2"


@pytest.mark.parametrize("text", [*t.MISSING_WORDS, "Unknown", "NULL", "[REDACTED]", "[Filtered]"])
def test_a_word_for_none_is_missing(text: str) -> None:
    """Words that senders write for "there is none" count as absent in any case."""
    assert t.is_missing(text)


@pytest.mark.parametrize("text", ["0", "none", " ", "--", "unknown ", "n\u017full", "nu\u217cl"])
def test_other_words_are_present(text: str) -> None:
    """What only looks like such a word is a value."""
    assert not t.is_missing(text)


@settings(deadline=None, max_examples=100, phases=PHASES)
@given(batch=st.lists(texts, min_size=1, max_size=50))
def test_renderings_agree(run_sql: RunSql, batch: list[str]) -> None:
    """Python and the engine give the same for any text, each transform and `is_missing`."""
    columns = [transform.sql("text") for transform in TRANSFORMS.values()]
    columns.append(f"if({t.is_missing_sql('text')}, 'missing', 'present')")
    rows = in_engine(run_sql, columns, [text.encode() for text in batch])
    for text, row in zip(batch, rows, strict=True):
        expected = {name: transform.python(text) for name, transform in TRANSFORMS.items()}
        expected["is_missing"] = "missing" if t.is_missing(text) else "present"
        assert dict(zip(expected, row, strict=True)) == expected, text


def test_absent_stays_absent_in_the_engine(run_sql: RunSql) -> None:
    """Every SQL rendering gives null for null."""
    columns = [f"{value.sql('text')} AS {name}" for name, value in TRANSFORMS.items()]
    rows = run_sql(
        f"SELECT {', '.join(columns)} FROM (SELECT CAST(NULL AS Nullable(String)) AS text)"
    )
    assert rows == [[None] * len(TRANSFORMS)]


@settings(deadline=None, max_examples=50, phases=PHASES)
@given(batch=st.lists(st.binary(min_size=1, max_size=40), min_size=1, max_size=20))
def test_sql_takes_any_bytes(run_sql: RunSql, batch: list[bytes]) -> None:
    """The engine throws at no bytes, UTF-8 or not."""
    columns = [f"hex({transform.sql('text')})" for transform in TRANSFORMS.values()]
    assert len(in_engine(run_sql, columns, batch)) == len(batch)


@settings(deadline=None, max_examples=50, phases=PHASES)
@given(batch=st.lists(any_text | made_text, min_size=1, max_size=20))
def test_sql_text_is_a_literal(run_sql: RunSql, batch: list[str]) -> None:
    """The engine reads a literal as the text that it was made of, whatever is in it."""
    literals = [f"hex({t.sql_text(text)})" for text in batch]
    expected = [text.encode().hex().upper() for text in batch]
    assert run_sql(f"SELECT {', '.join(literals)}") == [expected]


def test_sql_list_quotes_each_value(run_sql: RunSql) -> None:
    """A list of values means the same to the engine as to Python."""
    values = ("plain", "it's", "back\\slash", "\\'")
    assert run_sql(f"SELECT {', '.join(t.sql_text(value) for value in values)}") == [list(values)]
    assert run_sql(f"SELECT 'it''s' IN {t.sql_list(values)}, 'its' IN {t.sql_list(values)}") == [
        [1, 0]
    ]
