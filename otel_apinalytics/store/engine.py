# SPDX-License-Identifier: Apache-2.0
"""The engine: one client for both kinds of store, the embedded chDB and a ClickHouse server.

It owns connections and the settings that correctness rests on. It knows no table.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from otel_apinalytics.errors import ConfigError
from otel_apinalytics.normalize.transforms import sql_text
from otel_apinalytics.store.durability import FileSystem, sync_file_system
from otel_apinalytics.store.insert_tokens import forget_untrue_tokens

#: Of a statement, of which the engine stops one that wants more.
MAX_MEMORY_BYTES = 4 << 30
# What the engine would otherwise decide by itself, or decide differently in the next release.
PINNED_SETTINGS: Mapping[str, str] = {
    # An insert returns when its rows are stored, not when they are queued.
    "async_insert": "0",
    # What was loaded under a token is skipped, in every table behind the views.
    "deduplicate_insert": "enable",
    "deduplicate_insert_select": "enable_when_possible",
    "deduplicate_blocks_in_dependent_materialized_views": "1",
    "materialized_views_ignore_errors": "0",
    # Parts are written anew in the engine's own time. To wait for that may be for ever, where it
    # was told to merge no more or misses the end, and could not be given up.
    "mutations_sync": "0",
    # A segment may touch any number of days.
    "max_partitions_per_insert_block": "0",
    # Equal keys are of one day, and so in one partition: others need not be compared.
    "do_not_merge_across_partitions_select_final": "1",
    # What is left of all events without some of them is of the same events.
    "enable_shared_storage_snapshot_in_query": "1",
    "max_memory_usage": str(MAX_MEMORY_BYTES),
    # Of a statement with as many filters as are allowed, in each of its parts.
    "max_query_size": "16777216",
    "max_ast_elements": "1000000",
    "max_expanded_ast_elements": "1000000",
}

# Stands for the source of a load statement's rows.
# With a character that no literal of ours contains.
RECORDS = "\0records\0"
# Stands for the same rows, of which no more than ids is needed.
IDS = "\0ids\0"

# For loads only. Records are decoded and normalized some 8 MB at a time, which keeps memory low;
# what is stored is one block in each table, for the ledger counts the rows of a record within one
# block. One thread, so that a repeated load makes the same block.
_ROWS = "10000000"
_LOAD_SETTINGS: Mapping[str, str] = {
    "max_block_size": "65536",
    "input_format_max_block_size_bytes": "8388608",
    "max_insert_block_size": _ROWS,
    "min_insert_block_size_rows": _ROWS,
    "min_insert_block_size_bytes": "0",
    "min_insert_block_size_rows_for_materialized_views": _ROWS,
    "min_insert_block_size_bytes_for_materialized_views": "0",
    "max_insert_threads": "1",
    "max_threads": "1",
    "parallel_view_processing": "0",
    # Rows of one load are not compared with each other; equal keys meet in a merge, as those of
    # different loads do. It would cost a fifth of the load.
    "optimize_on_insert": "0",
    # What the engine would try to improve in the statement: it takes longer than it saves.
    "optimize_and_compare_chain": "0",
    "query_plan_enable_optimizations": "0",
    "format_schema_source": "string",
}

# Engine error codes: a limit on time or memory that a query ran into.
_MEMORY_CODE = 241
_LIMIT_CODES = frozenset({159, 160, _MEMORY_CODE, 307, 396})
# Codes that say that what was to be loaded does not decode.
_DATA_CODES = frozenset({6, 27, 32, 33, 69, 117, 128, 131, 321, 407, 436, 444, 454})
# Trouble that passes: files, time, space, connections, too much at once.
_TRANSIENT_CODES = frozenset({
    74, 75, 76, 159, 160, 164, 198, 202, 203, 209, 210, 225, 236, 242, 243, 252, 279, 285, 286, 319,
    394, 425, 999,
})  # fmt: skip
# An exception of the engine's runtime; of the file system, its text says.
_RUNTIME_CODE = 1001
# A bad argument: of a load, which has none, the schema.
_SCHEMA_CODE = 36
_MAX_QUERIES = 4
# A stream lasts as long as its reader likes; some queries can always run beside.
_MAX_STREAMS = 2
_QUERY_WAIT_S = 30.0

_EMBEDDED = "chdb"
_SCHEMES = (_EMBEDDED, "clickhouse", "http", "https")


class EngineError(Exception):
    """The engine refused or failed a statement.

    Args:
        message: The engine's own words.
        code: Its error code, if it gave one.
    """

    def __init__(self, message: str, code: int | None) -> None:
        super().__init__(message)
        self.code = code
        self.is_of_data = code in _DATA_CODES
        self.is_limit = code in _LIMIT_CODES
        self.is_of_memory = code == _MEMORY_CODE
        self.is_transient = (
            code is None
            or code in _TRANSIENT_CODES
            or (code == _RUNTIME_CODE and "filesystem error" in message)
        )

    code: int | None
    #: Whether what was to be loaded does not decode.
    is_of_data: bool
    #: Whether the statement ran into a limit on time or memory.
    is_limit: bool
    #: Whether that was memory.
    is_of_memory: bool
    #: Whether the same statement may succeed later although nothing is mended.
    is_transient: bool


@dataclass(frozen=True, slots=True)
class LoadStatement:
    """How a stream of length-delimited protobuf messages becomes rows of a table.

    Args:
        table: Where to insert.
        columns: The table's columns, in the order of the SELECT.
        select: The SELECT; `RECORDS` in it stands for the messages, `IDS` for a part of them.
        structure: Columns of the messages, as the engine declares them.
        ids_structure: The columns of `IDS`.
        schema: Text of the `.proto` file.
        message: Name of the message type in it.
    """

    table: str
    columns: tuple[str, ...]
    select: str
    structure: str
    ids_structure: str
    schema: str
    message: str

    @property
    def reads_again(self) -> bool:
        """Whether the messages are read more than once."""
        return IDS in self.select


class Rows(NamedTuple):
    """A result: column names, and rows as tuples in their order."""

    names: tuple[str, ...]
    rows: Sequence[tuple[Any, ...]]


class Engine:
    """A store's connections. Safe to use from many threads; statements block.

    One connection serializes its statements, so that each load and each query takes one of its own,
    opened when first needed. Queries are bounded in number; they never hold up a load.

    Args:
        dsn: `chdb:///directory` or `clickhouse://user:password@host:port/database`.

    Raises:
        ConfigError: The DSN is of neither kind, or the store cannot be opened.
    """

    def __init__(self, dsn: str) -> None:
        try:
            parts = urlsplit(dsn)
            scheme, _ = parts.scheme, parts.port
        except ValueError as error:
            raise ConfigError(f"the store's DSN is not valid: {error}") from error
        if scheme == _EMBEDDED and (parts.query or parts.fragment or "%" in parts.path):
            raise ConfigError(
                f"the store's directory {dsn!r} must not contain any of ? # %: use another data_dir"
            )
        if scheme not in _SCHEMES:
            raise ConfigError(
                f"cannot open the store {_without_password(dsn)}: it must be "
                "chdb:///directory or clickhouse://user:password@host:port/database"
            )
        self._dsn = dsn
        self._lock = threading.Lock()
        self._schema_faults = 0
        self._clients: list[Any] = []
        self._idle: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._queries = threading.BoundedSemaphore(_MAX_QUERIES)
        self._streams = threading.BoundedSemaphore(_MAX_STREAMS)
        self.embedded = scheme == _EMBEDDED
        try:
            if self.directory is not None and self.directory.exists():
                # What an earlier process stored may be in the page cache only, and the engine
                # deletes at its start what a merge has replaced.
                self.sync()
                forget_untrue_tokens(self.directory)
            with self._connection() as client, _engine_errors():
                self._assert_pinned(client)
        except (EngineError, OSError) as error:
            reason = " ".join(str(error).split())
            raise ConfigError(
                f"cannot open the store {_without_password(dsn)}: {reason}"
            ) from error

    @property
    def directory(self) -> Path | None:
        """The embedded engine's directory, or None for a server."""
        return Path(urlsplit(self._dsn).path) if self.embedded else None

    def query(self, sql: str, parameters: Mapping[str, Any] | None = None) -> Rows:
        """Return the rows of a SELECT.

        Args:
            sql: The statement; `%(name)s` stands for a parameter, quoted by the client library.
            parameters: Values of the parameters.

        Raises:
            EngineError: The engine refused it, or too many queries run already.
        """
        with _permit(self._queries):
            return self.look_up(sql, parameters)

    def look_up(self, sql: str, parameters: Mapping[str, Any] | None = None) -> Rows:
        """Return the rows of a small SELECT of the service's own, which waits for no question.

        Raises:
            EngineError: The engine refused it.
        """
        with self._connection() as client, _engine_errors():
            result = client.query(sql, parameters=dict(parameters or {}))
            return Rows(tuple(result.column_names), result.result_rows)

    def stream(self, statements: Iterable[tuple[str, Mapping[str, Any]]]) -> Iterator[bytes]:
        """Yield the text of SELECTs of one column each, one after the other, a block at a time.

        The engine computes a block when it is asked for. Permit and connection are held until the
        iterator ends or is closed; the steps may be taken by different threads. A server's answer
        is read to its end when the iterator is closed early, the embedded engine stops at once.

        Args:
            statements: SELECTs and their parameters, as for `query`; taken when they are reached.

        Raises:
            EngineError: The engine refused it, failed in the middle, or too many streams or queries
                run already.
        """
        with _permit(self._streams), _permit(self._queries), self._connection() as client:
            for sql, parameters in statements:
                with (
                    _engine_errors(),
                    client.query_column_block_stream(
                        sql, parameters=dict(parameters), query_formats={"*String*": "bytes"}
                    ) as blocks,
                ):
                    for (column,) in blocks:
                        yield b"".join(column)

    def command(self, sql: str) -> None:
        """Run a statement that returns nothing.

        Raises:
            EngineError: The engine refused it.
        """
        with self._connection() as client, _engine_errors():
            client.command(sql)

    def insert(self, table: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Insert a few rows, stored when this returns.

        Raises:
            EngineError: The engine refused them.
        """
        with self._connection() as client, _engine_errors():
            client.insert(table, rows, column_names=list(columns))

    def load(self, statement: LoadStatement, source: Path, token: str) -> None:
        """Insert a file of messages, all of it or nothing.

        Args:
            statement: What becomes of the messages.
            source: The file. The embedded engine reads it itself, without a copy.
            token: Deduplication token: a load with a token that was seen is skipped.

        Raises:
            EngineError: The engine refused it; nothing is stored.
        """
        settings = {
            **_LOAD_SETTINGS,
            "format_schema": statement.schema + "\n//" * self._schema_faults,
            "format_schema_message_name": statement.message,
            "insert_deduplication_token": token,
        }
        insert = f"INSERT INTO {statement.table} ({', '.join(statement.columns)}) "
        with self._connection() as client, self._schema_cache(), _engine_errors():
            if self.embedded:
                file = f"file({sql_text(str(source))}, 'Protobuf', {{}})".format
                records = file(sql_text(statement.structure))
                ids = file(sql_text(statement.ids_structure))
                clause = ", ".join(f"{name} = {sql_text(text)}" for name, text in settings.items())
                select = statement.select.replace(RECORDS, records).replace(IDS, ids)
                client.command(f"{insert}{select} SETTINGS {clause}")
            elif statement.reads_again:
                with _staged(client, statement, source, settings) as table:
                    select = statement.select.replace(RECORDS, table).replace(IDS, table)
                    client.command(f"{insert}{select}", settings=settings)
            else:
                records = f"input({sql_text(statement.structure)})"
                select = statement.select.replace(RECORDS, records)
                body = source.read_bytes()
                client.command(f"{insert}{select} FORMAT Protobuf", data=body, settings=settings)

    def sync(self) -> None:
        """Make durable what was stored before; the embedded engine does not do so by itself.

        A server answers for what it stores.

        Raises:
            OSError: The file system cannot be synced.
        """
        if self.directory is not None:
            sync_file_system(self.directory)

    def file_system(self) -> FileSystem | None:
        """Return the embedded engine's file system, for whoever must not miss any fault of it.

        Raises:
            OSError: It cannot be opened.
        """
        return FileSystem(self.directory) if self.directory is not None else None

    @contextlib.contextmanager
    def _schema_cache(self) -> Iterator[None]:
        """Use another file of the schema from now on, if the engine cannot read it.

        It keeps the schema in a file named by its content, also one that was cut by a full disk.
        """
        try:
            yield
        except EngineError as error:
            if error.code == _SCHEMA_CODE and self.embedded:
                self._schema_faults += 1
            raise

    def close(self) -> None:
        """Close all connections. Idempotent; statements must have ended."""
        with self._lock:
            clients, self._clients = self._clients, []
        for client in clients:
            client.close()

    @contextlib.contextmanager
    def _connection(self) -> Iterator[Any]:
        try:
            client = self._idle.get_nowait()
        except queue.Empty:
            client = self._connect()
        try:
            yield client
        finally:
            self._idle.put(client)

    def _connect(self) -> Any:
        import clickhouse_connect
        from clickhouse_connect.driver.exceptions import Error

        try:
            client = clickhouse_connect.get_client(dsn=self._dsn, settings=dict(PINNED_SETTINGS))
        except Error as error:
            raise EngineError(str(error), None) from error
        with self._lock:
            self._clients.append(client)
        return client

    def _assert_pinned(self, client: Any) -> None:
        names = ", ".join(sql_text(name) for name in PINNED_SETTINGS)
        rows = client.query(f"SELECT name, value FROM system.settings WHERE name IN ({names})")
        actual = dict(rows.result_rows)
        for name, value in PINNED_SETTINGS.items():
            if actual.get(name) != value:
                raise ConfigError(
                    f"the engine does not keep {name} = {value} (it has {actual.get(name)})"
                )


@contextlib.contextmanager
def _permit(permits: threading.BoundedSemaphore) -> Iterator[None]:
    if not permits.acquire(timeout=_QUERY_WAIT_S):
        raise EngineError("too many queries run at once", None)
    try:
        yield
    finally:
        permits.release()


@contextlib.contextmanager
def _staged(
    client: Any, statement: LoadStatement, source: Path, settings: Mapping[str, str]
) -> Iterator[str]:
    """Give a table with the messages, for a server, which can read what it is sent only once."""
    table = f"staged_{uuid.uuid4().hex}"
    client.command(f"CREATE TABLE {table} ({statement.structure}) ENGINE = Memory")
    try:
        body = source.read_bytes()
        client.command(f"INSERT INTO {table} FORMAT Protobuf", data=body, settings=settings)
        yield table
    finally:
        client.command(f"DROP TABLE {table}")


@contextlib.contextmanager
def _engine_errors() -> Iterator[None]:
    from clickhouse_connect.driver.exceptions import Error

    try:
        yield
    except Error as error:
        raise EngineError(str(error), getattr(error, "code", None)) from error


def _without_password(dsn: str) -> str:
    parts = urlsplit(dsn)
    host = parts.hostname or ""
    port = f":{parts.port}" if parts.port else ""
    return parts._replace(netloc=host + port, query="").geturl()
