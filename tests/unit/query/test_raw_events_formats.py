# SPDX-License-Identifier: Apache-2.0
"""Tests of the formats of raw events: other programs read out of each what the others say."""

from __future__ import annotations

import csv
import io
import itertools
import json
from collections.abc import Callable, Generator, Iterator, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet
import pytest

from otel_apinalytics.catalogue import FIELDS, VIRTUAL_FIELDS, FieldType
from otel_apinalytics.query import parquet
from otel_apinalytics.query.csv_cells import guarded
from otel_apinalytics.query.raw_events import run_raw_events
from otel_apinalytics.query.raw_events_columns import DEFAULT_COLUMNS
from otel_apinalytics.query.raw_events_parameters import parse_raw_events
from otel_apinalytics.store.engine import Engine

# 2017-07-20 12:00 UTC, a Thursday.
START = 1_500_552_000
TEXTS = ("", "plain", "a,b", 'a"b', "a\nb", "a\r\nb", "'a", "=1+1", "-1", "@x", "é😀", "\\", "\\N",
         " a ", "NULL", "a;b\tc", "\u2028")  # fmt: skip
_TIMES = [field.name for field in FIELDS if field.type is FieldType.TIME]
_MAPS = ("attributes", "metrics")
_ALL = ",".join([*(field.name for field in (*FIELDS, *VIRTUAL_FIELDS)), "attributes.plan",
                 "metrics.tokens", "cursor"])  # fmt: skip


@pytest.fixture(scope="module")
def _events(run_command: Callable[[str], None]) -> Iterator[None]:
    """Store an event for each text, with extremes of other types; the first has nothing else."""
    rows = []
    for number, text in enumerate(TEXTS):
        quoted = "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
        is_full = number > 0
        rows.append(
            f"({START + number}.00000{number % 10}, 'shop', {2**64 - 1 - number}, {quoted}, "
            f"{quoted}, {f'{100 + number}' if is_full else 'NULL'}, {is_full}, "
            f"{f'{2**53 - number}' if is_full else 'NULL'}, {1000 + number}, "
            + (f"map('plan', {quoted}, 'x\\'\"', '1'), " if is_full else "map(), ")
            + (
                f"map('tokens', {number} / 8, 'large', 1e300, 'whole', 1e19), "
                if is_full
                else "map(), "
            )
            + f"unhex('{number:032x}'), {START * 2}.5)"
        )
    run_command(
        "INSERT INTO events (timestamp, application, event_id, consumer_id, route, status_code, "
        "is_error, response_us, weight, attributes, metrics, trace_id, received_at) VALUES "
        + ", ".join(rows)
    )
    yield
    run_command("TRUNCATE TABLE events")


@pytest.fixture
def read(_events: None, memory_store: Engine) -> Callable[..., bytes]:
    """Return a function from parameters to an answer."""

    def body(*parameters: tuple[str, str], application: str = "shop") -> bytes:
        asked = parse_raw_events(str(START), str(START + 3600), parameters)
        return b"".join(run_raw_events(memory_store, application, asked, 30.0).blocks)

    return body


def lines(body: bytes) -> list[dict[str, Any]]:
    """Return the events of NDJSON."""
    return [json.loads(line) for line in body.splitlines()]


def as_csv(value: Any, name: str) -> str:
    """Return what a value of NDJSON is in CSV."""
    if value is None:
        return ""
    if name in _TIMES:
        time = datetime.fromtimestamp(round(value * 1e6) // 10**6, timezone.utc)
        return f"{time:%Y-%m-%dT%H:%M:%S}.{round(value * 1e6) % 10**6:06}Z"
    if isinstance(value, bool):
        return str(value).lower()
    return guarded(value) if isinstance(value, str) else repr(value)


@pytest.mark.parametrize("fields", ["", _ALL])
def test_csv_says_what_ndjson_says(read: Callable[..., bytes], fields: str) -> None:
    """To Python's reader: a byte order mark, a header, a line for each event."""
    events = lines(read(("fields", fields)))
    body = read(("format", "csv"), ("fields", fields))
    assert body.startswith(b"\xef\xbb\xbf")
    text = io.StringIO(body.decode("utf-8-sig"), newline="")
    found = list(csv.DictReader(text, strict=True))
    assert len(found) == len(events) == len(TEXTS)
    for row, event in zip(found, events, strict=True):
        assert list(row) == list(event)
        for name, value in event.items():
            if name in _MAPS:
                assert json.loads(row[name]) == value
            else:
                assert row[name] == as_csv(value, name), name


def test_csv_is_what_its_standard_says(read: Callable[..., bytes]) -> None:
    """RFC 4180: lines end with CR LF, text is quoted, numbers are not."""
    body = read(("format", "csv"), ("fields", "consumer_id,status_code,is_error,metrics.tokens"))
    head, first, second, *_ = body.split(b"\r\n")
    assert head == b"\xef\xbb\xbfconsumer_id,status_code,is_error,metrics.tokens"
    assert first == b",,false,"
    assert second == b'"plain",101,true,0.125'
    assert body.endswith(b"\r\n")


def test_csv_can_be_read_by_a_database(read: Callable[..., bytes], tmp_path: Path) -> None:
    """It finds out by itself what is a time, a number and text."""
    path = tmp_path / "events.csv"
    path.write_bytes(read(("format", "csv")))
    types = dict(
        row[:2] for row in duckdb.sql(f"DESCRIBE SELECT * FROM read_csv('{path}')").fetchall()
    )
    assert types["timestamp"].startswith("TIMESTAMP")
    assert (types["status_code"], types["is_error"], types["weight"], types["cursor"]) == (
        "BIGINT", "BOOLEAN", "DOUBLE", "VARCHAR",
    )  # fmt: skip
    found = duckdb.sql(f"SELECT consumer_id FROM read_csv('{path}') ORDER BY timestamp").fetchall()
    assert [text or "" for (text,) in found] == [guarded(text) for text in TEXTS]


@pytest.mark.parametrize("fields", ["", _ALL])
@pytest.mark.parametrize("group_rows", [1, 8, 10_000])
def test_parquet_says_what_ndjson_says(
    read: Callable[..., bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fields: str,
    group_rows: int,
) -> None:  # fmt: skip
    """To another implementation of the format, whatever the size of row groups."""
    monkeypatch.setattr(parquet, "_GROUP_ROWS", group_rows)
    events = lines(read(("fields", fields)))
    path = tmp_path / "events.parquet"
    path.write_bytes(read(("format", "parquet"), ("fields", fields)))
    times = ", ".join(f"epoch_us({name}) AS {name}" for name in _TIMES)
    rows = duckdb.sql(f"SELECT * REPLACE ({times}) FROM read_parquet('{path}')")
    names = rows.columns
    assert names == list(events[0])
    for row, event in zip(rows.fetchall(), events, strict=True):
        assert dict(zip(names, row, strict=True)) == as_parquet(event)
    (groups,) = duckdb.sql(
        f"SELECT DISTINCT num_row_groups FROM parquet_file_metadata('{path}')"
    ).fetchall()
    assert groups == ({1: 3, 8: 2, 10_000: 1}[group_rows],)


def as_parquet(event: dict[str, Any]) -> dict[str, Any]:
    """Return an event of NDJSON with the types of Parquet."""
    typed = {"event_id": int(event["event_id"])}
    return event | typed | {name: round(event[name] * 1e6) for name in _TIMES}


def test_the_types_of_parquet(read: Callable[..., bytes]) -> None:
    """Times with their zone, maps as maps; those that chDB's own libraries read."""
    table = pyarrow.parquet.read_table(io.BytesIO(read(("format", "parquet"))))
    types = {field.name: str(field.type) for field in table.schema}
    assert list(types) == [column.name for column in DEFAULT_COLUMNS]
    assert {name: types[name] for name in (
        "timestamp", "event_id", "status_code", "is_error", "weight", "url", "trace_id",
        "attributes", "metrics", "cursor",
    )} == {
        "timestamp": "timestamp[us, tz=UTC]", "event_id": "uint64", "status_code": "int64",
        "is_error": "bool", "weight": "double", "url": "string", "trace_id": "string",
        "attributes": "map<string, string ('attributes')>",
        "metrics": "map<string, double ('metrics')>", "cursor": "string",
    }  # fmt: skip
    assert table.num_rows == len(TEXTS)
    assert table.to_pandas()["timestamp"].is_monotonic_increasing


def test_nothing_is_a_valid_answer_in_every_format(read: Callable[..., bytes]) -> None:
    """No line; a header; a file with columns and no rows."""
    assert read(application="nobody") == b""
    head = read(("format", "csv"), ("fields", "url,cursor"), application="nobody")
    assert head == b"\xef\xbb\xbfurl,cursor\r\n"
    table = pyarrow.parquet.read_table(
        io.BytesIO(read(("format", "parquet"), application="nobody"))
    )
    assert (table.num_rows, len(table.schema)) == (0, len(DEFAULT_COLUMNS))


def test_a_part_of_parquet_is_no_file() -> None:
    """So that nobody takes what arrived for the whole; what came before the fault is sent."""

    def failing() -> Generator[bytes, None, None]:
        yield b'["a"]\n["b"]\n' * 40_000
        raise ValueError("fault")

    blocks = parquet.parquet_blocks(DEFAULT_COLUMNS[1:2], failing())
    sent = [next(blocks)]
    assert sent[0].startswith(b"PAR1")
    with pytest.raises(ValueError, match="fault"):
        next(blocks)
    with pytest.raises(pyarrow.ArrowInvalid):
        pyarrow.parquet.read_table(io.BytesIO(b"".join(sent)))


def test_a_row_group_is_bounded_by_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Long texts do not fill the memory; blocks leave as they are complete, until they are left."""
    monkeypatch.setattr(parquet, "_GROUP_BYTES", 10_000)
    taken: list[int] = []
    closed: list[bool] = []

    def long() -> Generator[bytes, None, None]:
        try:
            for number in itertools.count():
                taken.append(number)
                yield json.dumps(["x" * 6000]).encode() + b"\n"
        finally:
            closed.append(True)

    lines = long()
    blocks = parquet.parquet_blocks(DEFAULT_COLUMNS[1:2], lines)
    for expected in (2, 4, 6):
        assert next(blocks)
        assert len(taken) == expected
    blocks.close()
    assert closed == [True]


def test_virtual_fields_and_entries(read: Callable[..., bytes]) -> None:
    """As they are in a timeseries; what is missing is null."""
    fields = ("fields", "status_class,is_edge,hour_of_day,weekday,attributes.plan,metrics.tokens")
    first, second, *_ = lines(read(fields, ("tz", "Asia/Kathmandu")))
    assert first == {
        "status_class": None, "is_edge": True, "hour_of_day": "17", "weekday": "4",
        "attributes.plan": None, "metrics.tokens": None,
    }  # fmt: skip
    assert (second["status_class"], second["attributes.plan"]) == ("1xx", "plain")
    assert second["metrics.tokens"] == 0.125
    assert lines(read(fields, ("tz", "")))[0]["hour_of_day"] == "12"


def test_filters_see_what_is_stored(read: Callable[..., bytes]) -> None:
    """Not what is shown: in every format, an empty text is missing."""
    names: Sequence[str] = ("consumer_id", "route", "attributes.plan")
    for form, name in itertools.product(("ndjson", "csv", "parquet"), names):
        for text, count in (("", 1), ("=1+1", 1), ("'a", 1), ("'=1+1", 0), ("*", len(TEXTS) - 1)):
            asked = [("format", form), ("fields", "cursor"), ("include", f"{name}:{text}")]
            body = read(*asked)
            if form == "parquet":
                assert pyarrow.parquet.read_table(io.BytesIO(body)).num_rows == count
            else:
                assert body.count(b"\n") - (form == "csv") == count
