# SPDX-License-Identifier: Apache-2.0
"""Parquet: from lines of JSON to one file, a row group at a time.

The embedded engine writes a whole file at once, or none: it cannot be read while it is written.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterator, Mapping, Sequence
from types import GenericAlias
from typing import TYPE_CHECKING, Any

import msgspec

from otel_apinalytics.catalogue import FieldType
from otel_apinalytics.query.raw_events_columns import Column

if TYPE_CHECKING:
    import pyarrow

# A row group is in memory until it is complete; readers take one at a time, too.
_GROUP_ROWS = 65_536
_GROUP_BYTES = 32 * 1024 * 1024
_MAPS = (FieldType.TEXT_MAP, FieldType.NUMBER_MAP)
# As they are in the lines.
_IN_JSON: Mapping[FieldType, Any] = {
    FieldType.TEXT: str | None,
    FieldType.HEX: str | None,
    FieldType.INTEGER: int | None,
    FieldType.NUMBER: float | None,
    FieldType.BOOLEAN: bool,
    FieldType.TIME: int,
    FieldType.TEXT_MAP: dict[str, str],
    FieldType.NUMBER_MAP: dict[str, float | None],
}


class _Sink:
    """A file that the writer writes to, and whose content is taken away meanwhile."""

    def __init__(self) -> None:
        self.closed = False
        self._blocks: list[bytes] = []
        self._position = 0

    def write(self, block: bytes) -> int:
        self._blocks.append(bytes(block))
        self._position += len(block)
        return len(block)

    def tell(self) -> int:
        return self._position

    def flush(self) -> None:
        pass

    def close(self) -> None:
        self.closed = True

    def take(self) -> bytes:
        blocks, self._blocks = self._blocks, []
        return b"".join(blocks)


def parquet_blocks(
    columns: Sequence[Column], lines: Generator[bytes, None, None]
) -> Generator[bytes, None, None]:
    """Yield the blocks of a file; it is valid only as a whole.

    Args:
        columns: Its columns.
        lines: Blocks of lines: JSON arrays of the columns' values, times in Unix microseconds.
            They are closed at the end.
    """
    from pyarrow import Table
    from pyarrow.parquet import ParquetWriter

    schema = _schema(columns)
    # Of a known type, so that a number without a fraction is not taken for an integer.
    row = GenericAlias(tuple, tuple(_IN_JSON[column.type] for column in columns))
    decoder = msgspec.json.Decoder(row)
    sink = _Sink()
    group: list[pyarrow.RecordBatch] = []
    rows = size = 0
    with contextlib.closing(lines), ParquetWriter(sink, schema, compression="zstd") as writer:
        for block in lines:
            batch = _batch(columns, schema, decoder.decode_lines(block))
            group.append(batch)
            rows, size = rows + batch.num_rows, size + batch.nbytes
            if rows >= _GROUP_ROWS or size >= _GROUP_BYTES:
                writer.write_table(Table.from_batches(group))
                group.clear()
                rows = size = 0
                yield sink.take()
        if group:
            writer.write_table(Table.from_batches(group))
    yield sink.take()


def _batch(
    columns: Sequence[Column], schema: pyarrow.Schema, rows: Sequence[tuple[Any, ...]]
) -> pyarrow.RecordBatch:
    from pyarrow import RecordBatch, array

    values: Iterator[Sequence[Any]] = zip(*rows, strict=True)
    arrays = [
        array([[*entries.items()] for entries in found] if column.type in _MAPS else found, type_)
        for column, type_, found in zip(columns, schema.types, values, strict=True)
    ]
    return RecordBatch.from_arrays(arrays, schema=schema)


def _schema(columns: Sequence[Column]) -> pyarrow.Schema:
    import pyarrow as pa

    types = {
        FieldType.TEXT: pa.string(),
        FieldType.HEX: pa.string(),
        FieldType.INTEGER: pa.int64(),
        FieldType.NUMBER: pa.float64(),
        FieldType.BOOLEAN: pa.bool_(),
        FieldType.TIME: pa.timestamp("us", "UTC"),
        FieldType.TEXT_MAP: pa.map_(pa.string(), pa.string()),
        FieldType.NUMBER_MAP: pa.map_(pa.string(), pa.float64()),
    }
    return pa.schema(
        [(each.name, pa.uint64() if _is_wide(each) else types[each.type]) for each in columns]
    )


def _is_wide(column: Column) -> bool:
    """Whether a column has numbers of 64 bits, as `event_id`."""
    return (
        column.type is FieldType.INTEGER
        and column.operand is not None
        and column.operand.field.column == "UInt64"
    )
