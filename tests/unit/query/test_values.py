# SPDX-License-Identifier: Apache-2.0
"""Tests of the values of a field: those of a timeseries grouped by it, and of a model."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from otel_apinalytics.errors import InvalidRequestError
from otel_apinalytics.query.filters import parse_filters
from otel_apinalytics.query.timeseries import run_timeseries
from otel_apinalytics.query.timeseries_parameters import parse_timeseries
from otel_apinalytics.query.values import Values, compile_values, run_values
from otel_apinalytics.query.values_parameters import (
    DEFAULT_LIMIT,
    MAX_LIMIT,
    ValuesQuestion,
    parse_values,
)
from otel_apinalytics.store.engine import Engine

PHASES = (Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink)
US = 1_000_000
START = 1_490_479_200
END = START + 7200
NOW_US = 1_490_565_600 * US + 5
FIELDS = ("consumer_id", "status_code", "status_class", "is_error", "direction", "hour_of_day",
          "attributes.plan", "is_edge")  # fmt: skip
_applications = (f"values{number}" for number in itertools.count())
_TEXT = st.sampled_from(["", "a", "ab", "A", "a%", "b", "é", "'", "\\"])
# Consumer, status, direction, names and values of attributes, weight in thousandths.
EVENTS = st.lists(
    st.tuples(
        _TEXT,
        st.sampled_from([None, 200, 404, 503]),
        st.sampled_from(["inbound", "outbound"]),
        st.dictionaries(st.sampled_from(["plan", "a.b/c", "é"]), _TEXT, max_size=2),
        st.sampled_from([1000, 1000, 2500]),
    ),
    max_size=15,
)
Event = tuple[str, int | None, str, dict[str, str], int]


class Table:
    """Events in the store, each at a second of its own.

    Args:
        command: Runs a statement.
    """

    def __init__(self, command: Callable[[str], None]) -> None:
        self._command = command
        self.application = ""

    def store(self, events: list[Event]) -> None:
        """Store events, under another application than before."""
        self.application = next(_applications)
        rows = ", ".join(self._row(number, event) for number, event in enumerate(events))
        if rows:
            self._command(
                "INSERT INTO events (timestamp, application, event_id, consumer_id, status_code, "
                f"direction, attributes, weight) VALUES {rows}"
            )

    def _row(self, number: int, event: Event) -> str:
        consumer, status, direction, attributes, weight = event
        entries = ", ".join(f"{quoted(k)}, {quoted(v)}" for k, v in attributes.items())
        return (
            f"({START + number}, '{self.application}', {number}, {quoted(consumer)}, "
            f"{status or 'NULL'}, '{direction}', map({entries}), {weight})"
        )


def quoted(text: str) -> str:
    """Return a literal."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


@pytest.fixture(scope="module")
def table(run_command: Callable[[str], None]) -> Iterator[Table]:
    """Return the table."""
    yield Table(run_command)
    run_command("TRUNCATE TABLE events")


def ask(store: Engine, table: Table, field: str, *parameters: tuple[str, str]) -> Values:
    """Return the answer about all events."""
    bounds = (("start", str(START)), ("end", str(END)))
    return run_values(store, table.application, parse_values(field, [*bounds, *parameters]), 30.0)


def ordered(counts: Counter[str]) -> list[tuple[str, float]]:
    """Return what a menu shows, of thousandths of requests."""
    found = sorted(counts.items(), key=lambda item: (-item[1], item[0].encode()))
    return [(value, count / 1000) for value, count in found]


@settings(max_examples=30, deadline=None, phases=PHASES)
@given(events=EVENTS, prefix=_TEXT, limit=st.integers(1, 4))
def test_any_events(
    memory_store: Engine, table: Table, events: list[Event], prefix: str, limit: int
) -> None:
    """Texts and names of entries; with a prefix, and no more than asked for."""
    table.store(events)
    inbound = [event for event in events if event[2] == "inbound"]
    consumers, names = Counter[str](), Counter[str]()
    for consumer, _, _, attributes, weight in inbound:
        consumers[consumer] += weight
        names.update(dict.fromkeys(attributes, weight))
    for field, counts in (("consumer_id", consumers), ("attributes", names)):
        expected = [item for item in ordered(counts) if item[0].startswith(prefix)]
        found = ask(memory_store, table, field, ("prefix", prefix))
        assert (list(found.counts), found.more) == (expected, False)
        assert found.is_sampled == any(
            weight > 1000
            for consumer, _, _, attributes, weight in inbound
            for value in ([consumer] if field == "consumer_id" else attributes)
            if value.startswith(prefix)
        )
        few = ask(memory_store, table, field, ("prefix", prefix), ("limit", str(limit)))
        assert (list(few.counts), few.more) == (expected[:limit], len(expected) > limit)


@settings(max_examples=20, deadline=None, phases=PHASES)
@given(
    events=EVENTS,
    field=st.sampled_from(FIELDS),
    filters=st.lists(
        st.tuples(
            st.sampled_from(["include", "exclude"]),
            st.sampled_from(
                ["consumer_id:a*", "status_code:5xx", "direction:outbound", "attributes.plan:",
                 "status_class:2xx", "is_edge:true", "hour_of_day:23"]
            ),
        ),
        max_size=2,
    ),
)  # fmt: skip
def test_the_numbers_are_those_of_a_timeseries(
    memory_store: Engine, table: Table, events: list[Event], field: str,
    filters: list[tuple[str, str]],
) -> None:  # fmt: skip
    """Of the same field, filters and zone."""
    table.store(events)
    parameters = [*filters, ("tz", "Asia/Kathmandu")]
    question = parse_timeseries(str(START), str(END), [*parameters, ("group", field)])
    series = run_timeseries(memory_store, table.application, question, 30.0).series
    expected = {key[0]: points[0][1] for key, points in series.items() if key}
    assert dict(ask(memory_store, table, field, *parameters).counts) == expected


def test_metrics_have_names_too(
    memory_store: Engine, table: Table, run_command: Callable[[str], None]
) -> None:
    """So that a menu can offer what to aggregate."""
    table.store([])
    run_command(
        f"INSERT INTO events (timestamp, application, direction, metrics) VALUES ({START}, "
        f"'{table.application}', 'inbound', map('tokens', 1, 'cost', 0))"
    )
    assert ask(memory_store, table, "metrics").counts == [("cost", 1), ("tokens", 1)]
    assert ask(memory_store, table, "metrics", ("prefix", "t")).counts == [("tokens", 1)]


def test_mandatory_filters_hold_whatever_is_asked(memory_store: Engine, table: Table) -> None:
    """Also against a filter on the same field."""
    table.store([(name, 200, "inbound", {name: name}, 1000) for name in ("a", "b")])
    mandatory = parse_filters(["consumer_id:a"]).include
    for field in ("consumer_id", "attributes"):
        for include in ("consumer_id:*", "consumer_id:b"):
            bounds = [("start", str(START)), ("end", str(END)), ("include", include)]
            question = parse_values(field, bounds)
            found = run_values(memory_store, table.application, question, 30.0, mandatory)
            assert found.counts == ([] if include.endswith("b") else [("a", 1)])


def test_the_answer_in_json(memory_store: Engine, table: Table) -> None:
    """What is sampled is marked; what is there is said."""
    table.store([("a", 200, "inbound", {}, 1500), ("", 200, "inbound", {}, 1000)])
    found = ask(memory_store, table, "consumer_id", ("limit", "1"))
    assert found.as_json() == {
        "field": "consumer_id", "values": [{"value": "a", "count": 1.5}], "more": True,
        "start": START, "end": END, "sampled": True,
    }  # fmt: skip
    assert "sampled" not in replace(found, is_sampled=False).as_json()


@pytest.mark.parametrize(
    ("parameters", "start_us", "end_us"),
    [
        ([], NOW_US - 86_400 * US, NOW_US),
        ([("start", ""), ("end", "")], NOW_US - 86_400 * US, NOW_US),
        ([("start", "5")], 5 * US, NOW_US),
        ([("end", "200000.5")], 113_600_500_000, 200_000_500_000),
        ([("end", "5")], 0, 5 * US),
        ([("start", "-1h"), ("end", "now")], NOW_US - 3600 * US, NOW_US),
    ],
)
def test_the_range(parameters: list[tuple[str, str]], start_us: int, end_us: int) -> None:
    """The last day by default; a day, if only its end is said."""
    question = parse_values("method", parameters, NOW_US)
    assert (question.start_us, question.end_us) == (start_us, end_us)
    assert (question.prefix, question.limit) == ("", DEFAULT_LIMIT)


@pytest.mark.parametrize(
    ("field", "parameter", "named", "allowed"),
    [
        ("", None, ("field", ""), "consumer_id"),
        ("response_us", None, ("field", "response_us"), "attributes.NAME"),
        ("trace_id", None, ("field", "trace_id"), "names of entries"),
        ("metrics.tokens", None, ("field", "metrics.tokens"), "consumer_id"),
        ("attributes.", None, ("field", "attributes."), "consumer_id"),
        ("locality", None, ("field", "locality"), "consumer_id"),
        ("method", ("start", "x"), ("start", "x"), "Unix time"),
        ("method", ("end", "0"), ("end", "0"), "after start"),
        ("method", ("start", "99999999999"), ("start", "99999999999"), "Unix time"),
        ("method", ("limit", "0"), ("limit", "0"), str(MAX_LIMIT)),
        ("method", ("limit", "10001"), ("limit", "10001"), str(MAX_LIMIT)),
        ("method", ("prefix", "x" * 1025), ("prefix", "x" * 1025), "1024 characters"),
        ("method", ("include", "x"), ("include", "x"), "field:value"),
        ("method", ("tz", "Mars"), ("tz", "Mars"), "IANA"),
        ("method", ("value", "x"), ("value", "x"), "prefix"),
    ],
)
def test_what_cannot_be_asked(
    field: str, parameter: tuple[str, str] | None, named: tuple[str, str], allowed: str
) -> None:
    """The error names the parameter and its value, and says what is allowed."""
    with pytest.raises(InvalidRequestError) as caught:
        parse_values(field, [parameter] if parameter else [], NOW_US)
    assert (caught.value.parameter, caught.value.value) == named
    assert allowed in (caught.value.allowed or "")


@pytest.mark.parametrize("text", ["'", "\\", "%(x)s", "{a:String}", "') OR 1=1 --", "\x00", "?"])
def test_text_from_outside_is_never_sql(memory_store: Engine, table: Table, text: str) -> None:
    """It finds what it says, and fails in no way."""
    table.store([(text.replace("\x00", ""), 200, "inbound", {}, 1000)])
    name = f"attributes.{text}"
    assert ask(memory_store, table, name, ("prefix", text)).counts == []
    assert ask(memory_store, table, name, ("include", f"{name}:{text}")).counts == []
    question = ValuesQuestion(parse_values(f"{name}424242", []).operand, 0, 1, f"{text}424242")
    assert "424242" not in compile_values(f"{text}424242", question, 1.0).sql
