# SPDX-License-Identifier: Apache-2.0
"""Questions to the store: parameters, their SQL, and the answers."""
