# SPDX-License-Identifier: Apache-2.0
"""`apinalytics backup` and `restore` as subprocesses."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.support.clients import ADMIN_KEY
from tests.support.service_process import environment


def run_command(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run a command of the command line to its end."""
    return subprocess.run(
        [sys.executable, "-m", "otel_apinalytics", *arguments],
        env=environment(**settings),
        capture_output=True,
        text=True,
        check=False,
    )


def make_backup(http: str, directory: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    """Make a backup of the service with this HTTP address, with the admin key."""
    given = {"admin_key": ADMIN_KEY, "http": http, **settings}
    return run_command("backup", str(directory), **given)


def restore(backup: Path, data_dir: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    """Make a data directory from a backup."""
    return run_command("restore", str(backup), "--data-dir", str(data_dir), **settings)
