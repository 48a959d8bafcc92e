# SPDX-License-Identifier: Apache-2.0
"""The OpenAPI document is complete, and what it says is what a running service does."""

from __future__ import annotations

import functools
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

import jsonschema_rs
import pytest

from otel_apinalytics.local_service import find_service
from otel_apinalytics.receiver.sealing import local_admin_key_of
from tests.support.clients import (
    ADMIN_HEADERS,
    ADMIN_KEY,
    APPLICATION,
    FAR_FUTURE,
    READ_HEADERS,
    READ_KEY,
    WRITE_HEADERS,
    WRITE_KEY,
    Client,
)
from tests.support.otlp import make_request, make_span
from tests.support.service_process import service_process
from tests.support.waiting import wait_for

EVENTS = 40
EXAMPLES = 10
# Random ranges end before they begin, and an empty parameter means its default.
_NOT_CHECKED = "positive_data_acceptance,negative_data_rejection"
_HEADERS = {"query": READ_HEADERS, "account": READ_HEADERS, "administration": ADMIN_HEADERS}
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
# What GET gives: of what was sent and what became of it; and beside it.
COUNTED = {
    "/1/timeseries/{start}/{end}/", "/1/events/{start}/{end}/", "/1/values/{field}/",
    "/1/ledger/{start}/{end}/", "/1/rejected/", "/1/audit/{start}/{end}/",
}  # fmt: skip
NOT_COUNTED = {
    "/1/fields/", "/1/status/", "/1/applications/", "/1/applications/{application}/",
    "/1/applications/{application}/hash-key/", "/1/keys/", "/1/keys/{key_id}/", "/1/retention/",
    "/1/erase/{erasure}/", "/1/backup/",
}  # fmt: skip
HOSTILE = [
    "'", '"', "\\", "%", "%s", "%(application)s", "{a:String}", "\0", "?", "') OR 1=1 --",
    "'; DROP TABLE events; --", "*/ /*", "`", "é€😀", "\r\nX: y", "a" * 5000, "{local}", "..",
    "/", "\u0661", "1e999", "1) UNION ALL SELECT 1 --", "consumer_id:') OR 1=1 --",
    "attributes.') OR 1=1 --", "metrics.'", "9" * 400,
]  # fmt: skip


class Operation(NamedTuple):
    """A method on a path, as it is documented."""

    path: str
    method: str
    described: dict[str, Any]

    @property
    def tag(self) -> str:
        """What it belongs to."""
        (tag,) = self.described["tags"]
        return str(tag)

    def url(self, **texts: str) -> str:
        """Return its path, with a range of time that has all events, or these texts."""
        bounds = {"start": "0", "end": str(FAR_FUTURE), **texts}
        return self.path.format_map(_Texts(bounds))


class _Texts(dict[str, str]):
    def __missing__(self, name: str) -> str:
        # Of other parameters of paths: a field.
        return {"application": APPLICATION, "key_id": "unknown"}.get(name, "consumer_id")


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """Run a service with a few events, some of them sampled, and dead letters."""
    with service_process(tmp_path_factory.mktemp("api") / "data") as service:
        now = time.time()
        events = [
            {"timestamp": now - n * 60, "consumer_id": f"c{n % 5}", "weight": 1 + n % 2,
             "response_us": 1000 * n, "metrics": {"tokens": n / 3}, "attributes": {"plan": "free"}}
            for n in range(EVENTS)
        ]  # fmt: skip
        assert service.client.post_events(events)[0] == 200
        wrong = make_span(start_ns=4 * 10**18)
        service.client.export(make_request(wrong))
        wait_for(lambda: len(service.client.raw_events()), until=lambda found: found == EVENTS)
        rejected = "/1/rejected/"
        wait_for(lambda: service.client.request("GET", rejected, None, READ_HEADERS)[1]["rejected"])
        yield service.client


@pytest.fixture(scope="module")
def document(api: Client) -> dict[str, Any]:
    """Return the document."""
    status, found, _ = api.request("GET", "/openapi.json")
    assert status == 200
    document: dict[str, Any] = found
    return document


@pytest.fixture(scope="module")
def operations(document: dict[str, Any]) -> list[Operation]:
    """Return all operations."""
    return [
        Operation(path, method, described)
        for path, methods in document["paths"].items()
        for method, described in methods.items()
    ]


@pytest.mark.parametrize(
    ("key", "tags"),
    [
        (READ_KEY, ("query", "account")),
        (WRITE_KEY, ("ingest",)),
        (ADMIN_KEY, ("account", "health")),
    ],
)
def test_what_is_generated_from_the_document(
    api: Client, tmp_path: Path, key: str, tags: tuple[str, ...]
) -> None:
    """No answer is undocumented: not its status, its type, its shape; and none is a 5xx of ours."""
    assert_documented(api, tmp_path, key, tags)


def test_what_is_generated_for_whoever_administers(tmp_path: Path) -> None:
    """As above, in a service of its own, with the one key that cannot be revoked."""
    data_dir = tmp_path / "data"
    with service_process(data_dir) as service:
        found = find_service(data_dir)
        assert found is not None
        key = local_admin_key_of((data_dir / "secret.key").read_bytes(), found.number)
        assert_documented(service.client, tmp_path, key, ("administration",))
        assert service.client.request("GET", "/1/keys/", None, {"X-Auth-Key": key})[0] == 200


def assert_documented(api: Client, tmp_path: Path, key: str, tags: tuple[str, ...]) -> None:
    """Ask what is generated from the document, with a key."""
    pytest.importorskip("schemathesis", reason="it is for Python 3.11 and later")
    command = [
        str(Path(sys.executable).with_name("schemathesis")),
        "run",
        f"http://{api.http}/openapi.json",
        *("--header", f"X-Auth-Key: {key}"),
        *(option for tag in tags for option in ("--include-tag", tag)),
        *("--exclude-checks", _NOT_CHECKED),
        *("--phases", "examples,coverage,fuzzing"),
        *("--max-examples", str(EXAMPLES)),
        "--no-color",
    ]
    found = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout
    assert api.request("GET", "/health/ready")[0] == 200


def test_the_routes_are_there(document: dict[str, Any]) -> None:
    """Also those of the hot path, which the framework knows nothing of."""
    assert {
        "/v1/traces", "/1/event/", "/1/timeseries/{start}/{end}/", "/1/events/{start}/{end}/",
        "/1/fields/", "/1/status/", "/1/ledger/{start}/{end}/", "/1/rejected/", "/1/backup/",
        "/1/applications/", "/1/applications/{application}/", "/1/keys/", "/1/keys/{key_id}/",
        "/health/live", "/health/ready", "/metrics",
    } <= set(document["paths"])  # fmt: skip
    assert "HTTPValidationError" not in document["components"]["schemas"]


def test_each_operation_is_described(operations: list[Operation]) -> None:
    """Its parameters, its answers, the keys that it needs, and its errors."""
    for operation in operations:
        described = operation.described
        assert described["description"], operation.path
        assert all(each["description"] for each in described.get("parameters", ()))
        assert "422" not in described["responses"]
        success = min(described["responses"])
        assert success.startswith("2")
        (content, *_) = described["responses"][success]["content"].values()
        assert content, operation.path
        is_keyed = operation.tag != "health"
        assert ("security" in described) == is_keyed
        assert ({"400", "401", "403", "503"} <= described["responses"].keys()) == is_keyed


def test_examples_are_of_their_schemas(
    document: dict[str, Any], operations: list[Operation]
) -> None:
    """Those of schemas, and those of answers."""
    examples = [
        (schema, example)
        for schema in document["components"]["schemas"].values()
        for example in schema.get("examples", ())
    ]
    for operation in operations:
        for answer in operation.described["responses"].values():
            contents = answer.get("content", {}).values()
            examples += [
                (each["schema"], each["example"]) for each in contents if "example" in each
            ]
    assert len(examples) > 10
    for schema, example in examples:
        check(document, schema, example)


@pytest.mark.parametrize(
    ("path", "parameters", "keys"),
    [
        ("timeseries/0/now/", {}, {"groups", "sampled"}),
        ("timeseries/0/now/", {"group": "consumer_id", "limit": "2", "fill": "null",
                               "granularity": "month"}, {"groups", "other"}),
        ("timeseries/0/now/", {"format": "series", "group": "consumer_id", "limit": "2"},
         {"series", "other"}),
        ("timeseries/-1h/now/", {"format": "series", "aggregation": "p99.9",
                                 "granularity": "minute"}, {"series"}),
        ("timeseries/-1h/now/", {"value": "metrics.tokens", "aggregation": "mean"}, {"groups"}),
        ("fields/", {}, {"fields"}),
        ("status/", {}, {"outcomes"}),
        ("ledger/0/now/", {}, {"rows"}),
        ("rejected/", {}, {"rejected"}),
    ],
)  # fmt: skip
def test_answers_are_of_their_schemas(
    api: Client, document: dict[str, Any], path: str, parameters: dict[str, str], keys: set[str]
) -> None:
    """Those with something in them."""
    template = path.replace("0/now", "{start}/{end}").replace("-1h/now", "{start}/{end}")
    answers = document["paths"][f"/1/{template}"]["get"]["responses"]["200"]
    status, body, _ = api.request("GET", f"/1/{path}?{urlencode(parameters)}", None, READ_HEADERS)
    assert status == 200
    assert all(body[key] for key in keys), body
    check(document, answers["content"]["application/json"]["schema"], body)


def test_no_text_in_any_parameter_is_run(api: Client, operations: list[Operation]) -> None:
    """It is answered, or refused with the parameter's name; afterwards all is as before."""
    asked = 0
    for operation in operations:
        if operation.method != "get" or operation.tag not in ("query", "account"):
            continue
        for parameter in operation.described.get("parameters", ()):
            for text in HOSTILE:
                assert_answered(api, operation, parameter, text)
                asked += 1
    assert asked > 10 * len(HOSTILE)
    assert len(api.raw_events()) >= EVENTS


def assert_answered(
    api: Client, operation: Operation, parameter: dict[str, Any], text: str
) -> None:
    """Send a text in one parameter."""
    name = parameter["name"]
    if parameter["in"] == "path":
        path = operation.url(**{name: quote(text, safe="")})
    else:
        path = f"{operation.url()}?{urlencode({name: text})}"
    status, body, headers = api.request("GET", path, None, READ_HEADERS)
    where = (path, status, body)
    if status == 200:
        assert (
            headers["content-type"].split(";")[0]
            in operation.described["responses"]["200"]["content"]
        ), where
        return
    # A slash, dots or a line's end make another path.
    makes_path = parameter["in"] == "path" and text in ("/", "..", "*/ /*", "\r\nX: y")
    assert status == 400 or (makes_path and status in (404, 405)), where
    error = body["error"]
    assert set(error) == {"code", "message", "parameter", "value", "allowed"}, where
    assert len(error["value"] or "") <= 201
    if status == 400:
        assert error["code"] == "invalid_request"
        assert error["parameter"] == name, where


def test_a_key_is_needed(api: Client, operations: list[Operation]) -> None:
    """Without one, with an unknown one, of another application, of another scope."""
    for operation in operations:
        if operation.tag == "health":
            continue
        method, url = operation.method.upper(), operation.url()
        for headers in (
            {},
            {"X-Auth-Key": "unknown"},
            {"Authorization": "Bearer unknown"},
            {"Authorization": f"Basic {READ_KEY}"},
            {"X-Auth-User": "another", "X-Auth-Key": READ_KEY},
        ):
            status, _, answered = api.request(method, url, None, headers)
            assert (status, answered["WWW-Authenticate"]) == (401, "Bearer"), url
        wrong = READ_HEADERS if operation.tag in ("ingest", "administration") else WRITE_HEADERS
        assert api.request(method, url, None, wrong)[0] == 403, url
    bearer = {"Authorization": f"bearer {READ_KEY}"}
    assert api.request("GET", "/1/fields/", None, bearer)[0] == 200


def test_unknown_parameters_change_nothing(api: Client, operations: list[Operation]) -> None:
    """Whoever administers is told: nothing is done that was meant otherwise."""
    administering = [each for each in operations if each.tag == "administration"]
    assert len(administering) > 10
    for operation in administering:
        for url in {operation.url(), operation.url().rstrip("/")}:
            status, body, _ = api.request(
                operation.method.upper(), f"{url}?dry_run=true", b"{}", ADMIN_HEADERS
            )
            assert status == 400, (operation.method, url, body)
            assert body["error"]["parameter"] == "dry_run", (operation.method, url)


def test_rows_of_answers_are_counted(api: Client, operations: list[Operation]) -> None:
    """In the audit, for each question that gives what was sent, or what is known of it."""
    asked = [each for each in operations if each.method == "get" and each.tag != "health"]
    assert {each.path for each in asked} == COUNTED | NOT_COUNTED
    for operation in (each for each in asked if each.path in COUNTED):
        url = operation.url()
        headers, began_s = _HEADERS[operation.tag], time.time()
        assert api.request("GET", url, None, headers)[0] == 200
        # Of the audit, the answers in which there was nothing yet are found as well.
        wait_for(functools.partial(rows_of_answers, api, operation.path, began_s), until=any)


def rows_of_answers(api: Client, path: str, since_s: float) -> list[int | None]:
    """Return how many rows the audit says that answers had since then."""
    audit = f"/1/audit/{since_s:.6f}/now/?action=read&limit=10000"
    entries = api.request("GET", audit, None, ADMIN_HEADERS)[1]["entries"]
    routes = (entry["route"].replace(":path", "") for entry in entries)
    return [
        entry["rows"]
        for route, entry in zip(routes, entries, strict=True)
        if (route, entry["status"]) == (path, 200)
    ]


def test_other_methods_are_refused(api: Client, operations: list[Operation]) -> None:
    """With those that there are; HEAD goes with GET where it costs nothing."""
    for operation in operations:
        url = operation.url()
        known = {each.method.upper() for each in operations if each.path == operation.path}
        for method in _METHODS:
            if method in known:
                continue
            status, _, headers = api.request(method, url, None, READ_HEADERS)
            if method == "HEAD" and operation.tag == "health":
                assert status == 200, url
                continue
            assert status == 405, (method, url)
            assert operation.method.upper() in headers["Allow"].split(", ")
            assert method not in headers["Allow"].split(", ")
    status, body, headers = api.request("PUT", "/")
    assert (status, headers["Allow"]) == (405, "GET, HEAD, POST")
    assert body["error"]["code"] == "method_not_allowed"


@pytest.mark.parametrize(
    "path",
    [
        "/nothing", "/1/", "/1/timeseries/", "/1/timeseries/0/", "/1/timeseries/0/now/x/",
        "/1/timeseries/%2F/now/", "//1/fields/", "/1/fields//", "/%00", "/%ED%A0%80",
        "/" + "x" * 5000, "/docs/", "/docs/..%2fpyproject.toml", "/docs/__init__.py",
    ],
)  # fmt: skip
def test_a_path_that_there_is_not(api: Client, path: str) -> None:
    """One envelope, and no more of the path than can be read."""
    status, body, _ = api.request("GET", path, None, READ_HEADERS)
    assert status == 404
    assert body["error"]["code"] == "not_found"
    assert len(body["error"]["message"]) < 300


def test_the_last_slash_may_be_left_out(api: Client, operations: list[Operation]) -> None:
    """As clients of 2014 do."""
    for operation in operations:
        if operation.path.startswith("/1/") and operation.method == "get":
            url = operation.url().removesuffix("/")
            headers = _HEADERS[operation.tag]
            status, body, _ = api.request("GET", url, None, headers)
            # What the path names may be unknown; the path is not.
            is_unknown = status == 404 and "nothing at" not in body["error"]["message"]
            assert status == 200 or is_unknown, url


@pytest.mark.parametrize("host", ["[", "a b", "x" * 5000, "é", ""])
def test_a_host_that_is_none(api: Client, host: str) -> None:
    """What proxies and strangers send there is of no account."""
    headers = {**READ_HEADERS, "Host": host.encode("latin-1").decode("latin-1")}
    assert api.request("GET", "/1/fields/", None, headers)[0] == 200
    assert api.request("GET", "/nothing", None, headers)[0] == 404


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ("limit=1&limit=1", "limit"),
        ("granularity=hour&granularity=", "granularity"),
        ("x=1", "x"),
        ("%ED%A0%80=%ED%BF%BF", "\ufffd\ufffd\ufffd"),
        ("tz=" + "x" * 60_000, "tz"),
        ("limit=" + "9" * 60_000, "limit"),
        ("x" * 60_000 + "=1", "x" * 200 + "…"),
        ("&".join(f"include=consumer_id:{n}" for n in range(600)), "include"),
    ],
)
def test_a_wrong_parameter_is_named(api: Client, query: str, parameter: str) -> None:
    """And what was sent is shown as far as people read."""
    url = f"/1/timeseries/0/now/?{query}"
    status, body, _ = api.request("GET", url, None, READ_HEADERS)
    assert (status, body["error"]["parameter"]) == (400, parameter)
    assert body["error"]["allowed"]
    assert len(body["error"]["message"]) <= 1001
    assert len(body["error"]["value"]) <= 201


def test_errors_of_events_have_the_envelope(api: Client) -> None:
    """Their routes are not of the framework that answers the others."""
    event = {"timestamp": 1, "consumer_id": "x" * 2000}
    status, body = api.post_events([event])
    assert status == 400
    assert set(body["error"]) == {"code", "message", "parameter", "value", "allowed", "index"}
    assert body["error"]["index"] == 0
    for sent in (b"\xff", b'[{"timestamp": 1, "url": "\\ud800"}]', b"[" * 10_000, b""):
        status, body, _ = api.request("POST", "/1/event/", sent, WRITE_HEADERS)
        assert (status, body["error"]["code"]) == (400, "invalid_request")


def test_another_application_is_named_in_vain(api: Client) -> None:
    """Nothing of a question tells whose data is asked."""
    _, body, _ = api.request("GET", "/1/timeseries/0/now/", None, {"X-Auth-Key": READ_KEY})
    assert list(body["groups"]) == [APPLICATION]
    url = "/1/timeseries/0/now/?include=application:other"
    assert api.request("GET", url, None, READ_HEADERS)[0] == 400


def check(document: dict[str, Any], schema: dict[str, Any], instance: Any) -> None:
    """Fail unless an instance is of a schema of the document."""
    complete = {**schema, "components": document["components"]}
    jsonschema_rs.validator_for(complete).validate(instance)


def test_the_document_is_one_of_its_version(document: dict[str, Any]) -> None:
    """Each reference leads somewhere; the schemas are schemas."""
    assert document["openapi"].startswith("3.1.")
    schemas = document["components"]["schemas"]
    references = set(_references(document))
    assert len(references) > 10
    assert references <= {f"#/components/schemas/{name}" for name in schemas}
    for schema in schemas.values():
        assert jsonschema_rs.meta.is_valid(schema)
    for name in ("DeadLetter", "SentEvent", "Error"):
        assert schemas[name]["additionalProperties"] is False or name == "Error"


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        value = list(value.values())
    if isinstance(value, list):
        for each in value:
            yield from _references(each)
