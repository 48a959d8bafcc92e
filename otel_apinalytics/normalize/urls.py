# SPDX-License-Identifier: Apache-2.0
"""Transforms of URLs, hosts and addresses, and what is redacted in a URL.

Sources: semantic conventions 1.44 (`url.md`, `http.md`); RFC 3986 for the parts.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from otel_apinalytics.normalize.identity import SECRET_VALUE, SECRET_VALUE_HINTS
from otel_apinalytics.normalize.transforms import (
    Pattern,
    Transform,
    all_of,
    any_of,
    first_of,
    lower_case,
    sql_text,
)

# Parameters whose values are secrets; the first seven are the specification's own list
# (semantic conventions, `url.query`).
SECRET_PARAMETERS = (
    "awsaccesskeyid", "signature", "sig", "x-goog-signature", "x-amz-signature",
    "x-amz-credential", "x-amz-security-token",
    "api_key", "api-key", "apikey", "x-api-key", "token", "access_token", "refresh_token",
    "id_token", "auth", "authorization", "password", "passwd", "secret", "client_secret", "code",
    "state", "session", "sid", "jwt", "email", "phone",
)  # fmt: skip
# Letters in both cases instead of a flag: the two engines fold other letters differently.
_PARAMETER = "|".join(
    "".join(f"[{c}{c.upper()}]" if c.isalpha() else re.escape(c) for c in name)
    for name in SECRET_PARAMETERS
)
# Also as a member: `user[password]=`, `token[]=`.
_SECRET_PARAMETER = Pattern(
    rf"((?:^|[?&;])(?:[^=&;#]*(?:\[|%5[bB]))?(?:{_PARAMETER})(?:\[|\]|%5[bBdD])*=)[^&;#]*"
)
# A `key` is more often a name than a secret; a long one is not.
_LONG_KEY = Pattern(r"((?:^|[?&;])[kK][eE][yY]=)[^&;#]{16,}")
# Credentials in front of a host, where a path carries an authority.
_USERINFO = Pattern(r"(//)[^/@?#]*@")
REDACTED = "REDACTED"


# Without brackets and port. More than one colon without brackets is an IPv6 address.
_HOST = Pattern(
    r"^(?:[^@/]*@)?\[?((?:[0-9a-fA-F.]*:){2,}[0-9A-Za-z.%]*|[^:\[\]/@]*)\]?(?::[0-9]*)?\z"
)
# Most are a name with or without a port; to look for groups costs the engine ten times as much.
_NAME_AND_PORT = Pattern(r"^[^:\[\]/@]*(?::[0-9]*)?\z")
host = Transform(
    _HOST.first,
    lambda text: (
        f"if({_NAME_AND_PORT.search_sql(text)}, substringIndex({text}, ':', 1), "
        f"{_HOST.first_sql(text)})"
    ),
)

# An absolute URL, or a path, up to its query.
_ABSOLUTE = Pattern(r"^[^/?#]+://")
_PATH = Pattern(r"^(?:[^/?#]+://[^/?#]*)?([^?#]*)")


def _is_plain_sql(text: str) -> str:
    return all_of(f"startsWith({text}, '/')", f"NOT multiSearchAny({text}, ['?', '#'])")


def _path(text: str) -> str:
    if text.startswith("/") and "?" not in text and "#" not in text:
        return text
    return _PATH.first(text) or ("/" if _ABSOLUTE.search(text) else "")


# An absolute URL without a path asks for the root (RFC 9110, section 4.2.3).
path = Transform(
    _path,
    lambda text: (
        # Most are paths and nothing else.
        f"multiIf({_is_plain_sql(text)}, {text}, "
        f"notEmpty({_PATH.first_sql(text)}), {_PATH.first_sql(text)}, "
        f"{_ABSOLUTE.search_sql(text)}, '/', '')"
    ),
)
_QUERY = Pattern(r"^[^?#]*\?([^#]*)")
query = Transform(
    lambda text: _QUERY.first(text) if "?" in text else "",
    lambda text: f"if(position({text}, '?') > 0, {_QUERY.first_sql(text)}, '')",
)
url_host = first_of(Pattern(r"^[^/?#]+://(?:[^/?#]*@)?([^/?#@]*)")).then(host)

# `url.query` of some senders keeps the question mark (.NET, older JavaScript).
bare_query = Transform(
    lambda text: text[1:] if text.startswith("?") else text,
    lambda text: f"if(startsWith({text}, '?'), substring({text}, 2), {text})",
)


_REDACTIONS = (
    (_SECRET_PARAMETER, rf"\1{REDACTED}"),
    (_LONG_KEY, rf"\1{REDACTED}"),
    (SECRET_VALUE, REDACTED),
    (_USERINFO, rf"\1{REDACTED}@"),
)
# One of these is in each name of a secret parameter, in any case.
_NAME_HINTS = (
    "key", "sig", "token", "auth", "pass", "secret", "code", "state", "session", "sid", "jwt",
    "email", "phone", "credential",
)  # fmt: skip


def _is_suspect(text: str) -> bool:
    if "@" in text:
        return True
    for hint in SECRET_VALUE_HINTS:
        if hint in text:
            return True
    if "=" in text:
        lower = text.lower()
        for hint in _NAME_HINTS:
            if hint in lower:
                return True
    return False


def _redacted(text: str) -> str:
    # Most texts have nothing to redact, and to see that is cheap.
    if not _is_suspect(text):
        return text
    for pattern, replacement in _REDACTIONS:
        text = pattern.python.sub(replacement, text)
    return text


def _redacted_sql(text: str) -> str:
    made = text
    for pattern, replacement in _REDACTIONS:
        made = f"replaceRegexpAll({made}, {pattern.sql}, {sql_text(replacement)})"
    # Most texts have nothing to redact, and to see that is cheap.
    suspect = any_of(
        all_of(
            f"position({text}, '=') > 0",
            f"multiSearchAnyCaseInsensitive({text}, {_array(_NAME_HINTS)})",
        ),
        f"multiSearchAny({text}, {_array(SECRET_VALUE_HINTS)})",
        f"position({text}, '@') > 0",
    )
    return f"if({suspect}, {made}, {text})"


def _array(texts: Sequence[str]) -> str:
    return f"[{', '.join(map(sql_text, texts))}]"


# Of a path with its query.
redacted = Transform(_redacted, _redacted_sql)

_IPV4 = r"[0-9]{1,3}(?:\.[0-9]{1,3}){3}"
_IPV6 = r"[0-9a-fA-F]{0,4}(?::[0-9a-fA-F]{0,4}){2,7}"
# The first address in a list, in the spellings of section 3.4: `ipv4:1.2.3.4:5`, `[::1]:80`, an
# IPv4 address written as IPv6, a zone.
ip_address = first_of(
    Pattern(
        r"(?:^|,) *(?:ipv[46]:)?\[?(?:::[fF]{4}:)?"
        rf"({_IPV4}|{_IPV6})"
        r"(?:%[0-9A-Za-z]+)?\]?(?::[0-9]+)? *(?:,|\z)"
    )
).then(lower_case)

# The version in a query, or in the first segment of a path.
_QUERY_VERSION = Pattern(r"(?:^|&)api-version=([^&]+)")
version_of_query = Transform(
    lambda text: _QUERY_VERSION.first(text) if "api-version" in text else "",
    lambda text: f"if(position({text}, 'api-version') > 0, {_QUERY_VERSION.first_sql(text)}, '')",
)
_PATH_VERSION = Pattern(r"^(?:/api)?/(v[0-9]+(?:\.[0-9]+)?)(?:/|\z)")
version_of_path = Transform(
    lambda text: _PATH_VERSION.first(text) if "/v" in text else "",
    lambda text: f"if(position({text}, '/v') > 0, {_PATH_VERSION.first_sql(text)}, '')",
)
