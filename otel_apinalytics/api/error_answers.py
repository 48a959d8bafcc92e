# SPDX-License-Identifier: Apache-2.0
"""Errors as HTTP answers: one mapping, one envelope for all routes."""

from __future__ import annotations

import logging
import math
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from otel_apinalytics.errors import (
    ApinalyticsError,
    AuthenticationError,
    InvalidRequestError,
    PermissionDeniedError,
    RequestTooLargeError,
    RetryableError,
    UnsupportedMediaTypeError,
)

_logger = logging.getLogger(__name__)

# The most specific class first.
_ANSWERS: tuple[tuple[type[ApinalyticsError], int, str], ...] = (
    (AuthenticationError, 401, "unauthenticated"),
    (PermissionDeniedError, 403, "forbidden"),
    (RequestTooLargeError, 413, "too_large"),
    (UnsupportedMediaTypeError, 415, "unsupported_media_type"),
    (InvalidRequestError, 400, "invalid_request"),
    (RetryableError, 503, "unavailable"),
)


def install_error_answers(app: FastAPI) -> None:
    """Make `app` answer every error with the envelope `{"error": {…}}`."""
    app.add_exception_handler(ApinalyticsError, _answer_ours)
    app.add_exception_handler(HTTPException, _answer_http)
    app.add_exception_handler(Exception, _answer_bug)


def _envelope(code: str, message: str, **details: Any) -> dict[str, Any]:
    return {"error": {"code": code, "message": message, **details}}


async def _answer_ours(request: Request, error: Exception) -> JSONResponse:
    found = next((answer for answer in _ANSWERS if isinstance(error, answer[0])), None)
    if found is None:
        return await _answer_bug(request, error)
    _, status, code = found
    details: dict[str, Any] = {}
    headers: dict[str, str] = {}
    if isinstance(error, InvalidRequestError):
        details = {
            "parameter": error.parameter,
            "value": error.value,
            "allowed": error.allowed,
        }
        if error.index is not None:
            details["index"] = error.index
    if isinstance(error, RetryableError):
        headers["Retry-After"] = str(math.ceil(error.retry_after_s))
    if isinstance(error, AuthenticationError):
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse(_envelope(code, str(error), **details), status, headers)


async def _answer_http(request: Request, error: Exception) -> JSONResponse:
    """Answer for what the router refuses: unknown paths and methods."""
    if not isinstance(error, HTTPException):
        return await _answer_bug(request, error)
    message = error.detail
    if error.status_code == 404:
        message = f"there is nothing at {request.url.path}; see /docs"
    code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "http_error")
    return JSONResponse(_envelope(code, message), error.status_code, dict(error.headers or {}))


async def _answer_bug(request: Request, error: Exception) -> JSONResponse:
    _logger.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return JSONResponse(_envelope("internal", "internal error; the service's log has it"), 500)
