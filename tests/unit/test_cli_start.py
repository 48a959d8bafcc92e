# SPDX-License-Identifier: Apache-2.0
"""The command line where only the exporter is installed says what to install."""

from __future__ import annotations

import subprocess
import sys


def test_without_the_service_it_says_how_to_install_it() -> None:
    """A base install has no typer: one line, no traceback."""
    code = (
        "import sys; sys.modules['typer'] = None; import otel_apinalytics.cli.main as m; m.main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == (
        "apinalytics: the service is not installed: pip install 'otel-apinalytics[server]'\n"
    )
