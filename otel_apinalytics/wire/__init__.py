# SPDX-License-Identifier: Apache-2.0
"""The request log's wire format, generated from `proto/apinalytics/v1/log.proto`."""
