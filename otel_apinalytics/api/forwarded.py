# SPDX-License-Identifier: Apache-2.0
"""Whose request it is where proxies stand in front: `X-Forwarded-For`, as far as it is believed."""

from __future__ import annotations

import functools
import ipaddress
from collections.abc import Sequence

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

_HEADER = "x-forwarded-for"
# Addresses of which it is remembered whether they are a proxy.
_MAX_REMEMBERED = 4096


class ForwardedMiddleware:
    """Replaces the client of a request by that for whom a trusted proxy sends it.

    Args:
        app: What answers.
        trusted: Addresses and networks of proxies, each of which puts in the header whom it was
            asked by.
    """

    def __init__(self, app: ASGIApp, trusted: Sequence[str]) -> None:
        self._app = app
        self._networks = [ipaddress.ip_network(each) for each in trusted]
        self._is_trusted = functools.lru_cache(_MAX_REMEMBERED)(self._is_in_networks)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] == "http" and scope.get("client"):
            host, port = scope["client"]
            sent = ",".join(Headers(scope=scope).getlist(_HEADER))
            client = self.client_of(host, sent)
            scope["client"] = (client, port if client == host else 0)
        await self._app(scope, receive, send)

    def client_of(self, peer: str, forwarded: str) -> str:
        """Return the nearest address that is no trusted proxy.

        Args:
            peer: Where the request came from.
            forwarded: The header: the client, then proxies, each added by the next one.
        """
        address = peer
        for hop in reversed(forwarded.split(",")):
            found = _address_in(hop.strip())
            # What stands further left may be anybody's, and is no address if it is nonsense.
            if found is None or not self._is_trusted(address):
                break
            address = found
        return address

    def _is_in_networks(self, address: str) -> bool:
        try:
            found = ipaddress.ip_address(address)
        except ValueError:
            return False
        return any(found in network for network in self._networks)


def _address_in(hop: str) -> str | None:
    """Return the address of an entry, which may have a port; None if it has none."""
    host = hop
    if hop.startswith("["):
        host = hop[1:].partition("]")[0]
    elif hop.count(":") == 1:
        host = hop.partition(":")[0]
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return None
