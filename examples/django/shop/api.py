# SPDX-License-Identifier: Apache-2.0
"""The API, and the middleware that says who calls it."""

from __future__ import annotations

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path

from otel_apinalytics.exporter import set_consumer

ACCOUNTS = {"key-of-acme": "acme", "key-of-globex": "globex"}


def identify(get_response: Callable[[HttpRequest], HttpResponse]) -> Callable[..., HttpResponse]:
    """Say who calls. With `django.contrib.auth` that is `request.user.pk`."""

    def middleware(request: HttpRequest) -> HttpResponse:
        set_consumer(ACCOUNTS.get(request.headers.get("X-API-Key", "")))
        return get_response(request)

    return middleware


def get_order(request: HttpRequest, order_id: int) -> HttpResponse:
    """Answer with an order."""
    return JsonResponse({"order": order_id})


urlpatterns = [path("orders/<int:order_id>", get_order)]
