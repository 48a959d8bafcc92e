# SPDX-License-Identifier: Apache-2.0
"""An engine in memory, in a process of its own: answers statements, a line of JSON for each.

The embedded engine allows one directory per process, and other tests need that of this process.
"""

from __future__ import annotations

import functools
import itertools
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from otel_apinalytics.catalogue import BY_NAME, FieldType
from otel_apinalytics.normalize.batch_rules import BatchRules
from otel_apinalytics.normalize.mapping import Mapping, MappingEntry
from otel_apinalytics.normalize.rows_sql import NORMALIZED_COLUMNS
from otel_apinalytics.store.engine import Engine, EngineError
from otel_apinalytics.store.loads import Loads
from otel_apinalytics.store.schema import migrate

# Has the columns of the table that the rules write to, and keeps what is loaded.
_TABLE = "kept"
_SHOWN = {
    FieldType.TIME: "toUnixTimestamp64Micro({})",
    FieldType.HEX: "hex({})",
    FieldType.BOOLEAN: "toBool({})",
}


def main() -> None:
    """Answer until the input ends."""
    engine = Engine("chdb://memory")
    migrate(engine)
    engine.command(f"CREATE TABLE {_TABLE} AS normalized ENGINE = Memory")
    tokens = itertools.count()

    def answer(request: dict[str, Any]) -> list[Any]:
        if "query" in request:
            rows = engine.query(request["query"], request["parameters"]).rows
            return [list(row) for row in rows]
        if "command" in request:
            engine.command(request["command"])
            return []
        engine.command(f"TRUNCATE TABLE {_TABLE}")
        statements = _loads(json.dumps(request["mapping"])).for_payloads(
            request["payloads"], BatchRules(request["batch_rules"])
        )
        for statement in statements:
            if statement.table == "normalized":
                kept = replace(statement, table=_TABLE)
                engine.load(kept, Path(request["load"]), token=str(next(tokens)))
        return _kept(engine)

    for line in sys.stdin:
        try:
            result: dict[str, Any] = {"rows": answer(json.loads(line))}
        except EngineError as error:
            result = {"error": str(error)}
        print(json.dumps(result, default=str), flush=True)  # noqa: T201
    engine.close()


@functools.lru_cache(maxsize=16)
def _loads(mapping: str) -> Loads:
    return Loads(Mapping(tuple(MappingEntry(**entry) for entry in json.loads(mapping))))


def _kept(engine: Engine) -> list[dict[str, Any]]:
    """Return the rows in the order of the records."""
    names = [name for name in NORMALIZED_COLUMNS if name != "record_id"]
    shown = ", ".join(_shown(name) for name in names)
    rows = engine.query(f"SELECT {shown} FROM {_TABLE} ORDER BY record_id").rows
    return [dict(zip(names, row, strict=True)) for row in rows]


def _shown(name: str) -> str:
    kind = BY_NAME[name].type if name in BY_NAME else FieldType.TEXT
    return _SHOWN.get(kind, "{}").format(name)


if __name__ == "__main__":
    main()
