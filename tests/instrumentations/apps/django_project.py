# SPDX-License-Identifier: Apache-2.0
"""The API in Django: its settings, routes and views."""

from __future__ import annotations

from typing import Any

import django
from django.conf import settings
from django.http import HttpResponse
from django.urls import path
from opentelemetry.instrumentation.django import DjangoInstrumentor

from tests.instrumentations.apps import program
from tests.instrumentations.scenario import USER_HEADER


def set_up() -> None:
    """Configure Django, with the instrumentation in it."""
    settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], MIDDLEWARE=[])
    DjangoInstrumentor().instrument()
    django.setup()


def get_user(request: Any, user_id: int) -> Any:
    """Answer with a user."""
    program.identify(request.headers.get(USER_HEADER))
    return HttpResponse(str(user_id))


def create_order(request: Any) -> Any:
    """Answer with an order."""
    return HttpResponse("created", status=201)


def boom(request: Any) -> Any:
    """Forget to handle an error."""
    raise program.Boom


urlpatterns = [
    path("users/<int:user_id>", get_user),
    path("orders", create_order),
    path("boom", boom),
]
