# SPDX-License-Identifier: Apache-2.0
"""The formats of raw events: what is put around the lines that the engine writes."""

from __future__ import annotations

import csv
import io
from collections.abc import Generator, Sequence

from otel_apinalytics.query import csv_cells
from otel_apinalytics.query.parquet import parquet_blocks
from otel_apinalytics.query.raw_events_columns import Column

MEDIA_TYPES = {
    "ndjson": "application/x-ndjson",
    "csv": csv_cells.MEDIA_TYPE,
    "parquet": "application/vnd.apache.parquet",
}


def rendered(
    form: str, columns: Sequence[Column], lines: Generator[bytes, None, None]
) -> Generator[bytes, None, None]:
    """Yield the answer.

    Args:
        form: One of the formats.
        columns: Its columns.
        lines: Blocks of lines; closed when the answer is.
    """
    if form == "parquet":
        yield from parquet_blocks(columns, lines)
        return
    if form == "csv":
        yield _csv_head(columns)
    yield from lines


def _csv_head(columns: Sequence[Column]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text).writerow([column.name for column in columns])
    return (csv_cells.BYTE_ORDER_MARK + text.getvalue()).encode()
