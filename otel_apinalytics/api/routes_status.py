# SPDX-License-Identifier: Apache-2.0
"""The status of an application over HTTP: what arrived last, what did not, and why."""

# No deferred annotations here: FastAPI must see the dependency that is made inside the function.

from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import JSONResponse

from otel_apinalytics.api import answers
from otel_apinalytics.api.auth import request_key
from otel_apinalytics.query.parameters import split_parameters
from otel_apinalytics.query.status import Range, Refused, Sender, Stored, run_status
from otel_apinalytics.query.status_hint import REFUSALS, hint_of
from otel_apinalytics.query.times import ALLOWED as TIMES
from otel_apinalytics.query.times import parse_range
from otel_apinalytics.store.engine import Engine
from otel_apinalytics.store.key_ring import KeyRing
from otel_apinalytics.store.keys import Key, Scope

_PARAMETERS = ("start", "end")
# As the others of `REFUSALS`, of a key that the ledger names.
_NOT_VALID = "they came with a key that was revoked, or has expired"


def router(
    engine: Engine,
    keys: KeyRing,
    query_timeout_s: float,
    last_refusal: Callable[[str], dict[str, Any] | None],
    settled_until: Callable[[], float],
    pending_bytes: Callable[[], int],
) -> APIRouter:
    """Return the route of the status, which needs a read key.

    Args:
        engine: The store.
        keys: The known keys.
        query_timeout_s: Longest time that a question may take.
        last_refusal: For an application, the latest request that was not let in since the start, as
            JSON, or None.
        settled_until: Returns the time, Unix seconds, such that all that was received before is
            loaded.
        pending_bytes: Returns how much waits to be loaded, of all applications.
    """
    routes = APIRouter(prefix="/1", tags=["query"])
    ReadKey = Annotated[Key, Depends(request_key(keys, Scope.READ))]

    # The query string is parsed as a whole, for unknown parameters are errors; what is declared
    # here is for the documentation.
    @routes.get("/status/", responses={200: {"model": answers.Status}})
    @routes.get("/status", include_in_schema=False)
    def status(
        key: ReadKey,
        request: Request,
        start: Annotated[
            str, Query(description=f"Of a range without data: {TIMES}.", examples=["-24h"])
        ] = "",
        end: Annotated[str, Query(description="Its end, excluded; now if it is left out.")] = "",
    ) -> JSONResponse:
        """Say what arrived within a day, what became of it, and why there may be no data.

        `hint` is the likeliest reason, in words; null where there is data. With `start` it says why
        there is none in that range.
        """
        asked = _range(request.query_params.multi_items())
        # Before the question, so that all of what is settled is in the answer.
        settled = settled_until()
        found = run_status(engine, key.application, query_timeout_s, asked)
        remembered = last_refusal(key.application)
        return JSONResponse(
            {
                "application": key.application,
                "hint": hint_of(found, asked),
                "last_received": _time(found.last_received),
                "last_refusal": remembered or _refusal(found.last_refused),
                "outcomes": found.outcomes,
                "senders": [_sender(sender) for sender in found.senders],
                "events": _events(found.stored),
                "settled_until": settled,
                "pending_bytes": pending_bytes(),
            }
        )

    return routes


def _range(parameters: list[tuple[str, str]]) -> Range | None:
    given, _ = split_parameters(parameters, _PARAMETERS)
    start, end = given.get("start", ""), given.get("end", "")
    return parse_range(start or "0", end or "now") if start or end else None


def _sender(sender: Sender) -> dict[str, Any]:
    return {
        "key_id": sender.key_id,
        "transport": sender.transport,
        "last_received": _time(sender.last_received),
        "last_refusal": _refusal(sender.last_refused),
        "outcomes": sender.outcomes,
    }


def _refusal(refused: Refused | None) -> dict[str, Any] | None:
    """Return a refusal in the words of the ledger: those of its answer are not kept."""
    if refused is None:
        return None
    is_of_known_key = refused.kind == "unauthenticated" and refused.key_id
    return {
        "at": _time(refused.at),
        "transport": refused.transport,
        "kind": refused.kind,
        "reason": _NOT_VALID if is_of_known_key else REFUSALS.get(refused.kind, refused.kind),
        "key_id": refused.key_id,
    }


def _events(stored: Stored) -> dict[str, Any]:
    return {
        "first": _time(stored.first),
        "last": _time(stored.last),
        "inbound": stored.inbound,
        "outbound": stored.outbound,
    }


def _time(at: datetime | None) -> str | None:
    return at.isoformat() if at else None
