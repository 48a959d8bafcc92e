# SPDX-License-Identifier: Apache-2.0
"""Tests of the catalogue: its entries are consistent, and public names stay."""

from __future__ import annotations

import pytest

from otel_apinalytics.catalogue import (
    BY_NAME,
    DIMENSIONS,
    FIELDS,
    MEASURES,
    VIRTUAL_FIELDS,
    Field,
    FieldType,
    Role,
)

CLASSIC = (
    "timestamp", "consumer_id", "method", "url", "function", "response_us", "status_code",
)  # fmt: skip
ALL = (*FIELDS, *VIRTUAL_FIELDS)
NUMBERS = (FieldType.INTEGER, FieldType.NUMBER)
MAPS = (FieldType.TEXT_MAP, FieldType.NUMBER_MAP)
each_field = pytest.mark.parametrize("field", ALL, ids=lambda field: field.name)
each_virtual_field = pytest.mark.parametrize("field", VIRTUAL_FIELDS, ids=lambda field: field.name)


def test_names_are_unique() -> None:
    """A name stands for one field."""
    assert list(BY_NAME) == [field.name for field in ALL]
    assert len(BY_NAME) == len(ALL)


@pytest.mark.parametrize("name", CLASSIC)
def test_the_fields_of_2014_can_still_be_sent(name: str) -> None:
    """A client of 2014 finds its seven fields."""
    assert BY_NAME[name].in_event


def test_only_the_time_is_required() -> None:
    """A missing field is no reason to refuse an event."""
    assert [field.name for field in FIELDS if field.required] == ["timestamp"]


def test_roles_are_complete() -> None:
    """Every field is a dimension, a measure or an identity, and the lists say which."""
    assert set(DIMENSIONS) == {field.name for field in ALL if field.role is Role.DIMENSION}
    assert set(MEASURES) == {field.name for field in ALL if field.role is Role.MEASURE}
    assert "response_us" in MEASURES


@each_field
def test_a_description_is_a_sentence(field: Field) -> None:
    """Users read it in documentation and menus."""
    assert field.description[0] in "ABCDEFGHIJKLMNOPQRSTUVWXYZ`"
    assert field.description.endswith(".")


@each_field
def test_what_can_be_sent_is_bounded(field: Field) -> None:
    """Text and numbers of an event have limits that the door checks."""
    if not field.in_event:
        return
    if field.type in NUMBERS:
        assert field.minimum is not None
        assert field.maximum is not None
    if field.type in (FieldType.TEXT, FieldType.HEX, FieldType.TEXT_MAP):
        assert field.maximum is not None


@each_field
def test_a_measure_is_a_number_with_a_unit(field: Field) -> None:
    """Only a number can be aggregated, and its axis needs a label, but for the owner's own."""
    if field.role is Role.MEASURE:
        assert field.type in (*NUMBERS, FieldType.NUMBER_MAP)
        assert field.unit or field.type is FieldType.NUMBER_MAP


@each_field
def test_a_dimension_can_be_told_as_text(field: Field) -> None:
    """Groups are named by values."""
    if field.role is Role.DIMENSION:
        kinds = (FieldType.TEXT, FieldType.INTEGER, FieldType.BOOLEAN, FieldType.TEXT_MAP)
        assert field.type in kinds


@each_field
def test_missing_is_null_for_numbers_and_empty_for_text(field: Field) -> None:
    """No value is made up for what is missing; identities and the weight are never missing."""
    optional_number = field.type is FieldType.INTEGER and field.role is not Role.IDENTITY
    assert field.nullable == optional_number


@each_field
def test_only_numbers_are_scaled(field: Field) -> None:
    """What is stored is the public value times the scale."""
    assert field.scale == 1 or (field.scale > 1 and field.type is FieldType.NUMBER)


@each_field
def test_choices_are_texts(field: Field) -> None:
    """A field with choices has at least two, all different, none empty."""
    if field.choices:
        assert field.type is FieldType.TEXT
        assert len(set(field.choices)) == len(field.choices) >= 2
        assert all(field.choices)


@each_field
def test_a_map_s_column_is_one(field: Field) -> None:
    """Entries are found by name."""
    assert (field.type in MAPS) == field.column.startswith("Map(LowCardinality(String), ")


@each_virtual_field
def test_a_computed_field_is_a_dimension_that_nobody_sends(field: Field) -> None:
    """It has no column; queries group and filter by it."""
    assert field.virtual
    assert field.role is Role.DIMENSION
    assert not field.in_event
    assert not field.required


def test_stored_fields_have_columns() -> None:
    """Only the others are virtual."""
    assert not any(field.virtual for field in FIELDS)
