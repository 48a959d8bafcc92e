# SPDX-License-Identifier: Apache-2.0
"""Normalization: one rule table, rendered to SQL for the engine and to Python for the exporter."""
