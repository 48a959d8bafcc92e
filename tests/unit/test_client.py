# SPDX-License-Identifier: Apache-2.0
"""Tests of the command line's client, against servers that are none of ours, or fail."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from urllib3.exceptions import HTTPError

from otel_apinalytics.client import Client, Server
from otel_apinalytics.errors import ClientError

KEY = "secret-key"
_ENVELOPE = {"error": {"code": "x", "message": "two\nlines", "value": "1\r2", "allowed": "3, 4"}}
# Path → status, content type, body, and the length that is promised.
ANSWERS: dict[str, tuple[int, str, bytes, int | None]] = {
    "/json": (200, "application/json", b'{"a": 1}', None),
    "/none": (204, "text/plain", b"", None),
    "/html": (200, "text/html", b"<html>", None),
    "/moved": (302, "text/plain", b"", None),
    "/wrong": (400, "application/json", json.dumps(_ENVELOPE).encode(), None),
    "/other": (418, "application/json", b'{"error": "teapot"}', None),
    "/late": (503, "application/json", b'{"error": {"message": "busy"}}', None),
    "/cut": (200, "application/json", b'{"a"', 100),
}


class _Handler(BaseHTTPRequestHandler):
    def _answer(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/silent":
            return
        if path == "/echo":
            sent = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
            seen = [self.command, self.path, sent, self.headers["X-Auth-Key"]]
            status, kind, body = 200, "application/json", json.dumps(seen).encode()
            length = None
        else:
            status, kind, body, length = ANSWERS[path]
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.send_header("Location", "/json")
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_DELETE = _answer

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """Run a server with these answers."""
    with ThreadingHTTPServer(("localhost", 0), _Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://localhost:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def client(url: str) -> Iterator[Client]:
    """Return a client of it."""
    with Client(Server(url, KEY, "read")) as client:
        yield client


def test_requests(client: Client) -> None:
    """Method, query, body and key arrive; what comes back is parsed."""
    assert client.get("/json") == {"a": 1}
    assert client.get("/echo", [("a", "ü&"), ("a", "")]) == ["GET", "/echo?a=%C3%BC%26&a=", "", KEY]
    assert client.post("/echo", {"a": [1]}) == ["POST", "/echo", '{"a": [1]}', KEY]
    assert client.delete("/echo") == ["DELETE", "/echo", "", KEY]
    assert client.delete("/none") is None


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("/html", 200, "answers with 200, and is no apinalytics service"),
        ("/moved", 302, "answers with 302, and is no apinalytics service"),
        ("/other", 418, "answers with 418, and is no apinalytics service"),
        ("/wrong", 400, "refuses: two lines: 1 2; allowed: 3, 4"),
        ("/late", 503, "refuses: busy"),
        ("/cut", None, "was cut off"),
        ("/silent", None, "does not answer as a service does"),
    ],
)
def test_errors_are_one_line(
    client: Client, url: str, path: str, status: int | None, words: str
) -> None:
    """With the status, the words of the service, and never the key."""
    with pytest.raises(ClientError) as caught:
        client.get(path)
    assert caught.value.status == status
    assert words in str(caught.value)
    assert url in str(caught.value)
    assert "\n" not in str(caught.value)
    assert KEY not in str(caught.value)


def test_a_stream(client: Client) -> None:
    """It must be of the type that is asked for; if it is cut off, its reader knows."""
    with client.stream("/json", "application/json") as answer:
        assert answer.read() == b'{"a": 1}'
    with pytest.raises(ClientError, match="no apinalytics service"), client.stream("/html", "x/y"):
        pass
    with client.stream("/cut") as answer, pytest.raises(HTTPError) as caught:
        answer.read()
    assert "was cut off" in str(client.interrupted(caught.value))


@pytest.mark.parametrize("wrong", ["http://", "http://[", "http://localhost:99999", "ftp://x"])
def test_what_is_no_url(wrong: str) -> None:
    """Is said, also what no library takes for one."""
    with (
        Client(Server(wrong, KEY, "read")) as client,
        pytest.raises(ClientError, match="not the URL of a service"),
    ):
        client.get("/json")


def test_the_key_is_not_shown() -> None:
    """Whoever prints it."""
    assert KEY not in repr(Server("http://localhost", KEY, "read"))
