# SPDX-License-Identifier: Apache-2.0
"""kill -9 in the middle of traffic: what was acknowledged is there, once, and the ledger closes."""

from __future__ import annotations

from pathlib import Path

from tests.support.audit import compare
from tests.support.campaign import Campaign
from tests.support.numbered_senders import WAYS, Book

_KILLS = 25


def test_kills_lose_and_double_nothing(tmp_path: Path) -> None:
    """Every acknowledged item is stored once, any other at most once, and none is made up."""
    campaign = Campaign(tmp_path, seed=7, alive_s=1.5, merge=True)
    audit = campaign.run(_KILLS)
    assert audit.problems() == []
    # Otherwise it proves little: by every way in, requests met a kill and came again.
    assert {book.name for book in campaign.books if book.recovered} == set(WAYS)
    assert audit.outcomes["duplicate"] > 0
    assert audit.items.filtered > 0


def test_an_audit_finds_what_is_wrong() -> None:
    """Lost, doubled, made up and torn are told apart, by the item."""
    book = Book("grpc")
    for items in (3, 2, 2, 1):
        book.add(items, 1)
    book.acknowledged[0] = book.acknowledged[1] = 1
    found = [
        # Of the first request, one is lost and one is there twice.
        ("grpc", "grpc/0", "/0"),
        ("grpc", "grpc/0", "/2"),
        ("grpc", "grpc/0", "/2"),
        # All of the second, and a part of the third, which was not acknowledged.
        ("grpc", "grpc/1", "/0"),
        ("grpc", "grpc/1", "/1"),
        ("grpc", "grpc/2", "/0"),
        # Sent by nobody, in no such request, and at no such place.
        ("http", "http/0", "/0"),
        ("grpc", "grpc/4", "/0"),
        ("grpc", "grpc/1", "/2"),
        ("grpc", "", ""),
    ]
    audited = compare([book], found)
    assert (audited.sent, audited.acknowledged, audited.stored) == (8, 5, 5)
    assert (audited.lost, audited.doubled, audited.torn, audited.unknown) == (1, 1, 1, 4)
    # The fourth request is not there.
    assert audited.filtered == 3
