# SPDX-License-Identifier: Apache-2.0
"""The receiver: from a request on a socket to rows in the store."""
