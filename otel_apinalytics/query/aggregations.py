# SPDX-License-Identifier: Apache-2.0
"""Aggregations: their names, what the engine sums up for each, and the number that comes of it.

What the engine gives adds up exactly: integers, least and greatest values, and sets. Only the
last step makes fractions of it, so that neither the order of events nor their groups matter.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, TypeAlias

from otel_apinalytics.catalogue import DIMENSIONS, MEASURES, WEIGHT_SCALE, FieldType
from otel_apinalytics.errors import InvalidRequestError
from otel_apinalytics.query.expressions import Operand, number_expression, text_expression
from otel_apinalytics.query.zones import LocalTime

Number: TypeAlias = int | float
# From what the engine summed up, and the seconds that are counted; None where there is no value.
Finish: TypeAlias = Callable[[Sequence[Any], float], Number | None]

PERCENTILE = "percentile"
UNIQUE = "unique"
_NAMES = ("count", "mean", "min", "max", "sum", "rate", "error_rate", UNIQUE)
_PERCENTILE = re.compile(r"(?:percentile_|p)((?:0|[1-9][0-9]?)(?:\.[0-9]{1,6})?)")
# Fractions of numbers of the sender's own are summed as multiples of this part of one. Whole parts
# and fractions are two sums of 128 bits; what is larger than 64 bits is added as it is.
_PARTS_OF_ONE = 2**60
_LARGEST_WHOLE = 2.0**63
# Below, a number with a fraction's type is an integer if it looks like one.
_EXACT = 2.0**53


@dataclass(frozen=True, slots=True)
class Aggregation:
    """What to compute in each bucket.

    Args:
        name: `count`, `mean`, `min`, `max`, `sum`, `rate`, `error_rate`, `unique` or `percentile`.
        level: For a percentile, the level between 0 and 1; else None.
    """

    name: str
    level: Fraction | None = None

    @property
    def fields(self) -> Sequence[str]:
        """The fields that it can be of."""
        return DIMENSIONS if self.name == UNIQUE else MEASURES

    @property
    def default_field(self) -> str:
        """What it is of if nothing is said."""
        return "consumer_id" if self.name == UNIQUE else "response_us"


@dataclass(frozen=True, slots=True)
class Part:
    """What the engine computes of some of the events, and how it makes one of several such.

    Args:
        sql: An aggregate of events in SQL; for a set, its elements.
        merge: The function that makes one aggregate of several.
        is_set: Whether it is a set of different texts, of which the empty one is none.
    """

    sql: str
    merge: str
    is_set: bool = False

    def merged(self, name: str) -> str:
        """Return the aggregate of what goes by a name, in SQL."""
        return f"{self.merge}({name}, {name} != '')" if self.is_set else f"{self.merge}({name})"


@dataclass(frozen=True, slots=True)
class Recipe:
    """How the engine computes an aggregation.

    Args:
        parts: What it computes; a percentile has but one, of its bins.
        rank: SQL of these, as `part_0`, `part_1` …: what the largest groups are the largest by;
            null where there is no value.
        finish: Makes the number of the parts.
        is_additive: Whether the parts of some events, taken from those of all, leave the parts of
            the others; the last one is then how many requests they have.
    """

    parts: tuple[Part, ...]
    rank: str
    finish: Finish
    is_additive: bool = False


def parse_aggregation(text: str) -> Aggregation:
    """Return the aggregation of that name; `count` if there is no text.

    Raises:
        InvalidRequestError: There is none.
    """
    if not text or text in _NAMES:
        return Aggregation(text or _NAMES[0])
    match = _PERCENTILE.fullmatch(text)
    if match and (percent := Fraction(match[1])) > 0:
        return Aggregation(PERCENTILE, percent / 100)
    raise InvalidRequestError(
        "unknown aggregation",
        parameter="aggregation",
        value=text,
        allowed=", ".join(_NAMES) + ", percentile_X or pX with 0 < X < 100 and at most 6 decimals",
    )


def weight_of(value: Operand) -> str:
    """Return how many requests an event stands for, in thousandths.

    Weights themselves are of events, not of requests.
    """
    return f"toUInt64({WEIGHT_SCALE})" if value.name == "weight" else "weight"


def recipe(aggregation: Aggregation, value: Operand, local: LocalTime) -> Recipe:
    """Return how to compute an aggregation.

    Args:
        aggregation: The aggregation.
        value: What it is of; its role in the statement is `value`.
        local: Where the day begins.
    """
    if aggregation.name in ("count", "rate", "error_rate"):
        return _COUNTS[aggregation.name]
    if aggregation.name == UNIQUE:
        text = text_expression(value, "value", local)
        return Recipe((Part(text, "uniqExactIf", is_set=True),), "part_0", _first)
    scale = value.field.scale
    if aggregation.name == PERCENTILE:
        part = Part("result", "")
        return Recipe((part,), "part_0", lambda parts, _: quotient(_whole(parts[0]), scale))
    number = number_expression(value, "value")
    if aggregation.name in ("min", "max"):
        part = Part(f"{aggregation.name}OrNull({number})", f"{aggregation.name}OrNull")
        return Recipe((part,), "part_0", lambda parts, _: quotient(parts[0], scale))
    whole = _float_sum if value.type is FieldType.NUMBER and value.entry else _integer_sum
    return whole(number, value, is_mean=aggregation.name == "mean")


def quotient(number: Number | None, divisor: int) -> Number | None:
    """Return a number divided, as an integer where it is one; None of None."""
    if number is None or divisor == 0:
        return None
    if isinstance(number, int) and number % divisor == 0:
        return number // divisor
    return number / divisor


def _whole(number: Number) -> Number:
    is_exact = isinstance(number, float) and number.is_integer() and abs(number) < _EXACT
    return int(number) if is_exact else number


def _first(parts: Sequence[Any], _: float) -> Number | None:
    found: Number | None = parts[0]
    return found


def _integer_sum(number: str, value: Operand, *, is_mean: bool) -> Recipe:
    scale = value.field.scale
    parts = (_weighted_sum(number, value), _weights(number, value), _REQUESTS)

    def finish(parts: Sequence[Any], _: float) -> Number | None:
        total, weights = parts[0], parts[1]
        # The sum of no values is none.
        return quotient(total, (weights if is_mean else WEIGHT_SCALE) * scale) if weights else None

    return Recipe(parts, "part_0 / part_1" if is_mean else "part_0", finish, is_additive=True)


def _float_sum(number: str, value: Operand, *, is_mean: bool) -> Recipe:
    is_large = f"abs({number}) >= {_LARGEST_WHOLE!r}"
    whole = f"if({is_large}, 0, toInt64(trunc({number})))"
    fraction = f"toInt64(if({is_large}, 0, {number} - trunc({number})) * {_PARTS_OF_ONE})"
    parts = (
        _weighted_sum(whole, value),
        _weighted_sum(fraction, value),
        Part(f"sumIf({number} * {weight_of(value)}, {is_large})", "sum"),
        _weights(number, value),
    )
    total = f"(toFloat64(part_0) + toFloat64(part_1) / {_PARTS_OF_ONE} + ifNull(part_2, 0))"

    def finish(parts: Sequence[Any], _: float) -> Number | None:
        whole, fraction, large, weights = parts
        if whole is None:
            return None
        divisor = weights if is_mean else WEIGHT_SCALE
        small = quotient(whole * _PARTS_OF_ONE + fraction, _PARTS_OF_ONE * divisor)
        return small + large / divisor if small is not None and large else small

    return Recipe(parts, f"{total} / part_3" if is_mean else total, finish)


def _weighted_sum(number: str, value: Operand) -> Part:
    return Part(f"sumOrNull(toInt128({number}) * {weight_of(value)})", "sumOrNull")


def _weights(number: str, value: Operand) -> Part:
    return Part(f"sumIf({weight_of(value)}, isNotNull({number}))", "sum")


def _rate(parts: Sequence[Any], seconds: float) -> Number | None:
    return float(parts[0]) / WEIGHT_SCALE / seconds if seconds else None


# Enough for 18 quadrillion requests.
_REQUESTS = Part("sum(weight)", "sum")
_COUNTS = {
    "count": Recipe(
        (_REQUESTS,), "part_0", lambda p, _: quotient(p[0], WEIGHT_SCALE), is_additive=True
    ),
    "rate": Recipe((_REQUESTS,), "part_0", _rate, is_additive=True),
    "error_rate": Recipe(
        (Part("sumIf(weight, is_error)", "sum"), _REQUESTS),
        "part_0 / part_1",
        lambda p, _: quotient(p[0], p[1]),
        is_additive=True,
    ),
}
