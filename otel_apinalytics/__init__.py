# SPDX-License-Identifier: Apache-2.0
"""API analytics on OpenTelemetry."""

__version__ = "0.1.0"
