# SPDX-License-Identifier: Apache-2.0
"""Fields in SQL: what a query reads, groups and filters by for each field of the catalogue.

The expressions name columns of `events`, and the parameters of `expression_parameters`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timezone
from types import MappingProxyType
from typing import Any

from otel_apinalytics.catalogue import Field, FieldType
from otel_apinalytics.query.statement import MAX_SECONDS, range_condition
from otel_apinalytics.query.zones import DAY_S, LocalTime
from otel_apinalytics.store.keys import BOUND_FIELDS

_MAX_US = MAX_SECONDS * 1_000_000
_DAY_US = DAY_S * 1_000_000
IN_UTC = LocalTime(timezone.utc, 0, 1)

# The children of a call begin after it, and rarely a day later. The set of all spans is in memory:
# with hashes it takes a quarter, and two that are equal are as rare as two equal events. Spans that
# who asks may not see are none: whether there is one would be told.
_ARE_VISIBLE = " AND ".join(
    f"(%(parents_{name})s = '' OR events.{name} = %(parents_{name})s)" for name in BOUND_FIELDS
)
_IS_EDGE = (
    "if(parent_span_id = toFixedString('', 8) OR sipHash64(trace_id, parent_span_id) NOT IN "
    "(SELECT sipHash64(trace_id, span_id) FROM events "
    f"WHERE {range_condition('parents_start_us', 'parents_end_us')} AND {_ARE_VISIBLE}), "
    "'true', 'false')"
)
# Texts that are computed; `{local}` stands for local time. No per cent sign: it is the parameters'.
_VIRTUAL = {
    "status_class": "ifNull(concat(toString(intDiv(status_code, 100)), 'xx'), '')",
    "is_edge": _IS_EDGE,
    "hour_of_day": "toString(modulo(intDiv({local}, 3600), 24))",
    "weekday": f"toString(modulo(intDiv({{local}}, {DAY_S}), 7) + 1)",
}
_ENTRY_TYPES = {FieldType.TEXT_MAP: FieldType.TEXT, FieldType.NUMBER_MAP: FieldType.NUMBER}


@dataclass(frozen=True, slots=True)
class Operand:
    """What a question is about: a field, or an entry of a field that is a map.

    Args:
        field: The field.
        entry: For a map, the entry's name; else None.
    """

    field: Field
    entry: str | None = None

    @property
    def name(self) -> str:
        """The public name, such as `method` or `attributes.plan`."""
        return self.field.name if self.entry is None else f"{self.field.name}.{self.entry}"

    @property
    def type(self) -> FieldType:
        """The type of the value."""
        return _ENTRY_TYPES.get(self.field.type, self.field.type)


def follow_hours(operands: Iterable[Operand], local: LocalTime) -> bool:
    """Whether all that happens in an hour has the same of what depends on where the day begins.

    Args:
        operands: Dimensions.
        local: Where it begins.
    """
    return local.has_full_hours or not any(
        "{local}" in _VIRTUAL.get(operand.name, "") for operand in operands
    )


def is_map(field: Field) -> bool:
    """Whether only the entries of a field have values, not the field itself."""
    return field.type in _ENTRY_TYPES


def text_expression(operand: Operand, role: str, local: LocalTime = IN_UTC) -> str:
    """Return a dimension as text; missing is empty.

    Args:
        operand: The dimension.
        role: Tells its parameter from those of others in the statement.
        local: Where the day begins.
    """
    name = operand.field.name
    if operand.entry is not None:
        return f"{name}[%({_entry_parameter(role)})s]"
    if operand.field.virtual:
        return _VIRTUAL[name].replace("{local}", local.seconds)
    if operand.type is FieldType.TEXT:
        return name
    return f"ifNull(toString({name}), '')"


def number_expression(operand: Operand, role: str) -> str:
    """Return a measure as it is stored, times the field's scale; missing is null.

    Args:
        operand: The measure.
        role: Tells its parameter from those of others in the statement.
    """
    name = operand.field.name
    if operand.entry is None:
        return name
    # An entry that is not there would be zero.
    entry = f"%({_entry_parameter(role)})s"
    return f"if(mapContains({name}, {entry}), {name}[{entry}], NULL)"


def public_column(field: Field) -> str:
    """Return a stored field as it is written in JSON, under its name; missing is null."""
    return f"{public_value(field)} AS {field.name}"


def public_value(field: Field) -> str:
    """Return a stored field as it is written in JSON; missing is null.

    Its column is qualified, for its name may be that of the result.
    """
    column = f"events.{field.name}"
    if field.type is FieldType.TIME:
        # Seconds, to the microsecond.
        return f"CAST({column} AS Decimal(18, 6))"
    if field.type is FieldType.HEX:
        zero = "0" * 2 * (field.maximum or 0)
        return f"nullIf(lower(hex({column})), '{zero}')"
    if field.column == "UInt64" and field.type is FieldType.INTEGER:
        # Numbers of JSON have 53 bits in most programs.
        return f"toString({column})"
    if field.type is FieldType.TEXT:
        return f"nullIf({column}, '')"
    return f"{column} / {field.scale}" if field.scale > 1 else column


def expression_parameters(
    start_us: int,
    end_us: int,
    operands: Iterable[tuple[str, Operand]],
    visible: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, Any]:
    """Return the parameters that the expressions of operands name.

    Args:
        start_us: Start of the question's range, Unix microseconds.
        end_us: End of the question's range, Unix microseconds.
        operands: Role and operand of each expression.
        visible: Field of `BOUND_FIELDS` → value: the only events that may be seen.
    """
    entries = {
        _entry_parameter(role): operand.entry
        for role, operand in operands
        if operand.entry is not None
    }
    return {
        "parents_start_us": max(start_us - _DAY_US, 0),
        "parents_end_us": min(end_us + _DAY_US, _MAX_US),
        **{f"parents_{name}": visible.get(name, "") for name in BOUND_FIELDS},
        **entries,
    }


def _entry_parameter(role: str) -> str:
    return f"{role}_entry"
