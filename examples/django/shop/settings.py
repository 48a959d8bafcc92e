# SPDX-License-Identifier: Apache-2.0
"""Settings of the project."""

from __future__ import annotations

SECRET_KEY = "only for an example"  # noqa: S105
ALLOWED_HOSTS = ["localhost", "127.0.0.1"]
ROOT_URLCONF = "shop.api"
MIDDLEWARE = ["shop.api.identify"]
