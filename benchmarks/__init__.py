# SPDX-License-Identifier: Apache-2.0
"""Benchmarks: figures with the commands that repeat them, see `docs/performance.md`."""
