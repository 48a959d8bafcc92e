# SPDX-License-Identifier: Apache-2.0
"""Starts the command line, and says how to install it where only the exporter is installed."""

import sys


def main() -> None:
    """Run the command line."""
    try:
        import typer  # noqa: F401 - the first of what the base install does not have
    except ModuleNotFoundError:
        sys.exit(
            "apinalytics: the service is not installed: pip install 'otel-apinalytics[server]'"
        )
    from otel_apinalytics.cli.commands import run

    run()
