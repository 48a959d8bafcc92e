# SPDX-License-Identifier: Apache-2.0
"""An API in FastAPI. Whoever calls it authenticates by a key; a dependency says who that is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, FastAPI, Header, HTTPException

from otel_apinalytics.exporter import ConsumerMiddleware, set_consumer


@dataclass
class Account:
    """Somebody who may call."""

    id: str
    name: str
    plan: str


ACCOUNTS = {
    "key-of-acme": Account("acme", "Acme Inc.", "gold"),
    "key-of-globex": Account("globex", "Globex Corporation", "free"),
}


def authenticate(x_api_key: Annotated[str, Header()]) -> Account:
    """Find out who calls, and say so."""
    account = ACCOUNTS.get(x_api_key)
    if account is None:
        raise HTTPException(401)
    set_consumer(account.id, name=account.name, plan=account.plan)
    return account


app = FastAPI()
# When the server ends, it sends what was not sent yet.
app.add_middleware(ConsumerMiddleware)


@app.get("/orders/{order_id}")
def get_order(order_id: int, account: Annotated[Account, Depends(authenticate)]) -> dict[str, str]:
    """Answer with an order."""
    return {"order": str(order_id), "of": account.name}
