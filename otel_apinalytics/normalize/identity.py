# SPDX-License-Identifier: Apache-2.0
"""Transforms of identities: who called, and that no secret is kept.

A secret becomes a keyed hash, so that the same key is the same consumer and cannot be guessed from
what is stored. Within the rules, text that is to be hashed carries a mark in front; the last step
hashes what is marked, with the application's hash key.
"""

from __future__ import annotations

import base64
import binascii
import hmac

from otel_apinalytics.catalogue import MAX_TEXT_LENGTH
from otel_apinalytics.normalize.transforms import (
    Pattern,
    Transform,
    any_of,
    is_missing,
    is_missing_sql,
    rare,
)

# Attributes are text of people; none begins with this.
MARK = "\0"
KEY_PREFIX = "key_"
ADDRESS_PREFIX = "ip_"
# Hexadecimal digits that are kept of a hash: 96 bits, so that no two keys meet.
_DIGITS = 24

# What gives itself away: JSON web tokens, and keys of services that mark theirs.
SECRET_VALUE = Pattern(
    r"eyJ[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_-]*"
    r"|[srp]k_(?:live|test)_[A-Za-z0-9]{8,}"
    r"|gh[pousr]_[A-Za-z0-9]{16,}"
    r"|AKIA[0-9A-Z]{16}"
)
# One of these is in each of them.
SECRET_VALUE_HINTS = ("eyJ", "k_live_", "k_test_", "ghp_", "gho_", "ghu_", "ghs_", "ghr_", "AKIA")
# What only a machine would write as one word.
_LONG_WORD = r"^[A-Za-z0-9+/=_.~-]{101,}\z"
_SECRET = Pattern(rf"{SECRET_VALUE.python.pattern}|{_LONG_WORD}")


def _marked(text: str) -> str:
    return MARK + text


def _marked_sql(text: str) -> str:
    return f"concat('\\0', {text})"


# A text that is a secret; nothing is none.
secret = Transform(_marked, lambda text: f"if(empty({text}), '', {_marked_sql(text)})")


def _is_secret_sql(text: str) -> str:
    return any_of(_SECRET.search_sql(text), f"lengthUTF8({text}) > {MAX_TEXT_LENGTH}")


# A text that names someone, unless it looks like a secret.
identity = Transform(
    # What is longer than any name would cost too much to keep.
    lambda text: _marked(text) if _SECRET.search(text) or len(text) > MAX_TEXT_LENGTH else text,
    lambda text: f"if({_is_secret_sql(text)}, {_marked_sql(text)}, {text})",
)

# ---- credentials (RFC 7617, RFC 6750) ----

_BASIC = Pattern(r"^[bB][aA][sS][iI][cC] +([A-Za-z0-9+/]+={0,2}) *\z")
_SCHEME = Pattern(
    r"^(?:[bB][eE][aA][rR][eE][rR]|[bB][aA][sS][iI][cC]|[aA][pP][iI]-?[kK][eE][yY]"
    r"|[tT][oO][kK][eE][nN])(?: +|\z)"
)
# Of decoded credentials, the user name; printable ASCII only.
_USER = Pattern(r"^([!-9;-~][ -9;-~]*):")


def _basic_user(text: str) -> str:
    encoded = _BASIC.first(text)
    if not encoded or len(encoded) % 4:
        return ""
    try:
        decoded = base64.b64decode(encoded, validate=True)
    except binascii.Error:
        return ""
    return _USER.first(decoded.decode("latin-1"))


def _basic_user_sql(text: str) -> str:
    return _USER.first_sql(f"tryBase64Decode(extract({text}, {_BASIC.sql}))")


def _authorization(text: str) -> str:
    user = _basic_user(text)
    # The same key is the same consumer, whether it comes in this header or in one of its own.
    if user:
        return identity.python(user)
    credential = _SCHEME.without(text)
    return "" if is_missing(credential) else _marked(credential)


def _authorization_sql(text: str) -> str:
    user = _basic_user_sql(text)
    credential = _SCHEME.without_sql(text)
    return (
        f"multiIf(notEmpty({user}), {identity.sql(user)}, {is_missing_sql(credential)}, '', "
        f"{_marked_sql(credential)})"
    )


authorization = Transform(_authorization, _authorization_sql, is_rare=True)

# ---- certificates ----

_COMMON_NAME = Pattern(r"(?:^|[,/; ])[cC][nN]=([^,/;]+)")
_FORWARDED_URI = Pattern(r"(?:^|[;,])[uU][rR][iI]=([^;,\"]+)")
_FORWARDED_SUBJECT = Pattern(r"(?:^|[;,])[sS]ubject=\"([^\"]*)\"")


def _subject_name(text: str) -> str:
    return _COMMON_NAME.first(text) or text


def _subject_name_sql(text: str) -> str:
    return f"if({_COMMON_NAME.search_sql(text)}, {_COMMON_NAME.first_sql(text)}, {text})"


# A distinguished name: its common name, or all of it.
certificate_subject = rare(Transform(_subject_name, _subject_name_sql).then(identity))


def _forwarded_certificate(text: str) -> str:
    return _FORWARDED_URI.first(text) or _subject_name(_FORWARDED_SUBJECT.first(text))


# Envoy's `x-forwarded-client-cert`: By=…;Hash=…;Subject="…";URI=spiffe://…
forwarded_certificate = rare(
    Transform(
        _forwarded_certificate,
        lambda text: (
            f"if({_FORWARDED_URI.search_sql(text)}, {_FORWARDED_URI.first_sql(text)}, "
            f"{_subject_name_sql(_FORWARDED_SUBJECT.first_sql(text))})"
        ),
    ).then(identity)
)

# ---- hashing ----


def hashed(text: str, hash_key: bytes, prefix: str = KEY_PREFIX) -> str:
    """Return the keyed hash of a secret: prefix and 24 hexadecimal digits of HMAC-SHA256.

    Args:
        text: The secret.
        hash_key: The application's hash key.
        prefix: Says what was hashed.
    """
    digest = hmac.digest(hash_key, text.encode("utf-8", "surrogatepass"), "sha256")
    return prefix + digest.hex()[:_DIGITS]


def hashed_sql(text: str, prefix: str = KEY_PREFIX) -> str:
    """Return the SQL rendering of `hashed`, with the key in the column `hash_key`."""
    digest = f"lower(hex(HMAC('sha256', {text}, hash_key)))"
    return f"concat('{prefix}', substring({digest}, 1, {_DIGITS}))"


def without_secret(text: str, hash_key: bytes | None) -> str:
    """Return `text`, hashed if it is marked; empty where that cannot be done without a key."""
    if not text.startswith(MARK):
        return text
    return hashed(text[1:], hash_key) if hash_key else ""


def without_secret_sql(text: str) -> str:
    """Return the SQL rendering of `without_secret`; there is always a key."""
    return f"if(startsWith({text}, '\\0'), {hashed_sql(f'substring({text}, 2)')}, {text})"
