# SPDX-License-Identifier: Apache-2.0
"""How much keys and strangers may do within a minute, in memory of each receiver.

Nothing waits here: who has used up an allowance is told when there is some of it again.
"""

from __future__ import annotations

import functools
import ipaddress
import threading
import time
from collections import OrderedDict
from collections.abc import Callable

from otel_apinalytics.errors import TooManyRequestsError
from otel_apinalytics.store.keys import Key

# Keys that are tried and that nobody has, from one address.
FAILURES_PER_MINUTE = 600
# Addresses, and keys with the addresses that they came from, that are remembered; about 200 bytes
# each.
MAX_REMEMBERED = 10_000
_MINUTE_S = 60.0
# What one subscriber has of IPv6.
_IPV6_PREFIX = 64


class Allowance:
    """So many a minute, and those of one minute at once. Not safe to use from several threads.

    What is taken may be more than what is left: then nothing is left until it is made up for.

    Args:
        per_minute: How many.
        now: Monotonic seconds.
    """

    __slots__ = ("_at", "_left", "per_minute")

    def __init__(self, per_minute: int, now: float) -> None:
        self.per_minute = per_minute
        self._left = float(per_minute)
        self._at = now

    def wait_s(self, now: float) -> float:
        """Return in how many seconds one can be taken; 0 if it can now."""
        per_second = self.per_minute / _MINUTE_S
        self._left = min(self._left + (now - self._at) * per_second, float(self.per_minute))
        self._at = now
        return max(1 - self._left, 0.0) / per_second

    def take(self, number: int) -> None:
        """Take some, whether they are there or not."""
        self._left -= number


class KeyAllowances:
    """What is left of the limits of keys. Safe to use from many threads.

    Args:
        clock: Monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._left: dict[tuple[str, str, str], Allowance] = {}

    def take_request(self, key: Key) -> None:
        """Take a request of a key.

        Raises:
            TooManyRequestsError: None is left, or rows are not made up for.
        """
        limits = {"requests": key.limits.requests, "rows": key.limits.rows}
        if limits == {"requests": None, "rows": None}:
            return
        with self._lock:
            for what, limit in limits.items():
                if limit is None:
                    continue
                wait_s = self._of(key, what, limit).wait_s(self._clock())
                if wait_s > 0:
                    raise TooManyRequestsError(
                        f"more than {limit} {what} a minute with the key {key.key_id}",
                        retry_after_s=wait_s,
                        application=key.application,
                        key_id=key.key_id,
                    )
            if limits["requests"] is not None:
                self._of(key, "requests", limits["requests"]).take(1)

    def take_rows(self, key: Key, rows: int) -> None:
        """Take the rows of a request that was let in: they are known only afterwards."""
        if key.limits.rows is None:
            return
        with self._lock:
            self._of(key, "rows", key.limits.rows).take(rows)

    def _of(self, key: Key, what: str, limit: int) -> Allowance:
        name = (key.application, key.key_id, what)
        found = self._left.get(name)
        if found is None or found.per_minute != limit:
            found = self._left[name] = Allowance(limit, self._clock())
        return found


class Strangers:
    """Slows down whoever tries keys that there are not. Safe to use from many threads.

    An address that tries too many is let in only with keys that were accepted from it before, so
    that it learns nothing of others, and programs behind the same proxy go on.

    Args:
        clock: Monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._left: OrderedDict[str, Allowance] = OrderedDict()
        self._accepted: OrderedDict[tuple[str, bytes], None] = OrderedDict()

    def check(self, address: str, digest: bytes) -> None:
        """Refuse a key before it is looked up, from an address that has tried too many.

        Raises:
            TooManyRequestsError: It must wait.
        """
        # Nearly always there is nobody.
        if not self._left:
            return
        network = network_of(address)
        with self._lock:
            found = self._left.get(network)
            if found is None or (network, digest) in self._accepted:
                return
            wait_s = found.wait_s(self._clock())
        if wait_s > 0:
            raise TooManyRequestsError(
                "too many unknown keys from your address; nothing but keys that it has used "
                "before is looked at for a while",
                retry_after_s=wait_s,
            )

    def failed(self, address: str) -> None:
        """Remember that an address tried a key that there is not."""
        network = network_of(address)
        with self._lock:
            found = self._left.pop(network, None)
            if found is None:
                found = Allowance(FAILURES_PER_MINUTE, self._clock())
            found.wait_s(self._clock())
            found.take(1)
            self._left[network] = found
            if len(self._left) > MAX_REMEMBERED:
                self._left.popitem(last=False)

    def accepted(self, address: str, digest: bytes) -> None:
        """Remember that an address came with a key that there is."""
        name = (network_of(address), digest)
        # Without the lock, for it is there nearly always.
        if name in self._accepted:
            return
        with self._lock:
            self._accepted[name] = None
            if len(self._accepted) > MAX_REMEMBERED:
                self._accepted.popitem(last=False)


@functools.lru_cache(maxsize=MAX_REMEMBERED)
def network_of(address: str) -> str:
    """Return what is one client: an IPv4 address, a network of IPv6, or the text as it is.

    Args:
        address: An address, or a peer as gRPC writes it: `ipv4:127.0.0.1:5000`,
            `ipv6:%5B::1%5D:5000`.
    """
    kind, colon, rest = address.partition(":")
    host = rest.rpartition(":")[0].strip("[]") if colon and kind in ("ipv4", "ipv6") else address
    host = host.removeprefix("%5B").removesuffix("%5D")
    try:
        found = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped is not None:
            return str(found.ipv4_mapped)
        return str(ipaddress.IPv6Network((found, _IPV6_PREFIX), strict=False))
    return str(found)
