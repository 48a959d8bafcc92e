# SPDX-License-Identifier: Apache-2.0
"""Named transforms: each one small, total, and given twice, in Python and in SQL, side by side.

A transform takes text that is present (never None, never empty) and gives text, or None where
nothing usable is left. The SQL rendering takes the name of a column of type `Nullable(String)` and
gives an expression of that type; it never throws. What it needs twice it names once, with an alias
that begins with the column's name: the engine's analysis of a load costs by the word. A property
test feeds both renderings the same text and demands the same answer.
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
        sql: From the name of a column of type `Nullable(String)` to an expression of that type.
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
    upper = f"{text}_upper"
    known = f"(upper({text}) AS {upper}) IN {sql_list(KNOWN_METHODS)}"
    return f"multiIf({text} IS NULL, NULL, {known}, {upper}, '_OTHER')"


method = Transform(_method, _method_sql)

# ---- URLs and their parts: path and query, with or without scheme and authority in front ----


def _authority_start(text: str) -> int:
    """Return the length of `scheme://`, or 0 where there is none."""
    scheme, mark, _ = text.partition("://")
    return len(scheme) + len(mark) if scheme and mark and "/" not in scheme else 0


def _target_sql(text: str) -> tuple[str, str]:
    """Return `text` up to `?` or `#`, and the length of its `scheme://`; both get an alias."""
    target, mark = f"{text}_target", f"{text}_mark"
    cut = f"(substringIndex(substringIndex({text}, '#', 1), '?', 1) AS {target})"
    at = f"(position({cut}, '://') AS {mark})"
    start = f"if({at} > 1 AND position({target}, '/') = {mark} + 1, {mark} + 2, 0)"
    return target, f"({start} AS {text}_start)"


def _path(text: str) -> str | None:
    target = text.partition("#")[0].partition("?")[0]
    start = _authority_start(target)
    if not start:
        return target or None
    slash = target.find("/", start)
    # An absolute URL without a path asks for the root (RFC 9110, section 4.2.3).
    return target[slash:] if slash >= 0 else "/"


def _path_sql(text: str) -> str:
    target, start = _target_sql(text)
    slash = f"{text}_slash"
    found = f"(position({target}, '/', toUInt64({text}_start + 1)) AS {slash})"
    absolute = f"if({found} > 0, substring({target}, {slash}), '/')"
    return f"if({start} = 0, nullIf({target}, ''), {absolute})"


path = Transform(_path, _path_sql)


def _query(text: str) -> str | None:
    return text.partition("#")[0].partition("?")[2] or None


def _query_sql(text: str) -> str:
    whole, mark = f"{text}_whole", f"{text}_question"
    at = f"(position((substringIndex({text}, '#', 1) AS {whole}), '?') AS {mark})"
    return f"if({at} > 0, nullIf(substring({whole}, {mark} + 1), ''), NULL)"


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


def _host_sql(text: str, definition: str | None = None) -> str:
    """Render `_host`; where `text` is an alias, its definition stands at its first mention."""
    bracketed = f"substringIndex(substring({text}, 2), ']', 1)"
    plain = f"if(countSubstrings({text}, ':') = 1, substringIndex({text}, ':', 1), {text})"
    return f"nullIf(if(startsWith({definition or text}, '['), {bracketed}, {plain}), '')"


host = Transform(_host, _host_sql)


def _url_host(text: str) -> str | None:
    target = text.partition("#")[0].partition("?")[0]
    start = _authority_start(target)
    if not start:
        return None
    return _host(target[start:].partition("/")[0].rpartition("@")[2])


def _url_host_sql(text: str) -> str:
    target, start = _target_sql(text)
    authority = f"substringIndex(substring({target}, {text}_start + 1), '/', 1)"
    after_user = f"{text}_authority"
    definition = f"(substringIndex({authority}, '@', -1) AS {after_user})"
    return f"if({start} = 0, NULL, {_host_sql(after_user, definition)})"


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
