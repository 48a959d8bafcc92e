# SPDX-License-Identifier: Apache-2.0
"""What tests share: requests, waiting, a service as a subprocess."""
