# SPDX-License-Identifier: Apache-2.0
"""Errors as HTTP answers: one mapping, one envelope for all routes."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping
from typing import TypeVar

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.routing import Match

from otel_apinalytics.errors import (
    ApinalyticsError,
    AuthenticationError,
    ConflictError,
    InvalidRequestError,
    NotFoundError,
    PermissionDeniedError,
    RequestTooLargeError,
    RetryableError,
    TooManyRequestsError,
    UnsupportedMediaTypeError,
)

_logger = logging.getLogger(__name__)

_Text = TypeVar("_Text", str, str | None)
# Characters of what was sent: an error is for people.
_MAX_SHOWN = 200
_MAX_MESSAGE = 1000
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")

# The most specific class first.
_ANSWERS: tuple[tuple[type[ApinalyticsError], int, str], ...] = (
    (AuthenticationError, 401, "unauthenticated"),
    (PermissionDeniedError, 403, "forbidden"),
    (RequestTooLargeError, 413, "too_large"),
    (UnsupportedMediaTypeError, 415, "unsupported_media_type"),
    (NotFoundError, 404, "not_found"),
    (ConflictError, 409, "conflict"),
    (InvalidRequestError, 400, "invalid_request"),
    (TooManyRequestsError, 429, "too_many_requests"),
    (RetryableError, 503, "unavailable"),
)


def install_error_answers(app: FastAPI) -> None:
    """Make `app` answer every error with the envelope `{"error": {…}}`."""
    app.add_exception_handler(ApinalyticsError, _answer_ours)
    app.add_exception_handler(HTTPException, _answer_http)
    app.add_exception_handler(Exception, _answer_bug)


async def _answer_ours(request: Request, error: Exception) -> Response:
    found = next((answer for answer in _ANSWERS if isinstance(error, answer[0])), None)
    if found is None:
        return await _answer_bug(request, error)
    _, status, code = found
    problem = error if isinstance(error, InvalidRequestError) else None
    headers: dict[str, str] = {}
    if isinstance(error, RetryableError):
        headers["Retry-After"] = str(math.ceil(error.retry_after_s))
    if isinstance(error, AuthenticationError):
        headers["WWW-Authenticate"] = "Bearer"
    return _answer(status, code, str(error), headers, problem)


async def _answer_http(request: Request, error: Exception) -> Response:
    """Answer for what the router refuses: unknown paths and methods."""
    if not isinstance(error, HTTPException):
        return await _answer_bug(request, error)
    headers = dict(error.headers or {})
    if error.status_code == 405:
        headers["Allow"] = _allowed_methods(request)
    # Not that of the URL: a Host that is none has no URL.
    path = _shown(request.scope["path"])
    code, message = {
        404: ("not_found", f"there is nothing at {path}; see /docs"),
        405: (
            "method_not_allowed",
            f"{request.method} is not allowed here; allowed: {headers.get('Allow')}",
        ),
    }.get(error.status_code, ("http_error", error.detail))
    return _answer(error.status_code, code, message, headers)


def _allowed_methods(request: Request) -> str:
    """Return the methods of all routes of a path: the router names those of the first."""
    allowed = []
    for method in _METHODS:
        scope = {**request.scope, "method": method}
        if any(route.matches(scope)[0] is Match.FULL for route in request.app.router.routes):
            allowed.append(method)
    return ", ".join(allowed)


async def _answer_bug(request: Request, error: Exception) -> Response:
    _logger.error("%s %s failed", request.method, _shown(request.scope["path"]), exc_info=error)
    return _answer(500, "internal", "internal error; the service's log has it")


def _answer(
    status: int,
    code: str,
    message: str,
    headers: Mapping[str, str] | None = None,
    problem: InvalidRequestError | None = None,
) -> Response:
    """Return the envelope, in UTF-8 also where what was sent has halves of surrogate pairs."""
    error: dict[str, object] = {
        "code": code,
        "message": _shown(message, _MAX_MESSAGE),
        "parameter": _shown(problem.parameter) if problem else None,
        "value": _shown(problem.value) if problem else None,
        "allowed": problem.allowed if problem else None,
    }
    if problem and problem.index is not None:
        error["index"] = problem.index
    text = json.dumps({"error": error}, ensure_ascii=False, separators=(",", ":"))
    body = text.encode("utf-8", "replace")
    return Response(body, status, dict(headers or {}), media_type="application/json")


def _shown(text: _Text, characters: int = _MAX_SHOWN) -> _Text:
    """Return a text, shortened."""
    return text if text is None or len(text) <= characters else f"{text[:characters]}…"
