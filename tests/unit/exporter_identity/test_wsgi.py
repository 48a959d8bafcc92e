# SPDX-License-Identifier: Apache-2.0
"""The WSGI middleware, inside and outside of the instrumentation that makes the SERVER span."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any
from wsgiref.util import setup_testing_defaults

import flask
import pytest
from opentelemetry.instrumentation.flask import FlaskInstrumentor
from opentelemetry.instrumentation.wsgi import OpenTelemetryMiddleware
from opentelemetry.trace import SpanKind

from otel_apinalytics.exporter.consumers import Consumer
from otel_apinalytics.exporter.hashing import consumer_of_key
from otel_apinalytics.exporter.identity import set_consumer
from otel_apinalytics.exporter.wsgi import Environ, StartResponse, WSGIConsumerMiddleware
from tests.unit.exporter_identity.conftest import Traced

Build = Callable[..., Any]


@pytest.fixture(params=["inside", "outside"])
def build(
    request: pytest.FixtureRequest, traced: Traced, use_provider: Callable[[Traced], None]
) -> Build:
    """Give a function that builds an application with our middleware at either place."""
    use_provider(traced)

    def inside(app: Any, **options: Any) -> Any:
        ours = WSGIConsumerMiddleware(app, **options)
        return OpenTelemetryMiddleware(ours, tracer_provider=traced.provider)

    def outside(app: Any, **options: Any) -> Any:
        instrumented = OpenTelemetryMiddleware(app, tracer_provider=traced.provider)
        return WSGIConsumerMiddleware(instrumented, **options)

    return inside if request.param == "inside" else outside


def answer(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """Answer each request with a word."""
    start_response("200 OK", [])
    return [b"done"]


def call(app: Any, **environ: Any) -> bytes:
    """Make a request and return the answer's body."""
    setup_testing_defaults(environ)
    body = app(environ, lambda *arguments: lambda data: None)
    try:
        return b"".join(body)
    finally:
        if hasattr(body, "close"):
            body.close()


def server_consumers(traced: Traced) -> list[Any]:
    """Return the consumer of each SERVER span, None where there is none."""
    spans = [s for s in traced.memory.get_finished_spans() if s.kind is SpanKind.SERVER]
    return [(span.attributes or {}).get("apinalytics.consumer.id") for span in spans]


def test_a_header(traced: Traced, build: Build) -> None:
    """The answer is what it would be, and one request's consumer is not the next one's."""
    app = build(answer, header="X-Customer")
    assert call(app, HTTP_X_CUSTOMER="acme") == b"done"
    call(app, HTTP_X_OTHER="acme")
    call(app, HTTP_X_CUSTOMER="")
    assert server_consumers(traced) == ["acme", None, None]


def test_a_header_with_a_secret(traced: Traced, build: Build, with_hash_key: bytes) -> None:
    """Is hashed."""
    call(build(answer, header="X-API-Key"), HTTP_X_API_KEY="k-secret")
    call(build(answer, header="X-Partner", secret=True), HTTP_X_PARTNER="p-1")
    assert server_consumers(traced) == [consumer_of_key("k-secret"), consumer_of_key("p-1")]


def test_without_a_hash_key_no_secret_is_sent(traced: Traced, build: Build) -> None:
    """Nobody is known then."""
    call(build(answer, header="X-API-Key"), HTTP_X_API_KEY="k-secret")
    assert server_consumers(traced) == [None]


def test_a_function_a_header_and_a_user(traced: Traced, build: Build) -> None:
    """In this order; the user is the one that the server has authenticated."""
    answers = iter([Consumer("f", plan="gold"), None, None])
    app = build(answer, consumer=lambda environ: next(answers), header="X-Customer")
    call(app, HTTP_X_CUSTOMER="h", REMOTE_USER="u")
    call(app, HTTP_X_CUSTOMER="h", REMOTE_USER="u")
    call(app, REMOTE_USER="u")
    assert server_consumers(traced) == ["f", "h", "u"]


@pytest.mark.parametrize(
    "consumer",
    [lambda environ: environ["k-secret"], lambda environ: 5.5, lambda environ: "-"],
    ids=["fails", "another type", "nobody"],
)
def test_a_source_that_gives_nothing_hides_none(
    traced: Traced, build: Build, consumer: Callable[[Environ], Any]
) -> None:
    """Header and user are asked as if it were not there."""
    app = build(answer, consumer=consumer, header="X-Customer")
    call(app, HTTP_X_CUSTOMER="h", REMOTE_USER="u")
    call(app, REMOTE_USER="u")
    assert server_consumers(traced) == ["h", "u"]


def test_what_the_application_says_stays(traced: Traced, build: Build) -> None:
    """It knows better."""

    def say(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        set_consumer("said")
        return answer(environ, start_response)

    call(build(say, header="X-Customer"), HTTP_X_CUSTOMER="header")
    assert server_consumers(traced) == ["said"]


def test_a_user_that_is_authenticated_within(traced: Traced, build: Build) -> None:
    """Is known when the application answers."""

    def authenticating(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        environ["REMOTE_USER"] = "alice"
        return answer(environ, start_response)

    call(build(authenticating))
    assert server_consumers(traced) == ["alice"]


def test_an_error_of_the_application_is_its_own(traced: Traced, build: Build) -> None:
    """It goes to the server, and the consumer is known."""

    def fail(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        raise LookupError

    with pytest.raises(LookupError):
        call(build(fail, header="X-Customer"), HTTP_X_CUSTOMER="acme")
    assert server_consumers(traced) == ["acme"]


def test_nothing_reaches_the_next_request_of_the_thread(
    traced: Traced, use_provider: Callable[[Traced], None]
) -> None:
    """Where a request never began a span."""
    use_provider(traced)
    call(WSGIConsumerMiddleware(answer, header="X-Customer"), HTTP_X_CUSTOMER="acme")
    with traced.tracer.start_as_current_span("next", kind=SpanKind.SERVER):
        pass
    assert traced.consumers() == {}


def test_flask_begins_its_span_within(
    traced: Traced, use_provider: Callable[[Traced], None]
) -> None:
    """Its instrumentation makes the SERVER span before the view, not around the application."""
    use_provider(traced)
    app = flask.Flask("shop")
    app.add_url_rule("/", view_func=lambda: "done")

    @app.before_request
    def authenticate() -> None:
        flask.request.environ["shop.account"] = "found within"

    instrument: Any = FlaskInstrumentor.instrument_app
    instrument(app, tracer_provider=traced.provider)
    wrapped = WSGIConsumerMiddleware(
        app.wsgi_app, header="X-Customer", consumer=lambda environ: environ.get("shop.account")
    )
    call(wrapped, HTTP_X_CUSTOMER="acme")
    call(wrapped)
    assert server_consumers(traced) == ["acme", "found within"]
