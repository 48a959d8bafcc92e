# SPDX-License-Identifier: Apache-2.0
"""A disk for tests that loses what was not synced, fills up and fails; and a clock that jumps."""
