# SPDX-License-Identifier: Apache-2.0
"""Routes: how what frameworks call a route becomes one path template, and a path one of its own.

Nothing here remembers earlier spans: a template depends on its span alone, so that doing it again
gives the same. Caps on the number of routes are the queries' business.
"""

from __future__ import annotations

from otel_apinalytics.normalize.identity import SECRET_VALUE
from otel_apinalytics.normalize.transforms import (
    KNOWN_METHODS,
    Pattern,
    Transform,
    all_of,
    any_of,
    as_is,
    first_of,
    renamed,
    sql_text,
)

UNMATCHED = "(unmatched)"
SYMFONY = "symfony"

# `route_source`
ATTRIBUTE = "attribute"
NAME = "name"
DERIVED = "derived"
UNMATCHED_SOURCE = "unmatched"

# What a router says that found nothing, or a handler of everything else.
_SENTINELS = ("/**", "/*", "**", "*", "default", "UNKNOWN", "unknown", "NOT_FOUND", "REDIRECTION")
# Stands for all of them.
NO_MATCH = "*"
# Most routes are clean, and need nothing of what follows.
_CLEAN = Pattern(r"^(?:/|[A-Za-z0-9_{}:<>-]+/)(?:[A-Za-z0-9_{}.:<>-]+/)*[A-Za-z0-9_{}.:<>-]*\z")
_METHODS = "|".join(KNOWN_METHODS)
# In order: Go's method and host; ends of regular expressions (Django), also of nested ones; the
# format of Rails; a query, which is not the `?` of an optional parameter; slashes that met.
_CLEANING = (
    (Pattern(rf"^ *(?:(?:{_METHODS}) +)?(?:[A-Za-z0-9.-]+\.[A-Za-z]{{2,}}(?::[0-9]+)?/)?"), ""),
    (Pattern(r"(?:\$|\\Z| )+\z"), ""),
    (Pattern(r"(^|/)\^"), r"\1"),
    (Pattern(r"\(\.:?[a-z]+\)\z"), ""),
    (Pattern(r"\?(?:[A-Za-z0-9_.%-]+=[^/]*)?\z"), ""),
    (Pattern(r"//+"), "/"),
    # A named location of nginx is none.
    (Pattern(r"^@[\s\S]*\z"), NO_MATCH),
)


# A Django route of the root is empty, Micrometer's is called so.
_MEANINGS = {
    "": "/",
    "root": "/",
    **dict.fromkeys(_SENTINELS, NO_MATCH),
    **dict.fromkeys(("-", "null", "[REDACTED]", "REDACTED"), ""),
}


def _cleaned(text: str) -> str:
    if _CLEAN.search(text):
        return text
    cleaned = text
    for pattern, replacement in _CLEANING:
        cleaned = pattern.python.sub(replacement, cleaned)
    return _MEANINGS.get(cleaned, cleaned)


def _cleaned_sql(text: str) -> str:
    made = text
    for pattern, replacement in _CLEANING:
        made = f"replaceRegexpAll({made}, {pattern.sql}, {sql_text(replacement)})"
    old = "[" + ", ".join(map(sql_text, _MEANINGS)) + "]"
    new = "[" + ", ".join(map(sql_text, _MEANINGS.values())) + "]"
    unchanged = any_of(_CLEAN.search_sql(text), f"empty({text})")
    return f"if({unchanged}, {text}, transform({made}, {old}, {new}))"


# A framework's route, without what is not part of the path. It may still lack its leading slash.
# It is `NO_MATCH` where the framework says that there is none.
route = Transform(_cleaned, _cleaned_sql, takes_any_word=True)

# The route in a span's name: "GET /users/{id}", "HTTP /users", "http get /users/{id}" (Micrometer).
_ANY_METHOD = "|".join([*KNOWN_METHODS, *map(str.lower, KNOWN_METHODS)])
_NAME = Pattern(rf"^(?:(?:HTTP|http) )?(?:{_ANY_METHOD}|HTTP|http) (/[^ ?#\n]*)")
route_of_name = first_of(_NAME).then(route).then(renamed({NO_MATCH: ""}, as_is))
# A name that is no route: controller and action.
action_of_name = first_of(Pattern(r"^([A-Za-z_][A-Za-z0-9_:.]*#[A-Za-z0-9_]+[?!]?)\z"))
has_placeholder = Pattern(r"[{<:*]")
# A route that stands for many: what an inner span says is better.
is_coarse = Pattern(r"\*|\.\.\.|\{[^}]*\+\}")

# ---- templates of paths ----

MAX_SEGMENTS = 8
PLACEHOLDER = "{id}"
_MAX_SEGMENT_LENGTH = 40
# Integers, hexadecimal of 8 and more, base64 of 20 and more (UUID and ULID are some), dates; all
# with a digit, so that words stay.
_IDENTIFIER = Pattern(
    r"^(?:-?[0-9]+|[0-9a-fA-F]{8,}|[A-Za-z0-9_-]{20,}={0,2}"
    r"|[0-9]{4}-[0-9]{2}(?:-[0-9]{2}[^/]*)?)\z"
)
_DIGIT = Pattern(r"[0-9]")
_MARKED_IDENTIFIER = Pattern(rf"[%,]|^[^@]+@[^@]+\.[^@]+\z|{SECRET_VALUE.python.pattern}")
# A path without any of these has no identifier.
_SUSPECT = Pattern(r"[0-9%,@]|[^/]{41}|(?:/[^/]*){9}|AKIA|k_(?:live|test)_|gh[pousr]_|eyJ")


def _is_identifier(segment: str) -> bool:
    return (
        (_DIGIT.search(segment) and _IDENTIFIER.search(segment))
        or _MARKED_IDENTIFIER.search(segment)
        or len(segment) > _MAX_SEGMENT_LENGTH
    )


def _template(text: str) -> str:
    if not _SUSPECT.search(text):
        return text
    segments = text.split("/")
    kept = [PLACEHOLDER if _is_identifier(s) else s for s in segments[: MAX_SEGMENTS + 1]]
    return "/".join(kept) + ("/*" if len(segments) > MAX_SEGMENTS + 1 else "")


def _template_sql(text: str) -> str:
    is_identifier = any_of(
        all_of(_DIGIT.search_sql("s"), _IDENTIFIER.search_sql("s")),
        _MARKED_IDENTIFIER.search_sql("s"),
        f"lengthUTF8(s) > {_MAX_SEGMENT_LENGTH}",
    )
    segments = f"splitByChar('/', {text})"
    kept = f"arraySlice({segments}, 1, {MAX_SEGMENTS + 1})"
    joined = (
        f"arrayStringConcat(arrayMap(s -> if({is_identifier}, '{PLACEHOLDER}', s), {kept}), '/')"
    )
    rest = f"if(length({segments}) > {MAX_SEGMENTS + 1}, '/*', '')"
    return f"if({_SUSPECT.search_sql(text)}, concat({joined}, {rest}), {text})"


# A path, with identifiers replaced.
template = Transform(_template, _template_sql)

# ---- conventional routes of .NET: one template for all controllers ----

is_conventional = Pattern(r"\{(?:controller|action|area)[}=:?]")
_NAMED_SEGMENT = Pattern(r"^\{(?:controller|action|area)(?:[}:?]|=[^}]*\})")
_DEFAULT = Pattern(r"^\{[a-z]+=([^}]*)\}")


def conventional(route: str, path: str) -> str:
    """Return a conventional route with controller, action and area as the path has them.

    Args:
        route: Such as `{controller=Home}/{action=Index}/{id?}`, with or without a slash in front.
        path: The request's path.
    """
    actual = path.strip("/").split("/")
    made = []
    for number, segment in enumerate(route.strip("/").split("/")):
        found = actual[number] if number < len(actual) else ""
        if not _NAMED_SEGMENT.search(segment):
            made.append(segment)
        else:
            made.append(found or _DEFAULT.first(segment) or segment)
    return "/" + "/".join(made)


def conventional_sql(route: str, path: str) -> str:
    """Return the SQL rendering of `conventional`."""
    segments = f"splitByChar('/', trim(BOTH '/' FROM {route}))"
    actual = f"splitByChar('/', trim(BOTH '/' FROM {path}))"
    aligned = f"arrayResize({actual}, length({segments}), '')"
    made = (
        f"if({_NAMED_SEGMENT.search_sql('s')}, "
        f"multiIf(a != '', a, {_DEFAULT.search_sql('s')}, {_DEFAULT.first_sql('s')}, s), s)"
    )
    return f"concat('/', arrayStringConcat(arrayMap((s, a) -> {made}, {segments}, {aligned}), '/'))"


def prefers(inner: str, outer: str) -> bool:
    """Return whether the route of an inner span says more than that of the outer one.

    It does where the outer has none, stands for many, or is only where the inner is mounted.
    """
    return not outer or is_coarse.search(outer) or inner.startswith(outer.rstrip("/"))
