# SPDX-License-Identifier: Apache-2.0
"""The API in FastAPI."""

from __future__ import annotations

from fastapi import FastAPI

from otel_apinalytics.exporter import ConsumerMiddleware

app = FastAPI()
app.add_middleware(ConsumerMiddleware, header="X-Consumer")


@app.get("/orders/{number}")
def order(number: int) -> dict[str, int]:
    """Answer with an order."""
    return {"order": number}


@app.get("/healthz")
def health() -> str:
    """Say that it lives."""
    return "ok"
