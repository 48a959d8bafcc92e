# SPDX-License-Identifier: Apache-2.0
"""Tests of the catalogue: its entries are consistent, and public names stay."""

from __future__ import annotations

import pytest

from otel_apinalytics.catalogue import (
    BY_NAME,
    DIMENSIONS,
    FIELDS,
    MEASURES,
    Field,
    FieldType,
    Role,
)

CLASSIC = (
    "timestamp", "consumer_id", "method", "url", "function", "response_us", "status_code",
)  # fmt: skip
each_field = pytest.mark.parametrize("field", FIELDS, ids=lambda field: field.name)


def test_names_are_unique() -> None:
    """A name stands for one field."""
    assert len(BY_NAME) == len(FIELDS)


@pytest.mark.parametrize("name", CLASSIC)
def test_the_fields_of_2014_can_still_be_sent(name: str) -> None:
    """A client of 2014 finds its seven fields."""
    assert BY_NAME[name].in_event


def test_only_the_time_is_required() -> None:
    """A missing field is no reason to refuse an event."""
    assert [field.name for field in FIELDS if field.required] == ["timestamp"]


def test_roles_are_complete() -> None:
    """Every field is a dimension, a measure or an identity, and the lists say which."""
    assert set(DIMENSIONS) == {field.name for field in FIELDS if field.role is Role.DIMENSION}
    assert set(MEASURES) == {field.name for field in FIELDS if field.role is Role.MEASURE}
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
    if field.type is FieldType.INTEGER:
        assert field.minimum is not None
        assert field.maximum is not None
    if field.type in (FieldType.TEXT, FieldType.HEX) and field.name != "direction":
        assert field.maximum is not None


@each_field
def test_a_measure_is_a_number_with_a_unit(field: Field) -> None:
    """Only a number can be aggregated, and its axis needs a label."""
    if field.role is Role.MEASURE:
        assert field.type is FieldType.INTEGER
        assert field.unit


@each_field
def test_missing_is_null_for_numbers_and_empty_for_text(field: Field) -> None:
    """No value is made up for what is missing."""
    optional_number = field.type is FieldType.INTEGER and field.role is not Role.IDENTITY
    assert field.nullable == optional_number
