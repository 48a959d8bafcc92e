# SPDX-License-Identifier: Apache-2.0
"""Bodies of requests that administer: what they may have, and what is wrong with those that do not.

A body is read after its key was found good, and is small.
"""

# No deferred annotations here: FastAPI must see the dependency that is made inside the function.

import re
from collections.abc import Awaitable, Callable
from datetime import datetime, timezone
from typing import Annotated, Any, Literal, TypeVar

from fastapi import Depends, Request
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from otel_apinalytics.catalogue import MAX_TEXT_LENGTH
from otel_apinalytics.errors import (
    InvalidRequestError,
    RequestTooLargeError,
    UnsupportedMediaTypeError,
)
from otel_apinalytics.query.times import parse_time
from otel_apinalytics.store.keys import BoundField, Key

_MAX_BYTES = 65_536
_MAX_LIMIT = 10**12
_FROM_NOW = re.compile(r"\+([0-9]{1,9})([smhdw])")
_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}
TIMES = "Unix seconds, RFC 3339 such as 2027-01-31T12:00:00Z, now, or from now on such as +30d"
_Shape = TypeVar("_Shape", bound=BaseModel)

_Name = Annotated[
    str, Field(max_length=100, pattern=r"^[^\x00-\x1f\x7f]*$", description="What people call it.")
]
# Of lines, and without what does something to a terminal.
_Note = Annotated[
    str,
    Field(
        max_length=2000,
        pattern=r"^[^\x00-\x08\x0b-\x1f\x7f]*$",
        description="Anything that people want to remember of it, without control characters but "
        "tabs and line ends.",
    ),
]
_Value = Annotated[
    str, Field(min_length=1, max_length=MAX_TEXT_LENGTH, pattern=r"^[^\x00-\x1f\x7f]*$")
]
_End = Annotated[
    str | float | None,
    Field(description=f"From when on it lets nobody in: {TIMES} (s, m, h, d, w); null for never."),
]
_Limit = Annotated[int | None, Field(ge=1, le=_MAX_LIMIT)]
_REQUESTS = "Requests within a minute, a minute's worth at once; null for the default."
_ROWS = (
    "Rows within a minute: spans and events of a write key, of a read key what answers have of "
    "events, points and values; null for the default."
)
_BOUND = (
    "Of a read key: a field and its value. The key sees the events that have it, and nothing else."
)


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class ApplicationNames(_Body):
    """What an application is called."""

    name: _Name = ""
    note: _Note = ""


class KeyWanted(_Body):
    """A key that is wanted."""

    scope: Annotated[Literal["write", "read", "admin"], Field(description="What the key may do.")]
    application: Annotated[
        str | None, Field(description="Whose key it is; the one of your key if it is left out.")
    ] = None
    name: _Name = ""
    note: _Note = ""
    expires_at: _End = None
    bound_to: Annotated[
        dict[BoundField, _Value] | None,
        Field(min_length=1, max_length=1, description=_BOUND),
    ] = None
    requests_per_minute: Annotated[_Limit, Field(description=_REQUESTS)] = None
    rows_per_minute: Annotated[_Limit, Field(description=_ROWS)] = None


class KeyChanges(_Body):
    """What is to be changed of a key; what is left out stays."""

    name: _Name = ""
    note: _Note = ""
    expires_at: _End = None
    requests_per_minute: Annotated[_Limit, Field(description=_REQUESTS)] = None
    rows_per_minute: Annotated[_Limit, Field(description=_ROWS)] = None


class Rotation(_Body):
    """How a key gives way to another one."""

    old_expires_at: Annotated[
        str | float,
        Field(description=f"When the old key ends, unless it does so before: {TIMES}."),
    ] = "+24h"
    expires_at: Annotated[
        str | float | None,
        Field(
            description=f"When the new key ends: {TIMES}. If it is left out, the new key is for as "
            "long as the old one was made for."
        ),
    ] = None


def request_body(
    authenticated: Callable[[Request], Key], shape: type[_Shape]
) -> Callable[..., Awaitable[_Shape]]:
    """Return a dependency that gives the body of a request whose key is good.

    It raises `InvalidRequestError`.

    Args:
        authenticated: The dependency that gives the key.
        shape: What the body must be.
    """

    async def dependency(request: Request, key: Annotated[Key, Depends(authenticated)]) -> _Shape:
        encoding = request.headers.get("content-encoding", "identity")
        if encoding.lower() != "identity":
            raise UnsupportedMediaTypeError(
                "the body is compressed, which is not taken here",
                parameter="Content-Encoding",
                value=encoding,
                allowed="identity",
            )
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > _MAX_BYTES:
                raise RequestTooLargeError(f"the body is larger than {_MAX_BYTES} bytes")
        return parse_body(shape, bytes(body))

    return dependency


def parse_body(shape: type[_Shape], body: bytes) -> _Shape:
    """Return a body in JSON; an empty one is an empty object.

    Raises:
        InvalidRequestError: It is not of this shape.
    """
    try:
        return shape.model_validate_json(body or b"{}")
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
    if not problem["loc"]:
        # Of what is no JSON, where.
        why = str(problem.get("ctx", {}).get("error", "it is something else"))
        raise InvalidRequestError(
            f"the body is not an object in JSON: {why}", allowed=", ".join(shape.model_fields)
        )
    name = str(problem["loc"][0])
    field = shape.model_fields.get(name)
    raise InvalidRequestError(
        f"{name}: {problem['msg'][:1].lower()}{problem['msg'][1:]}",
        parameter=name,
        value=None if problem["type"] == "missing" else str(problem["input"]),
        allowed=field.description if field else ", ".join(shape.model_fields),
    )


def documentation(shape: type[BaseModel], *, required: bool) -> dict[str, Any]:
    """Return what is said of a body in the OpenAPI document."""
    content = {"application/json": {"schema": shape.model_json_schema()}}
    return {"requestBody": {"required": required, "content": content}}


def parse_end(parameter: str, sent: str | float | None) -> datetime | None:
    """Return when something ends, UTC.

    Raises:
        InvalidRequestError: It is no time.
    """
    if sent is None:
        return None
    # What the store cannot tell apart is not asked for.
    text = sent if isinstance(sent, str) else f"{sent:.6f}"
    if match := _FROM_NOW.fullmatch(text):
        text = f"{datetime.now(timezone.utc).timestamp() + int(match[1]) * _UNITS_S[match[2]]:.6f}"
    try:
        at_us = parse_time(parameter, text)
    except InvalidRequestError as error:
        raise InvalidRequestError(
            str(error), parameter=parameter, value=str(sent), allowed=TIMES
        ) from error
    return datetime.fromtimestamp(at_us / 1_000_000, timezone.utc)


def parse_end_to_come(parameter: str, sent: str | float | None) -> datetime | None:
    """Return when something ends that is yet to begin, UTC.

    Raises:
        InvalidRequestError: It is no time to come.
    """
    ends_at = parse_end(parameter, sent)
    if ends_at is not None and ends_at <= datetime.now(timezone.utc):
        raise InvalidRequestError(
            f"{parameter} is not a time to come",
            parameter=parameter,
            value=str(sent),
            allowed=TIMES,
        )
    return ends_at
