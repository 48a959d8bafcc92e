# SPDX-License-Identifier: Apache-2.0
"""The rule table: event field ← ordered sources ← named transforms.

Adding an attribute name is one change here, and nowhere else. Order is precedence; stable names
stand before the old ones, for senders that emit both.

Sources: semantic conventions 1.44 (`http.md`, `url.md`, registry `user`, `enduser`, `code`) and
their migration guide from the names before 1.21.
"""

from __future__ import annotations

from dataclasses import dataclass

from otel_apinalytics.normalize import transforms as t
from otel_apinalytics.normalize.transforms import Transform

# Part of every stored row's version: raise it with each change of meaning, and a replay of the same
# span under the new rules replaces the row written under the old ones.
RULES_VERSION = 1


@dataclass(frozen=True, slots=True)
class Source:
    """Attributes that say the same in the same way, in order.

    The first that is present goes through the transform.
    """

    attributes: tuple[str, ...]
    transform: Transform = t.as_is


@dataclass(frozen=True, slots=True)
class Rule:
    """How one value is read from attributes: the first source that leaves something wins.

    Args:
        target: The event field, or the name of a part that a field is composed of.
        sources: Where to look, in order.
        named_by: Field that receives the winning attribute's name, or None.
    """

    target: str
    sources: tuple[Source, ...]
    named_by: str | None = None


SPAN_RULES: tuple[Rule, ...] = (
    Rule("method", (Source(("http.request.method", "http.method"), t.method),)),
    Rule("path", (Source(("url.path", "http.target", "url.full", "http.url"), t.path),)),
    Rule(
        "query",
        (
            Source(("url.query",), t.bare_query),
            Source(("http.target",), t.query),
            Source(("url.full", "http.url"), t.query),
            Source(("url.path",), t.query),
        ),
    ),
    Rule("route", (Source(("http.route",), t.label),)),
    Rule("named_function", (Source(("apinalytics.function", "code.function.name"), t.label),)),
    Rule(
        "status_code",
        (Source(("http.response.status_code", "http.status_code"), t.status_code),),
    ),
    Rule(
        "host",
        (
            Source(("server.address", "http.server_name", "http.host", "net.host.name"), t.host),
            Source(("url.full", "http.url"), t.url_host),
        ),
    ),
    Rule(
        "consumer_id",
        (Source(("apinalytics.consumer.id", "enduser.id", "user.id")),),
        named_by="consumer_source",
    ),
)

RESOURCE_RULES: tuple[Rule, ...] = (Rule("service", (Source(("service.name",), t.label),)),)

# A span is an API call if one of these could be read from it.
EVIDENCE = ("method", "path", "route")

# OTLP span kinds and status (trace.proto): what serves a call, what makes one, what failed.
KIND_SERVER = 2
KIND_CLIENT = 3
STATUS_ERROR = 2

UNKNOWN_FUNCTION = "unknown"
# What `consumer_source` says of a consumer that came in a JSON event.
SOURCE_EVENT = "event"

# Outcomes of what was received, as the ledger shows them: received = stored + filtered + rejected.
RECEIVED = "received"
STORED = "stored"
FILTERED = "filtered"
REJECTED = "rejected"

# Why something was filtered: not an API call.
OTHER_KIND = "kind_not_server_or_client"
WITHOUT_HTTP = "without_http"

# Why something was rejected: unusable.
INVALID_TRACE_ID = "invalid_trace_id"
INVALID_SPAN_ID = "invalid_span_id"
TIME_OUT_OF_RANGE = "time_out_of_range"
UNDECODABLE = "undecodable"
REJECT_REASONS = (INVALID_TRACE_ID, INVALID_SPAN_ID, TIME_OUT_OF_RANGE, UNDECODABLE)
