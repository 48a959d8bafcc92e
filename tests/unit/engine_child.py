# SPDX-License-Identifier: Apache-2.0
"""An engine in memory, in a process of its own: answers statements, a line of JSON for each.

The embedded engine allows one directory per process, and other tests need that of this process.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from otel_apinalytics.store.engine import RECORDS, Engine, EngineError
from otel_apinalytics.store.loads import Loads
from otel_apinalytics.store.schema import migrate
from otel_apinalytics.wire.log_pb2 import LogRecord


def main() -> None:
    """Answer until the input ends."""
    engine = Engine("chdb://memory")
    migrate(engine)
    # Has the columns of a record, and keeps what is loaded.
    (any_statement,) = Loads().for_payloads([])
    columns = tuple(field.name for field in LogRecord.DESCRIPTOR.fields)
    load = replace(
        any_statement, table="records", columns=columns, select=f"SELECT * FROM {RECORDS}"
    )
    engine.command(f"CREATE TABLE records ({load.structure}) ENGINE = Memory")

    def answer(request: dict[str, Any]) -> list[list[Any]]:
        if "query" in request:
            rows = engine.query(request["query"], request["parameters"]).rows
            return [list(row) for row in rows]
        if "command" in request:
            engine.command(request["command"])
            return []
        engine.command("TRUNCATE TABLE records")
        engine.load(load, Path(request["load"]), token=request["load"])
        return []

    for line in sys.stdin:
        try:
            result: dict[str, Any] = {"rows": answer(json.loads(line))}
        except EngineError as error:
            result = {"error": str(error)}
        print(json.dumps(result, default=str), flush=True)  # noqa: T201
    engine.close()


if __name__ == "__main__":
    main()
