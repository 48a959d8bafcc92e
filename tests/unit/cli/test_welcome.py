# SPDX-License-Identifier: Apache-2.0
"""Tests of the welcome: the commands in it are found where they are typed in."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from otel_apinalytics.cli.welcome import Welcome, program_name, welcome_text


def test_by_its_name_where_it_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the documentation writes it."""
    program = tmp_path / "apinalytics"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert program_name() == "apinalytics"


def test_by_its_path_where_it_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever the service works later."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["some bin/apinalytics", "serve"])
    assert program_name() == f"'{tmp_path}/some bin/apinalytics'"


def test_by_python_where_it_was_started_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is said can be run."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["/somewhere/otel_apinalytics/__main__.py", "serve"])
    command = f"{program_name()} --help"
    ended = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)  # noqa: S602 - as it is pasted
    assert (ended.returncode, "serve" in ended.stdout) == (0, True), ended.stderr


def test_all_commands_have_it() -> None:
    """Those to make a key, to ask, and to look for what is wrong."""
    text = welcome_text(
        Welcome(
            "g:1", "h:2", False, "shop", {}, (), "export A=1", Path("/data"), "/opt/x/apinalytics"
        )
    )
    for command in ("keys create", "query --server", "doctor --server"):
        assert f"/opt/x/apinalytics {command}" in text
