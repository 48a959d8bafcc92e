# SPDX-License-Identifier: Apache-2.0
"""The store: the engine, its schema, and what is kept in it."""
