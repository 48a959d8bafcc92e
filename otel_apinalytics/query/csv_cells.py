# SPDX-License-Identifier: Apache-2.0
"""Text in CSV: what a spreadsheet would compute gets an apostrophe in front, so that it is shown.

A text that begins with an apostrophe gets another one: whoever takes off the first has what was
sent. Numbers and times are no text.
"""

from __future__ import annotations

from otel_apinalytics.normalize.transforms import sql_list, sql_text

#: So that a spreadsheet takes it for UTF-8.
BYTE_ORDER_MARK = "\ufeff"
MEDIA_TYPE = "text/csv; charset=utf-8; header=present"
_APOSTROPHE = "'"
# With which a formula begins, also in the wide form of East Asian keyboards; and white space that
# some programs skip before they look.
_FIRST = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠", _APOSTROPHE)  # noqa: RUF001


def guarded(text: str) -> str:
    """Return a text as it is written."""
    return _APOSTROPHE + text if text.startswith(_FIRST) else text


def guarded_sql(text: str) -> str:
    """Return the same in SQL, of an expression."""
    is_computed = f"substringUTF8({text}, 1, 1) IN {sql_list(_FIRST)}"
    return f"if({is_computed}, concat({sql_text(_APOSTROPHE)}, {text}), {text})"
