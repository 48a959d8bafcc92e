# SPDX-License-Identifier: Apache-2.0
"""Tests of the rule table and the look-up that is made of it."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

import pytest

import otel_apinalytics
from otel_apinalytics.catalogue import FIELDS, WEIGHT_SCALE
from otel_apinalytics.normalize import lookup, rules
from otel_apinalytics.normalize.lookup import Numbering, look_up
from otel_apinalytics.normalize.mapping import NO_MAPPING
from otel_apinalytics.normalize.rules import EXPLICIT_PREFIX, RULES
from tests.unit.normalize.strategies import MAPPING

PACKAGE = Path(otel_apinalytics.__file__).parent
TARGETS = look_up(NO_MAPPING)

# What no attribute of a name sets: identity, and what the rules conclude.
CONCLUDED = {
    "timestamp", "application", "event_id", "trace_id", "span_id", "parent_span_id", "received_at",
    "consumer_source", "direction", "method", "url", "route_source", "status_code", "is_error",
    "is_stream", "response_us", "weight", "client_ip_hash", "attributes", "metrics",
}  # fmt: skip


def test_every_field_that_can_be_said_is_looked_up() -> None:
    """The application's own code can set it, under our prefix and the field's name."""
    said = {rule.field for rule in RULES if rule.field is not None}
    assert said == {field.name for field in FIELDS} - CONCLUDED
    attributes = {entry.attribute for target in TARGETS for entry in target.entries}
    assert {EXPLICIT_PREFIX + field for field in said} <= attributes


def test_no_field_has_two_rules() -> None:
    """One rule sets a field; a target's name is its own."""
    fields = Counter(rule.field for rule in RULES if rule.field is not None)
    targets = Counter(rule.target for rule in RULES)
    assert max(fields.values()) == max(targets.values()) == 1


def test_what_the_application_says_comes_first() -> None:
    """Then the operator's mapping, then the rule's sources (reference 4.2)."""
    for rule in RULES:
        (target,) = (t for t in look_up(MAPPING) if t.name == rule.target)
        names = [entry.attribute for entry in target.entries]
        said = [] if rule.field is None else [*rule.said, EXPLICIT_PREFIX + rule.field]
        sources = [name for source in rule.sources for name in source.attributes]
        assert names[: len(said)] == said
        assert names[len(names) - len(sources) :] == sources


def test_without_a_mapping_there_is_one_lane() -> None:
    """No attribute is read twice: a second lane would cost another pass over all attributes."""
    numbering = Numbering(TARGETS)
    assert len(numbering.span_lanes) == len(numbering.resource_lanes) == 1
    for of_resource in (False, True):
        names = Counter(
            entry.attribute
            for target in TARGETS
            for entry in target.entries
            if (entry.of_resource if of_resource else entry.of_span)
        )
        assert [name for name, count in names.items() if count > 1] == []


def test_numbers_tell_target_place_and_side() -> None:
    """Each entry has a number of its own, smaller ones win, the span before the resource."""
    numbering = Numbering(look_up(MAPPING))
    lanes = [*numbering.span_lanes, *numbering.resource_lanes]
    masked = Counter(n & lookup.NUMBER_MASK for lane in lanes for n in lane.numbers.values())
    assert max(masked.values()) == 1
    assert min(masked) >= 1 << lookup.PLACE_BITS
    for target in look_up(MAPPING):
        places = [
            number & ((1 << lookup.PLACE_BITS) - 1)
            for number in masked
            if number >> lookup.PLACE_BITS == numbering.of_target[target.name]
        ]
        assert len(places) == sum(e.of_span + e.of_resource for e in target.entries)
        assert all(place >> 1 < len(target.entries) for place in places)


def test_the_numbers_have_room() -> None:
    """No target has more entries, and there are no more targets, than the bits hold."""
    for mapping in (NO_MAPPING, MAPPING):
        targets = look_up(mapping)
        assert len(targets) < 1 << lookup.TARGET_BITS
        assert max(len(target.entries) for target in targets) << 1 < 1 << lookup.PLACE_BITS


def test_named_targets_know_their_attributes() -> None:
    """`consumer_source` is told by the number of what was found."""
    numbering = Numbering(TARGETS)
    named = {e.attribute for target in TARGETS if target.named for e in target.entries}
    assert set(numbering.sources.values()) == named
    assert set(rules.CONSUMER_PARTS) == {target.name for target in TARGETS if target.named}


def test_weights_are_whole_thousandths() -> None:
    """What is stored of a weight is a whole number."""
    assert WEIGHT_SCALE == 1000


# Read where no rule may have its way: what a row's place depends on, and a span's event.
RAW = {"service.name", "exception.type"}
ATTRIBUTES = {e.attribute for target in TARGETS for e in target.entries if "." in e.attribute}
# What senders set, in the example of the documentation.
EXAMPLE = PACKAGE / "api" / "openapi_ingest.py"
ELSEWHERE = sorted(
    path
    for path in PACKAGE.rglob("*.py")
    if path not in (Path(rules.__file__), EXAMPLE)
    and "demo" not in path.parts
    and path.name != "log_pb2.py"
)


@pytest.mark.parametrize("path", ELSEWHERE, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_attribute_names_are_in_the_table_only(path: Path) -> None:
    """Adding a name is one change in one place; nothing else knows any (documentation aside)."""
    tree = ast.parse(path.read_text("utf-8"))
    documentation = {
        id(statement.value) for statement in ast.walk(tree) if isinstance(statement, ast.Expr)
    }
    texts = [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and id(node) not in documentation
    ]
    # Also as a part of SQL: `'service.name'` within quotes.
    words = {word for text in texts for word in text.replace("'", " ").replace('"', " ").split()}
    assert words & (ATTRIBUTES | {"exception.type"}) <= RAW


def test_the_raw_names_are_attributes() -> None:
    """The exceptions of the test above are needed."""
    assert "service.name" in ATTRIBUTES
    assert len(ATTRIBUTES) > 200
