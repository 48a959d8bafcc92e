# SPDX-License-Identifier: Apache-2.0
"""What `apinalytics doctor` does: looks at a running service from outside, as a sender does."""
