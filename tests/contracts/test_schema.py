# SPDX-License-Identifier: Apache-2.0
"""Contract of the schema: the tables have the columns that the catalogue says."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from otel_apinalytics.catalogue import FIELDS, Field
from otel_apinalytics.normalize.rows_sql import NORMALIZED_COLUMNS

# The engine allows one directory per process, and other tests need that of this one.
SCRIPT = """
import json
from otel_apinalytics.store.engine import Engine
from otel_apinalytics.store.schema import migrate
engine = Engine("chdb://memory")
version = migrate(engine)
again = migrate(engine)
rows = engine.query(
    "SELECT table, name, type FROM system.columns WHERE database = currentDatabase()"
).rows
engine.close()
print(json.dumps([version, again, [list(row) for row in rows]]))
"""
# Columns that are not public: the sorting key's, the row's version.
INTERNAL = {"events": {"hour", "locality", "version"}}
INTERNAL["rejected"] = {"locality", "version", "key_id", "transport", "record_id", "reason"}

Tables = dict[str, dict[str, str]]


@pytest.fixture(scope="module")
def migrated() -> tuple[int, int, list[tuple[str, str, str]]]:
    """Return the version after one and after two migrations, and all columns."""
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True
    )
    version, again, rows = json.loads(result.stdout)
    return version, again, [(table, name, kind) for table, name, kind in rows]


@pytest.fixture(scope="module")
def tables(migrated: tuple[int, int, list[tuple[str, str, str]]]) -> Tables:
    """Return each table's columns with their types."""
    found: Tables = {}
    for table, name, kind in migrated[2]:
        found.setdefault(table, {})[name] = kind
    return found


def without_dictionary(kind: str) -> str:
    """Return a column type without `LowCardinality`, which changes no value."""
    return kind.removeprefix("LowCardinality(").removesuffix(")") if "LowCard" in kind else kind


@pytest.mark.parametrize("table", ["events", "rejected", "normalized"])
@pytest.mark.parametrize("field", FIELDS, ids=lambda field: field.name)
def test_every_field_is_a_column(tables: Tables, table: str, field: Field) -> None:
    """It has the catalogue's type; a dictionary may differ."""
    assert without_dictionary(tables[table][field.name]) == without_dictionary(field.column)


@pytest.mark.parametrize("table", ["events", "rejected"])
def test_every_column_is_a_field(tables: Tables, table: str) -> None:
    """No public column is missing from the catalogue."""
    assert set(tables[table]) - INTERNAL[table] == {field.name for field in FIELDS}


def test_the_rules_give_the_columns_of_their_table(tables: Tables) -> None:
    """What the rules select is what the views expect."""
    assert set(tables["normalized"]) == set(NORMALIZED_COLUMNS)


def test_the_dictionaries_of_stored_events_are_the_catalogue_s(tables: Tables) -> None:
    """The one table that is queried has exactly the types of the catalogue."""
    for field in FIELDS:
        assert tables["events"][field.name] == field.column


def test_a_second_migration_changes_nothing(
    migrated: tuple[int, int, list[tuple[str, str, str]]],
) -> None:
    """A restart finds the schema as it is."""
    version, again, _ = migrated
    assert version == again >= 1
