# SPDX-License-Identifier: Apache-2.0
"""The look-up: the rule table and a mapping, as one ordered list of attributes for each target.

Both renderings read it. In Python it is walked. In the engine it is data, not text: every attribute
name has a number, and one pass over a span's attributes finds them all; a look-up for each name
would cost ten times as much, to run and to analyze.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from otel_apinalytics.normalize import mapping as m
from otel_apinalytics.normalize.mapping import Mapping, transform_of
from otel_apinalytics.normalize.rules import EXPLICIT_PREFIX, RULES, Rule
from otel_apinalytics.normalize.transforms import Transform, label


@dataclass(frozen=True, slots=True)
class Entry:
    """One attribute that a target is read from.

    Args:
        attribute: Its name.
        transform: How it is read.
        of_span: Whether it is looked for among the span's attributes.
        of_resource: Whether it is looked for among the resource's.
        application: The application that it holds for; None for all.
    """

    attribute: str
    transform: Transform
    of_span: bool
    of_resource: bool
    application: str | None


@dataclass(frozen=True, slots=True)
class Target:
    """What the entries, in order, give: a field or a part of one."""

    name: str
    entries: tuple[Entry, ...]
    named: bool


def look_up(mapping: Mapping) -> tuple[Target, ...]:
    """Return the targets of all rules, with the mapping's entries at their places."""
    targets = [Target(r.target, tuple(_entries(r, mapping)), r.named) for r in RULES]
    for prefix in (m.ATTRIBUTES, m.METRICS):
        for name in mapping.names(prefix):
            targets.append(Target(name, tuple(_mapped(name, mapping)), named=False))
    return tuple(targets)


def _entries(rule: Rule, mapping: Mapping) -> Iterator[Entry]:
    if rule.field is not None:
        transform = transform_of(rule.field)
        of_resource = rule.of_both or rule.of_resource
        for name in (*rule.said, EXPLICIT_PREFIX + rule.field):
            yield Entry(name, transform, True, of_resource, None)
        yield from _mapped(rule.field, mapping)
    for source in rule.sources:
        of_both = rule.of_both or source.of_both
        of_span = of_both or not rule.of_resource
        of_resource = of_both or rule.of_resource
        for name in source.attributes:
            yield Entry(name, source.transform, of_span, of_resource, None)


def _mapped(target: str, mapping: Mapping) -> Iterator[Entry]:
    for entry in mapping.for_target(target):
        for name in entry.attributes:
            yield Entry(name, entry.transform, True, True, entry.application)


# ---- as numbers, for the engine ----
#
# 12 bits of the transform, 10 of the target (from 1), 10 of the place in its order. Of two
# attributes for one target, the one with the smaller number wins.

PLACE_BITS = 10
TARGET_BITS = 10
# The number of the transform that most have.
DEFAULT_TRANSFORM = 0
NUMBER_MASK = (1 << (TARGET_BITS + PLACE_BITS)) - 1
# Between the application and the attribute in the names of a lane for applications.
SEPARATOR = "\0"


@dataclass(frozen=True, slots=True)
class Lane:
    """Attribute names with their numbers; a name is in it once.

    Args:
        numbers: Name → number.
        of_applications: Whether the names begin with the application and a separator.
    """

    numbers: dict[str, int]
    of_applications: bool


class Numbering:
    """Numbers for the entries of a look-up.

    Args:
        targets: The look-up.
    """

    def __init__(self, targets: tuple[Target, ...]) -> None:
        self._transforms: list[Transform] = [label]
        self.of_target = {target.name: number for number, target in enumerate(targets, 1)}
        self.span_lanes: list[Lane] = []
        self.resource_lanes: list[Lane] = []
        #: Number without its transform → the attribute's name, of targets that keep it.
        self.sources: dict[int, str] = {}
        for target in targets:
            for place, entry in enumerate(target.entries):
                self._add(target, place, entry)

    def used_in(self, lanes: Iterable[Lane]) -> dict[int, Transform]:
        """Return the transforms of some lanes, by their numbers."""
        numbers = {
            number >> (TARGET_BITS + PLACE_BITS)
            for lane in lanes
            for number in lane.numbers.values()
        }
        return {number: self._transforms[number] for number in sorted(numbers)}

    def _add(self, target: Target, place: int, entry: Entry) -> None:
        if entry.transform not in self._transforms:
            self._transforms.append(entry.transform)
        transform = self._transforms.index(entry.transform) << (TARGET_BITS + PLACE_BITS)
        # The span's attribute wins over the resource's of the same name.
        of_span = self.of_target[target.name] << PLACE_BITS | place << 1
        if entry.of_span:
            _put(self.span_lanes, entry, transform | of_span)
        if entry.of_resource:
            _put(self.resource_lanes, entry, transform | of_span | 1)
        if target.named:
            self.sources[of_span] = self.sources[of_span | 1] = entry.attribute


def _put(lanes: list[Lane], entry: Entry, number: int) -> None:
    """Put an entry into the first lane that has no such name: an attribute may set several."""
    of_applications = entry.application is not None
    name = (
        f"{entry.application}{SEPARATOR}{entry.attribute}" if of_applications else entry.attribute
    )
    for lane in lanes:
        if lane.of_applications == of_applications and name not in lane.numbers:
            lane.numbers[name] = number
            return
    lanes.append(Lane({name: number}, of_applications))
