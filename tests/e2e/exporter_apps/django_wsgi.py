# SPDX-License-Identifier: Apache-2.0
"""The API in Django for a WSGI server."""

from __future__ import annotations

from django.core.wsgi import get_wsgi_application

application = get_wsgi_application()
