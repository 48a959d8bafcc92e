# SPDX-License-Identifier: Apache-2.0
"""Query parameters of routes that have none."""

from __future__ import annotations

from fastapi import Request

from otel_apinalytics.query.parameters import split_parameters


def no_parameters(request: Request) -> None:
    """Refuse any query parameter: a dependency of routes that have none.

    Raises:
        InvalidRequestError: There is one.
    """
    split_parameters(request.query_params.multi_items(), ())
