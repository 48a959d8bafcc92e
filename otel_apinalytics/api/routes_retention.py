# SPDX-License-Identifier: Apache-2.0
"""Retention over HTTP: the limits of an application, and what they will remove when."""

# No deferred annotations here: FastAPI must see the dependency that is made inside the function.

from datetime import datetime, timezone
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from otel_apinalytics.api import answers, audit, audit_answers
from otel_apinalytics.api.admin_bodies import documentation, request_body
from otel_apinalytics.api.administered import administered_application
from otel_apinalytics.api.auth import request_key
from otel_apinalytics.api.managed import store_faults
from otel_apinalytics.errors import InvalidRequestError
from otel_apinalytics.query.parameters import split_parameters
from otel_apinalytics.query.statement import engine_faults
from otel_apinalytics.settings import MAX_DAYS
from otel_apinalytics.store.engine import Engine
from otel_apinalytics.store.key_ring import KeyRing
from otel_apinalytics.store.keys import Key, Scope
from otel_apinalytics.store.retention_forecast import forecast
from otel_apinalytics.store.retention_limits import NAMES, Policy, RetentionLimits

_MAX_ROWS = 10**12
_AS_SETTINGS = "null"
_Days = Annotated[
    int | None,
    Field(ge=1, le=MAX_DAYS, description=f"1 to {MAX_DAYS} days; null for what the settings say."),
]
_Rows = Annotated[
    int | None,
    Field(
        ge=1, le=_MAX_ROWS, description=f"1 to {_MAX_ROWS} rows; null for what the settings say."
    ),
]
_Limit = Annotated[
    str,
    Query(
        description="The limit that the answer is to suppose, or null for that of the settings. "
        "Nothing is changed.",
        json_schema_extra={"examples": ["30"], "pattern": "^([1-9][0-9]*|null)$"},
    ),
]


class RetentionChange(BaseModel):
    """New limits; those that are not named stay."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={"examples": [{"events_days": 30, "audit_days": None}]},
    )

    application: Annotated[str | None, Field(description="Whose; the key's if it is left out.")] = (
        None
    )
    events_days: _Days = None
    rejected_days: _Days = None
    rejected_rows: _Rows = None
    ledger_days: _Days = None
    audit_days: _Days = None

    def changes(self) -> dict[str, int | None]:
        """Return the limits that are named."""
        return {name: getattr(self, name) for name in NAMES if name in self.model_fields_set}


def router(
    engine: Engine, keys: KeyRing, limits: RetentionLimits, query_timeout_s: float
) -> APIRouter:
    """Return the routes of retention, which need an admin key."""
    routes = APIRouter(prefix="/1", tags=["administration"])
    authenticated = request_key(keys, Scope.ADMIN)
    AdminKey = Annotated[Key, Depends(authenticated)]
    Change = Annotated[RetentionChange, Depends(request_body(authenticated, RetentionChange))]

    def shown(application: str, policy: Policy) -> JSONResponse:
        with engine_faults(query_timeout_s, "raise query_timeout_s"):
            days = forecast(engine, policy, application, query_timeout_s)
        return JSONResponse(
            {
                "application": application,
                "limits": {
                    name: {"value": limit.value, "source": limit.source.value}
                    for name, limit in policy.of(application).items()
                },
                "days": [
                    {
                        "table": day.table,
                        "day": day.day,
                        "rows": day.rows,
                        "removed_after": _rfc_3339(day.removed_after),
                    }
                    for day in days
                ],
            }
        )

    # The query string is parsed as a whole, for unknown parameters are errors; what is declared
    # here is for the documentation.
    @routes.get(
        "/retention/",
        responses={
            200: {"model": audit_answers.Retention},
            404: {"model": answers.Error, "description": "There is no such application."},
        },
    )
    @routes.get("/retention", include_in_schema=False)
    def retention(
        key: AdminKey,
        request: Request,
        application: Annotated[str, Query(description="Whose. The key's if it is left out.")] = "",
        events_days: _Limit = "",
        rejected_days: _Limit = "",
        rejected_rows: _Limit = "",
        ledger_days: _Limit = "",
        audit_days: _Limit = "",
    ) -> JSONResponse:
        """Show the limits of an application, and each day's rows and when they are removed.

        With limits as parameters, it shows what they would do. Aggregates are kept with their
        events and go with them. Dead letters beyond `rejected_rows` are shown apart from the rest
        of their day. Rows are counted as they are stored: a copy of an event that is not merged yet
        counts.
        """
        given, _ = split_parameters(request.query_params.multi_items(), ("application", *NAMES))
        changes = {
            name: _limit(name, text) for name, text in given.items() if name in NAMES and text
        }
        whose = administered_application(keys, key, given.get("application", ""))
        with engine_faults(query_timeout_s, "raise query_timeout_s"):
            policy = limits.policy_with(whose, changes)
        return shown(whose, policy)

    @routes.put(
        "/retention/",
        responses={200: {"model": audit_answers.Retention}},
        openapi_extra=documentation(RetentionChange, required=True),
    )
    @routes.put("/retention", include_in_schema=False)
    @audit.changes("retention.change")
    def change_retention(key: AdminKey, request: Request, wanted: Change) -> JSONResponse:
        """Change limits of an application.

        Limits that are not named stay as they are. They hold from the next deletion on: of days
        within an hour, of `rejected_rows` within a minute. Until then, what would go can be kept by
        another change.
        """
        split_parameters(request.query_params.multi_items(), ())
        changes = wanted.changes()
        audit.change(request, application=wanted.application, **changes)
        if not changes:
            raise InvalidRequestError("no limit is named", allowed=", ".join(NAMES))
        whose = administered_application(keys, key, wanted.application)
        audit.change(request, application=whose)
        with store_faults():
            policy = limits.change(whose, changes)
        return shown(whose, policy)

    return routes


def _limit(name: str, text: str) -> int | None:
    """Return a limit; None for that of the settings.

    Raises:
        InvalidRequestError: It is none.
    """
    if text == _AS_SETTINGS:
        return None
    try:
        found = RetentionChange.model_validate({name: text}, strict=False)
    except ValidationError as error:
        raise InvalidRequestError(
            f"{name} is not a limit",
            parameter=name,
            value=text,
            allowed=RetentionChange.model_fields[name].description,
        ) from error
    return int(getattr(found, name))


def _rfc_3339(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="seconds")
