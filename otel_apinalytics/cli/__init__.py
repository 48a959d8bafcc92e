# SPDX-License-Identifier: Apache-2.0
"""The command line, `apinalytics`: a module for each command."""
