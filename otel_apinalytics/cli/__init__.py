# SPDX-License-Identifier: Apache-2.0
"""The command line, `apinalytics`, and how it starts where only the exporter is installed."""

import sys


def main() -> None:
    """Run the command line, or say how to install it: the base install is the exporter alone."""
    try:
        import typer  # noqa: F401
    except ModuleNotFoundError:
        sys.exit(
            "apinalytics: the service is not installed: pip install 'otel-apinalytics[server]'"
        )
    from otel_apinalytics.cli.main import main as run

    run()
