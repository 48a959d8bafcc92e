# SPDX-License-Identifier: Apache-2.0
"""Runs a file of conformance cases in all ways, and prints a line for each case.

The ways are the tests beside this module. The exit code is 1 if a case fails, 2 if the file cannot
be used.
"""

# ruff: noqa: T201 - a command

from __future__ import annotations

import argparse
import sys
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.case_file import CASE_FILE, DEFAULT_CASE_FILE
from tests.support.cases import CaseFileError, read_cases

WAYS = ("python", "engine", "service")


class Collector:
    """A pytest plugin that says which file to read, and collects what failed.

    Args:
        path: The file of cases.
    """

    def __init__(self, path: Path) -> None:
        # By case: the ways that ran, and what failed in them.
        self.ran: dict[str, set[str]] = {}
        self.failures: dict[str, list[str]] = {}
        self.collection_errors: list[str] = []
        self._path = path

    @pytest.hookimpl(trylast=True)
    def pytest_configure(self, config: pytest.Config) -> None:
        """Set the file, and replace the usual output."""
        config.stash[CASE_FILE] = self._path
        config.pluginmanager.unregister(name="terminalreporter")

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Keep what went wrong before any case ran."""
        if report.failed:
            self.collection_errors.append(report.longreprtext)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Keep the differences of a case."""
        report = yield
        case, way = _case_and_way(item)
        self.ran.setdefault(case, set()).add(way)
        if call.excinfo is not None:
            lines = _reasons(call.excinfo.value)
            self.failures.setdefault(case, []).extend(f"{way}: {line}" for line in lines)
        return report


def _case_and_way(item: Any) -> tuple[str, str]:
    return item.callspec.params["case"].id, item.path.stem.removeprefix("test_")


def _reasons(error: BaseException) -> list[str]:
    if isinstance(error, pytest.fail.Exception):
        return str(error).splitlines()
    return [f"{type(error).__name__}: {line}" for line in str(error).splitlines()[:3]]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a file of cases and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.conformance.run", description=__doc__)
    parser.add_argument("cases", nargs="?", type=Path, default=DEFAULT_CASE_FILE)
    path: Path = parser.parse_args(arguments).cases
    try:
        ids = [case.id for case in read_cases(path)]
    except CaseFileError as error:
        print(error, file=sys.stderr)
        return 2
    print(f"running {len(ids)} cases of {path} …", flush=True)
    collector = Collector(path)
    tests = [str(Path(__file__).with_name(f"test_{way}.py")) for way in WAYS]
    # In the order of the file, so that two runs can be compared.
    pytest.main([*tests, "-p", "no:randomly"], plugins=[collector])
    return _report(ids, collector)


def _report(ids: Sequence[str], collector: Collector) -> int:
    for error in collector.collection_errors:
        print(error, file=sys.stderr)
    failed = sum(not _report_case(case, collector) for case in ids)
    print(f"{len(ids) - failed} of {len(ids)} cases ok, {failed} failed; {', '.join(WAYS)}")
    return int(failed > 0 or bool(collector.collection_errors) or not ids)


def _report_case(case: str, collector: Collector) -> bool:
    missing = [f"{way}: did not run" for way in WAYS if way not in collector.ran.get(case, ())]
    lines = [*collector.failures.get(case, ()), *missing]
    print(f"{case}  FAIL  {lines[0]}" if lines else f"{case}  ok")
    for line in lines[1:]:
        print(f"{'':{len(case)}}        {line}")
    return not lines


if __name__ == "__main__":
    sys.exit(main())
