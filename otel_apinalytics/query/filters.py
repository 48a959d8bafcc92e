# SPDX-License-Identifier: Apache-2.0
"""Filters: `include` and `exclude`, from text to conditions on events.

Values of one field are joined by "or", fields of `include` by "and"; `exclude` takes out what
matches any. A star stands for any text; what is missing is the empty value, and no text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from otel_apinalytics.catalogue import DIMENSIONS, FieldType
from otel_apinalytics.errors import InvalidRequestError
from otel_apinalytics.query.expressions import IN_UTC, Operand, text_expression
from otel_apinalytics.query.parameters import field_names, find_operand
from otel_apinalytics.query.zones import LocalTime

# A statement repeats them up to six times, and text grows by up to four times on the way: a tenth
# of what the engine reads.
MAX_FILTERS = 500
MAX_CHARACTERS = 32_768
# Each is read for itself, and takes the engine milliseconds before it begins to read.
MAX_NAMES = 50
REPEATABLE = ("include", "exclude")

_WILDCARD = re.compile(r"(?<!\\)\*")
_INTEGER = re.compile(r"[0-9]{1,20}")
_INTEGER_PATTERN = re.compile(r"[0-9*]{1,20}")
_CLASS = re.compile(r"([1-9])xx")
# Of the engine's LIKE; an escaped star is a star.
_LIKE = {r"\*": "*", "*": "%", "%": r"\%", "_": r"\_", "\\": r"\\"}
_LIKE_TOKEN = re.compile(r"\\\*|[*%_\\]")


@dataclass(frozen=True, slots=True)
class Filter:
    """What a dimension may be.

    Args:
        operand: The dimension.
        texts: Its values; missing is the empty text.
        patterns: Patterns of its values in the form of LIKE, for what is not missing.
    """

    operand: Operand
    texts: tuple[str, ...] = ()
    patterns: tuple[str, ...] = ()

    def condition(self, role: str, local: LocalTime = IN_UTC) -> str:
        """Return the condition that an event matches, in SQL; it is never null.

        Args:
            role: Tells its parameters from those of others in the statement.
            local: Where the day begins.
        """
        text = text_expression(self.operand, role, local)
        likes = [f"{text} LIKE %({role}_like_{n})s" for n, _ in enumerate(self.patterns)]
        alternatives = [f"{text} IN %({role})s"] if self.texts else []
        alternatives += [f"({text} != '' AND ({' OR '.join(likes)}))"] if likes else []
        return f"({' OR '.join(alternatives)})"

    def parameters(self, role: str) -> Mapping[str, Any]:
        """Return the parameters that the condition names, but for those of the operand."""
        patterns = {f"{role}_like_{n}": pattern for n, pattern in enumerate(self.patterns)}
        return {role: self.texts, **patterns}


@dataclass(frozen=True, slots=True)
class Filters:
    """What events must match, and what they must not; by default nothing.

    Args:
        include: All of them must match.
        exclude: None of them may match.
    """

    include: tuple[Filter, ...] = ()
    exclude: tuple[Filter, ...] = ()

    def roles(self) -> Iterator[tuple[str, Filter]]:
        """Yield each filter with a name of its own in the statement."""
        for name, filters in (("include", self.include), ("exclude", self.exclude)):
            for number, each in enumerate(filters):
                yield f"{name}_{number}", each

    def operands(self) -> Iterator[tuple[str, Operand]]:
        """Yield role and dimension of each filter, for `expression_parameters`."""
        for role, each in self.roles():
            yield role, each.operand

    def conditions(self, local: LocalTime = IN_UTC) -> list[str]:
        """Return the conditions in SQL, to be joined by AND.

        They name the parameters of `parameters`, and those that `expression_parameters` gives for
        `operands`.

        Args:
            local: Where the day begins, for hour_of_day and weekday.
        """
        return [
            f"NOT {each.condition(role, local)}"
            if role.startswith("exclude")
            else each.condition(role, local)
            for role, each in self.roles()
        ]

    def parameters(self) -> dict[str, Any]:
        """Return the parameters of the conditions."""
        return {
            name: value
            for role, each in self.roles()
            for name, value in each.parameters(role).items()
        }

    def and_also(self, include: Sequence[Filter]) -> Filters:
        """Return filters that demand more."""
        return Filters((*self.include, *include), self.exclude)


NO_FILTERS = Filters()


def visible_values(mandatory: Sequence[Filter]) -> dict[str, str]:
    """Return field → value of filters of one value each, for `expression_parameters`."""
    values = {}
    for each in mandatory:
        (values[each.operand.name],) = each.texts
    return values


def parse_filters(include: Sequence[str], exclude: Sequence[str] = ()) -> Filters:
    """Return the filters that the values of `include` and `exclude` stand for.

    Raises:
        InvalidRequestError: One is not field:value, or too many are given.
    """
    for parameter, texts in (("include", include), ("exclude", exclude)):
        if len(texts) > MAX_FILTERS or sum(map(len, texts)) > MAX_CHARACTERS:
            raise InvalidRequestError(
                f"too many filters: {len(texts)} of {sum(map(len, texts))} characters",
                parameter=parameter,
                value=str(len(texts)),
                allowed=f"at most {MAX_FILTERS} values of {MAX_CHARACTERS} characters in all; "
                "a star stands for any text",
            )
    return Filters(_parse("include", include), _parse("exclude", exclude))


def _parse(parameter: str, texts: Sequence[str]) -> tuple[Filter, ...]:
    exact: dict[Operand, list[str]] = {}
    patterns: dict[Operand, list[str]] = {}
    for text in texts:
        name, colon, value = text.partition(":")
        operand = find_operand(name, DIMENSIONS)
        if not colon or operand is None:
            raise InvalidRequestError(
                f"{parameter} is not field:value",
                parameter=parameter,
                value=text,
                allowed=f"field:value with a field of {field_names(DIMENSIONS)}",
            )
        if (allowed := _refusal(operand, value)) is not None:
            raise InvalidRequestError(
                f"{parameter}: {operand.name} cannot have this value",
                parameter=parameter,
                value=text,
                allowed=allowed,
            )
        exact.setdefault(operand, [])
        patterns.setdefault(operand, [])
        if sum(each.entry is not None for each in exact) > MAX_NAMES:
            raise InvalidRequestError(
                f"{parameter} names too many attributes",
                parameter=parameter,
                value=text,
                allowed=f"at most {MAX_NAMES} different names",
            )
        if (pattern := _pattern(operand, value)) is not None:
            patterns[operand].append(pattern)
        else:
            exact[operand].append(_exact(operand, value))
    return tuple(Filter(each, tuple(exact[each]), tuple(patterns[each])) for each in exact)


def _refusal(operand: Operand, value: str) -> str | None:
    """Return what the dimension could be instead, or None if it can be this."""
    if operand.type is FieldType.BOOLEAN and value not in ("true", "false"):
        return "true or false"
    choices = operand.field.choices if operand.entry is None else ()
    if choices and value and value not in choices and not _WILDCARD.search(value):
        return f"{', '.join(choices)}, stars for any text, or nothing for a missing one"
    is_number = not value or _INTEGER_PATTERN.fullmatch(value) or _CLASS.fullmatch(value)
    if operand.type is FieldType.INTEGER and not is_number:
        return "an integer, a class such as 5xx, stars for digits, or nothing for a missing one"
    return None


def _pattern(operand: Operand, value: str) -> str | None:
    if operand.type is FieldType.INTEGER and (match := _CLASS.fullmatch(value)):
        return f"{match[1]}__"
    if not _WILDCARD.search(value):
        return None
    return _LIKE_TOKEN.sub(lambda token: _LIKE[token[0]], value)


def _exact(operand: Operand, value: str) -> str:
    if operand.type is FieldType.INTEGER and _INTEGER.fullmatch(value):
        return str(int(value))
    return value.replace(r"\*", "*")
