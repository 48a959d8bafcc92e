# SPDX-License-Identifier: Apache-2.0
"""What the parameters of all questions share: each is known, given once, and means something."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from otel_apinalytics.catalogue import BY_NAME, MAX_ENTRY_NAME_LENGTH
from otel_apinalytics.errors import InvalidRequestError
from otel_apinalytics.query.expressions import Operand, is_map


def split_parameters(
    parameters: Sequence[tuple[str, str]],
    known: Sequence[str],
    repeatable: Collection[str] = (),
) -> tuple[Mapping[str, str], Mapping[str, list[str]]]:
    """Return the parameters that are given once, and all values but empty ones of the others.

    Args:
        parameters: Names and values of the query string, in order.
        known: Names that there are.
        repeatable: Those of them that may be given several times; each is in the result.

    Raises:
        InvalidRequestError: One is not known, or given twice.
    """
    single: dict[str, str] = {}
    several: dict[str, list[str]] = {name: [] for name in repeatable}
    for name, value in parameters:
        if name not in known:
            raise InvalidRequestError(
                f"unknown parameter {name!r}",
                parameter=name,
                value=value,
                allowed=", ".join(known) or "none",
            )
        if name in several:
            several[name] += [value] if value else []
        elif name in single:
            raise InvalidRequestError(
                f"parameter {name!r} is given twice",
                parameter=name,
                value=value,
                allowed="one value",
            )
        else:
            single[name] = value
    return single, several


def parse_choice(parameter: str, text: str, choices: Sequence[str]) -> str:
    """Return one of some words; the first of them if there is no text.

    Raises:
        InvalidRequestError: It is none of them.
    """
    if text and text not in choices:
        raise InvalidRequestError(
            f"unknown {parameter}", parameter=parameter, value=text, allowed=", ".join(choices)
        )
    return text or choices[0]


def parse_limit(text: str, maximum: int, of: str) -> int | None:
    """Return how many are asked for; None if there is no text.

    Args:
        text: A number from 1 to the maximum.
        maximum: How many there can be.
        of: What they are, for the error.

    Raises:
        InvalidRequestError: It is no such number.
    """
    if not text:
        return None
    # As many digits as the maximum has: a number of thousands of them is not even read.
    is_short = text.isascii() and text.isdigit() and len(text) <= len(str(maximum))
    if is_short and 1 <= int(text) <= maximum:
        return int(text)
    raise InvalidRequestError(
        f"limit is not a number of {of}",
        parameter="limit",
        value=text,
        allowed=f"1 to {maximum}",
    )


def parse_operand(parameter: str, name: str, allowed: Sequence[str]) -> Operand:
    """Return a field, or an entry of a map, by its name.

    Args:
        parameter: Its name, for the error.
        name: Such as `method` or `attributes.plan`.
        allowed: Names of the fields that can be used so.

    Raises:
        InvalidRequestError: It is none of them.
    """
    operand = find_operand(name, allowed)
    if operand is None:
        raise InvalidRequestError(
            f"{parameter} is not a field that can be used so",
            parameter=parameter,
            value=name,
            allowed=field_names(allowed),
        )
    return operand


def find_operand(name: str, allowed: Sequence[str]) -> Operand | None:
    """Return the field of that name, or the entry of a map, such as `attributes.plan`."""
    if name in allowed:
        return None if is_map(BY_NAME[name]) else Operand(BY_NAME[name])
    map_name, _, entry = name.partition(".")
    if map_name not in allowed or not is_map(BY_NAME[map_name]):
        return None
    return Operand(BY_NAME[map_name], entry) if 0 < len(entry) <= MAX_ENTRY_NAME_LENGTH else None


def field_names(fields: Sequence[str]) -> str:
    """Return in words what can be named: fields, and the entries of those that are maps."""
    return ", ".join(f"{name}.NAME" if is_map(BY_NAME[name]) else name for name in fields)
