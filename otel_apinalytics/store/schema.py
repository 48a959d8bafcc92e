# SPDX-License-Identifier: Apache-2.0
"""The schema's version: applies the numbered migrations that a database lacks."""

from __future__ import annotations

import re
from importlib import resources
from typing import TYPE_CHECKING

from otel_apinalytics.errors import ConfigError

if TYPE_CHECKING:
    from otel_apinalytics.store.engine import Engine

_NAME = re.compile(r"(\d{4})_\w+\.sql")


def migrate(engine: Engine) -> int:
    """Bring the database to this program's schema and return its version.

    A migration that was interrupted is run again from its start, so that each statement must be one
    that can be repeated; `CREATE` is made so here.

    Raises:
        ConfigError: The database was written by a newer program.
        EngineError: The engine refused a statement.
        OSError: What was done cannot be made durable.
    """
    migrations = _migrations()
    newest = max(migrations)
    current = _current_version(engine)
    if current > newest:
        raise ConfigError(
            f"the database has schema version {current}, this program knows {newest}: "
            "it was written by a newer version; upgrade the program, or use another data directory"
        )
    for version in range(current + 1, newest + 1):
        for statement in _split(migrations[version]):
            engine.command(statement)
            # The engine makes the definition of a table durable at once, and rows not at all: after
            # a power cut, what a statement moved must not be missing where another one deleted it.
            engine.sync()
        engine.command(f"INSERT INTO schema_version VALUES ({version}, now64(6))")
        engine.sync()
    return newest


def newest_version() -> int:
    """Return the version of this program's schema."""
    return max(_migrations())


def _current_version(engine: Engine) -> int:
    engine.command(
        "CREATE TABLE IF NOT EXISTS schema_version "
        "(version UInt32, applied_at DateTime64(6, 'UTC')) ENGINE = MergeTree ORDER BY version"
    )
    return int(engine.query("SELECT max(version) FROM schema_version").rows[0][0])


def _migrations() -> dict[int, str]:
    found = {}
    for entry in resources.files("otel_apinalytics.store.migrations").iterdir():
        if match := _NAME.fullmatch(entry.name):
            found[int(match[1])] = entry.read_text("utf-8")
    return found


def _split(text: str) -> list[str]:
    without_comments = re.sub(r"--[^\n]*", "", text)
    repeatable = re.sub(
        r"^CREATE (TABLE|VIEW|MATERIALIZED VIEW) ",
        r"CREATE \1 IF NOT EXISTS ",
        without_comments,
        flags=re.MULTILINE,
    )
    return [part.strip() for part in repeatable.split(";") if part.strip()]
