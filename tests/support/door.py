# SPDX-License-Identifier: Apache-2.0
"""Requests for tests of the door, and what is found of them behind it."""

from __future__ import annotations

import uuid

from tests.support.clients import Client
from tests.support.otlp import CALL, make_request, make_span
from tests.support.waiting import wait_for


def consumer_request() -> tuple[str, bytes]:
    """Return a request with one call, and the consumer by whom it is found."""
    consumer = f"c-{uuid.uuid4()}"
    return consumer, make_request(make_span({**CALL, "enduser.id": consumer}))


def large_request(size: int) -> bytes:
    """Return a valid request of a bit more than this size."""
    return make_request(make_span({**CALL, "padding": "x" * size}))


def settle(client: Client) -> None:
    """Wait until all is loaded that was acknowledged before."""
    consumer, body = consumer_request()
    client.export(body)
    # Requests are loaded in the order of their acknowledgement.
    wait_for(lambda: count(client, consumer))


def count(client: Client, consumer: str) -> int:
    """Return how many inbound events a consumer has."""
    groups = client.groups({"include": f"consumer_id:{consumer}", "group": "consumer_id"})
    return int(groups.get(consumer, [[0, 0]])[0][1])
