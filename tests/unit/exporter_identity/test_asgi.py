# SPDX-License-Identifier: Apache-2.0
"""The ASGI middleware, inside and outside of the instrumentation that makes the SERVER span."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from opentelemetry.context import Context
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
from opentelemetry.trace import SpanKind
from starlette.authentication import AuthCredentials, AuthenticationBackend, BaseUser, SimpleUser
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.requests import HTTPConnection

from otel_apinalytics.exporter.asgi import ConsumerMiddleware, Message, Receive, Scope, Send
from otel_apinalytics.exporter.consumers import Consumer
from otel_apinalytics.exporter.hashing import consumer_of_key
from otel_apinalytics.exporter.identity import set_consumer
from tests.unit.exporter_identity.conftest import Traced

Headers = Iterable[tuple[bytes, bytes]]
Build = Callable[..., Any]


@pytest.fixture
def inside(traced: Traced, use_provider: Callable[[Traced], None]) -> Build:
    """Give a function that builds an application with our middleware within the SERVER span."""
    use_provider(traced)

    def build(app: Any, **options: Any) -> Any:
        ours = ConsumerMiddleware(app, **options)
        return OpenTelemetryMiddleware(ours, tracer_provider=traced.provider)

    return build


@pytest.fixture
def outside(traced: Traced, use_provider: Callable[[Traced], None]) -> Build:
    """Give a function that builds one with our middleware around the instrumentation."""
    use_provider(traced)

    def build(app: Any, **options: Any) -> Any:
        instrumented: Any = OpenTelemetryMiddleware(app, tracer_provider=traced.provider)
        return ConsumerMiddleware(instrumented, **options)

    return build


@pytest.fixture(params=["inside", "outside"])
def either(request: pytest.FixtureRequest) -> Build:
    """Give the one, then the other."""
    build: Build = request.getfixturevalue(request.param)
    return build


async def answer(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer each request with nothing."""
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body", "body": b""})


def call(app: Any, headers: Headers = (), kind: str = "http", **more: Any) -> list[Message]:
    """Make a request and return what was sent."""
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": f"{kind}.connect" if kind == "websocket" else "http.request"}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {
        "type": kind, "method": "GET", "path": "/orders", "query_string": b"", "scheme": "http",
        "headers": list(headers), "server": ("localhost", 80), "http_version": "1.1", **more,
    }  # fmt: skip
    asyncio.run(app(scope, receive, send))
    return sent


def server_consumers(traced: Traced) -> list[Any]:
    """Return the consumer of each SERVER span, None where there is none."""
    spans = [s for s in traced.memory.get_finished_spans() if s.kind is SpanKind.SERVER]
    return [(span.attributes or {}).get("apinalytics.consumer.id") for span in spans]


def test_a_header(traced: Traced, either: Build) -> None:
    """In any case of letters; the answer is what it would be."""
    app = either(answer, header="X-Customer")
    assert [m["type"] for m in call(app, [(b"x-customer", b"acme")])] == [
        "http.response.start",
        "http.response.body",
    ]
    call(app, [(b"X-CUSTOMER", b"globex"), (b"x-customer", b"second")])
    call(app, [(b"x-other", b"acme")])
    call(app, [(b"x-customer", b"")])
    assert server_consumers(traced) == ["acme", "globex", None, None]


def test_no_span_but_the_server_span_has_it(traced: Traced, either: Build) -> None:
    """The instrumentation makes spans of its own for what is sent."""
    call(either(answer, header="x-customer"), [(b"x-customer", b"acme")])
    assert len(traced.memory.get_finished_spans()) > 1
    assert list(traced.consumers()) == ["GET /orders"]


@pytest.mark.parametrize(
    ("header", "value", "secret"),
    [
        (b"x-api-key", b"k-secret", "k-secret"),
        (b"authorization", b"Bearer k-secret", "k-secret"),
        (b"x-api-key", "k-sécret".encode(), "k-sécret"),
        (b"x-api-key", "k-sécret".encode("latin-1"), "k-sécret"),
    ],
)
def test_a_header_with_a_secret(
    traced: Traced, either: Build, with_hash_key: bytes, header: bytes, value: bytes, secret: str
) -> None:
    """Is hashed, whatever is asked for."""
    call(either(answer, header=header.decode()), [(header, value)])
    assert server_consumers(traced) == [consumer_of_key(secret)]


def test_a_header_of_your_own_with_a_secret(
    traced: Traced, either: Build, with_hash_key: bytes
) -> None:
    """Is hashed if it is said to be one."""
    call(either(answer, header="x-partner", secret=True), [(b"x-partner", b"p-1")])
    assert server_consumers(traced) == [consumer_of_key("p-1")]


def test_without_a_hash_key_no_secret_is_sent(traced: Traced, either: Build) -> None:
    """Nobody is known then."""
    call(either(answer, header="x-api-key"), [(b"x-api-key", b"k-secret")])
    assert server_consumers(traced) == [None]
    spans = traced.memory.get_finished_spans()
    assert "k-secret" not in "".join(span.to_json() for span in spans)


def test_the_user_of_basic_credentials(traced: Traced, either: Build) -> None:
    """Is no secret."""
    credentials = b"Basic YWxpY2U6c2VjcmV0"  # alice:secret
    call(either(answer, header="authorization"), [(b"authorization", credentials)])
    assert server_consumers(traced) == ["alice"]


def test_a_function(traced: Traced, either: Build) -> None:
    """Of the scope; it may say more than an id, or nobody."""
    answers = iter([Consumer("acme", plan="gold"), 7, None, None])

    def of_scope(scope: Scope) -> Any:
        assert scope["path"] == "/orders"
        return next(answers)

    app = either(answer, consumer=of_scope)
    for _ in range(3):
        call(app)
    assert server_consumers(traced) == ["acme", "7", None]
    first = next(s for s in traced.memory.get_finished_spans() if s.kind is SpanKind.SERVER)
    assert (first.attributes or {})["apinalytics.consumer.plan"] == "gold"


def test_a_function_that_has_to_wait(traced: Traced, either: Build) -> None:
    """As for a database: it may be `async`, and is asked again when the response begins."""
    answers = iter([Consumer("acme"), None, "globex", None, None])

    async def of_scope(scope: Scope) -> Any:
        await asyncio.sleep(0)
        return next(answers)

    app = either(answer, consumer=of_scope)
    for _ in range(3):
        call(app)
    assert server_consumers(traced) == ["acme", "globex", None]


class User(BaseUser):
    """A user with an id."""

    is_authenticated = True
    identity = "user-7"


class Backend(AuthenticationBackend):
    """Authenticates by a header."""

    async def authenticate(self, conn: HTTPConnection) -> tuple[AuthCredentials, BaseUser] | None:
        """Return who is in the header."""
        name = conn.headers.get("x-user")
        if name is None:
            return None
        user = User() if name == "7" else SimpleUser(name)
        return AuthCredentials(), user


def test_the_authenticated_user(traced: Traced, inside: Build) -> None:
    """Who is authenticated within the application is known when it answers."""
    app = inside(AuthenticationMiddleware(answer, backend=Backend()))
    call(app, [(b"x-user", b"7")])
    call(app, [(b"x-user", b"alice")])
    call(app)
    assert server_consumers(traced) == ["user-7", "alice", None]


def test_the_user_that_was_authenticated_before(traced: Traced, either: Build) -> None:
    """By something around our middleware."""
    call(either(answer), user=SimpleUser("alice"))
    assert server_consumers(traced) == ["alice"]


def test_the_order(traced: Traced, either: Build) -> None:
    """Function, header, user."""
    answers = iter(["f", None, None, None])
    app = either(answer, consumer=lambda scope: next(answers), header="x-customer")
    header, user = [(b"x-customer", b"h")], SimpleUser("u")
    call(app, header, user=user)
    call(app, header, user=user)
    call(app, user=user)
    assert server_consumers(traced) == ["f", "h", "u"]


def test_what_the_application_says_stays(traced: Traced, either: Build) -> None:
    """It knows better than a header, and than a user that is found when it answers."""

    async def say(scope: Scope, receive: Receive, send: Send) -> None:
        set_consumer("said")
        await answer(scope, receive, send)

    call(either(say, header="x-customer"), [(b"x-customer", b"header")])
    call(either(AuthenticationMiddleware(say, backend=Backend())), [(b"x-user", b"alice")])
    assert server_consumers(traced) == ["said", "said"]


def test_nothing_reaches_the_next_request(traced: Traced, outside: Build) -> None:
    """Also where a request never begins a span, in the same task."""

    async def both() -> None:
        async def receive() -> Message:
            return {"type": "http.request"}

        async def send(message: Message) -> None:
            pass

        async def no_span(scope: Scope, receive: Receive, send: Send) -> None:
            pass

        headers = [(b"x-customer", b"acme")]
        first: Any = {"type": "http", "path": "/", "headers": headers}
        await ConsumerMiddleware(no_span, header="x-customer")(first, receive, send)
        with traced.tracer.start_as_current_span("next", kind=SpanKind.SERVER):
            pass

    asyncio.run(both())
    assert traced.consumers() == {}


def test_a_call_within_is_another_request(traced: Traced, outside: Build) -> None:
    """The first SERVER span takes the consumer; one of a call that it makes does not."""

    async def calling(scope: Scope, receive: Receive, send: Send) -> None:
        with traced.tracer.start_as_current_span("other", kind=SpanKind.SERVER, context=Context()):
            pass
        await answer(scope, receive, send)

    call(outside(calling, header="x-customer"), [(b"x-customer", b"acme")])
    assert traced.consumers() == {"GET /orders": "acme"}


def test_a_mounted_application(traced: Traced, inside: Build) -> None:
    """One that is instrumented itself, within another: the call is the outer one's."""

    async def say(scope: Scope, receive: Receive, send: Send) -> None:
        set_consumer("acme")
        await answer(scope, receive, send)

    mounted: Any = OpenTelemetryMiddleware(say, tracer_provider=traced.provider)
    call(inside(mounted, header="x-customer"), [(b"x-customer", b"outer")])
    assert server_consumers(traced) == ["acme"]
    assert traced.consumers() == {"GET /orders": "acme"}


def test_a_websocket(traced: Traced, either: Build) -> None:
    """Has a SERVER span and a consumer as well."""

    async def accept(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.close", "code": 1000})

    call(either(accept, header="x-customer"), [(b"x-customer", b"acme")], kind="websocket")
    assert server_consumers(traced) == ["acme"]


def test_what_is_no_request_goes_through(inside: Build) -> None:
    """Start and stop of the application."""
    seen = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope["type"])

    call(ConsumerMiddleware(app, header="x-customer"), kind="lifespan")
    assert seen == ["lifespan"]


def test_a_function_that_fails(
    traced: Traced, either: Build, caplog: pytest.LogCaptureFixture
) -> None:
    """The request is served; the log says so once."""

    def fail(scope: Scope) -> str:
        raise ValueError("k-secret")

    app = either(answer, consumer=fail)
    for _ in range(2):
        assert len(call(app)) == 2
    (record,) = caplog.records
    assert "ValueError" in record.getMessage()
    assert "k-secret" not in record.getMessage()


async def _fail_later(scope: Scope) -> str:
    raise KeyError("k-secret")


class BrokenUser(SimpleUser):
    """A user whose id cannot be read."""

    @property
    def identity(self) -> str:
        """Fail."""
        raise RuntimeError


@pytest.mark.parametrize(
    "consumer",
    [
        lambda scope: scope["k-secret"],
        _fail_later,
        lambda scope: 5.5,
        lambda scope: "unknown",
        lambda scope: Consumer("ghp_0123456789abcdefgh"),
    ],
    ids=["fails", "fails later", "another type", "nobody", "a secret without a hash key"],
)
def test_a_source_that_gives_nothing_hides_none(
    traced: Traced, either: Build, consumer: Callable[[Scope], Any]
) -> None:
    """Header and user are asked as if it were not there."""
    app = either(answer, consumer=consumer, header="x-customer")
    call(app, [(b"x-customer", b"h")], user=SimpleUser("u"))
    call(app, user=SimpleUser("u"))
    call(app, [(b"x-customer", b"h")], user=BrokenUser("u"))
    call(app, user=BrokenUser("u"))
    assert server_consumers(traced) == ["h", "u", "h", None]


def test_an_error_of_the_application_is_its_own(traced: Traced, either: Build) -> None:
    """It goes to whoever handles it, and the consumer is known."""

    async def fail(scope: Scope, receive: Receive, send: Send) -> None:
        raise LookupError

    with pytest.raises(LookupError):
        call(either(fail, header="x-customer"), [(b"x-customer", b"acme")])
    assert server_consumers(traced) == ["acme"]
