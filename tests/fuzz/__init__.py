# SPDX-License-Identifier: Apache-2.0
"""Fuzzing: every entry with requests that are nearly right."""
