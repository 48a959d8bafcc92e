# SPDX-License-Identifier: Apache-2.0
"""Programs for the tests of the exporter: the same API with each framework."""
