# SPDX-License-Identifier: Apache-2.0
"""The API in FastAPI."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from opentelemetry import trace

from otel_apinalytics.exporter import ConsumerMiddleware


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Send what is left: uvicorn ends the process by the signal that it got."""
    yield
    provider: Any = trace.get_tracer_provider()
    provider.shutdown()


app = FastAPI(lifespan=lifespan)
app.add_middleware(ConsumerMiddleware, header="X-Consumer")


@app.get("/orders/{number}")
def order(number: int) -> dict[str, int]:
    """Answer with an order."""
    return {"order": number}


@app.get("/healthz")
def health() -> str:
    """Say that it lives."""
    return "ok"
