# SPDX-License-Identifier: Apache-2.0
"""Reading attributes in Python: of each target of the look-up, the first that is usable."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from collections.abc import Mapping as Values
from dataclasses import dataclass, field
from decimal import Decimal
from enum import IntEnum
from functools import lru_cache
from typing import TypeAlias

from otel_apinalytics.normalize import identity, rpc, urls
from otel_apinalytics.normalize import transforms as t
from otel_apinalytics.normalize.lookup import Entry, look_up
from otel_apinalytics.normalize.mapping import ATTRIBUTES, METRICS, Mapping
from otel_apinalytics.normalize.routes import route

Scalar: TypeAlias = str | bool | int | float
Attributes: TypeAlias = Values[str, Scalar | Sequence[Scalar]]
# Target, place in its order, from text to usable text, and whether it is kept where it was found.
_Reading: TypeAlias = tuple[str, int, Callable[[str], str], bool]

# What has few values in a program: what was made of the last ones is remembered. Never of what may
# be a secret.
_REMEMBERED = (
    t.label, t.word, t.environment, t.protocol_version, t.status_code, t.not_none, t.user_agent,
    urls.host, urls.ip_address, route, rpc.status,
)  # fmt: skip
_REMEMBERED_VALUES = 1024
_KEPT_RESOURCES = 16


class Part(IntEnum):
    """Parts of a call: what calls of one kind have in common, and what differs between them."""

    COMMON = 0
    PATH = 1
    CONSUMER = 2
    AGENT = 3
    ADDRESS = 4
    NUMBERS = 5


OWN_PARTS = tuple(part for part in Part if part is not Part.COMMON)
# The part that a target is of; the event's `attributes` and `metrics` are of the consumer's, all
# others are common.
_PARTS = {
    **dict.fromkeys(("url_path", "target", "full_url", "query_text"), Part.PATH),
    **dict.fromkeys(
        (
            "first_consumer", "client_id", "second_consumer", "tenant", "said_organization",
            "app_id", "developer_id", "plan_id",
        ),
        Part.CONSUMER,
    ),
    "user_agent": Part.AGENT,
    "client_address": Part.ADDRESS,
    **dict.fromkeys(
        (
            "upstream_us", "queue_us", "request_bytes", "response_bytes", "resend_count",
            "quota_consumed",
        ),
        Part.NUMBERS,
    ),
}  # fmt: skip
# What an INTERNAL span may tell its parent (`batch_rules`).
_TOLD = (
    "first_consumer", "client_id", "second_consumer", "tenant", "graphql_type", "graphql_name",
)  # fmt: skip
# Nothing that looks like a secret.
_ANY_WORD = "word"
# Places begin with 0.
_NOWHERE = 1 << 30


@dataclass(frozen=True, slots=True)
class _Index:
    """The look-up by attribute, for an application.

    Args:
        of_span: What to read from each attribute of a span.
        parts: The part that each attribute of a span belongs to.
        telling: Attributes of a span that may tell its parent something.
        secrets: Attributes of a span that are secrets, whatever they hold.
        of_resource: From each of a resource.
        nothing: Nothing found, of any target.
    """

    of_span: dict[str, list[_Reading]] = field(default_factory=dict)
    parts: dict[str, int] = field(default_factory=dict)
    telling: set[str] = field(default_factory=set)
    secrets: set[str] = field(default_factory=set)
    of_resource: dict[str, list[_Reading]] = field(default_factory=dict)
    nothing: dict[str, str] = field(default_factory=dict)


@lru_cache(maxsize=16)
def _index(mapping: Mapping, application: str | None) -> _Index:
    index = _Index()
    for target in look_up(mapping):
        index.nothing[target.name] = ""
        for number, entry in enumerate(target.entries):
            if entry.application not in (None, application):
                continue
            # The span's attribute wins over the resource's of the same name.
            for place, is_read, readings in (
                (2 * number, entry.of_span, index.of_span),
                (2 * number + 1, entry.of_resource, index.of_resource),
            ):
                if is_read:
                    reading = (target.name, place, _usable(entry), target.named)
                    readings.setdefault(entry.attribute, []).append(reading)
            if _is_secret(entry.transform.python(_ANY_WORD)):
                index.secrets.add(entry.attribute)
    for name, of_attribute in index.of_span.items():
        parts = {_part(target) for target, _, _, _ in of_attribute}
        # What is read for several is as good as common: those of one kind have the same of it.
        index.parts[name] = int(parts.pop() if len(parts) == 1 else Part.COMMON)
        if any(target in _TOLD for target, _, _, _ in of_attribute):
            index.telling.add(name)
    return index


def _is_secret(made: str) -> bool:
    return made[:1] == identity.MARK


def _part(target: str) -> Part:
    if target.startswith((ATTRIBUTES, METRICS)):
        return Part.CONSUMER
    return _PARTS.get(target, Part.COMMON)


def _usable(entry: Entry) -> Callable[[str], str]:
    read, takes_any_word = entry.transform.python, entry.transform.takes_any_word

    def usable(text: str) -> str:
        return read(text) if takes_any_word or not t.is_missing(text) else ""

    if entry.transform in _REMEMBERED:
        return lru_cache(maxsize=_REMEMBERED_VALUES)(usable)
    return _remembering_names(usable) if entry.transform is identity.identity else usable


def _remembering_names(usable: Callable[[str], str]) -> Callable[[str], str]:
    """Return how an identity is read, with what was made of the last ones that are no secrets."""
    names: dict[str, str] = {}

    def remembered(text: str) -> str:
        name = names.get(text)
        if name is None:
            name = usable(text)
            if not name.startswith(identity.MARK):
                if len(names) >= _REMEMBERED_VALUES:
                    names.clear()
                names[text] = name
        return name

    return remembered


@dataclass(slots=True)
class Found:
    """What was found.

    Args:
        texts: By target; empty where nothing was.
        places: Place of what was found, by target.
        sources: Attribute where it was found, by target that keeps it.
    """

    texts: dict[str, str]
    places: dict[str, int] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)

    def copy(self) -> Found:
        """Return what can be added to."""
        return Found(self.texts.copy(), self.places.copy(), self.sources.copy())


class Reader:
    """Reads the targets of the look-up from a span's attributes.

    Args:
        mapping: The operator's mapping.
        hash_key: The application's hash key; without it, what would be hashed is not usable.
        application: The application, for entries of the mapping that hold for one.
    """

    def __init__(self, mapping: Mapping, hash_key: bytes | None, application: str | None) -> None:
        self.hash_key = hash_key
        #: Targets of the event's `attributes` and of its `metrics`, by name.
        self.attributes = {n.removeprefix(ATTRIBUTES): n for n in mapping.names(ATTRIBUTES)}
        self.metrics = {n.removeprefix(METRICS): n for n in mapping.names(METRICS)}
        self._index = _index(mapping, application)
        # Spans share resources; one that is kept is not another one later.
        self._resources: dict[int, tuple[Attributes, Found]] = {}

    def read(self, attributes: Attributes, resource: Attributes) -> Found:
        """Return what was found in a span's attributes and in its resource's."""
        return self.read_more(self._of_resource(resource), attributes)

    def read_more(self, found: Found, attributes: Attributes) -> Found:
        """Return what was found already, and in further attributes of the span."""
        more = found.copy()
        self._take(more, attributes, self._index.of_span)
        return more

    def parted(self, attributes: Attributes) -> tuple[list[str], ...]:
        """Return names and texts of a span's attributes, by their part, one after the other.

        What no rule reads is in none.
        """
        parts: tuple[list[str], ...] = ([], [], [], [], [], [])
        part_of = self._index.parts
        for name, value in attributes.items():
            part = part_of.get(name)
            if part is not None:
                parts[part].append(name)
                parts[part].append(value if type(value) is str else text_of(value))
        return parts

    def _of_resource(self, resource: Attributes) -> Found:
        kept = self._resources.get(id(resource))
        if kept is not None:
            return kept[1]
        found = Found(self._index.nothing.copy())
        self._take(found, resource, self._index.of_resource)
        if len(self._resources) >= _KEPT_RESOURCES:
            self._resources.clear()
        self._resources[id(resource)] = resource, found
        return found

    def tells(self, attributes: Attributes) -> bool:
        """Return whether a span that is no call may tell its parent something."""
        return not self._index.telling.isdisjoint(attributes)

    def have_secret(self, attributes: Values[str, str]) -> bool:
        """Return whether one of these is a secret, or has one in it."""
        return not self._index.secrets.isdisjoint(attributes) or any(
            _is_secret(identity.identity.python(text)) or urls.redacted.python(text) != text
            for text in attributes.values()
        )

    def _take(
        self, found: Found, attributes: Attributes, readings: dict[str, list[_Reading]]
    ) -> None:
        texts, places, sources = found.texts, found.places, found.sources
        for name, value in attributes.items():
            read = readings.get(name)
            if read is None:
                continue
            text = value if type(value) is str else text_of(value)
            if not text:
                continue
            for target, place, usable, is_named in read:
                if place > places.get(target, _NOWHERE):
                    continue
                made = usable(text)
                if _is_secret(made):
                    made = identity.without_secret(made, self.hash_key)
                if made:
                    texts[target], places[target] = made, place
                    if is_named:
                        sources[target] = name


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
    if isinstance(value, (list, tuple)):
        return text_of(value[0]) if value else ""
    # What else OTLP can carry, no rule reads.
    return ""


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
