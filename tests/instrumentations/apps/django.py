# SPDX-License-Identifier: Apache-2.0
"""The API in Django, as WSGI under the standard library's server."""

from __future__ import annotations

from contextlib import AbstractContextManager

from django.core.wsgi import get_wsgi_application

from tests.instrumentations.apps import django_project, program


def serve() -> AbstractContextManager[int]:
    """Serve the instrumented API."""
    django_project.set_up()
    return program.wsgi_server(get_wsgi_application())


if __name__ == "__main__":
    program.run(serve)
