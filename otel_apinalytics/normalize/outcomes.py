# SPDX-License-Identifier: Apache-2.0
"""What can become of a span or an event, and why: the words of the ledger.

received = stored + duplicate + filtered + rejected, by reason. The reasons of what is filtered name
the rules R1 to R9 of the reference: which spans are API calls.
"""

from __future__ import annotations

RECEIVED = "received"
DUPLICATE = "duplicate"
STORED = "stored"
FILTERED = "filtered"
REJECTED = "rejected"
# Of requests, not of spans and events: it is beside the equation.
REFUSED = "refused"

# Filtered: not an API call, or not one of its own.
# Says of itself that it only asks whether it arrives.
PROBE = "probe"
PLACEHOLDER = "placeholder"
KIND_NOT_SERVER_OR_CLIENT = "kind_not_server_or_client"
MESSAGING_OR_TRIGGER = "messaging_or_trigger"
NEITHER_HTTP_NOR_RPC = "neither_http_nor_rpc"
NESTED = "nested_in_server_span"

# Rejected: unusable.
INVALID_TRACE_ID = "invalid_trace_id"
INVALID_SPAN_ID = "invalid_span_id"
TIME_OUT_OF_RANGE = "time_out_of_range"
UNDECODABLE = "undecodable"
# It decodes, and the store cannot take it: it wants too much memory, or ended the process.
UNLOADABLE = "unloadable"
INVALID_EVENT = "invalid_event"
REJECT_REASONS = (
    INVALID_TRACE_ID, INVALID_SPAN_ID, TIME_OUT_OF_RANGE, UNDECODABLE, UNLOADABLE, INVALID_EVENT,
)  # fmt: skip


def outcome_of(reason: str) -> str:
    """Return the outcome that a reason stands for; no reason stands for stored."""
    if not reason:
        return STORED
    return REJECTED if reason in REJECT_REASONS else FILTERED
