# SPDX-License-Identifier: Apache-2.0
"""The API in Flask."""

from __future__ import annotations

from flask import Flask

from otel_apinalytics.exporter import WSGIConsumerMiddleware

app = Flask(__name__)
app.wsgi_app = WSGIConsumerMiddleware(app.wsgi_app, header="X-Consumer")  # type: ignore[method-assign]


@app.get("/orders/<int:number>")
def order(number: int) -> dict[str, int]:
    """Answer with an order."""
    return {"order": number}


@app.get("/healthz")
def health() -> str:
    """Say that it lives."""
    return "ok"
