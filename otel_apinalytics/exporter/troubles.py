# SPDX-License-Identifier: Apache-2.0
"""What is wrong with a connection: its kind, in words, and whether another attempt may help."""

from __future__ import annotations

import http.client
import ssl

from urllib3.exceptions import HTTPError

CONNECTION_ERRORS = (HTTPError, http.client.HTTPException, OSError)
_MAX_TEXT = 200
# A server of HTTP/2 begins with this frame, whatever it is asked (RFC 9113, section 3.4).
_SETTINGS_FRAME = "\x04"


def kind(error: Exception) -> str:
    """Return the kind of an error, by which it is counted."""
    is_timeout = isinstance(error, TimeoutError) or "timed out" in str(error)
    return "timeout" if is_timeout else "connection_error"


def is_lasting(error: Exception) -> bool:
    """Return whether it is so until somebody changes something."""
    return isinstance(error, ssl.SSLCertVerificationError) or _is_http2(error)


def in_words(error: Exception) -> str:
    """Return what is wrong. What the other side sent is in it only as printable text."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not valid: {_printable(error.verify_message)}"
    if _is_http2(error):
        return "ENDPOINT is a gRPC port; the service's HTTP port is another, 4318 if not set"
    return f"{type(error).__name__}: {_printable(str(error))}"


def _is_http2(error: Exception) -> bool:
    begin = str(error)
    is_frame = begin.startswith("\0\0") and begin[3:4] == _SETTINGS_FRAME
    return isinstance(error, http.client.BadStatusLine) and is_frame


def _printable(text: str) -> str:
    return text[:_MAX_TEXT].encode("unicode_escape").decode("ascii")
