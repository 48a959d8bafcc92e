# SPDX-License-Identifier: Apache-2.0
"""An API in Flask. The consumer is the API key in a header, hashed."""

from __future__ import annotations

from flask import Flask

from otel_apinalytics.exporter import WSGIConsumerMiddleware

app = Flask(__name__)
app.wsgi_app = WSGIConsumerMiddleware(app.wsgi_app, header="X-API-Key")  # type: ignore[method-assign]


@app.get("/orders/<int:order_id>")
def get_order(order_id: int) -> dict[str, int]:
    """Answer with an order."""
    return {"order": order_id}
