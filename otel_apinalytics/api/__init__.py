# SPDX-License-Identifier: Apache-2.0
"""The HTTP API: routes, keys, errors, and the page."""
