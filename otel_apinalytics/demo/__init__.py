# SPDX-License-Identifier: Apache-2.0
"""The demo: the service, a real instrumented API, traffic, and the first questions."""
