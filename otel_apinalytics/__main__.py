# SPDX-License-Identifier: Apache-2.0
"""`python -m otel_apinalytics`: the command line."""

from otel_apinalytics.cli.main import main

if __name__ == "__main__":
    main()
