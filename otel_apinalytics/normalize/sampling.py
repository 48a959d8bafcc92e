# SPDX-License-Identifier: Apache-2.0
"""Sampling weight: how many requests a span stands for, from the trace state.

Source: OpenTelemetry `tracestate` probability sampling: `ot=th:<hex>` is the rejection threshold,
padded with zeros to 14 digits, of 2^56; the older `ot=p:<n>` is a probability of 2^-n.
"""

from __future__ import annotations

import math

from otel_apinalytics.catalogue import MAX_WEIGHT, WEIGHT_SCALE
from otel_apinalytics.normalize.transforms import Pattern

_THRESHOLD = Pattern(r"(?:^|,)[ \t]*ot=(?:[^,]*;)?th:([0-9a-f]{1,14})[ \t]*(?:[;,]|\z)")
_POWER = Pattern(r"(?:^|,)[ \t]*ot=(?:[^,]*;)?p:([0-9]{1,2})[ \t]*(?:[;,]|\z)")
_RANGE = 2**56
_LARGEST = WEIGHT_SCALE * MAX_WEIGHT
_MAX_POWER = int(math.log2(MAX_WEIGHT))


def weight(trace_state: str) -> int:
    """Return the weight in thousandths; absent, invalid or unknown counts as one request."""
    if threshold := _THRESHOLD.first(trace_state):
        left = _RANGE - int(threshold.ljust(14, "0"), 16)
        # Rounded half up: the engine's own rounding is to even.
        return min(_LARGEST, math.floor(float(WEIGHT_SCALE * _RANGE) / float(left) + 0.5))
    if power := _POWER.first(trace_state):
        return WEIGHT_SCALE << min(int(power), _MAX_POWER)
    return WEIGHT_SCALE


def weight_sql(trace_state: str) -> str:
    """Return the SQL rendering of `weight`, of type UInt64."""
    threshold, power = _THRESHOLD.first_sql(trace_state), _POWER.first_sql(trace_state)
    # The last byte first: the engine reads numbers from the smallest.
    number = f"reinterpretAsUInt64(reverse(unhex(rightPad({threshold}, 14, '0'))))"
    exact = f"{WEIGHT_SCALE * _RANGE} / ({_RANGE} - {number})"
    of_threshold = f"toUInt64(least({float(_LARGEST)}, floor({exact} + 0.5)))"
    of_power = f"toUInt64({WEIGHT_SCALE} * pow(2, least({_MAX_POWER}, toUInt8OrZero({power}))))"
    known = (
        f"multiIf(notEmpty({threshold}), {of_threshold}, notEmpty({power}), {of_power}, "
        f"{WEIGHT_SCALE})"
    )
    # Nearly no span has one.
    return f"if(position({trace_state}, 'ot=') = 0, toUInt64({WEIGHT_SCALE}), toUInt64({known}))"
