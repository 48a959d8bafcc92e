# SPDX-License-Identifier: Apache-2.0
"""Transforms of RPC: names of statuses, and the HTTP status that stands for each.

Sources: gRPC's status codes, their mapping to HTTP in `google/rpc/code.proto`, Connect's codes.
"""

from __future__ import annotations

from otel_apinalytics.normalize.transforms import Transform, ascii_upper, label, renamed

# In order of their numbers, with the HTTP status.
STATUSES = {
    "OK": 200,
    "CANCELLED": 499,
    "UNKNOWN": 500,
    "INVALID_ARGUMENT": 400,
    "DEADLINE_EXCEEDED": 504,
    "NOT_FOUND": 404,
    "ALREADY_EXISTS": 409,
    "PERMISSION_DENIED": 403,
    "RESOURCE_EXHAUSTED": 429,
    "FAILED_PRECONDITION": 400,
    "ABORTED": 409,
    "OUT_OF_RANGE": 400,
    "UNIMPLEMENTED": 501,
    "INTERNAL": 500,
    "UNAVAILABLE": 503,
    "DATA_LOSS": 500,
    "UNAUTHENTICATED": 401,
}
OK = "OK"

_named = renamed(
    {
        **{str(number): name for number, name in enumerate(STATUSES)},
        # Some write NotFound.
        **{name.replace("_", ""): name for name in STATUSES if "_" in name},
        "CANCELED": "CANCELLED",
    },
    label,
)


def _status(text: str) -> str:
    return _named.python(ascii_upper(text))


# A number, a name in any case (UNKNOWN is one), or a code of another system as it is.
status = Transform(
    _status, lambda text: _named.sql(f"upper({text})"), takes_any_word=True, is_rare=True
)
status_code = renamed(
    {name: str(code) for name, code in STATUSES.items()},
    Transform(lambda text: "", lambda text: "''"),
)
