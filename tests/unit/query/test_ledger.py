# SPDX-License-Identifier: Apache-2.0
"""Tests of the ledger's statement: what an engine in memory sums, by bucket and owner."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_apinalytics.errors import InvalidRequestError, RetryableError
from otel_apinalytics.query.ledger import compile_ledger, run_ledger
from otel_apinalytics.query.ledger_parameters import LedgerQuestion
from otel_apinalytics.query.statement import MAX_SECONDS
from otel_apinalytics.query.status import run_status
from otel_apinalytics.store.engine import Engine, EngineError, Rows

RunSql = Callable[..., list[list[Any]]]
Ask = Callable[..., list[list[Any]]]

# A Wednesday, 12:00 UTC.
NOON = 1_500_465_600
MINUTE, HOUR, DAY = 60, 3600, 86_400
# (seconds after noon, application, key, source, outcomes), a row for each.
RECORDS: Sequence[tuple[int, str, str, str, str]] = (
    (0, "a", "k1", "door", "[('received', '', 10)]"),
    (0, "a", "k1", "store", "[('filtered', 'placeholder', 3), ('stored', '', 7)]"),
    (MINUTE, "a", "k1", "door", "[('received', '', 5)]"),
    (MINUTE, "a", "k1", "store", "[('stored', '', 4)]"),
    (MINUTE, "a", "k2", "door", "[('received', '', 2)]"),
    (MINUTE, "a", "k2", "store", "[('duplicate', '', 2)]"),
    (2 * HOUR, "a", "k1", "door", "[('received', '', 1)]"),
    (2 * HOUR, "a", "k1", "store", "[('rejected', 'undecodable', 1)]"),
    (MINUTE, "b", "k3", "door", "[('received', '', 100)]"),
    (MINUTE, "", "", "door", "[('refused', 'unauthenticated', 9)]"),
)


@pytest.fixture(scope="module")
def ledger(run_command: Callable[[str], None]) -> Iterator[None]:
    """Store the records; the first of each pair has the same id as the second."""
    for number, (offset, application, key, source, outcomes) in enumerate(RECORDS):
        run_command(
            "INSERT INTO ledger_records (minute, application, key_id, transport, record_id, source,"
            f" outcomes, version) VALUES ({NOON + offset}, '{application}', '{key}', 'grpc', "
            f"toFixedString('{number - (source == 'store')}', 16), '{source}', {outcomes}, 1)"
        )
    yield
    run_command("TRUNCATE TABLE ledger_records")


@pytest.fixture
def ask(ledger: None, run_sql: RunSql) -> Ask:
    """Return a function from a question to the rows of its statement."""

    def run(
        application: str | None = None,
        start: float = NOON,
        end: float = NOON + DAY,
        granularity: int = MINUTE,
        settled: float = 0.0,
    ) -> list[list[Any]]:
        question = LedgerQuestion(int(start * 1e6), int(end * 1e6), granularity)
        statement = compile_ledger(application, question, settled, 30.0)
        return run_sql(statement.sql, statement.parameters)

    return run


def test_minutes_of_an_application(ask: Ask) -> None:
    """In order of time, key, transport, outcome and reason; no other application's."""
    assert [row[:-1] for row in ask("a")] == [
        [NOON, "a", "k1", "grpc", "filtered", "placeholder", 3],
        [NOON, "a", "k1", "grpc", "received", "", 10],
        [NOON, "a", "k1", "grpc", "stored", "", 7],
        [NOON + MINUTE, "a", "k1", "grpc", "received", "", 5],
        [NOON + MINUTE, "a", "k1", "grpc", "stored", "", 4],
        [NOON + MINUTE, "a", "k2", "grpc", "duplicate", "", 2],
        [NOON + MINUTE, "a", "k2", "grpc", "received", "", 2],
        [NOON + 2 * HOUR, "a", "k1", "grpc", "received", "", 1],
        [NOON + 2 * HOUR, "a", "k1", "grpc", "rejected", "undecodable", 1],
    ]


def test_all_applications(ask: Ask) -> None:
    """Also what is of none that is known; an empty name asks for just that, not for all."""
    assert {row[1] for row in ask()} == {"a", "b", ""}
    assert [row[:-1] for row in ask("")] == [
        [NOON + MINUTE, "", "", "grpc", "refused", "unauthenticated", 9]
    ]


@pytest.mark.parametrize(
    ("granularity", "starts"),
    [
        (HOUR, {NOON: 17, NOON + 2 * HOUR: 1}),
        (DAY, {NOON - DAY // 2: 18}),
        # From Monday.
        (7 * DAY, {NOON - DAY // 2 - 2 * DAY: 18}),
    ],
)
def test_coarser_buckets(ask: Ask, granularity: int, starts: dict[int, int]) -> None:
    """They are labelled with their start, which may lie before the range."""
    received: dict[int, int] = {}
    for time, _, _, _, outcome, _, items, _ in ask("a", granularity=granularity):
        received[time] = received.get(time, 0) + items * (outcome == "received")
    assert received == starts


@pytest.mark.parametrize(
    ("start", "end", "minutes"),
    [
        (NOON, NOON + MINUTE, {NOON}),
        (NOON, NOON + MINUTE + 1, {NOON, NOON + MINUTE}),
        (NOON + 0.000001, NOON + 2 * MINUTE, {NOON + MINUTE}),
        (NOON + 1, NOON + MINUTE, set()),
        (0, NOON, set()),
        (0, MAX_SECONDS, {NOON, NOON + MINUTE, NOON + 2 * HOUR}),
        (MAX_SECONDS - 1, MAX_SECONDS, set()),
    ],
)
def test_minutes_that_begin_in_the_range(
    ask: Ask, start: float, end: float, minutes: set[int]
) -> None:
    """Half-open: ranges that meet share none and miss none."""
    assert {row[0] for row in ask("a", start, end)} == minutes


@pytest.mark.parametrize(
    ("settled", "expected"),
    [
        (0.0, 0),
        (NOON + 59.999, 0),
        (NOON + 60.0, 10),
        (NOON + 119.9, 10),
        (NOON + 120.0, 17),
        (NOON + DAY, 18),
        (float(MAX_SECONDS + DAY), 18),
        (-15.0, 0),
    ],
)
@pytest.mark.parametrize("granularity", [MINUTE, HOUR, DAY])
def test_a_minute_is_settled_once_the_whole_of_it_is(
    ask: Ask, granularity: int, settled: float, expected: int
) -> None:
    """Whatever the buckets are."""
    rows = ask("a", granularity=granularity, settled=settled)
    assert sum(row[-1] for row in rows if row[4] == "received") == expected


@settings(max_examples=30, deadline=None)
@given(
    st.integers(1, 300),
    st.lists(st.tuples(st.integers(0, 100), st.integers(1, 9)), min_size=1, max_size=8),
)
def test_each_item_is_in_one_bucket(
    run_sql: RunSql,
    run_command: Callable[[str], None],
    minutes: int,
    records: list[tuple[int, int]],
) -> None:
    """Whatever the width."""
    application, width, start = uuid.uuid4().hex, minutes * MINUTE, NOON + 7 * DAY
    rows = ", ".join(
        f"({start + minute * MINUTE}, '{application}', toFixedString('{number}', 16), 'door', "
        f"[('received', '', {items})])"
        for number, (minute, items) in enumerate(records)
    )
    run_command(
        "INSERT INTO ledger_records (minute, application, record_id, source, outcomes) "
        f"VALUES {rows}"
    )
    expected: Counter[int] = Counter()
    for minute, items in records:
        expected[(start + minute * MINUTE) // width * width] += items
    question = LedgerQuestion(start * 10**6, (start + DAY) * 10**6, width)
    statement = compile_ledger(application, question, 0.0, 30.0)
    found = run_sql(statement.sql, statement.parameters)
    assert [(row[0], row[6]) for row in found] == sorted(expected.items())


# ---- faults ----


class BrokenEngine(Engine):
    """Fails each question.

    Args:
        code: The engine's error code.
    """

    def __init__(self, code: int | None) -> None:
        self._code = code

    def query(self, sql: str, parameters: Any = None) -> Rows:
        """Fail."""
        raise EngineError("it failed", self._code)


@pytest.mark.parametrize(
    ("code", "error", "text"),
    [
        (159, InvalidRequestError, "coarser granularity or a shorter range"),
        (241, InvalidRequestError, "coarser granularity or a shorter range"),
        (None, RetryableError, "not available"),
    ],
)
def test_faults_say_whose_they_are(code: int | None, error: type[Exception], text: str) -> None:
    """A question that is too large can be asked otherwise; a store that is down, later."""
    with pytest.raises(error, match=text):
        run_ledger(BrokenEngine(code), "a", LedgerQuestion(0, 60, 60), 0.0, 30.0)


@pytest.mark.parametrize(
    ("code", "error", "text"),
    [
        (159, InvalidRequestError, r"more than 30 s: .*APINALYTICS_QUERY_TIMEOUT_S"),
        (241, InvalidRequestError, r"more than 4 GiB of memory: "),
        (None, RetryableError, "not available"),
        (47, EngineError, "it failed"),
    ],
)
def test_faults_of_the_status_say_whose_they_are(
    code: int | None, error: type[Exception], text: str
) -> None:
    """A statement that is wrong is no outage."""
    with pytest.raises(error, match=text):
        run_status(BrokenEngine(code), "a", 30.0)
