# SPDX-License-Identifier: Apache-2.0
"""The API in Django, all in one module: settings, routes and views."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path

from otel_apinalytics.exporter import set_consumer

ALLOWED_HOSTS = ["*"]
MIDDLEWARE: list[str] = []
ROOT_URLCONF = __name__
SECRET_KEY = "of a test"


def order(request: HttpRequest, number: int) -> JsonResponse:
    """Answer with an order."""
    set_consumer(request.headers["X-Consumer"])
    return JsonResponse({"order": number})


def health(request: HttpRequest) -> HttpResponse:
    """Say that it lives."""
    return HttpResponse("ok")


urlpatterns: list[Any] = [path("orders/<int:number>", order), path("healthz", health)]
