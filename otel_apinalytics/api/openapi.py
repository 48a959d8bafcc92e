# SPDX-License-Identifier: Apache-2.0
"""The OpenAPI document: completes what the routes say of themselves by keys, errors and ingest."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fastapi import FastAPI

from otel_apinalytics.api.openapi_ingest import INGEST_PATHS, INGEST_TAG, ingest_schemas

_DESCRIPTION = """\
Who calls my API, how often, how fast, how often does it fail? Spans and events come in, answers to
such questions go out.

**Keys.** `X-Auth-Key` with a key of the application, or `Authorization: Bearer <key>`. With the
first, `X-Auth-User` may have the application's id, as in 2014; it must then fit the key.

**Times** are Unix seconds, RFC 3339 (`2026-01-31T12:00:00Z`), `now`, or before now (`-24h`; s, m,
h, d, w). A range includes its start and excludes its end.

**Parameters.** An empty one means its default. One that is unknown, given twice without being
repeatable, or has a wrong value is an error that says what is allowed.

**Errors** have one envelope, `{"error": {"code", "message", "parameter", "value", "allowed"}}`: 400
for a question that can never be answered, 401 and 403 for keys, 404 for a path or a thing that
there is not, 405 with `Allow` for another method, 409 for a thing that this cannot be done to, 413
and 415 for bodies, 429 and 503 with `Retry-After` for what may succeed later. OTLP has errors of
its own (`google.rpc.Status`).
"""
# Which key the routes of a tag need.
_TAGS = {
    "query": "Questions to an application's data. They need a read key; one that is bound sees its "
    "events, and nothing else.",
    "account": "What became of what was received. A read key and an admin key see their "
    "application, an admin key of the operator's all of them.",
    "administration": "They need an admin key, which is for its own application; one of the "
    "operator's is for all of them.",
    INGEST_TAG: "Ways in. They need a write key.",
    "health": "For whoever runs the service. They need no key.",
}
_WITHOUT_KEY = "health"
# Whose parameters and bodies name what may not be there.
_NAMES_THINGS = "administration"
_SECURITY_SCHEMES = {
    "key": {"type": "apiKey", "in": "header", "name": "X-Auth-Key", "description": "A key."},
    "application": {
        "type": "apiKey",
        "in": "header",
        "name": "X-Auth-User",
        "description": "Id of the key's application.",
    },
    "bearer": {"type": "http", "scheme": "bearer", "description": "A key, instead of X-Auth-Key."},
}
# Alternatives.
_SECURITY: list[dict[str, list[str]]] = [
    {"key": []},
    {"key": [], "application": []},
    {"bearer": []},
]
# What it means, and an example, but for that of the schema.
_ERRORS = {
    "400": ("The question is wrong, or its answer too large: the error says the way out.", None),
    "401": (
        "No key came with the request, or one that is not known.",
        ("unauthenticated", "unknown application or key"),
    ),
    "403": (
        "The key is for something else.",
        ("forbidden", "this is a write key; a read key is needed"),
    ),
    "404": (
        "There is no such path, or nothing of that name.",
        ("not_found", "there is nothing at /1/x; see /docs"),
    ),
    "429": (
        "The key has done what it may within a minute; or too many unknown keys came from the "
        "address.",
        ("too_many_requests", "more than 6000 requests a minute with the key 3f9c01d2a47b"),
    ),
    "503": (
        "The store or the service cannot answer now.",
        ("unavailable", "the store is not available now"),
    ),
}
_HEADERS = {
    "401": ("WWW-Authenticate", "string", "`Bearer`."),
    "429": ("Retry-After", "integer", "Seconds after which it makes sense to try again."),
    "503": ("Retry-After", "integer", "Seconds after which it makes sense to try again."),
}
# Of requests that change something.
_ERRORS_OF_CHANGES = {
    "409": (
        "What is to be changed is not in a state for it.",
        ("conflict", "the key 3f9c01d2a47b is revoked: make a new one"),
    ),
    "413": ("The body is too large.", ("too_large", "the body is larger than 65536 bytes")),
}


def openapi_document(app: FastAPI) -> dict[str, Any]:
    """Return the complete document of an application that has all its routes."""
    document = app.openapi()
    document["info"]["description"] = _DESCRIPTION
    document["tags"] = [{"name": name, "description": text} for name, text in _TAGS.items()]
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    schemas |= ingest_schemas()
    # Of what FastAPI would answer if it read the parameters.
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    document["components"]["securitySchemes"] = _SECURITY_SCHEMES
    for path, method, operation in _operations(document):
        _complete(path, method, operation)
    document["paths"] |= INGEST_PATHS
    for _, _, operation in _operations(document):
        if _WITHOUT_KEY not in operation["tags"]:
            operation["security"] = _SECURITY
            _add_headers(operation["responses"])
    return document


def _operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            yield path, method, operation


def _complete(path: str, method: str, operation: dict[str, Any]) -> None:
    responses = operation["responses"]
    responses.pop("422", None)
    for parameter in operation.get("parameters", ()):
        _complete_parameter(parameter)
    if _WITHOUT_KEY in operation["tags"]:
        return
    for status, (description, example) in _ERRORS.items():
        if status != "404" or "{" in path or _NAMES_THINGS in operation["tags"]:
            responses.setdefault(status, _error(description, example))
    if method != "get":
        for status, (description, example) in _ERRORS_OF_CHANGES.items():
            responses.setdefault(status, _error(description, example))


def _complete_parameter(parameter: dict[str, Any]) -> None:
    schema = parameter["schema"]
    # An empty parameter means its default, which its description says.
    if schema.get("default") == "":
        del schema["default"]
    # One that is left out is null only in Python.
    if "anyOf" in schema:
        schema |= schema.pop("anyOf")[0]
    # What the page fills in.
    if parameter["in"] == "path" and "examples" in schema:
        parameter["example"] = schema["examples"][0]


def _error(description: str, example: tuple[str, str] | None) -> dict[str, Any]:
    content: dict[str, Any] = {"schema": {"$ref": "#/components/schemas/Error"}}
    if example is not None:
        code, message = example
        details = dict.fromkeys(("parameter", "value", "allowed"))
        content["example"] = {"error": {"code": code, "message": message, **details}}
    return {"description": description, "content": {"application/json": content}}


def _add_headers(responses: dict[str, Any]) -> None:
    for status, (name, kind, description) in _HEADERS.items():
        if status in responses:
            header = {"description": description, "schema": {"type": kind}}
            responses[status]["headers"] = {name: header}
