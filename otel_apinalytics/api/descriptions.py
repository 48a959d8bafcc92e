# SPDX-License-Identifier: Apache-2.0
"""What parameters that several routes share are said to be, in the documentation."""

from __future__ import annotations

from typing import Annotated

from fastapi import Path, Query

from otel_apinalytics.query.times import ALLOWED as TIMES

_TIME = f"{TIMES[0].upper()}{TIMES[1:]}."
_FILTER = (
    "field:value; may be repeated: values of one field are alternatives, {fields}. A star stands "
    "for any text, \\* for a star; status_code:5xx for a class; no value for a missing one."
)

Start = Annotated[str, Path(description=_TIME, examples=["-24h"])]
End = Annotated[str, Path(description=_TIME, examples=["now"])]
Include = Annotated[
    list[str] | None,
    Query(
        description=_FILTER.format(fields="fields must all match"),
        examples=[["status_code:5xx"]],
    ),
]
Exclude = Annotated[
    list[str] | None,
    Query(
        description=_FILTER.format(fields="what matches any field is left out"),
        examples=[["url:/health*"]],
    ),
]
Zone = Annotated[
    str,
    Query(
        description="IANA zone of hour_of_day and weekday; UTC if it is left out.",
        examples=["Europe/Berlin"],
    ),
]
