# SPDX-License-Identifier: Apache-2.0
"""Tests of allowances: what keys and strangers may do within a minute."""

from __future__ import annotations

import pytest

from otel_apinalytics.errors import TooManyRequestsError
from otel_apinalytics.store import allowances
from otel_apinalytics.store.allowances import KeyAllowances, Strangers, network_of
from otel_apinalytics.store.keys import Key, Limits, Scope

GOOD, OTHER = b"g" * 32, b"o" * 32


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        """Return monotonic seconds."""
        return self.now


def key(requests: int | None = None, rows: int | None = None, key_id: str = "k") -> Key:
    """Return a key with limits."""
    return Key("app", key_id, Scope.READ, limits=Limits(requests, rows))


@pytest.fixture
def clock() -> Clock:
    """Return a clock that stands still."""
    return Clock()


def test_requests_within_a_minute(clock: Clock) -> None:
    """A minute's worth at once, then one after the other as time goes by."""
    left = KeyAllowances(clock)
    for _ in range(60):
        left.take_request(key(60))
    with pytest.raises(TooManyRequestsError, match="more than 60 requests a minute") as caught:
        left.take_request(key(60))
    assert caught.value.retry_after_s == pytest.approx(1)
    assert (caught.value.application, caught.value.key_id) == ("app", "k")
    clock.now += 1
    left.take_request(key(60))
    with pytest.raises(TooManyRequestsError):
        left.take_request(key(60))
    clock.now += 3600
    for _ in range(60):
        left.take_request(key(60))
    with pytest.raises(TooManyRequestsError):
        left.take_request(key(60))


def test_a_refused_request_takes_nothing(clock: Clock) -> None:
    """Who asks all the time is let in as often as one who waits."""
    left = KeyAllowances(clock)
    left.take_request(key(1))
    for _ in range(59):
        clock.now += 1
        with pytest.raises(TooManyRequestsError):
            left.take_request(key(1))
    clock.now += 1
    left.take_request(key(1))


def test_rows_are_made_up_for(clock: Clock) -> None:
    """They are known only after the answer: the next requests wait until they are made up for."""
    left = KeyAllowances(clock)
    left.take_request(key(rows=100))
    left.take_rows(key(rows=100), 300)
    with pytest.raises(TooManyRequestsError, match="more than 100 rows") as caught:
        left.take_request(key(rows=100))
    # 200 are owed, and one is wanted.
    assert caught.value.retry_after_s == pytest.approx(201 / 100 * 60)
    # A little more, for numbers are rounded.
    clock.now += caught.value.retry_after_s + 0.001
    left.take_request(key(rows=100))


def test_keys_do_not_know_each_other(clock: Clock) -> None:
    """Limits of one tell nothing of another, not even of the same name elsewhere."""
    left = KeyAllowances(clock)
    left.take_request(key(1))
    left.take_request(key(1, key_id="other"))
    left.take_request(Key("elsewhere", "k", Scope.READ, limits=Limits(1)))
    for _ in range(1000):
        left.take_request(key())
        left.take_rows(key(), 10**9)


def test_another_limit_holds_at_once(clock: Clock) -> None:
    """A key that is given more, or less, begins anew."""
    left = KeyAllowances(clock)
    left.take_request(key(1))
    with pytest.raises(TooManyRequestsError):
        left.take_request(key(1))
    left.take_request(key(2))


def test_strangers_are_slowed_down(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not those from elsewhere, and not with keys that were good before."""
    monkeypatch.setattr(allowances, "FAILURES_PER_MINUTE", 60)
    strangers = Strangers(clock)
    strangers.accepted("1.2.3.4", GOOD)
    for _ in range(60):
        strangers.check("1.2.3.4", OTHER)
        strangers.failed("1.2.3.4")
    with pytest.raises(TooManyRequestsError, match="too many unknown keys") as caught:
        strangers.check("1.2.3.4", OTHER)
    assert caught.value.retry_after_s == pytest.approx(1)
    strangers.check("1.2.3.4", GOOD)
    strangers.check("1.2.3.5", OTHER)
    clock.now += 1
    strangers.check("1.2.3.4", OTHER)


def test_memory_is_bounded(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever has many addresses pushes out the oldest."""
    monkeypatch.setattr(allowances, "MAX_REMEMBERED", 10)
    monkeypatch.setattr(allowances, "FAILURES_PER_MINUTE", 1)
    strangers = Strangers(clock)
    for number in range(100):
        strangers.failed(f"10.0.0.{number}")
        strangers.accepted(f"10.0.0.{number}", GOOD)
    assert len(strangers._left) == len(strangers._accepted) == 10
    strangers.check("10.0.0.0", OTHER)
    with pytest.raises(TooManyRequestsError):
        strangers.check("10.0.0.99", OTHER)


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("ipv4:127.0.0.1:5000", "127.0.0.1"),
        ("ipv6:%5B::1%5D:5000", "::/64"),
        ("ipv6:[2001:db8:0:1::7]:5000", "2001:db8:0:1::/64"),
        ("2001:db8:0:1:ffff::1", "2001:db8:0:1::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::ffff:127.0.0.1", "127.0.0.1"),
        ("unix:/run/socket", "unix:/run/socket"),
        ("", ""),
    ],
)
def test_what_one_client_is(address: str, network: str) -> None:
    """As HTTP and gRPC write it; of IPv6, what a subscriber has."""
    assert network_of(address) == network
