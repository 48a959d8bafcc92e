# SPDX-License-Identifier: Apache-2.0
"""The service that runs in a data directory: where it listens, for commands on the same machine.

It leaves no key there. A command that can read the secret key file beside it makes a key of that
and of a number that the service chose at its start: whoever has the file could read all that is
stored anyway. The number is no secret, and the key ends with the process.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path

_FILE = "service.json"
_NUMBER_BYTES = 16


@dataclass(frozen=True, slots=True)
class LocalService:
    """A service on this machine.

    Args:
        url: Its HTTP listener.
        grpc: host:port of its gRPC listener.
        number: What it chose at its start.
    """

    url: str
    grpc: str
    number: str


def local_host(address: str) -> str:
    """Return host:port at which a command on this machine finds what listens on an address."""
    host, _, port = address.rpartition(":")
    host = "localhost" if host in ("", "0.0.0.0", "[::]") else host  # noqa: S104 - not bound
    return f"{host}:{port}"


def new_number() -> str:
    """Return a number at random, in hexadecimal digits."""
    return secrets.token_hex(_NUMBER_BYTES)


def announce(directory: Path, service: LocalService) -> None:
    """Say in a data directory where its service is, to its owner alone.

    Raises:
        OSError: It cannot be written.
    """
    scratch = directory / f".{_FILE}.new"
    descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(descriptor, "w", encoding="utf-8") as file:
        json.dump(asdict(service), file)
    scratch.replace(directory / _FILE)


def withdraw(directory: Path) -> None:
    """Say no more where the service is. It may have been said by nobody."""
    with contextlib.suppress(OSError):
        (directory / _FILE).unlink()


def find_service(directory: Path) -> LocalService | None:
    """Return the service of a data directory, as far as it says so; it may have ended meanwhile.

    Raises:
        OSError: What it says may not be read.
    """
    try:
        found = json.loads((directory / _FILE).read_text("utf-8"))
        return LocalService(str(found["url"]), str(found["grpc"]), str(found["number"]))
    except (FileNotFoundError, NotADirectoryError, ValueError, LookupError, TypeError):
        return None
