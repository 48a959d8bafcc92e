# SPDX-License-Identifier: Apache-2.0
"""An engine in memory, in a process of its own: answers statements, a line of JSON for each.

The embedded engine allows one directory per process, and other tests need that of this process.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from otel_apinalytics.store.engine import Engine, EngineError
from otel_apinalytics.store.inbox import prepare_inbox
from otel_apinalytics.store.schema import migrate


def main() -> None:
    """Answer until the input ends."""
    engine = Engine("chdb://memory")
    migrate(engine)
    inbox = prepare_inbox(engine)
    # Has the columns of an inbox, and keeps what is loaded.
    engine.command(f"CREATE TABLE records AS {inbox.table} ENGINE = Memory")

    def answer(request: dict[str, Any]) -> list[list[Any]]:
        if "query" in request:
            rows = engine.query(request["query"], request["parameters"]).rows
            return [list(row) for row in rows]
        if "command" in request:
            engine.command(request["command"])
            return []
        engine.command("TRUNCATE TABLE records")
        engine.load(
            "records",
            Path(request["load"]),
            schema=inbox.schema,
            message=inbox.message,
            token=request["load"],
        )
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
