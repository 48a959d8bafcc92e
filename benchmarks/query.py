# SPDX-License-Identifier: Apache-2.0
"""How fast questions are answered: over HTTP, by the bare statements, and by DuckDB.

    python -m benchmarks.dataset DIRECTORY --events 100000000
    python -m benchmarks.query DIRECTORY [--runs 20] [--clients 1 8] [--load 20000] [--duckdb]

The statements of each question are first run by the engine alone, which also says how much it read;
then the service is asked over HTTP, idle and while spans come in. DuckDB gets the same rows by way
of a Parquet file, in its own format, and the same two threads. Times are milliseconds.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import urllib3

from benchmarks.dataset import APPLICATION, LARGEST_CONSUMER, LARGEST_ROUTE
from benchmarks.generator import Load
from benchmarks.running_service import READ_KEY, running_service

_THREADS = 2
_DAY_S = 86_400
_WHOLE = 89
# So that a range begins and ends within an hour, as those up to now do.
_RAGGED_S = 1234
_TIMEOUT_S = 60.0
_LOAD_SPANS, _LOAD_CLIENTS = 512, 4
_PARQUET_COLUMNS = (
    "timestamp, consumer_id, organization_id, direction, service, route, method, status_code, "
    "is_error, is_stream, response_us, weight"
)


@dataclass(frozen=True, slots=True)
class Question:
    """A question of a dashboard.

    Args:
        name: What it asks, in words.
        target_ms: What its p95 is to be at most, with 100 M events on two cores.
        days: Over how many days.
        granularity: Its buckets.
        group: A dimension, the largest 20 values of which are named; or nothing.
        aggregation: Its name.
        include: Dimension and value.
    """

    name: str
    target_ms: int
    days: int = _WHOLE
    granularity: str = "hour"
    group: str = ""
    aggregation: str = "count"
    include: Mapping[str, str] | None = None

    def parameters(self) -> list[tuple[str, str]]:
        """Return it in words of the API."""
        include = [("include", f"{name}:{value}") for name, value in (self.include or {}).items()]
        limit = "20" if self.group else ""
        return [
            ("granularity", self.granularity),
            ("group", self.group),
            ("limit", limit),
            ("aggregation", self.aggregation),
            *include,
        ]


_CONSUMER = {"consumer_id": LARGEST_CONSUMER}
_ROUTE = {"route": LARGEST_ROUTE}
_SERVICE = {"service": "service-0"}
_GROUPS = ("", "consumer_id", "route", "method", "status_class")


def questions() -> Iterator[Question]:
    """Yield the questions, those of the same kind after each other."""
    for granularity, group in itertools.product(("hour", "day"), _GROUPS):
        name = f"count by {granularity}" + (f" and {group}" if group else "")
        yield Question(name, 100, granularity=granularity, group=group)
    for include, group in itertools.product((_CONSUMER, _ROUTE, _SERVICE), _GROUPS):
        (dimension,) = include
        if group != dimension:
            name = f"one {dimension}: count by hour" + (f" and {group}" if group else "")
            yield Question(name, 150, group=group, include=include)
    for level, group in itertools.product((50, 95, 99), ("", "route")):
        name = f"7 days: p{level} by hour" + (f" and {group}" if group else "")
        yield Question(name, 250, days=7, group=group, aggregation=f"p{level}")
    for aggregation, group in (
        ("count", "consumer_id"),
        ("p95", "route"),
        ("unique", ""),
        ("count", "organization_id"),
        ("error_rate", "service"),
    ):
        name = f"24 hours: {aggregation} by hour" + (f" and {group}" if group else "")
        yield Question(name, 150, days=1, group=group, aggregation=aggregation)
    three = {**_SERVICE, "method": "GET", "organization_id": "org-1"}
    yield Question("30 days: three filters, count by hour", 1000, days=30, include=three)
    yield Question("30 days: one consumer, p95 by hour", 250, days=30, aggregation="p95",
                   include=_CONSUMER)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Bare:
    """What the statements of a question cost the engine.

    Args:
        seconds: How long each run took.
        rows: Rows that were read.
        size: Bytes of them, decompressed.
    """

    seconds: Sequence[float]
    rows: int
    size: int


def last_s(directory: Path) -> int:
    """Return when the last event of a data directory was, Unix seconds."""
    import chdb

    connection = chdb.connect(f"{directory}/db")
    sql = "SELECT toUnixTimestamp(max(hour)) + 3600 FROM events"
    found = int(str(connection.query(sql, "TSV")))
    connection.close()
    return found


def run_bare(directory: Path, question: Question, start: int, end: int, runs: int) -> Bare:
    """Run the statements of a question, without what becomes of their rows."""
    import chdb
    from clickhouse_connect.driver.binding import finalize_query

    from otel_apinalytics.query.timeseries_parameters import parse_timeseries
    from otel_apinalytics.query.timeseries_sql import Compiler
    from otel_apinalytics.store.engine import Engine

    parsed = parse_timeseries(str(start), str(end), question.parameters())
    compiler = Compiler(parsed, APPLICATION, _TIMEOUT_S)
    engine = Engine(f"chdb://{directory}/db")
    statements = []
    if parsed.limit and not compiler.has_few_groups:
        ranking = compiler.ranking(parsed.limit)
        ranked = engine.query(ranking.sql, ranking.parameters).rows
        is_folded = bool(ranked) and ranked[0][-1] > len(ranked)
        statements = [ranking, compiler.points(ranked if is_folded else None)]
    else:
        statements = [compiler.points()]
    texts = [finalize_query(each.sql, dict(each.parameters)) for each in statements]
    engine.close()
    connection = chdb.connect(f"{directory}/db")
    seconds, rows, size = [], 0, 0
    for _ in range(runs):
        begun = time.perf_counter()
        answers = [connection.query(text, "Native") for text in texts]
        seconds.append(time.perf_counter() - begun)
        rows = sum(answer.storage_rows_read() for answer in answers)
        size = sum(answer.storage_bytes_read() for answer in answers)
    connection.close()
    return Bare(seconds, rows, size)


def write_parquet(directory: Path, file: Path) -> None:
    """Write the columns that the questions name to a file."""
    import chdb

    connection = chdb.connect(f"{directory}/db")
    connection.query(
        f"SELECT {_PARQUET_COLUMNS} FROM events INTO OUTFILE '{file}' TRUNCATE FORMAT Parquet "
        "SETTINGS output_format_parquet_string_as_string = 1"
    )
    connection.close()


def ask(
    address: str, question: Question, start: int, end: int, runs: int, clients: int
) -> list[float]:
    """Ask over HTTP, each client one question after the other; return how long each took."""
    path = f"http://{address}/1/timeseries/{start}/{end}/?"
    url = path + urlencode([pair for pair in question.parameters() if pair[1]], quote_via=quote)
    seconds: list[float] = []

    def client(_: int) -> None:
        pool = urllib3.PoolManager()
        for _ in range(runs):
            begun = time.perf_counter()
            answer = pool.request("GET", url, headers={"X-Auth-Key": READ_KEY})
            seconds.append(time.perf_counter() - begun)
            if answer.status != 200:
                raise RuntimeError(f"{question.name}: {answer.data[:300]!r}")

    with ThreadPoolExecutor(clients) as threads:
        list(threads.map(client, range(clients)))
    return seconds


class DuckDb:
    """The same rows in DuckDB.

    Args:
        parquet: The file with them.
        database: Where it keeps its own.
    """

    def __init__(self, parquet: Path, database: Path) -> None:
        import duckdb

        self._connection = duckdb.connect(str(database), config={"threads": _THREADS})
        self._connection.execute(f"CREATE TABLE events AS SELECT * FROM '{parquet}'")

    def run(self, question: Question, start: int, end: int, runs: int) -> list[float]:
        """Ask, and return how long each run took."""
        seconds = []
        for _ in range(runs):
            begun = time.perf_counter()
            self._connection.execute(_duckdb_sql(question, start, end)).fetchall()
            seconds.append(time.perf_counter() - begun)
        return seconds


def _duckdb_sql(question: Question, start: int, end: int) -> str:
    group = {
        "": "''",
        "status_class": "concat(status_code // 100, 'xx')",
    }.get(question.group, question.group)
    value = {
        "count": "sum(weight) / 1000",
        "error_rate": "sum(weight) FILTER (is_error) / sum(weight)",
        "unique": "count(DISTINCT consumer_id)",
    }.get(question.aggregation) or f"quantile_disc(response_us, 0.{question.aggregation[1:]})"
    where = " AND ".join(
        (
            f"timestamp >= to_timestamp({start}) AND timestamp < to_timestamp({end})",
            "direction = 'inbound'",
            *(f"{name} = '{value}'" for name, value in (question.include or {}).items()),
        )
    )
    bucket = f"epoch(date_trunc('{question.granularity}', timestamp))"
    if not question.group:
        return f"SELECT {bucket} AS t, {value} FROM events WHERE {where} GROUP BY t ORDER BY t"
    return (
        f"WITH kept AS (SELECT {group} AS k, {value} AS v FROM events WHERE {where} GROUP BY k "
        f"ORDER BY v DESC LIMIT 20) SELECT CASE WHEN {group} IN (SELECT k FROM kept) "
        f"THEN {group} END AS g, {bucket} AS t, {value} FROM events WHERE {where} "
        "GROUP BY g, t ORDER BY g, t"
    )


def _percentile(seconds: Sequence[float], level: float) -> float:
    return sorted(seconds)[round(level * (len(seconds) - 1))] * 1000


def _in_words(seconds: Sequence[float]) -> str:
    return f"{statistics.median(seconds) * 1000:6.0f} {_percentile(seconds, 0.95):6.0f}"


def _ranges(end: int) -> Mapping[str, tuple[int, int]]:
    return {each.name: (end - each.days * _DAY_S, end) for each in questions()}


def main() -> None:
    """Ask all questions, and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("directory", type=Path)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--clients", type=int, nargs="*", default=[1, 8])
    parser.add_argument("--load", type=int, default=0, help="spans a second that come in meanwhile")
    parser.add_argument("--duckdb", action="store_true")
    parser.add_argument("--only", default="", help="part of the names of questions")
    arguments = parser.parse_args()
    directory, runs = arguments.directory.absolute(), arguments.runs
    asked = [each for each in questions() if arguments.only in each.name]
    columns: dict[str, dict[str, Any]] = {}
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as engine:
        ranges = _ranges(engine.submit(last_s, directory).result() - _RAGGED_S)
        bare = {
            each.name: engine.submit(run_bare, directory, each, *ranges[each.name], runs).result()
            for each in asked
        }
    columns["bare"] = {name: _in_words(found.seconds) for name, found in bare.items()}
    columns["M rows"] = {name: f"{found.rows / 1e6:6.2f}" for name, found in bare.items()}
    columns["MB"] = {name: f"{found.size / 1e6:6.0f}" for name, found in bare.items()}
    http = _ask_all(directory, asked, ranges, runs, arguments.clients, arguments.load)
    for clients, seconds in http.items():
        columns[f"{clients} clients"] = {name: _in_words(found) for name, found in seconds.items()}
    if arguments.duckdb:
        columns["DuckDB"] = _ask_duckdb(directory, asked, ranges, max(3, runs // 4))
    _print(asked, columns)


def _ask_all(
    directory: Path,
    asked: Sequence[Question],
    ranges: Mapping[str, tuple[int, int]],
    runs: int,
    clients: Sequence[int],
    rate: int,
) -> dict[int, dict[str, list[float]]]:
    with running_service(directory, APINALYTICS_APPLICATION_ID=APPLICATION) as service:
        found: dict[int, dict[str, list[float]]] = {}
        stop = threading.Event()
        load = threading.Thread(target=_load, args=(service.grpc, rate, stop))
        if rate:
            load.start()
        for number in clients:
            each = max(2, runs // number)
            found[number] = {
                question.name: ask(service.http, question, *ranges[question.name], each, number)
                for question in asked
            }
        stop.set()
        if rate:
            load.join()
    return found


def _load(address: str, rate: int, stop: threading.Event) -> None:
    while not stop.is_set():
        Load({"grpc": address}, _LOAD_SPANS, _LOAD_CLIENTS, 20.0, rate).result()


def _ask_duckdb(
    directory: Path,
    asked: Sequence[Question],
    ranges: Mapping[str, tuple[int, int]],
    runs: int,
) -> dict[str, str]:
    with tempfile.TemporaryDirectory(dir=directory.parent) as scratch:
        parquet = Path(scratch) / "events.parquet"
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as engine:
            engine.submit(write_parquet, directory, parquet).result()
        peer = DuckDb(parquet, Path(scratch) / "events.duckdb")
        return {each.name: _in_words(peer.run(each, *ranges[each.name], runs)) for each in asked}


def _print(asked: Sequence[Question], columns: Mapping[str, Mapping[str, Any]]) -> None:
    width = max(len(each.name) for each in asked)
    print(f"{'':{width}} target " + " ".join(f"{name:>13}" for name in columns))
    for each in asked:
        cells = " ".join(f"{found[each.name]:>13}" for found in columns.values())
        print(f"{each.name:{width}} {each.target_ms:6} {cells}")
    print("Two numbers in a column are median and 95th percentile, in ms.")


if __name__ == "__main__":
    main()
