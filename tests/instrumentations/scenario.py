# SPDX-License-Identifier: Apache-2.0
"""The calls that every program makes of its API, and the events that must come out.

All programs offer the same API and are called in the same way, so that they must give the same
events. Where an instrumentation says less than that, a `Deviation` has the fields and the reason.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

# A variable of the programs: what the service hashes with, hexadecimal, so that Python can as well.
HASH_KEY_VARIABLE = "HASH_KEY"
# The API is called by the first name. The servers are bound to the address, and those of WSGI have
# a name of their own.
HOST = "api.example.test"
ADDRESS = "127.0.0.1"
SERVER_NAME = "backend.example.test"
KEY_HEADER = "X-API-Key"
KEY = "k-secret-123"
TOKEN = "t-secret-456"
# Whoever calls the API authenticates by this header.
USER_HEADER = "X-User"
USER = "alice"
CLIENT_NAME, CLIENT_VERSION = "shop-client", "2.1"
RPC_SERVICE = "shop.Shop"
ERROR = "tests.instrumentations.apps.program.Boom"


class Mode(str, Enum):
    """Which conventions an instrumentation speaks, as `OTEL_SEMCONV_STABILITY_OPT_IN` says it."""

    OLD = ""
    NEW = "http"
    BOTH = "http/dup"


@dataclass(frozen=True, slots=True)
class Call:
    """One call of the API.

    Args:
        name: What it is called here.
        method: HTTP method; empty for gRPC.
        path: Path and query, or the full name of a gRPC method.
        answer: HTTP status, or name of the gRPC status, that the caller sees.
        headers: HTTP headers or gRPC metadata.
        body: What is sent.
        begins_trace: Whether the caller is not traced; otherwise it is, in a trace of its own.
    """

    name: str
    method: str
    path: str
    answer: int | str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    begins_trace: bool = False

    @property
    def parent_span_id(self) -> str | None:
        """The caller's span, by which the call's event is found; None if it is not traced."""
        if self.begins_trace:
            return None
        return hashlib.blake2b(self.name.encode(), digest_size=8).hexdigest()


_HEADERS = {"Host": f"{HOST}:8080", "User-Agent": f"{CLIENT_NAME}/{CLIENT_VERSION}"}
HTTP_CALLS = (
    Call("user", "GET", "/users/7", 200, _HEADERS, begins_trace=True),
    Call("order", "POST", "/orders", 201, _HEADERS, b"{}"),
    Call("unmatched", "GET", "/missing-thing", 404, _HEADERS),
    Call("boom", "GET", "/boom", 500, _HEADERS),
    Call("key", "GET", "/users/8", 200, {**_HEADERS, KEY_HEADER: KEY}),
    Call("named", "GET", "/users/9", 200, {**_HEADERS, USER_HEADER: USER}),
    Call("token", "GET", f"/users/10?page=2&token={TOKEN}", 200, _HEADERS),
)
RPC_CALLS = (
    Call("user", "", f"/{RPC_SERVICE}/GetUser", "OK", begins_trace=True),
    Call("missing", "", f"/{RPC_SERVICE}/FindOrder", "NOT_FOUND"),
    Call("boom", "", f"/{RPC_SERVICE}/Boom", "UNKNOWN"),
    Call("key", "", f"/{RPC_SERVICE}/GetUser", "OK", {KEY_HEADER: KEY}),
    Call("named", "", f"/{RPC_SERVICE}/GetUser", "OK", {USER_HEADER: USER}),
)
_USER_CALLS = ("user", "key", "named", "token")


@dataclass(frozen=True, slots=True)
class Prefix:
    """Stands for a text that begins with this and goes on."""

    text: str


# By field; None is a missing value.
Expected = Mapping[str, str | int | float | bool | Prefix | None]


@dataclass(frozen=True, slots=True)
class Deviation:
    """What cannot be expected of an instrumentation.

    Args:
        reason: Why.
        fields: What its events have instead.
        calls: Names of the calls that it is about; none means all.
        modes: The conventions that it is about.
    """

    reason: str
    fields: Expected
    calls: tuple[str, ...] = ()
    modes: tuple[Mode, ...] = tuple(Mode)


@dataclass(frozen=True, slots=True, eq=False)
class Framework:
    """A framework whose instrumentation is tried.

    Args:
        name: Name of its program in `apps`.
        user_route: How it writes the route of a user.
        functions: What it says is called, by call; otherwise method and route are.
        calls: The calls that its program makes.
        modes: The conventions that its instrumentation can speak.
        deviations: Where it says less than the others; later ones win.
    """

    name: str
    user_route: str = ""
    functions: Mapping[str, str] = field(default_factory=dict)
    calls: tuple[Call, ...] = HTTP_CALLS
    modes: tuple[Mode, ...] = tuple(Mode)
    deviations: tuple[Deviation, ...] = ()

    def expected(self, call: Call, mode: Mode) -> Expected:
        """Return the fields of the event that a call must become."""
        fields = {**_ANY_CALL, **_consumer(call)}
        fields |= self._of_http(call, mode) if call.method else _of_rpc(call)
        for deviation in self.deviations:
            if mode in deviation.modes and call.name in (deviation.calls or (call.name,)):
                fields |= deviation.fields
        return fields

    def _of_http(self, call: Call, mode: Mode) -> Expected:
        route = self.user_route if call.name in _USER_CALLS else call.path
        fields: Expected = {
            "method": call.method,
            "url": call.path.replace(TOKEN, "REDACTED"),
            "host": HOST,
            "route": route,
            "route_source": "attribute",
            "function": self.functions.get(call.name, f"{call.method} {route}"),
            "status_code": int(call.answer),
            "rpc_status": None,
            "protocol_version": "1.1",
            "user_agent": f"{CLIENT_NAME}/{CLIENT_VERSION}",
            "client_name": CLIENT_NAME,
            "client_version": CLIENT_VERSION,
        }
        if call.name == "unmatched":
            # Whoever tries paths must not make routes of them.
            return {**fields, **_UNMATCHED}
        if call.name == "boom":
            # The new conventions have an attribute; with the old ones it is in the span's event.
            error_type = ERROR if mode is Mode.OLD else "500"
            return {**fields, "is_error": True, "error_type": error_type}
        return fields


_ANY_CALL: Expected = {
    "direction": "inbound",
    "is_error": False,
    "error_type": None,
    "is_stream": False,
    "weight": 1.0,
    "client_ip_hash": Prefix("ip_"),
    "sdk_language": "python",
}
_UNMATCHED: Expected = {
    "route": "(unmatched)",
    "route_source": "unmatched",
    "function": Prefix(""),
}
_RPC_STATUS_CODES = {"OK": 200, "NOT_FOUND": 404, "UNKNOWN": 500}


def _of_rpc(call: Call) -> Expected:
    return {
        "method": None,
        "url": call.path,
        "host": None,
        "route": call.path,
        "route_source": "attribute",
        "function": call.path.removeprefix("/"),
        "status_code": _RPC_STATUS_CODES[str(call.answer)],
        "rpc_status": str(call.answer),
        "is_error": call.name == "boom",
        "error_type": {"missing": "NOT_FOUND", "boom": ERROR}.get(call.name),
        "user_agent": Prefix("grpc-python/"),
        "client_name": "grpc-python",
    }


def _consumer(call: Call) -> Expected:
    if KEY_HEADER in call.headers:
        source = "http.request.header.x_api_key"
        return {"consumer_id": Prefix("key_"), "consumer_source": source}
    if USER_HEADER in call.headers:
        return {"consumer_id": USER, "consumer_source": "enduser.id"}
    return {"consumer_id": None, "consumer_source": None}


_OLD, _NEW, _BOTH = (Mode.OLD,), (Mode.NEW,), (Mode.BOTH,)
_NO_PATH = Deviation(
    "the standard library's server keeps no raw URI, without which the new names for path and "
    "query are not set",
    {"url": None},
    modes=_NEW,
)
_BOUND_TO = Deviation(
    "the new name has the address that the server is bound to; the Host header is not sent",
    {"host": ADDRESS},
    modes=_NEW,
)
_OWN_NAME = Deviation(
    "`http.server_name` has the server's own name, and is read before `http.host`",
    {"host": SERVER_NAME},
    modes=_OLD,
)

FRAMEWORKS = (
    Framework("fastapi", "/users/{user_id}", deviations=(_BOUND_TO,)),
    Framework(
        "flask",
        "/users/<int:user_id>",
        deviations=(
            Deviation(
                f"{_OWN_NAME.reason}; Werkzeug's is its address", {"host": ADDRESS}, (), _OLD
            ),
        ),
    ),
    Framework("django", "/users/<int:user_id>", deviations=(_NO_PATH, _OWN_NAME)),
    Framework(
        "django_asgi",
        "/users/<int:user_id>",
        deviations=(
            _BOUND_TO,
            Deviation(
                "nothing in the span says that it is of an ASGI server, whose `server.address` is "
                "the address that it is bound to",
                {"host": ADDRESS},
                modes=_BOTH,
            ),
        ),
    ),
    Framework(
        "aiohttp",
        "/users/{user_id}",
        deviations=(
            Deviation("the caller's address is not sent", {"client_ip_hash": None}),
            Deviation("the span ends without a status", {"status_code": None}, ("boom",)),
            Deviation(
                "the attribute has the bare name of the exception's class",
                {"error_type": "Boom"},
                ("boom",),
                (*_NEW, *_BOTH),
            ),
        ),
    ),
    Framework(
        "tornado",
        "/users/{user_id}",
        functions={
            **dict.fromkeys(_USER_CALLS, "__main__.User"),
            "order": "__main__.Orders",
            "boom": "__main__.Explosion",
        },
        deviations=(
            Deviation(
                "the route is only in the span's name", {"route_source": "name"}, _USER_CALLS
            ),
            Deviation(
                "the route is only in the span's name, which proves nothing where it is the path",
                {"route_source": "derived"},
                ("order", "boom"),
            ),
        ),
    ),
    Framework(
        "falcon",
        "/users/{user_id:int}",
        functions={
            **dict.fromkeys(_USER_CALLS, "User"),
            "order": "Orders",
            "boom": "Explosion",
        },
        deviations=(
            _NO_PATH,
            _OWN_NAME,
            Deviation(
                "the exception is handled before the instrumentation sees it",
                {"error_type": "500"},
                ("boom",),
                _OLD,
            ),
        ),
    ),
    Framework(
        "grpc",
        calls=RPC_CALLS,
        # It has not been taught the new conventions.
        modes=_OLD,
        deviations=(
            Deviation(
                "metadata is not captured",
                {"consumer_id": None, "consumer_source": None},
                ("key",),
            ),
            Deviation(
                "an abort is an exception, and recorded as one",
                {"error_type": "Exception"},
                ("missing",),
            ),
            Deviation(
                "an exception is recorded, but the status is still what it was at the start",
                {"status_code": 200, "rpc_status": "OK", "is_error": False},
                ("boom",),
            ),
        ),
    ),
)
