# SPDX-License-Identifier: Apache-2.0
"""Transforms: each one small, total, and given twice, in Python and in SQL, side by side.

A transform takes text that is present (never empty, never a word for "none") and gives text, empty
where nothing usable is left. The SQL rendering takes an expression of type `String` and gives one;
it never throws, gives nothing for nothing, and names nothing, so that it can stand inside a lambda.
A property test feeds both renderings the same text and demands the same answer.

This module has the tools, and the transforms of text and numbers; those of URLs, routes, identities
and RPC have modules of their own.
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from otel_apinalytics.catalogue import MAX_TEXT_LENGTH, MAX_URL_LENGTH, MAX_USER_AGENT_LENGTH

# Methods of RFC 9110 and RFC 5789, and QUERY; anything else is `_OTHER`, to bound cardinality
# (semantic conventions, `http.request.method`).
KNOWN_METHODS = (
    "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "QUERY",
)  # fmt: skip
OTHER_METHOD = "_OTHER"

# Values that senders write for "there is none"; such an attribute counts as absent.
MISSING_WORDS = ("", "-", "unknown", "null", "[redacted]", "redacted", "[filtered]", "***")
_MISSING_BEGINS = frozenset(c for word in MISSING_WORDS for c in (word[:1], word[:1].upper(), " "))


@dataclass(frozen=True, slots=True)
class Transform:
    """A transform with its two renderings.

    Args:
        python: From present text to text, empty where nothing usable is left.
        sql: From an expression of text to one.
        takes_any_word: Whether words for "none" are values here.
        is_rare: Whether few senders have such attributes; a hint to the engine.
    """

    python: Callable[[str], str]
    sql: Callable[[str], str]
    takes_any_word: bool = False
    is_rare: bool = False

    def then(self, following: Transform) -> Transform:
        """Return the transform that does this one, then the following."""

        def python(text: str) -> str:
            made = self.python(text)
            return following.python(made) if made else ""

        return Transform(python, lambda text: following.sql(self.sql(text)))


class Pattern:
    r"""A regular expression that means the same in Python and in the engine.

    It must keep to what both know, ASCII classes, and `\z` for the end of the text; a dot is to be
    avoided, for the engine's takes a line feed.
    """

    def __init__(self, text: str) -> None:
        self.python = re.compile(text.replace(r"\z", r"\Z"), re.ASCII)
        self.sql = sql_text(text)

    def search(self, text: str) -> bool:
        """Return whether it occurs in `text`."""
        return self.python.search(text) is not None

    def search_sql(self, text: str) -> str:
        """Return the SQL rendering of `search`."""
        return f"match({text}, {self.sql})"

    def first(self, text: str) -> str:
        """Return the first group of the first occurrence; empty where there is none."""
        found = self.python.search(text)
        return (found[1] or "") if found else ""

    def first_sql(self, text: str) -> str:
        """Return the SQL rendering of `first`."""
        return f"extract({text}, {self.sql})"

    def without(self, text: str) -> str:
        """Return `text` without the occurrences."""
        return self.python.sub("", text)

    def without_sql(self, text: str) -> str:
        """Return the SQL rendering of `without`."""
        return f"replaceRegexpAll({text}, {self.sql}, '')"


def sql_text(value: str) -> str:
    """Return `value` as a SQL string literal."""
    escaped = value.replace("\\", "\\\\").replace("'", "\\'").replace("\0", "\\0")
    return f"'{escaped}'"


def sql_list(values: tuple[str, ...]) -> str:
    """Return `values` as a SQL list of string literals, in parentheses."""
    return "(" + ", ".join(map(sql_text, values)) + ")"


def all_of(*conditions: str) -> str:
    """Return whether all conditions hold, as SQL.

    Not with AND: for each comparison with a constant within AND and OR, the engine's analysis walks
    through everything that the compared column is made of, 5 to 10 ms each time.
    """
    *firsts, last = conditions
    for condition in reversed(firsts):
        last = f"if({condition}, {last}, false)"
    return last


def any_of(*conditions: str) -> str:
    """Return whether any condition holds, as SQL; for why not OR, see `all_of`."""
    *firsts, last = conditions
    for condition in reversed(firsts):
        last = f"if({condition}, true, {last})"
    return last


def is_missing(text: str) -> bool:
    """Return whether an attribute's text stands for "there is none"."""
    # Most begin otherwise, and are told by that.
    return text[:1] in _MISSING_BEGINS and ascii_lower(text.strip(" ")) in MISSING_WORDS


def is_missing_sql(text: str) -> str:
    """Return the SQL rendering of `is_missing`."""
    return f"lower(trimBoth({text})) IN {sql_list(MISSING_WORDS)}"


# The engine's lower() and upper() know ASCII only.
_TO_LOWER = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)
_TO_UPPER = str.maketrans(string.ascii_lowercase, string.ascii_uppercase)


def ascii_lower(text: str) -> str:
    """Return `text` with A to Z in lower case."""
    return text.lower() if text.isascii() else text.translate(_TO_LOWER)


def ascii_upper(text: str) -> str:
    """Return `text` with a to z in upper case."""
    return text.upper() if text.isascii() else text.translate(_TO_UPPER)


# ---- tools that make transforms ----


def bounded(length: int) -> Transform:
    """Return the transform that cuts text to a number of characters."""

    def to_sql(text: str) -> str:
        return f"if(length({text}) <= {length}, {text}, substringUTF8({text}, 1, {length}))"

    return Transform(lambda text: text[:length], to_sql)


def if_matches(pattern: Pattern) -> Transform:
    """Return the transform that keeps what matches, and nothing else."""
    return Transform(
        lambda text: text if pattern.search(text) else "",
        lambda text: f"if({pattern.search_sql(text)}, {text}, '')",
    )


def rare(transform: Transform) -> Transform:
    """Return the transform with the hint that few senders have such attributes."""
    return replace(transform, is_rare=True)


def if_not(pattern: Pattern) -> Transform:
    """Return the transform that keeps a label that does not match."""
    return Transform(
        lambda text: "" if pattern.search(text) else text[:MAX_TEXT_LENGTH],
        lambda text: f"if({pattern.search_sql(text)}, '', {label.sql(text)})",
    )


def first_of(pattern: Pattern) -> Transform:
    """Return the transform that gives a pattern's first group."""
    return Transform(pattern.first, pattern.first_sql)


def one_of(*words: str) -> Transform:
    """Return the transform that keeps these words, in any case, in lower case."""

    def python(text: str) -> str:
        lower = ascii_lower(text)
        return lower if lower in words else ""

    return Transform(
        python, lambda text: f"if(lower({text}) IN {sql_list(words)}, lower({text}), '')"
    )


def renamed(names: Mapping[str, str], otherwise: Transform) -> Transform:
    """Return the transform that replaces some words and does another to the rest."""
    old = "[" + ", ".join(map(sql_text, names)) + "]"
    new = "[" + ", ".join(map(sql_text, names.values())) + "]"
    return Transform(
        lambda text: names[text] if text in names else otherwise.python(text),
        lambda text: f"transform({text}, {old}, {new}, {otherwise.sql(text)})",
    )


# ---- text ----

nothing = Transform(lambda text: "", lambda text: "''")
as_is = Transform(lambda text: text, lambda text: text)
# For values that name a few things; an identity is never cut, for two could become one.
label = bounded(MAX_TEXT_LENGTH)
user_agent = bounded(MAX_USER_AGENT_LENGTH)
url = bounded(MAX_URL_LENGTH)
lower_case = Transform(ascii_lower, lambda text: f"lower({text})")
word = label.then(lower_case)
# The name of no exception (Micrometer).
not_none = Transform(
    lambda text: "" if ascii_lower(text) == "none" else text[:MAX_TEXT_LENGTH],
    lambda text: f"if(lower({text}) = 'none', '', {label.sql(text)})",
)
environment = word.then(
    renamed(
        {"prod": "production", "dev": "development", "stage": "staging"},
        as_is,
    )
)
_ZONE_LETTER = Pattern(r"-?[a-f]\z")
# `eu-west-1a` is a zone of the region `eu-west-1`.
region_of_zone = Transform(
    lambda text: _ZONE_LETTER.without(text),
    lambda text: _ZONE_LETTER.without_sql(text),
)
_PROTOCOL = Pattern(r"^[hH][tT][tT][pP]/")
_decorated_protocol = Transform(_PROTOCOL.without, _PROTOCOL.without_sql).then(
    renamed({"2.0": "2", "3.0": "3"}, bounded(64))
)
# "HTTP/1.1" → 1.1; 2.0 and 3.0 are written as 2 and 3 (semantic conventions).
protocol_version = Transform(
    _decorated_protocol.python,
    lambda text: f"if({text} IN ('1.1', '2'), {text}, {_decorated_protocol.sql(text)})",
)
_CACHE = Pattern(
    r"^[^a-z]*(?:[a-z0-9]+[^a-z]+)??(hit|miss|bypass|expired|stale|revalidated|dynamic)[\s\S]*\z"
)
# What caches write: "HIT", "Hit from cloudfront", "TCP_MISS/200", "MISS, HIT".
cache_status = Transform(
    lambda text: _CACHE.python.sub(r"\1", ascii_lower(text), 1)[:64],
    lambda text: f"substringUTF8(replaceRegexpOne(lower({text}), {_CACHE.sql}, '\\\\1'), 1, 64)",
)
_VENDOR_VERSION = Pattern(r"\.(v[0-9]{1,4}(?:\.[0-9]{1,4}){0,3})(?:[+;\", ]|\z)")
_VERSION_PARAMETER = Pattern(r"; *version=\"?(v?[0-9]{1,4}(?:\.[0-9]{1,4}){0,3})(?:[;\", ]|\z)")
# `application/vnd.shop.v2+json`, or `application/json; version=2`.
accepted_version = Transform(
    lambda text: _VENDOR_VERSION.first(text) or _VERSION_PARAMETER.first(text),
    lambda text: (
        f"firstNonDefault({_VENDOR_VERSION.first_sql(text)}, {_VERSION_PARAMETER.first_sql(text)})"
    ),
    is_rare=True,
)
# The product at the start of a user agent, and its version (RFC 9110, section 10.1.5).
product = Transform(
    lambda text: text.partition(" ")[0].partition("/")[0],
    lambda text: f"substringIndex(substringIndex({text}, ' ', 1), '/', 1)",
)
product_version = Transform(
    lambda text: text.partition(" ")[0].partition("/")[2],
    lambda text: (
        f"substring(substringIndex({text}, ' ', 1), "
        f"length(substringIndex(substringIndex({text}, ' ', 1), '/', 1)) + 2)"
    ),
)

# ---- method ----


def _method(text: str) -> str:
    upper = ascii_upper(text)
    return upper if upper in KNOWN_METHODS else OTHER_METHOD


method = Transform(
    _method,
    lambda text: (
        f"multiIf({text} = '', '', upper({text}) IN {sql_list(KNOWN_METHODS)}, upper({text}), "
        f"'{OTHER_METHOD}')"
    ),
)
# Where the attribute's name alone does not say that it is HTTP's.
known_method = if_matches(
    Pattern(rf"^(?:{'|'.join((*KNOWN_METHODS, *map(str.lower, KNOWN_METHODS)))})\z")
)
method_of_name = first_of(Pattern(rf"^({'|'.join(KNOWN_METHODS)})(?: |\z)"))

# ---- numbers ----

# Whole and not negative; -1 is written for "not known" (Traefik).
whole_number = if_matches(Pattern(r"^[0-9]{1,18}\z"))
# Nothing outside 100 to 599 is a status; 0 is written for "no response" (Envoy).
status_code = if_matches(Pattern(r"^[1-5][0-9][0-9]\z"))
# Proxies write milliseconds.
milliseconds = if_matches(Pattern(r"^[0-9]{1,9}\z")).then(
    Transform(lambda text: text + "000", lambda text: f"if({text} = '', '', concat({text}, '000'))")
)
number = if_matches(Pattern(r"^-?[0-9]{1,15}(?:\.[0-9]{1,15})?(?:[eE][+-]?[0-9]{1,2})?\z"))
