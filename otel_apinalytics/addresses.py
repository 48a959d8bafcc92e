# SPDX-License-Identifier: Apache-2.0
"""Addresses to listen on: from `host:port` to every address that the host name stands for."""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass

from otel_apinalytics.errors import ConfigError

_MAX_PORT = 65_535


@dataclass(frozen=True, slots=True)
class Address:
    """An address of this machine.

    Args:
        family: `AF_INET` or `AF_INET6`.
        host: The numeric address.
        port: The port; 0 for any.
    """

    family: socket.AddressFamily
    host: str
    port: int


def resolve(address: str) -> list[Address]:
    """Return the addresses of this machine that `host:port` stands for.

    A name may stand for an address of a family that the machine does not have; it is left out.

    Raises:
        ConfigError: It is not `host:port`, or no address of this machine.
    """
    host, _, port_text = address.rpartition(":")
    problem = ConfigError(f"cannot listen on {address!r}: not host:port of this machine")
    if not (port_text.isascii() and port_text.isdigit() and int(port_text) <= _MAX_PORT):
        raise problem
    try:
        found = socket.getaddrinfo(host.strip("[]") or None, 0, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise problem from error
    addresses = [
        Address(family, str(target[0]), int(port_text))
        for family, _, _, _, target in found
        if _is_ours(family, str(target[0]))
    ]
    if not addresses:
        raise problem
    return addresses


def is_loopback(address: str) -> bool:
    """Return whether nobody but this machine reaches what listens on `host:port`.

    Raises:
        ConfigError: It is not `host:port`, or no address of this machine.
    """
    return all(ipaddress.ip_address(found.host).is_loopback for found in resolve(address))


def _is_ours(family: socket.AddressFamily, host: str) -> bool:
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.bind((host, 0))
    except OSError:
        return False
    return True
