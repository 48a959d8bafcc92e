# SPDX-License-Identifier: Apache-2.0
"""A client of a running service, for the command line: what went wrong is one line for people."""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import urlencode

import urllib3
from urllib3.exceptions import (
    HTTPError,
    LocationParseError,
    LocationValueError,
    NewConnectionError,
    ReadTimeoutError,
    SSLError,
)

from otel_apinalytics.errors import ClientError

_CONNECT_S = 10.0
# Before its answer begins, the service may have much to do.
_READ_S = 120.0
_JSON = "application/json"
# Of an answer that is no answer of a service.
_MAX_WORDS_BYTES = 10_000
Parameters = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Server:
    """A service, and how to be let in.

    Args:
        url: Its HTTP listener: scheme, host and port.
        key: A key.
        scope: What the key is for, in words: `read`, `admin`.
        ca_file: PEM with the CA of its certificate; None for those that this machine trusts.
        client_certificate_file: PEM with a certificate of the client, or None.
        client_key_file: PEM with its private key, or None.
    """

    url: str
    key: str = field(repr=False)
    scope: str
    ca_file: Path | None = None
    client_certificate_file: Path | None = None
    client_key_file: Path | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What a service answers, whatever it says.

    Args:
        status: Its status.
        headers: Its headers; names in any case.
        content: Its body.
    """

    status: int
    headers: Mapping[str, str]
    content: bytes

    def json(self) -> Any:
        """Return the body as JSON; None if it is none."""
        try:
            return json.loads(self.content)
        except ValueError:
            return None


class Client:
    """Asks one service. To be used as a context; not by several threads at once.

    Args:
        server: The service.

    Raises:
        ClientError: A file of TLS cannot be used.
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        self._url = server.url.rstrip("/")
        self._pool = _pool(server)

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._pool.clear()

    def get(self, path: str, parameters: Parameters = ()) -> Any:
        """Return the JSON at a path.

        Raises:
            ClientError: The service cannot be asked, or refuses.
        """
        return self._ask("GET", path, parameters)

    def post(self, path: str, body: Any) -> Any:
        """Send JSON, and return the JSON of the answer; None where there is none.

        Raises:
            ClientError: As for `get`.
        """
        return self._ask("POST", path, body=json.dumps(body).encode())

    def put(self, path: str, body: Any) -> Any:
        """As `post`, with PUT.

        Raises:
            ClientError: As for `get`.
        """
        return self._ask("PUT", path, body=json.dumps(body).encode())

    def patch(self, path: str, body: Any) -> Any:
        """As `post`, with PATCH.

        Raises:
            ClientError: As for `get`.
        """
        return self._ask("PATCH", path, body=json.dumps(body).encode())

    def delete(self, path: str) -> Any:
        """Delete what is at a path, and return the JSON of the answer; None where there is none.

        Raises:
            ClientError: As for `get`.
        """
        return self._ask("DELETE", path)

    def exchange(
        self, method: str, path: str, body: bytes | None = None, media_type: str = _JSON
    ) -> Answer:
        """Send a request, and return what is answered, also if it is a refusal.

        Raises:
            ClientError: There is no answer, or not all of it comes.
        """
        with self._request(method, path, (), body, media_type) as answer:
            try:
                content = answer.read()
            except HTTPError as error:
                raise self.interrupted(error) from error
            return Answer(answer.status, answer.headers, content)

    @contextmanager
    def stream(
        self, path: str, media_type: str | None = None, parameters: Parameters = ()
    ) -> Iterator[urllib3.BaseHTTPResponse]:
        """Give an answer to be read as it comes.

        Its reader raises HTTPError if it is cut off; `interrupted` says so in words.

        Args:
            path: What to ask for.
            media_type: What the answer must be; None for anything.
            parameters: Names and values of the query string.

        Raises:
            ClientError: The service cannot be asked, or refuses.
        """
        with self._request("GET", path, parameters) as answer:
            if answer.status != 200 or media_type not in (None, _media_type(answer)):
                raise self._refusal(answer)
            yield answer

    def interrupted(self, error: HTTPError) -> ClientError:
        """Return the error of an answer that did not come to its end."""
        is_late = isinstance(error, ReadTimeoutError)
        what = f"stopped for {_READ_S:g} s" if is_late else "was cut off"
        return ClientError(f"the answer of {self._server.url} {what}")

    def _ask(
        self, method: str, path: str, parameters: Parameters = (), body: bytes | None = None
    ) -> Any:
        with self._request(method, path, parameters, body) as answer:
            if not 200 <= answer.status < 300:
                raise self._refusal(answer)
            try:
                content = answer.read()
            except HTTPError as error:
                raise self.interrupted(error) from error
            if not content:
                return None
            try:
                return json.loads(content)
            except ValueError as error:
                raise self._no_service(answer) from error

    def _request(
        self,
        method: str,
        path: str,
        parameters: Parameters = (),
        body: bytes | None = None,
        media_type: str = _JSON,
    ) -> urllib3.BaseHTTPResponse:
        # What is no text in the shell's encoding is for the service to refuse.
        query = f"?{urlencode(parameters, errors='surrogateescape')}" if parameters else ""
        headers = {"X-Auth-Key": self._server.key}
        if body is not None:
            headers["Content-Type"] = media_type
        try:
            return self._pool.request(
                method,
                f"{self._url}{path}{query}",
                body=body,
                headers=headers,
                preload_content=False,
                redirect=False,
            )
        except (HTTPError, ValueError) as error:
            raise ClientError(_why_not(self._server, error)) from error

    def _refusal(self, answer: urllib3.BaseHTTPResponse) -> ClientError:
        """Return what the service says, in its envelope."""
        try:
            problem = json.loads(answer.read(_MAX_WORDS_BYTES))["error"]
            words = _in_full(problem)
        except (HTTPError, ValueError, LookupError, TypeError):
            return self._no_service(answer)
        return ClientError(f"{self._server.url} refuses: {words}", answer.status)

    def _no_service(self, answer: urllib3.BaseHTTPResponse) -> ClientError:
        said = f"{self._server.url} answers with {answer.status}, and is no apinalytics service"
        return ClientError(said, answer.status)


def _in_full(problem: Mapping[str, Any]) -> str:
    """Return an error's message, with what was sent and what is allowed."""
    words = [str(problem["message"])]
    if problem.get("value"):
        words.append(f": {problem['value']}")
    if problem.get("allowed"):
        words.append(f"; allowed: {problem['allowed']}")
    # One line, whatever was sent.
    return " ".join("".join(words).split())


def _media_type(answer: urllib3.BaseHTTPResponse) -> str:
    return str(answer.headers.get("content-type", "")).partition(";")[0]


def _pool(server: Server) -> urllib3.PoolManager:
    try:
        context = ssl.create_default_context(cafile=server.ca_file)
        if server.client_certificate_file is not None:
            context.load_cert_chain(server.client_certificate_file, server.client_key_file)
    except OSError as error:
        files = (server.ca_file, server.client_certificate_file, server.client_key_file)
        named = ", ".join(str(file) for file in files if file)
        raise ClientError(f"cannot use {named}: {_in_words(error)}") from error
    timeout = urllib3.Timeout(connect=_CONNECT_S, read=_READ_S)
    return urllib3.PoolManager(retries=False, timeout=timeout, ssl_context=context)


def _why_not(server: Server, error: Exception) -> str:
    if isinstance(error, SSLError):
        cause = error.args[0]
        is_unknown = isinstance(cause, ssl.SSLCertVerificationError)
        advice = "a private CA is named by --ca-file" if is_unknown else "is it http?"
        return f"TLS with {server.url} failed: {_in_words(cause)}; {advice}"
    if isinstance(error, NewConnectionError):
        return f"no service answers at {server.url}: {_in_words(error.__cause__)}"
    if isinstance(error, LocationValueError | LocationParseError):
        return f"not the URL of a service: {server.url}"
    if isinstance(error, ReadTimeoutError):
        return f"{server.url} did not answer within {_READ_S:g} s"
    if not isinstance(error, HTTPError):
        return f"the {server.scope} key has characters that no key has"
    return (
        f"{server.url} does not answer as a service does: is it the HTTP port, is it https, "
        "does it want a client certificate?"
    )


def _in_words(error: object) -> str:
    """Return an error of TLS or of the system, without where it is in a program."""
    for name in ("verify_message", "reason", "strerror"):
        if text := getattr(error, name, None):
            return str(text)
    return str(error)
