# SPDX-License-Identifier: Apache-2.0
"""Percentiles: weighted counts of values that are nearly equal, and the one that a level falls on.

The method is that of DDSketch (Masson, Rim and Lee, VLDB 2019): values are counted in bins, each
2 % wider than the one before, so that a value and what stands for its bin differ by less than 1 %,
whatever the values are. Bins only add up: a percentile depends on nothing but the events, not on
their order, nor on how they are grouped on the way. Beyond the paper, a bin has its least and its
greatest value, so that values which are all the same are exact.

The percentile at level p is the least value that at least p of all weight does not exceed.
"""

from __future__ import annotations

import math
from fractions import Fraction

# The ratio of the bounds of a bin; the error is at most (GAMMA - 1) / (GAMMA + 1) = 0.99 %.
GAMMA = 1.02
# The largest distance of a percentile from the exact one, as a part of it.
ERROR = 0.01
# More than the number of any bin: the least float has -37 596, the largest 35 843.
_OFFSET = 40_000
_LOG_GAMMA = math.log(GAMMA)
_LEAST = math.ulp(0.0)


def bin_of(number: str, *, exact: bool) -> str:
    """Return the bin of a number in SQL; bins are in the order of their numbers.

    Args:
        number: A number in SQL; null has no bin, which is null.
        exact: Whether each number is a bin of its own.
    """
    if exact:
        return number
    # Total, for the engine also computes it where it then is not used.
    size = f"greatest(toFloat64(ifNull(abs({number}), 1)), {_LEAST!r})"
    index = f"toInt32(ceil(log({size}) / {_LOG_GAMMA!r})) + {_OFFSET}"
    return f"if({number} = 0, 0, toInt32(sign({number})) * ({index}))"


def pick(level: Fraction, *, exact: bool) -> tuple[str, ...]:
    """Return expressions with their aliases in SQL, of which `result` is the percentile.

    They are aggregates of rows with `bin`, `bin_weight`, `least` and `greatest`.

    Args:
        level: Between 0 and 1.
        exact: As for `bin_of`.
    """
    # In integers: a product of floats may fall beside the rank that it should be.
    is_reached = (
        f"reached -> toUInt128(reached) * {level.denominator} >= "
        f"toUInt128(arraySum(bins.2)) * {level.numerator}"
    )
    size = f"2 / (1 + {GAMMA!r}) * exp((abs(found.1) - {_OFFSET}) * {_LOG_GAMMA!r})"
    middle = f"if(found.1 = 0, 0, sign(found.1) * {size})"
    within = f"greatest(toFloat64(found.3), least(toFloat64(found.4), {middle}))"
    return (
        "arraySort(groupArray((bin, bin_weight, least, greatest))) AS bins",
        f"bins[arrayFirstIndex({is_reached}, arrayCumSum(bins.2))] AS found",
        f"{'found.3' if exact else within} AS result",
    )
