# SPDX-License-Identifier: Apache-2.0
"""Fixtures: every test here runs once for each conformance case of a file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.conformance.case_file import CASE_FILE, DEFAULT_CASE_FILE
from tests.support.cases import Case, read_cases

_CASES = pytest.StashKey[list[Case]]()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give each case of the file to tests that ask for one."""
    if "case" in metafunc.fixturenames:
        metafunc.parametrize("case", _cases(metafunc.config), ids=lambda case: case.id)


@pytest.fixture(scope="session")
def cases(pytestconfig: pytest.Config) -> Sequence[Case]:
    """Return all cases of the file."""
    return _cases(pytestconfig)


def _cases(config: pytest.Config) -> list[Case]:
    if _CASES not in config.stash:
        path: Path = config.stash.get(CASE_FILE, DEFAULT_CASE_FILE)
        config.stash[_CASES] = read_cases(path)
    return config.stash[_CASES]
