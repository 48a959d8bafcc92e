# SPDX-License-Identifier: Apache-2.0
"""Keys over HTTP: an admin key manages those of its application, an operator's those of all."""

# No deferred annotations here: FastAPI must see the dependency that is made inside the function.

from datetime import datetime, timezone
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request
from fastapi.responses import JSONResponse

from otel_apinalytics.api import admin_answers, audit
from otel_apinalytics.api.admin_answers import key_as_json
from otel_apinalytics.api.admin_bodies import (
    KeyChanges,
    KeyWanted,
    Rotation,
    documentation,
    parse_end,
    parse_end_to_come,
    request_body,
)
from otel_apinalytics.api.auth import request_key, visible_application
from otel_apinalytics.api.managed import known, refuse_others, secret_answer, store_faults
from otel_apinalytics.api.parameters import no_parameters
from otel_apinalytics.errors import InvalidRequestError
from otel_apinalytics.query.parameters import split_parameters
from otel_apinalytics.store.applications import Applications, NewKey, find_key
from otel_apinalytics.store.key_ring import KeyRing
from otel_apinalytics.store.keys import Binding, Key, KeyRecord, Limits, Scope

_PATH = "/keys/{key_id}"
_KeyId = Annotated[str, Path(description="Public name of the key.", examples=["3f9c01d2a47b"])]


def router(keys: KeyRing) -> APIRouter:
    """Return the routes of keys.

    Args:
        keys: The known keys.
    """
    applications = Applications(keys)
    authenticated = request_key(keys, Scope.ADMIN)
    lists = APIRouter(prefix="/1", tags=["administration"])
    routes = APIRouter(dependencies=[Depends(authenticated), Depends(no_parameters)])
    AdminKey = Annotated[Key, Depends(authenticated)]
    Wanted = Annotated[KeyWanted, Depends(request_body(authenticated, KeyWanted))]
    Changes = Annotated[KeyChanges, Depends(request_body(authenticated, KeyChanges))]
    Rotated = Annotated[Rotation, Depends(request_body(authenticated, Rotation))]
    answers: dict[int | str, dict[str, Any]] = {200: {"model": admin_answers.KeyAnswer}}

    def as_json(*records: KeyRecord) -> list[dict[str, Any]]:
        now = datetime.now(timezone.utc)
        with store_faults():
            uses = keys.last_uses()
        return [
            key_as_json(each, now, uses.get((each.application, each.key_id))) for each in records
        ]

    # The query string is parsed as a whole, for unknown parameters are errors.
    @lists.get("/keys/", responses={200: {"model": admin_answers.KeyList}})
    @lists.get("/keys", include_in_schema=False)
    def list_keys(
        key: AdminKey,
        request: Request,
        application: Annotated[
            str, Query(description="Whose keys; those of all that yours may manage by default.")
        ] = "",
    ) -> JSONResponse:
        """List keys, the oldest first, also those that let nobody in any more."""
        single, _ = split_parameters(request.query_params.multi_items(), ("application",))
        of = single.get("application") or visible_application(key)
        if of is not None:
            known(keys, key, of)
        found = [each for each in keys.contents.keys.values() if of in (None, each.application)]
        return JSONResponse({"keys": as_json(*found)})

    @routes.get(f"{_PATH}/", responses=answers)
    @routes.get(_PATH, include_in_schema=False)
    def show_key(key: AdminKey, key_id: _KeyId) -> JSONResponse:
        """Show a key, without its secret."""
        (found,) = as_json(find_key(keys.contents, key_id, visible_application(key)))
        return JSONResponse(found)

    @routes.post(
        "/keys/",
        status_code=201,
        responses={201: {"model": admin_answers.NewKeyAnswer, "description": "The key."}},
        openapi_extra=documentation(KeyWanted, required=True),
    )
    @routes.post("/keys", include_in_schema=False)
    @audit.changes("key.make")
    def make_key(request: Request, key: AdminKey, wanted: Wanted) -> JSONResponse:
        """Make a key at random. It is shown only now: no more than a hash of it is kept."""
        application = wanted.application or key.application
        audit.change(request, application=application, **_named(wanted))
        refuse_others(key, application)
        with store_faults():
            made, secret = applications.make_key(application, _new_key(wanted))
        audit.change(request, made=made.key_id)
        (found,) = as_json(made)
        return secret_answer({**found, "key": secret}, 201)

    @routes.patch(
        f"{_PATH}/", responses=answers, openapi_extra=documentation(KeyChanges, required=True)
    )
    @routes.patch(_PATH, include_in_schema=False)
    @audit.changes("key.change")
    def change_key(
        request: Request, key: AdminKey, key_id: _KeyId, wanted: Changes
    ) -> JSONResponse:
        """Change name, note, end or limits of a key. What it sees cannot be changed."""
        audit.change(request, **_named(wanted))
        with store_faults():
            of = visible_application(key)
            record = find_key(keys.contents, key_id, of)
            audit.change(request, application=record.application)
            changed = applications.change_key(key_id, of, _changes(record, wanted))
        (found,) = as_json(changed)
        return JSONResponse(found)

    @routes.post(
        f"{_PATH}/rotate/",
        status_code=201,
        responses={201: {"model": admin_answers.RotatedKey, "description": "The new key."}},
        openapi_extra=documentation(Rotation, required=False),
    )
    @routes.post(f"{_PATH}/rotate", include_in_schema=False)
    @audit.changes("key.rotate")
    def rotate_key(
        request: Request, key: AdminKey, key_id: _KeyId, wanted: Rotated
    ) -> JSONResponse:
        """Make another key of the same kind; the old one lets its holders in for a while yet."""
        audit.change(request, old_expires_at=wanted.old_expires_at, expires_at=wanted.expires_at)
        ends_at = parse_end("old_expires_at", wanted.old_expires_at)
        expires_at = parse_end_to_come("expires_at", wanted.expires_at)
        assert ends_at is not None, "only null is None"  # noqa: S101
        with store_faults():
            new, secret, old = applications.rotate_key(
                key_id, visible_application(key), ends_at, expires_at
            )
        audit.change(request, application=new.application, made=new.key_id)
        new_json, old_json = as_json(new, old)
        return secret_answer({**new_json, "key": secret, "old": old_json}, 201)

    @routes.delete(f"{_PATH}/", responses=answers)
    @routes.delete(_PATH, include_in_schema=False)
    @audit.changes("key.revoke")
    def revoke_key(request: Request, key: AdminKey, key_id: _KeyId) -> JSONResponse:
        """Let nobody in with a key any more, for ever. Once more, it changes nothing."""
        with store_faults():
            revoked = applications.revoke_key(key_id, visible_application(key))
        audit.change(request, application=revoked.application)
        (found,) = as_json(revoked)
        return JSONResponse(found)

    lists.include_router(routes)
    return lists


def _named(wanted: KeyWanted | KeyChanges) -> dict[str, object]:
    """Return what a body says, as the audit has it; whose key it is, is known otherwise."""
    said = wanted.model_dump(include=wanted.model_fields_set - {"application"})
    if bound_to := said.get("bound_to"):
        said["bound_to"] = ", ".join(f"{field}:{value}" for field, value in bound_to.items())
    return said


def _new_key(wanted: KeyWanted) -> NewKey:
    scope = Scope(wanted.scope)
    if wanted.bound_to and scope is not Scope.READ:
        raise InvalidRequestError(
            "bound_to is for read keys",
            parameter="bound_to",
            value=str(wanted.bound_to),
            allowed="nothing with this scope",
        )
    binding = next((Binding(*entry) for entry in (wanted.bound_to or {}).items()), None)
    return NewKey(
        scope=scope,
        name=wanted.name,
        note=wanted.note,
        expires_at=parse_end_to_come("expires_at", wanted.expires_at),
        binding=binding,
        limits=Limits(wanted.requests_per_minute, wanted.rows_per_minute),
    )


def _changes(record: KeyRecord, wanted: KeyChanges) -> dict[str, Any]:
    """Return the fields of a record that are to have other values."""
    sent = wanted.model_fields_set
    changes: dict[str, Any] = {
        name: getattr(wanted, name) for name in ("name", "note") if name in sent
    }
    if "expires_at" in sent:
        changes["expires_at"] = parse_end("expires_at", wanted.expires_at)
    limits = record.limits
    if "requests_per_minute" in sent:
        limits = Limits(wanted.requests_per_minute, limits.rows)
    if "rows_per_minute" in sent:
        limits = Limits(limits.requests, wanted.rows_per_minute)
    return changes | ({"limits": limits} if limits != record.limits else {})
