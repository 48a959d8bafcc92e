# SPDX-License-Identifier: Apache-2.0
"""The SQL of a look-up: from attributes to one column for each target.

Attributes are handled as arrays, all of a span's at once: text, number of the look-up, transform,
sorted by number. Each target then takes the first of its own.
"""

from __future__ import annotations

from collections.abc import Iterable

from otel_apinalytics.normalize import transforms as t
from otel_apinalytics.normalize.identity import without_secret_sql
from otel_apinalytics.normalize.lookup import (
    DEFAULT_TRANSFORM,
    NUMBER_MASK,
    PLACE_BITS,
    SEPARATOR,
    TARGET_BITS,
    Lane,
    Numbering,
)
from otel_apinalytics.normalize.transforms import Transform, sql_text

_LONGEST = max(map(len, t.MISSING_WORDS))
_SCALARS = ("string_value", "int_value", "double_value", "bool_value")


def item(value: str, *names: str) -> str:
    """Return an element of a named tuple, or one of an element, and so on."""
    for name in names:
        value = f"tupleElement({value}, '{name}')"
    return value


def texts(attributes: str) -> str:
    """Return an array with each attribute's value as text, empty where it has none."""
    value = item(attributes, "value")
    arguments = [item(value, name) for name in _SCALARS]
    arguments.append(item(value, "array_value", "values"))

    def text(string: str, integer: str, double: str, boolean: str) -> str:
        truth = f"multiIf({boolean} = 0, 'false', {boolean} > 0, 'true', NULL)"
        return f"{string}, toString({integer}), toString({double}), {truth}"

    # Of an array, the first element: captured headers are arrays of one.
    first = text(*(item("items[1]", name) for name in _SCALARS))
    any_text = f"toValidUTF8(coalesce({text('s', 'i', 'd', 'b')}, {first}, ''))"
    return f"arrayMap((s, i, d, b, items) -> {any_text}, {', '.join(arguments)})"


def found(lanes: list[Lane], numbering: Numbering, columns: str, source: str) -> str:
    """Return a SELECT with the columns `numbers` and `usable`, arrays of equal length.

    Args:
        lanes: Numbers of attribute names.
        numbering: Where they are from.
        columns: What else to carry along.
        source: A SELECT with these and the columns `keys` and `texts`.
    """
    known = _concat([_numbers(lane) for lane in lanes] or ["emptyArrayUInt32()"])
    repeated = _concat(["texts"] * len(lanes) or ["emptyArrayString()"])
    looked_up = f"SELECT {columns}, {known} AS known, {repeated} AS texts FROM ({source})"
    which = f"arrayMap(n -> bitShiftRight(n, {PLACE_BITS + TARGET_BITS}), known)"
    made_usable = _usable(numbering.used_in(lanes))
    usable = f"arrayMap((n, w, t) -> {made_usable}, known, {which}, texts) AS usable"
    made = f"SELECT {columns}, known, {usable} FROM ({looked_up})"
    # Zero is no target's.
    left = f"arrayMap((n, u) -> if(u = '', 0, bitAnd(n, {NUMBER_MASK})), known, usable)"
    without_secrets = f"arrayMap(u -> {without_secret_sql('u')}, usable)"
    return f"SELECT {columns}, {without_secrets} AS usable, {left} AS numbers FROM ({made})"


def in_order(found: str) -> str:
    """Return a SELECT with the columns `sorted_texts`, `sorted_numbers`, `sorted_targets`.

    Args:
        found: A SELECT with `usable` and `numbers`; its other columns are kept.
    """
    sorted_ = (
        "SELECT * EXCEPT (usable, numbers), arraySort((u, n) -> n, usable, numbers) "
        f"AS sorted_texts, arraySort(numbers) AS sorted_numbers FROM ({found})"
    )
    of_targets = f"arrayMap(n -> bitShiftRight(n, {PLACE_BITS}), sorted_numbers)"
    return f"SELECT *, {of_targets} AS sorted_targets FROM ({sorted_})"


def column_of(target: str) -> str:
    """Return the column of a target; one of the mapping's has a dot in it."""
    return f"`got_{target}`"


def of_targets(names: Iterable[str], numbering: Numbering) -> dict[str, str]:
    """Return columns `got_<target>`, from the columns `sorted_texts` and `sorted_targets`."""
    return {
        column_of(name): f"sorted_texts[indexOf(sorted_targets, {numbering.of_target[name]})]"
        for name in names
    }


def numbers_of(names: Iterable[str], numbering: Numbering) -> dict[str, str]:
    """Return columns `number_<target>`: the number of the attribute that a target was found in."""
    return {
        f"number_{name}": f"sorted_numbers[indexOf(sorted_targets, {numbering.of_target[name]})]"
        for name in names
    }


def source_of(number: str, numbering: Numbering) -> str:
    """Return the name of the attribute with a number."""
    old = "[" + ", ".join(map(str, numbering.sources)) + "]"
    new = "[" + ", ".join(map(sql_text, numbering.sources.values())) + "]"
    return f"transform({number}, {old}, {new}, '')"


def _numbers(lane: Lane) -> str:
    names = "[" + ", ".join(map(sql_text, lane.numbers)) + "]"
    numbers = "[" + ", ".join(map(str, lane.numbers.values())) + "]"
    key = f"concat(application, {sql_text(SEPARATOR)}, k)" if lane.of_applications else "k"
    return f"arrayMap(k -> transform({key}, {names}, {numbers}, toUInt32(0)), keys)"


def _concat(arrays: list[str]) -> str:
    return arrays[0] if len(arrays) == 1 else f"arrayConcat({', '.join(arrays)})"


def _usable(transforms: dict[int, Transform]) -> str:
    """Return text `t` of the attribute with number `n` after the transform `w`."""
    # Only short texts can be such a word, and most are longer.
    is_missing = [f"length(t) <= {_LONGEST}", t.is_missing_sql("t")]
    any_word = [str(i) for i, made in transforms.items() if made.takes_any_word]
    if any_word:
        is_missing.append(f"w NOT IN ({', '.join(any_word)})")
    cases = ["n = 0, ''", f"{t.all_of(*is_missing)}, ''"]
    others = {i: made for i, made in transforms.items() if i != DEFAULT_TRANSFORM}
    cases += [f"w = {i}, {made.sql('t')}" for i, made in others.items() if not made.is_rare]
    # The engine looks at these for nothing unless an attribute needs one.
    rare = {i: made for i, made in others.items() if made.is_rare}
    if rare:
        made_rarely = ", ".join(f"w = {i}, {made.sql('t')}" for i, made in rare.items())
        cases.append(f"w IN ({', '.join(map(str, rare))}), multiIf({made_rarely}, '')")
    return f"multiIf({', '.join(cases)}, {t.label.sql('t')})"
