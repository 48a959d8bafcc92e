# SPDX-License-Identifier: Apache-2.0
"""Backups from outside: asks a service for one, and makes a data directory of one."""
