# SPDX-License-Identifier: Apache-2.0
"""Which file of cases the conformance tests read."""

from __future__ import annotations

from pathlib import Path

import pytest

DEFAULT_CASE_FILE = Path(__file__).parents[1] / "fixtures" / "spans.jsonl"
# Set in the configuration of a run with another file.
CASE_FILE = pytest.StashKey[Path]()
