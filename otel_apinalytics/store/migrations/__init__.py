# SPDX-License-Identifier: Apache-2.0
"""Numbered migrations, one SQL file each; applied in order, never edited once released."""
