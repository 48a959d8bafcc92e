# SPDX-License-Identifier: Apache-2.0
"""Reading attributes in Python: of each target of the look-up, the first that is usable."""

from __future__ import annotations

import math
from collections.abc import Mapping as Values
from collections.abc import Sequence
from decimal import Decimal
from functools import lru_cache
from typing import TypeAlias

from otel_apinalytics.normalize import identity
from otel_apinalytics.normalize import transforms as t
from otel_apinalytics.normalize.lookup import Target, look_up
from otel_apinalytics.normalize.mapping import Mapping

Scalar: TypeAlias = str | bool | int | float
Attributes: TypeAlias = Values[str, Scalar | Sequence[Scalar]]


@lru_cache(maxsize=16)
def _targets(mapping: Mapping) -> tuple[Target, ...]:
    return look_up(mapping)


class Reader:
    """Reads the targets of the look-up from a span's attributes.

    Args:
        mapping: The operator's mapping.
        hash_key: The application's hash key; without it, what would be hashed is not usable.
        application: The application, for entries of the mapping that hold for one.
    """

    def __init__(self, mapping: Mapping, hash_key: bytes | None, application: str | None) -> None:
        self.mapping = mapping
        self.hash_key = hash_key
        self._application = application

    def read(
        self, attributes: Attributes, resource: Attributes
    ) -> tuple[dict[str, str], dict[str, str]]:
        """Return what was found by target, empty where nothing was, and where, if that is kept."""
        found, sources = {}, {}
        for target in _targets(self.mapping):
            found[target.name], source = self._first_usable(target, attributes, resource)
            if target.named:
                sources[target.name] = source
        return found, sources

    def _first_usable(
        self, target: Target, of_span: Attributes, of_resource: Attributes
    ) -> tuple[str, str]:
        for entry in target.entries:
            if entry.application not in (None, self._application):
                continue
            places = ((entry.of_span, of_span), (entry.of_resource, of_resource))
            for is_read, attributes in places:
                if not is_read or entry.attribute not in attributes:
                    continue
                text = text_of(attributes[entry.attribute])
                if not text or (t.is_missing(text) and not entry.transform.takes_any_word):
                    continue
                usable = entry.transform.python(text)
                value = identity.without_secret(usable, self.hash_key)
                if value:
                    return value, entry.attribute
        return "", ""


def text_of(value: Scalar | Sequence[Scalar]) -> str:
    """Return an attribute's value as the engine's toString() writes it; of an array the first."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return _float_text(value)
    # Of an array, the first element: captured headers are arrays of one.
    return text_of(value[0]) if value else ""


def _float_text(value: float) -> str:
    """Return a number as the engine's toString() writes it."""
    if not math.isfinite(value):
        return str(value)
    number = Decimal(repr(value))
    if value == 0 or 1e-6 <= abs(value) < 1e21:
        text = f"{number:f}"
        return text.rstrip("0").rstrip(".") if "." in text else text
    digits, exponent = f"{number.normalize():e}".split("e")
    return f"{digits}e{int(exponent)}"
