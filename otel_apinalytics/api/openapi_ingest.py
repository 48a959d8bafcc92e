# SPDX-License-Identifier: Apache-2.0
"""The ways in, for the OpenAPI document: routes of the hot path, which say nothing themselves."""

from __future__ import annotations

from typing import Any

from pydantic import TypeAdapter

from otel_apinalytics.api import answers
from otel_apinalytics.api.event_models import SentEvent

INGEST_TAG = "ingest"
_SCHEMAS = "#/components/schemas/"
_JSON, _PROTOBUF, _TEXT = "application/json", "application/x-protobuf", "text/plain"
_BINARY = {"type": "string", "format": "binary"}

_SPAN = {
    "traceId": "5b8efff798038103d269b633813fc60c",
    "spanId": "eee19b7ec3c1b174",
    "name": "GET /users/{id}",
    "kind": 2,
    "startTimeUnixNano": "1795251600000000000",
    "endTimeUnixNano": "1795251600002500000",
    "attributes": [
        {"key": "http.request.method", "value": {"stringValue": "GET"}},
        {"key": "http.route", "value": {"stringValue": "/users/{id}"}},
        {"key": "http.response.status_code", "value": {"intValue": "200"}},
        {"key": "enduser.id", "value": {"stringValue": "acme"}},
    ],
}
_OTLP_SCHEMAS: dict[str, Any] = {
    "ExportTraceServiceRequest": {
        "type": "object",
        "description": "OTLP's request in its JSON encoding; names may be of any OTLP 1.x.",
        "properties": {"resourceSpans": {"type": "array", "items": {"type": "object"}}},
        "examples": [{"resourceSpans": [{"scopeSpans": [{"spans": [_SPAN]}]}]}],
    },
    "ExportTraceServiceResponse": {
        "type": "object",
        "description": "Empty if all was taken.",
        "properties": {
            "partialSuccess": {
                "type": "object",
                "properties": {
                    "rejectedSpans": {"type": "string", "description": "Spans that never can be."},
                    "errorMessage": {"type": "string"},
                },
                "additionalProperties": False,
            }
        },
        "additionalProperties": False,
    },
    "RpcStatus": {
        "type": "object",
        "description": "google.rpc.Status.",
        "properties": {
            "code": {"type": "integer"},
            "message": {"type": "string"},
            "details": {"type": "array", "items": {"type": "object"}},
        },
        "required": ["code", "message"],
        "additionalProperties": False,
    },
}


def ingest_schemas() -> dict[str, Any]:
    """Return the schemas that the paths name."""
    schemas = dict(_OTLP_SCHEMAS)
    shapes = {"Error": answers.Error, "Received": answers.Received, "SentEvent": SentEvent}
    for name, shape in shapes.items():
        schema = TypeAdapter(shape).json_schema(ref_template=f"{_SCHEMAS}{{model}}")
        schemas |= schema.pop("$defs", {})
        schemas[name] = schema
    return schemas


def _named(name: str) -> dict[str, str]:
    return {"$ref": f"{_SCHEMAS}{name}"}


def _answer(description: str, schema: str) -> dict[str, Any]:
    return {"description": description, "content": {_JSON: {"schema": _named(schema)}}}


def _otlp_answer(description: str, schema: str) -> dict[str, Any]:
    """Return an answer in the encoding of its request."""
    content = {_PROTOBUF: {"schema": _BINARY}, _JSON: {"schema": _named(schema)}}
    return {"description": description, "content": content}


def _status(description: str) -> dict[str, Any]:
    answer = _otlp_answer(description, "RpcStatus")
    # To a request of neither encoding.
    answer["content"][_TEXT] = {"schema": {"type": "string"}}
    return answer


def _kept(answer: dict[str, Any]) -> dict[str, Any]:
    described = {
        "description": "Not of an empty request. `GET /1/ledger/…?record_id=` says what became "
        "of it.",
        "schema": {"type": "string", "pattern": "^[0-9a-f]{32}$"},
    }
    return {**answer, "headers": {"X-Record-Id": described}}


def _header(name: str, description: str, **schema: Any) -> dict[str, Any]:
    return {
        "name": name,
        "in": "header",
        "description": description,
        "schema": {"type": "string", **schema},
    }


_ENCODING = _header(
    "Content-Encoding",
    "How the body is compressed.",
    enum=["gzip", "deflate", "zstd", "identity"],
)
_IDEMPOTENCY_KEY = _header(
    "Idempotency-Key",
    "Names the request, equal in each try: what comes again within ten minutes is kept once.",
    minLength=1,
    maxLength=255,
)
_PARTIAL = {
    "name": "partial",
    "in": "query",
    "description": "true: keep the good events, and list the others. false if it is left out.",
    "schema": {"type": "string", "enum": ["true", "false"]},
}

INGEST_PATHS: dict[str, Any] = {
    "/v1/traces": {
        "post": {
            "tags": [INGEST_TAG],
            "operationId": "export_traces",
            "summary": "Take spans by OTLP",
            "description": "OTLP over HTTP, in protobuf or JSON. The answer comes when the spans "
            "are on disk. Metrics and logs are taken at `/v1/metrics` and `/v1/logs`, and dropped.",
            "parameters": [_ENCODING],
            "requestBody": {
                "required": True,
                "content": {
                    _PROTOBUF: {"schema": _BINARY},
                    _JSON: {"schema": _named("ExportTraceServiceRequest")},
                },
            },
            "responses": {
                "200": _kept(
                    _otlp_answer(
                        "Kept, but for what partial success says.", "ExportTraceServiceResponse"
                    )
                ),
                "400": _status("It does not parse."),
                "401": _status("No key came with the request, or one that is not known."),
                "403": _status("It is no write key."),
                "413": _status("The body is too large, decompressed."),
                "415": _status("It is neither protobuf nor JSON."),
                "429": _status("The key has sent what it may within a minute."),
                "503": _status("It cannot be kept now, and nothing of it was."),
            },
        }
    },
    "/1/event/": {
        "post": {
            "tags": [INGEST_TAG],
            "operationId": "post_events",
            "summary": "Take events",
            "description": "A JSON array of events, as in 2014; also at `/1/events/`. All are "
            "kept, or none; the answer comes when they are on disk.",
            "parameters": [_PARTIAL, _ENCODING, _IDEMPOTENCY_KEY],
            "requestBody": {
                "required": True,
                "content": {_JSON: {"schema": {"type": "array", "items": _named("SentEvent")}}},
            },
            "responses": {
                "200": _kept(_answer("Kept.", "Received")),
                "400": _answer("An event, a parameter or the body is wrong.", "Error"),
                "401": _answer("No key came with the request, or one that is not known.", "Error"),
                "403": _answer("It is no write key.", "Error"),
                "413": _answer("The body is too large, decompressed.", "Error"),
                "429": _answer("The key has sent what it may within a minute.", "Error"),
                "503": _answer("They cannot be kept now, and none was.", "Error"),
            },
        }
    },
}
