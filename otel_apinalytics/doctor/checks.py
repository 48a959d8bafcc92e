# SPDX-License-Identifier: Apache-2.0
"""What a check found, and what there is to check."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from urllib.parse import urlsplit

from otel_apinalytics.client import Client, Server

WRITE, READ, ADMIN = "write", "read", "admin"
SCOPES = (WRITE, READ, ADMIN)


class State(str, Enum):
    """How a check ended."""

    OK = "ok"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Check:
    """What a check found.

    Args:
        name: What was checked.
        state: How it ended.
        message: What was found, in words; of one that was skipped, why.
        advice: What to do about it; empty for nothing.
    """

    name: str
    state: State
    message: str
    advice: str = ""


def ok(name: str, message: str) -> Check:
    """Return that all is well."""
    return Check(name, State.OK, message)


def failed(name: str, message: str, advice: str) -> Check:
    """Return that something is not, and what to do."""
    return Check(name, State.FAILED, message, advice)


def skipped(name: str, message: str) -> Check:
    """Return that it could not be checked."""
    return Check(name, State.SKIPPED, message)


@dataclass(frozen=True, slots=True)
class Target:
    """The service to look at, and what there is to do it with.

    Args:
        url: Its HTTP listener: scheme, host and port.
        grpc: Its gRPC listener, `host:port`.
        keys: The keys that there are, by scope.
        ca_file: As for `Server`.
        client_certificate_file: As for `Server`.
        client_key_file: As for `Server`.
    """

    url: str
    grpc: str
    keys: Mapping[str, str] = field(default_factory=dict, repr=False)
    ca_file: Path | None = None
    client_certificate_file: Path | None = None
    client_key_file: Path | None = None

    @property
    def has_tls(self) -> bool:
        """Whether its listeners do TLS."""
        return urlsplit(self.url).scheme == "https"

    def client(self, scope: str = "") -> Client:
        """Return a client with the key of a scope; with none for an empty one.

        Raises:
            ClientError: A file of TLS cannot be used.
        """
        return Client(
            Server(
                self.url,
                self.keys.get(scope, ""),
                scope,
                self.ca_file,
                self.client_certificate_file,
                self.client_key_file,
            )
        )
