# SPDX-License-Identifier: Apache-2.0
"""Named transforms: each one small, total, and given twice, in Python and in SQL, side by side.

A transform takes text that is present (never None, never empty) and gives text, or None where
nothing usable is left. The SQL rendering takes an expression of type `Nullable(String)` and gives
one; it never throws. A property test feeds both the same text and demands the same answer.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from otel_apinalytics.catalogue import MAX_TEXT_LENGTH, MAX_URL_LENGTH

# Methods of RFC 9110 and RFC 5789, and QUERY; anything else is `_OTHER`, to bound cardinality
# (semantic conventions, `http.request.method`).
KNOWN_METHODS = (
    "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "QUERY",
)  # fmt: skip

# Values that senders write for "there is none"; such an attribute counts as absent.
MISSING_WORDS = ("", "-", "unknown", "null", "[redacted]", "redacted", "[filtered]")

# Parameters whose values are secrets; the first seven are the specification's own list
# (semantic conventions, `url.query`).
SECRET_PARAMETERS = (
    "awsaccesskeyid", "signature", "sig", "x-goog-signature", "x-amz-signature",
    "x-amz-credential", "x-amz-security-token",
    "api_key", "apikey", "key", "token", "access_token", "refresh_token", "id_token", "auth",
    "authorization", "password", "passwd", "secret", "client_secret", "code", "state", "session",
    "sid", "jwt", "email", "phone",
)  # fmt: skip
_SECRET_PATTERN = rf"(?i)(^|&)({'|'.join(map(re.escape, SECRET_PARAMETERS))})=[^&]*"
_SECRET = re.compile(_SECRET_PATTERN)


@dataclass(frozen=True, slots=True)
class Transform:
    """A transform with its two renderings.

    Args:
        python: From present text to text, or None where nothing usable is left.
        sql: From an expression of type `Nullable(String)` to one of the same type.
    """

    python: Callable[[str], str | None]
    sql: Callable[[str], str]


def sql_text(value: str) -> str:
    """Return `value` as a SQL string literal."""
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def sql_list(values: tuple[str, ...]) -> str:
    """Return `values` as a SQL list of string literals, in parentheses."""
    return "(" + ", ".join(map(sql_text, values)) + ")"


def is_missing(text: str) -> bool:
    """Return whether an attribute's text stands for "there is none"."""
    return _ascii_lower(text) in MISSING_WORDS


def is_missing_sql(text: str) -> str:
    """Return the SQL rendering of `is_missing`."""
    return f"lower({text}) IN {sql_list(MISSING_WORDS)}"


# The engine's lower() and upper() know ASCII only.
def _ascii_lower(text: str) -> str:
    return "".join(chr(ord(c) + 32) if "A" <= c <= "Z" else c for c in text)


def _ascii_upper(text: str) -> str:
    return "".join(chr(ord(c) - 32) if "a" <= c <= "z" else c for c in text)


# ---- text ----


def _bounded(length: int) -> Transform:
    def to_sql(text: str) -> str:
        return f"if(length({text}) <= {length}, {text}, substringUTF8({text}, 1, {length}))"

    return Transform(lambda text: text[:length], to_sql)


as_is = Transform(lambda text: text, lambda text: text)
# For values that name a few things; an identity is never cut, for two could become one.
label = _bounded(MAX_TEXT_LENGTH)

# ---- method ----


def _method(text: str) -> str:
    upper = _ascii_upper(text)
    return upper if upper in KNOWN_METHODS else "_OTHER"


def _method_sql(text: str) -> str:
    known = f"upper({text}) IN {sql_list(KNOWN_METHODS)}"
    return f"multiIf({text} IS NULL, NULL, {known}, upper({text}), '_OTHER')"


method = Transform(_method, _method_sql)

# ---- URLs and their parts: path and query, with or without scheme and authority in front ----


def _without_fragment_sql(text: str) -> str:
    return f"substringIndex({text}, '#', 1)"


def _authority_start(text: str) -> int:
    """Return the length of `scheme://`, or 0 where there is none."""
    scheme, mark, _ = text.partition("://")
    return len(scheme) + len(mark) if scheme and mark and "/" not in scheme else 0


def _authority_start_sql(text: str) -> str:
    mark = f"position({text}, '://')"
    return f"if({mark} > 1 AND position({text}, '/') = {mark} + 1, {mark} + 2, 0)"


def _path(text: str) -> str | None:
    target = text.partition("#")[0].partition("?")[0]
    start = _authority_start(target)
    if not start:
        return target or None
    slash = target.find("/", start)
    # An absolute URL without a path asks for the root (RFC 9110, section 4.2.3).
    return target[slash:] if slash >= 0 else "/"


def _path_sql(text: str) -> str:
    target = f"substringIndex({_without_fragment_sql(text)}, '?', 1)"
    start = _authority_start_sql(target)
    slash = f"position({target}, '/', toUInt64({start} + 1))"
    absolute = f"if({slash} > 0, substring({target}, {slash}), '/')"
    return f"if({start} = 0, nullIf({target}, ''), {absolute})"


path = Transform(_path, _path_sql)


def _query(text: str) -> str | None:
    return text.partition("#")[0].partition("?")[2] or None


def _query_sql(text: str) -> str:
    target = _without_fragment_sql(text)
    mark = f"position({target}, '?')"
    return f"if({mark} > 0, nullIf(substring({target}, {mark} + 1), ''), NULL)"


query = Transform(_query, _query_sql)
# `url.query` of some senders keeps the question mark (.NET, older JavaScript).
bare_query = Transform(
    lambda text: (text[1:] if text.startswith("?") else text) or None,
    lambda text: f"nullIf(if(startsWith({text}, '?'), substring({text}, 2), {text}), '')",
)


def _host(text: str) -> str | None:
    if text.startswith("["):
        return text[1:].partition("]")[0] or None
    return (text.partition(":")[0] if text.count(":") == 1 else text) or None


def _host_sql(text: str) -> str:
    bracketed = f"substringIndex(substring({text}, 2), ']', 1)"
    plain = f"if(countSubstrings({text}, ':') = 1, substringIndex({text}, ':', 1), {text})"
    return f"nullIf(if(startsWith({text}, '['), {bracketed}, {plain}), '')"


host = Transform(_host, _host_sql)


def _url_host(text: str) -> str | None:
    target = text.partition("#")[0].partition("?")[0]
    start = _authority_start(target)
    if not start:
        return None
    return _host(target[start:].partition("/")[0].rpartition("@")[2])


def _url_host_sql(text: str) -> str:
    target = f"substringIndex({_without_fragment_sql(text)}, '?', 1)"
    start = _authority_start_sql(target)
    authority = f"substringIndex(substring({target}, {start} + 1), '/', 1)"
    after_user = f"substringIndex({authority}, '@', -1)"
    return f"if({start} = 0, NULL, {_host_sql(after_user)})"


url_host = Transform(_url_host, _url_host_sql)

redacted_query = Transform(
    lambda text: _SECRET.sub(r"\1\2=REDACTED", text),
    lambda text: f"replaceRegexpAll({text}, {sql_text(_SECRET_PATTERN)}, '\\\\1\\\\2=REDACTED')",
)
bounded_url = _bounded(MAX_URL_LENGTH)

# ---- numbers ----


def _status_code(text: str) -> str | None:
    return (
        text
        if len(text) == 3 and text.isascii() and text.isdigit() and "1" <= text[0] <= "5"
        else None
    )


def _status_code_sql(text: str) -> str:
    usable = f"length({text}) = 3 AND toUInt16OrZero({text}) BETWEEN 100 AND 599"
    return f"if({usable}, {text}, NULL)"


# Nothing outside 100 to 599 is a status; 0 is written for "no response" (Envoy).
status_code = Transform(_status_code, _status_code_sql)
