# SPDX-License-Identifier: Apache-2.0
"""Real instrumentations, in the frameworks that they are for, sending to the service."""
