# SPDX-License-Identifier: Apache-2.0
"""An API in Django."""
