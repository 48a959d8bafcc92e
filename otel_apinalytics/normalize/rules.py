# SPDX-License-Identifier: Apache-2.0
"""The rule table: event field ← ordered sources ← named transforms.

Adding an attribute name is one change here, and nowhere else. Order is precedence: stable names
stand before old ones, for senders that emit both. Each attribute goes through its transform; the
first that leaves something wins, so that an empty or unusable one falls through to the next.

Some fields are composed of parts: a URL of path and query, a route of attribute, name and path. The
parts are rules here as well; the renderings (`spans_sql.py`, `python.py`) put them together.

Sources: semantic conventions 1.44 (`http.md`, `url.md`, `rpc.md`, registry `user`, `enduser`,
`code`, `graphql`) and their migration guide from the names before 1.21; for the rest, the
instrumentations and gateways that the comments name.
"""

from __future__ import annotations

from dataclasses import dataclass

from otel_apinalytics.normalize import identity, routes, rpc, urls
from otel_apinalytics.normalize import transforms as t
from otel_apinalytics.normalize.transforms import Transform

# Part of every stored row's version: raise it with each change of meaning, and a replay of the same
# span under the new rules replaces the row written under the old ones.
RULES_VERSION = 4

# Every field that can be set has an attribute of this prefix and its own name.
EXPLICIT_PREFIX = "apinalytics."
# Of a span or an event that only asks whether it arrives, and is no call.
PROBE_ATTRIBUTE = "apinalytics.probe"

_REQUEST_HEADERS = (
    "http.request.header.",
    "rpc.request.metadata.",
    "rpc.grpc.request.metadata.",
    "rpc.connect_rpc.request.metadata.",
)
_RESPONSE_HEADERS = ("http.response.header.",)
HEADER_PREFIXES = (*_REQUEST_HEADERS, *_RESPONSE_HEADERS)


@dataclass(frozen=True, slots=True)
class Source:
    """Attributes that say the same in the same way, in order, and how they are read.

    Args:
        attributes: Their names.
        transform: How they are read.
        of_both: Whether they are looked for in the span, and where it has none in the resource.
    """

    attributes: tuple[str, ...]
    transform: Transform = t.label
    of_both: bool = False


@dataclass(frozen=True, slots=True)
class Rule:
    """How one value is read from attributes: the first source that leaves something wins.

    Args:
        target: The event field, or the name of a part that a field is composed of.
        sources: Where to look, in order.
        field: Event field that this rule sets, and that the application's own code
            (`apinalytics.<field>`) and the operator's mapping may set before any source; or None.
        said: Further attributes by which the application says it, before the mapping.
        named: Whether it is kept which attribute won.
        of_resource: Whether the sources are the resource's attributes, not the span's.
        of_both: Whether they are the span's, and where it has none the resource's.
    """

    target: str
    sources: tuple[Source, ...] = ()
    field: str | None = None
    said: tuple[str, ...] = ()
    named: bool = False
    of_resource: bool = False
    of_both: bool = False


def request_headers(*names: str) -> tuple[str, ...]:
    """Return the attributes of captured headers or RPC metadata, in both spellings."""
    return spellings(_REQUEST_HEADERS, names)


def _response_headers(*names: str) -> tuple[str, ...]:
    return spellings(_RESPONSE_HEADERS, names)


def spellings(prefixes: tuple[str, ...], names: tuple[str, ...]) -> tuple[str, ...]:
    """Return the attributes of headers, with `-` and with `_`: senders differ."""
    spelled = (
        prefix + spelling
        for name in names
        for prefix in prefixes
        for spelling in (name, name.replace("-", "_"))
    )
    return tuple(dict.fromkeys(spelled))


def _field(target: str, *sources: Source, said: tuple[str, ...] = ()) -> Rule:
    return Rule(target, sources, field=target, said=said)


def _of_resource(target: str, *sources: Source) -> Rule:
    return Rule(target, sources, field=target, of_resource=True)


USER_AGENT = t.user_agent.then(urls.redacted)
NOT_KERNEL = t.if_not(
    t.Pattern(
        r"[kK]ernel(?:::|[.#])(?:handle|terminate)|^Symfony\\|HttpKernel"
        r"|tracing_opentelemetry|^opentelemetry|axum_tracing"
    )
)
_TRUE = t.rare(t.one_of("true"))

# ---- is it an API call? ----

_KIND = (
    Rule("probe", (Source((PROBE_ATTRIBUTE,)),)),
    # Repeats a span that is still open, or was never one.
    Rule(
        "placeholder",
        (
            Source(("logfire.span_type",), t.rare(t.one_of("pending_span"))),
            Source(("aws.xray.inprogress",), _TRUE),
            Source(("kong.propagation_only",)),
        ),
    ),
    # Zipkin and Jaeger conversions keep the kind in a tag.
    Rule("kind_tag", (Source(("span.kind",), t.rare(t.one_of("server", "client"))),)),
    Rule("messaging", (Source(("messaging.system",)),)),
    Rule("trigger", (Source(("faas.trigger",), t.word),)),
    Rule("rpc_system", (Source(("rpc.system.name", "rpc.system")),)),
    Rule(
        "gateway",
        (
            Source(
                (
                    "kong.request.id", "apisix.route_id", "apisix.route_name",
                    "apisix.service_name", "guid:x-request-id", "upstream_cluster",
                    "upstream_cluster.name", "entry_point", "tyk.api.id", "tyk.api.name",
                )
            ),
        ),
    ),
)  # fmt: skip

# ---- what was called ----

_REQUEST = (
    # `method`, `uri`, `status` and `exception` are Micrometer's.
    Rule(
        "said_method",
        (
            Source(("http.request.method", "http.method")),
            Source(("method",), t.rare(t.known_method)),
        ),
    ),
    Rule("original_method", (Source(("http.request.method_original",)),)),
    Rule("url_path", (Source(("url.path",), t.as_is),)),
    Rule("target", (Source(("http.target", "http.path"), t.as_is),)),
    Rule("full_url", (Source(("url.full", "http.url"), t.as_is),)),
    Rule("query_text", (Source(("url.query",), urls.bare_query),)),
    Rule(
        "said_route",
        (Source(("http.route", "uri", "next.route", "http.route_path", "url.template"),
                routes.route),),
        field="route",
    ),
    Rule("said_host", field="host"),
    Rule("address", (Source(("server.address",), urls.host),)),
    Rule("server_name", (Source(("http.server_name",), urls.host),)),
    Rule("host_header", (Source(("http.host",), urls.host),)),
    Rule("local_host", (Source(("net.host.name",), urls.host),)),
    Rule("peer_name", (Source(("net.peer.name",), urls.host),)),
    _field(
        "api_version",
        Source(("tyk.api.version", *request_headers("api-version", "x-api-version"))),
    ),
    Rule(
        "accept_version",
        (Source(request_headers("accept"), t.accepted_version),),
    ),
    Rule(
        "stream_sign",
        (
            Source(("url.scheme", "http.scheme"), t.one_of("ws", "wss")),
            Source(request_headers("upgrade"), t.rare(t.one_of("websocket"))),
            Source(_response_headers("content-type"),
                   t.rare(t.lower_case.then(t.first_of(t.Pattern(r"^(text/event-stream)"))))),
        ),
    ),
)  # fmt: skip

_FUNCTION = (
    Rule("said_function", field="function"),
    Rule(
        "code_function",
        # Not where it names the instrumentation or the framework's kernel.
        (Source(("code.function.name",), NOT_KERNEL),),
    ),
    Rule("code_namespace", (Source(("code.namespace",)),)),
    Rule("code_method", (Source(("code.function",)),)),
    Rule("handler", (Source(("tornado.handler", "falcon.resource")),)),
    Rule("phoenix_plug", (Source(("phoenix.plug",)),)),
    Rule("phoenix_action", (Source(("phoenix.action",)),)),
    Rule("faas_name", (Source(("faas.name",)),), of_both=True),
    Rule("rpc_service", (Source(("rpc.service",)),)),
    Rule("rpc_method", (Source(("rpc.method",)),)),
    Rule("rpc_path", (Source(("grpc.path", "grpc.method")),)),
    Rule("graphql_type", (Source(("graphql.operation.type",), t.word),)),
    Rule("graphql_name", (Source(("graphql.operation.name",)),)),
)

# ---- what became of it ----

_RESULT = (
    Rule(
        "http_status",
        (Source(("http.response.status_code", "http.status_code", "status"), t.status_code),),
    ),
    _field(
        "rpc_status",
        Source(
            (
                "rpc.status_code", "rpc.response.status_code", "rpc.grpc.status_code",
                "grpc.status_code", "rpc.connect_rpc.error_code", "rpc.jsonrpc.error_code",
            ),
            rpc.status,
        ),
    ),
    Rule("said_error", (Source(("error.type",)),), field="error_type"),
    # Micrometer, Envoy.
    Rule("other_error", (Source(("exception", "response_flags"), t.not_none),)),
    Rule("error_flag", (Source(("error",), _TRUE),)),
    _field(
        "cache_status",
        Source(_response_headers("cache-status", "x-cache", "cf-cache-status", "x-cache-status"),
               t.cache_status),
    ),
)  # fmt: skip

# ---- how much ----

_MEASURES = (
    _field(
        "request_bytes",
        Source(
            (
                "http.request.body.size", "http.request_content_length", "request_size",
                *request_headers("content-length"), "messaging.message.body.size",
                "rpc.request.size",
            ),
            t.whole_number,
        ),
    ),
    _field(
        "response_bytes",
        Source(
            (
                "http.response.body.size", "http.response_content_length", "response_size",
                *_response_headers("content-length"), "rpc.response.size",
            ),
            t.whole_number,
        ),
    ),
    _field(
        "resend_count",
        Source(("http.request.resend_count", "http.resend_count", "http.retry_count"),
               t.whole_number),
    ),
    _field(
        "upstream_us",
        Source(_response_headers("x-envoy-upstream-service-time", "x-kong-upstream-latency"),
               t.milliseconds),
    ),
    _field("queue_us"),
    _field("quota_consumed"),
)  # fmt: skip

# ---- with what ----

_CLIENT = (
    Rule(
        "client_address",
        (
            Source(
                (
                    "client.address", "http.client_ip", "network.peer.address",
                    "net.sock.peer.addr", "net.peer.ip", "peer.address",
                ),
                urls.ip_address,
            ),
        ),
    ),
    _field(
        "user_agent",
        Source(
            (
                "user_agent.original", "http.user_agent", "user_agent", "rpc.user_agent",
                *request_headers("user-agent"),
            ),
            USER_AGENT,
        ),
    ),
    _field("client_name"),
    _field("client_version"),
    _field(
        "protocol_version",
        Source(
            ("network.protocol.version", "http.flavor", "net.protocol.version", "http.protocol"),
            t.protocol_version,
        ),
    ),
    _field("synthetic", Source(("user_agent.synthetic.type",), t.rare(t.one_of("bot", "test")))),
    _field("experiment", Source(("feature_flag.key",))),
    _field("variant", Source(("feature_flag.result.variant", "feature_flag.variant"))),
    _field("job_type"),
)  # fmt: skip

# ---- who served it ----

_SERVICE = (
    _of_resource(
        "service",
        Source(("service.name",), t.rare(t.if_not(t.Pattern(r"^unknown_service")))),
        # Istio tags its spans.
        Source(("istio.canonical_service",), of_both=True),
        Source(("k8s.deployment.name",)),
    ),
    _of_resource(
        "service_version",
        Source(("service.version",)),
        Source(("istio.canonical_revision",), of_both=True),
    ),
    _of_resource(
        "environment",
        Source(("deployment.environment.name", "deployment.environment", "env"), t.environment),
    ),
    _of_resource(
        "region",
        Source(("cloud.region", "aws.region")),
        Source(("cloud.availability_zone",), t.region_of_zone),
        # Envoy tags its spans.
        Source(("zone",), t.region_of_zone, of_both=True),
    ),
    _of_resource("sdk_language", Source(("telemetry.sdk.language",), t.word)),
)

# Headers with a key, those with a scheme and a credential, and others that are secrets.
KEY_HEADERS = (
    "x-api-key", "api-key", "apikey", "ocp-apim-subscription-key", "x-rapidapi-user",
    "x-auth-token", "x-access-token",
)  # fmt: skip
CREDENTIAL_HEADERS = ("authorization", "proxy-authorization")
COOKIE_HEADERS = ("cookie", "set-cookie")

# ---- who called: reference, section 4.2 ----
#
# What the application says, then the operator's mapping, then what a gateway asserts, an OAuth
# client, a certificate, a user, a header that the caller chose, the hash of a secret, a tenant.

_CONSUMER = (
    Rule(
        "first_consumer",
        (
            Source(
                (
                    "tyk.api.apikey.alias", "tyk.api.oauthid", "consumer_name",
                    *request_headers(
                        "x-consumer-custom-id", "x-consumer-username", "x-consumer-id",
                        "x-credential-identifier",
                    ),
                ),
                identity.identity,
            ),
        ),
        field="consumer_id",
        said=("apinalytics.consumer.id", "apinalytics.consumer"),
        named=True,
        of_both=True,
    ),
    Rule(
        "client_id",
        (
            Source(
                ("oauth.client_id", "client.id", "auth.client_id", "azp", "client_id"),
                identity.identity,
            ),
        ),
        field="client_id",
        named=True,
        of_both=True,
    ),
    Rule(
        "second_consumer",
        (
            Source(("tls.client.subject",), identity.certificate_subject),
            Source(request_headers("x-forwarded-client-cert"), identity.forwarded_certificate),
            Source(
                (
                    "istio.source_principal", "user.id", "enduser.id", "enduser.pseudo.id",
                    "user.hash",
                ),
                identity.identity,
                of_both=True,
            ),
            Source(
                request_headers("x-client-id", "x-api-client", "x-app-id"), identity.identity
            ),
            Source(
                request_headers(*KEY_HEADERS),
                identity.secret,
            ),
            Source(request_headers("authorization"), identity.authorization),
            Source(("tyk.api.apikey",), identity.secret),
        ),
        named=True,
    ),
    Rule(
        "tenant",
        (
            Source(
                ("tenant.id", "organization.id", "account.id", "user.tenant"), identity.identity
            ),
        ),
        named=True,
        of_both=True,
    ),
    Rule(
        "said_organization",
        (Source(("tyk.api.orgid",), identity.identity),),
        field="organization_id",
        said=("apinalytics.consumer.organisation", "apinalytics.consumer.organization"),
        of_both=True,
    ),
    _field("app_id", said=("apinalytics.consumer.application", "apinalytics.consumer.app")),
    _field("developer_id", said=("apinalytics.consumer.developer",)),
    _field("plan_id", said=("apinalytics.consumer.plan",)),
)  # fmt: skip

# What the application says and no field is for, by its name among the event's `attributes`.
SAID_ATTRIBUTES = {"consumer_name": "apinalytics.consumer.name"}

RULES: tuple[Rule, ...] = (
    *_KIND, *_REQUEST, *_FUNCTION, *_RESULT, *_MEASURES, *_CLIENT, *_SERVICE, *_CONSUMER,
)  # fmt: skip

# Parts whose first that is present is the consumer; each names the attribute that it came from.
CONSUMER_PARTS = ("first_consumer", "client_id", "second_consumer", "tenant")
# Fields that name someone: a secret in them is hashed.
IDENTITY_FIELDS = (
    "consumer_id",
    "client_id",
    "organization_id",
    "app_id",
    "developer_id",
    "plan_id",
)
# What `consumer_source` says of a consumer that came in a JSON event.
SOURCE_EVENT = "event"

# Instrumentations whose host is the address that they are bound to.
BIND_ADDRESS_SCOPES = (
    "opentelemetry.instrumentation.asgi",
    "opentelemetry.instrumentation.fastapi",
    "opentelemetry.instrumentation.starlette",
)
# Where a missing path is the root.
PATHLESS_ROOT_SCOPE = "actix-web-opentelemetry"

# OTLP span kinds, status and flags (trace.proto): what serves a call, what makes one, what failed,
# and whether the parent is known to be in the same process.
KIND_UNSPECIFIED = 0
KIND_INTERNAL = 1
KIND_SERVER = 2
KIND_CLIENT = 3
KIND_PRODUCER = 4
KIND_CONSUMER = 5
# Never a call, whatever their attributes say.
OTHER_KINDS = (KIND_INTERNAL, KIND_PRODUCER, KIND_CONSUMER)
# Those that may say something of their parent.
KINDS_OF_CHILDREN = (KIND_INTERNAL, KIND_SERVER)
STATUS_ERROR = 2
FLAGS_PARENT_KNOWN = 0x100
FLAGS_PARENT_REMOTE = 0x200

UNKNOWN_FUNCTION = "unknown"
# Without a route, these mean that there is none: with every server, and with a gateway.
UNMATCHED_STATUSES = (404, 405)
UNMATCHED_GATEWAY_STATUSES = (400, 401, 403)
# Names that only gateways give to their spans.
GATEWAY_SPAN_NAMES = ("kong", "apisix", "ingress")
