# SPDX-License-Identifier: Apache-2.0
"""The API in Django, as ASGI under uvicorn."""

from __future__ import annotations

from contextlib import AbstractContextManager

from django.core.asgi import get_asgi_application

from tests.instrumentations.apps import django_project, program


def serve() -> AbstractContextManager[int]:
    """Serve the instrumented API."""
    django_project.set_up()
    return program.asgi_server(get_asgi_application())


if __name__ == "__main__":
    program.run(serve)
