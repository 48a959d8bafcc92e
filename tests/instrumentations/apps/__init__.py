# SPDX-License-Identifier: Apache-2.0
"""The same small API in every framework, each a program that is run as `python -m`."""
