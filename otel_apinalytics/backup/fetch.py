# SPDX-License-Identifier: Apache-2.0
"""Asks a running service for a backup; it gets its name when it is whole and durable."""

from __future__ import annotations

import json
import os
import shutil
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import urllib3
from urllib3.exceptions import (
    HTTPError,
    LocationValueError,
    NewConnectionError,
    ReadTimeoutError,
    SSLError,
)

from otel_apinalytics.backup.unpack import unpack
from otel_apinalytics.errors import BackupError
from otel_apinalytics.store.backup_manifest import Manifest
from otel_apinalytics.store.durability import sync_file_system

_CONNECT_S = 10.0
# Before its answer begins, the service may have much to load.
_READ_S = 120
_TAR = "application/x-tar"
# Of an answer that is no backup.
_MAX_WORDS_BYTES = 10_000


@dataclass(frozen=True, slots=True)
class Server:
    """A service, and how to be let in.

    Args:
        url: Its HTTP listener: scheme, host and port.
        admin_key: An admin key.
        ca_file: PEM with the CA of its certificate; None for those that this machine trusts.
        client_certificate_file: PEM with a certificate of the client, or None.
        client_key_file: PEM with its private key, or None.
    """

    url: str
    admin_key: str = field(repr=False)
    ca_file: Path | None = None
    client_certificate_file: Path | None = None
    client_key_file: Path | None = None


def fetch_backup(server: Server, directory: Path) -> Manifest:
    """Make a backup of a service in a directory, which must be empty or not exist.

    Until it is whole, it is in another beside it, `….partial`, of which nothing is left otherwise.

    Raises:
        BackupError: It could not be made.
    """
    directory = directory.resolve()
    _refuse_taken(directory)
    with _answer(server) as answer, _partial(directory) as partial:
        try:
            manifest = unpack(answer, partial)
        except HTTPError as error:
            is_late = isinstance(error, ReadTimeoutError)
            what = f"stopped for {_READ_S} s" if is_late else "was cut off"
            raise BackupError(f"the answer of {server.url} {what}") from error
        sync_file_system(partial)
        os.replace(partial, directory)
        sync_file_system(directory)
    return manifest


def _refuse_taken(directory: Path) -> None:
    try:
        if os.path.ismount(directory):
            raise BackupError(f"{directory} is a mount point: name a directory below it")
        if directory.exists() and any(directory.iterdir()):
            raise BackupError(f"{directory} is not empty")
    except OSError as error:
        raise BackupError(f"cannot use {directory}: {error.strerror}") from error


@contextmanager
def _partial(directory: Path) -> Iterator[Path]:
    """Give a directory beside another one, and remove it on any error."""
    partial = directory.with_name(f"{directory.name}.partial")
    try:
        partial.mkdir()
    except FileExistsError as error:
        raise BackupError(
            f"{partial} exists: a backup is being made, or was killed; if so, remove it"
        ) from error
    except OSError as error:
        raise BackupError(f"cannot make {partial}: {error.strerror}") from error
    try:
        yield partial
    except BaseException as error:
        left = _remove(partial)
        if isinstance(error, OSError):
            raise BackupError(f"cannot write to {partial}: {error.strerror}; {left}") from error
        if isinstance(error, BackupError):
            raise BackupError(f"{error}; {left}") from error
        raise


def _remove(directory: Path) -> str:
    shutil.rmtree(directory, ignore_errors=True)
    return f"a part is left in {directory}" if directory.exists() else "nothing is left of it"


@contextmanager
def _answer(server: Server) -> Iterator[urllib3.BaseHTTPResponse]:
    """Give the answer, if it is a backup."""
    with _pool(server) as pool:
        try:
            answer = pool.request(
                "GET",
                f"{server.url.rstrip('/')}/1/backup/",
                headers={"X-Auth-Key": server.admin_key},
                preload_content=False,
                redirect=False,
            )
        except (HTTPError, ValueError) as error:
            raise BackupError(_why_not(server, error)) from error
        with answer:
            if answer.status != 200 or answer.headers.get("content-type") != _TAR:
                raise BackupError(_refusal(server, answer))
            yield answer


def _pool(server: Server) -> urllib3.PoolManager:
    try:
        context = ssl.create_default_context(cafile=server.ca_file)
        if server.client_certificate_file is not None:
            context.load_cert_chain(server.client_certificate_file, server.client_key_file)
    except OSError as error:
        files = (server.ca_file, server.client_certificate_file, server.client_key_file)
        named = ", ".join(str(file) for file in files if file)
        raise BackupError(f"cannot use {named}: {_in_words(error)}") from error
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
    if isinstance(error, LocationValueError):
        return f"not the URL of a service: {server.url}"
    if not isinstance(error, HTTPError):
        return "the admin key has characters that no key has"
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


def _refusal(server: Server, answer: urllib3.BaseHTTPResponse) -> str:
    """Return what the service says."""
    try:
        body = json.loads(answer.read(_MAX_WORDS_BYTES))
        return f"{server.url} refuses: {body['error']['message']}"
    except (HTTPError, ValueError, LookupError, TypeError):
        return f"{server.url} answers with {answer.status}, and is no apinalytics service"
