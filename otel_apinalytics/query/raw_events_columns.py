# SPDX-License-Identifier: Apache-2.0
"""What raw events show: the columns that can be chosen, and their values in SQL by format."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from otel_apinalytics.catalogue import BY_NAME, FIELDS, FieldType
from otel_apinalytics.errors import InvalidRequestError
from otel_apinalytics.query.csv_cells import guarded_sql
from otel_apinalytics.query.expressions import (
    Operand,
    is_map,
    number_expression,
    public_value,
    text_expression,
)
from otel_apinalytics.query.parameters import find_operand
from otel_apinalytics.query.positions import CURSOR
from otel_apinalytics.query.zones import LocalTime

FORMATS = ("ndjson", "csv", "parquet")
MAX_COLUMNS = 200
_CURSOR_NAME = "cursor"
# Names of entries become names of columns in the statement.
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_.:/-]+")


@dataclass(frozen=True, slots=True)
class Column:
    """A column of raw events.

    Args:
        name: Its name in the answer.
        operand: What is in it; None for the event's cursor.
    """

    name: str
    operand: Operand | None

    @property
    def type(self) -> FieldType:
        """The type of its values."""
        if self.operand is None:
            return FieldType.TEXT
        return self.operand.field.type if self.operand.entry is None else self.operand.type


DEFAULT_COLUMNS = (
    *(Column(field.name, Operand(field)) for field in FIELDS),
    Column(_CURSOR_NAME, None),
)


def parse_columns(text: str) -> tuple[Column, ...]:
    """Return the columns that a list of names stands for, in its order; by default all stored ones.

    Args:
        text: Names of fields, of entries such as `attributes.plan`, and `cursor`, between commas.

    Raises:
        InvalidRequestError: One is none of them, is there twice, or there are too many.
    """
    if not text:
        return DEFAULT_COLUMNS
    names = text.split(",")
    if len(names) > MAX_COLUMNS or len(set(names)) < len(names):
        raise InvalidRequestError(
            "fields has a name twice, or too many",
            parameter="fields",
            value=text,
            allowed=f"at most {MAX_COLUMNS} different names",
        )
    return tuple(map(_parse_column, names))


def selected(columns: Sequence[Column], form: str, local: LocalTime) -> list[str]:
    """Return the columns as expressions of SQL, each under its name.

    Args:
        columns: The columns.
        form: One of `FORMATS`.
        local: Where the day begins, for hour_of_day and weekday.
    """
    value = _VALUES[form]
    return [
        f"{CURSOR if each.operand is None else value(each.operand, role, local)} AS `{each.name}`"
        for role, each in _roles(columns)
    ]


def operands(columns: Sequence[Column]) -> list[tuple[str, Operand]]:
    """Return role and operand of each column, for `expression_parameters`."""
    return [(role, each.operand) for role, each in _roles(columns) if each.operand is not None]


def _roles(columns: Sequence[Column]) -> list[tuple[str, Column]]:
    return [(f"column_{number}", each) for number, each in enumerate(columns)]


def _parse_column(name: str) -> Column:
    if name == _CURSOR_NAME:
        return Column(name, None)
    if name in BY_NAME:
        return Column(name, Operand(BY_NAME[name]))
    operand = find_operand(name, ("attributes", "metrics"))
    if operand is None or not _PLAIN_NAME.fullmatch(name):
        raise InvalidRequestError(
            "fields has a name that is none of a field",
            parameter="fields",
            value=name,
            allowed="names of fields between commas, attributes.NAME and metrics.NAME with NAME of "
            f"letters, digits and . _ : / -, and cursor; fields are {', '.join(BY_NAME)}",
        )
    return Column(name, operand)


def _json(operand: Operand, role: str, local: LocalTime) -> str:
    """Return a value as it is in JSON; missing is null."""
    if operand.entry is None and not operand.field.virtual:
        return public_value(operand.field)
    if operand.type is FieldType.NUMBER:
        return number_expression(operand, role)
    text = text_expression(operand, role, local)
    if operand.type is FieldType.BOOLEAN:
        return f"toBool({text} = 'true')"
    return f"nullIf({text}, '')"


def _csv(operand: Operand, role: str, local: LocalTime) -> str:
    """Return a value as it is written in CSV; missing is null."""
    field = operand.field
    if operand.type is FieldType.TIME:
        return f"events.{field.name}"
    if operand.entry is None and is_map(field):
        return f"toValidUTF8(toJSONString(events.{field.name}))"
    if operand.type is not FieldType.TEXT:
        return _json(operand, role, local)
    text = f"events.{field.name}"
    if operand.entry is not None or field.virtual:
        text = text_expression(operand, role, local)
    return f"nullIf({guarded_sql(f'toValidUTF8({text})')}, '')"


def _parquet(operand: Operand, role: str, local: LocalTime) -> str:
    """Return a value from which that of a typed column is made."""
    if operand.type is FieldType.TIME:
        return f"toUnixTimestamp64Micro(events.{operand.field.name})"
    if operand.type is FieldType.INTEGER:
        return f"events.{operand.field.name}"
    return _json(operand, role, local)


_VALUES: Mapping[str, Callable[[Operand, str, LocalTime], str]] = {
    "ndjson": _json,
    "csv": _csv,
    "parquet": _parquet,
}
