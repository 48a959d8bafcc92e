# SPDX-License-Identifier: Apache-2.0
"""The usual reasons why there is no data, in words for whoever wonders."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from otel_apinalytics.normalize import outcomes
from otel_apinalytics.query.status import Range, Status
from otel_apinalytics.query.times import seconds_text

_CHECK = "check the endpoint and the key that the sender has, and run `apinalytics doctor`"

#: Why requests are refused, by the word that the ledger has.
REFUSALS: Mapping[str, str] = {
    "unauthenticated": "they came with no key, or with one that is not known",
    "forbidden": "their key is for something else; a write key is needed to send",
    "too_large": "they were too large: send smaller batches",
    "invalid": "they were not valid; the sender was told what is wrong",
    "unavailable": "they could not be kept then; senders try again",
    "rate_limited": "their key sent more than it may",
}
_FILTERED: Mapping[str, str] = {
    outcomes.PROBE: "they are probes of `apinalytics doctor`, which are never counted",
    outcomes.KIND_NOT_SERVER_OR_CLIENT: "their kind is neither SERVER nor CLIENT: is the web "
    "framework instrumented, or are there only spans made by hand?",
    outcomes.NEITHER_HTTP_NOR_RPC: "they have no attribute of HTTP or RPC, such as a method or a "
    "route",
    outcomes.MESSAGING_OR_TRIGGER: "they are of messages or timers, not of API calls",
    outcomes.NESTED: "they are parts of calls that were not sent along",
    outcomes.PLACEHOLDER: "they stand for spans that had not ended",
}
_REJECTED: Mapping[str, str] = {
    outcomes.TIME_OUT_OF_RANGE: "they begin more than a day after they were received: look at the "
    "sender's clock, and whether its times are in nanoseconds",
    outcomes.INVALID_TRACE_ID: "their trace ids are not 16 bytes, or are zero",
    outcomes.INVALID_SPAN_ID: "their span ids are not 8 bytes, or are zero",
    outcomes.INVALID_EVENT: "they are not valid events; the sender was told what is wrong",
    outcomes.UNDECODABLE: "they are not what they say; see /1/rejected/",
    outcomes.UNLOADABLE: "the store could not take them; see /1/rejected/",
}


def hint_of(status: Status, asked: Range | None = None) -> str | None:
    """Return the likeliest reason why there is no data, or None if there is some.

    Args:
        status: What arrived and what is stored.
        asked: The range that was asked about, as for `run_status`.
    """
    if status.stored.last is not None:
        return _of_events(status, asked)
    received = _total(status, outcomes.RECEIVED)
    refused = _total(status, outcomes.REFUSED)
    if not received:
        return _of_nothing(status, refused)
    duplicates = _total(status, outcomes.DUPLICATE)
    ends = {name: _total(status, name) for name in (outcomes.FILTERED, outcomes.REJECTED)}
    for name, words in ((outcomes.FILTERED, _FILTERED), (outcomes.REJECTED, _REJECTED)):
        if ends[name] and ends[name] == max(ends.values()):
            reason, number = _largest(status, name)
            why = words.get(reason, reason)
            return (
                f"nothing is stored; of {received} spans and events within a day, {number} were "
                f"{name} ({reason}): {why}"
            )
    if duplicates == received:
        return f"nothing is stored; all {received} spans and events within a day came before"
    return f"{received} spans and events were received, and wait to be loaded: ask again soon"


def _of_nothing(status: Status, refused: int) -> str:
    if refused:
        kind, number = _largest(status, outcomes.REFUSED)
        return (
            f"nothing was let in within a day; {refused} requests were refused, {number} of them "
            f"because {REFUSALS.get(kind, kind)}"
        )
    if status.last_received is not None:
        at = _text(status.last_received)
        return f"nothing has arrived since {at}, and nothing was refused within a day: {_CHECK}"
    return f"nothing has ever arrived, and nothing was refused within a day: {_CHECK}"


def _of_events(status: Status, asked: Range | None) -> str | None:
    """Return why a question may find nothing where there are events."""
    stored = status.stored
    if stored.first is None or stored.last is None:
        return None
    if asked is not None and not stored.in_range:
        start_s, end_s = (float(seconds_text(bound)) for bound in asked)
        bounds = f"the events are from {_text(stored.first)} to {_text(stored.last)}"
        if end_s <= stored.first.timestamp():
            return f"all events are newer than this range: {bounds}"
        if start_s > stored.last.timestamp():
            return f"all events are older than this range: {bounds}"
        return f"there is no event in this range: {bounds}"
    if not stored.inbound:
        return (
            "all events are calls that your programs make themselves (direction outbound), which "
            "questions leave out unless they name `direction`: group=direction"
        )
    return None


def _total(status: Status, outcome: str) -> int:
    return sum(status.outcomes.get(outcome, {}).values())


def _largest(status: Status, outcome: str) -> tuple[str, int]:
    return max(status.outcomes[outcome].items(), key=lambda found: found[1])


def _text(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M} UTC"
