# SPDX-License-Identifier: Apache-2.0
"""What became of a case's spans, in one form for all ways of running it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, TypeAlias

import pytest

from otel_apinalytics.catalogue import FIELDS, FieldType
from otel_apinalytics.normalize.outcomes import INVALID_SPAN_ID, INVALID_TRACE_ID
from tests.support.cases import Case, CaseSettings, Event, differences

# Of what is rejected, what the door sees and tells the sender of; the rest is found by the rules.
DOOR_REASONS = (INVALID_TRACE_ID, INVALID_SPAN_ID)

_TIMES = tuple(field.name for field in FIELDS if field.type is FieldType.TIME)
_IDS = tuple(field.name for field in FIELDS if field.type is FieldType.HEX)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a case's spans.

    Args:
        events: The events, in the form of the raw read-out.
        rejected: Spans that the sender is told were rejected.
        refused: Why nothing was taken; empty if it was.
    """

    events: Sequence[Event] = ()
    rejected: int = 0
    refused: str = ""


# Runs cases of the same settings; by case id, what became of them.
RunGroup: TypeAlias = Callable[[CaseSettings, Sequence[Case]], Mapping[str, Outcome]]


class Groups:
    """Cases that are run together with the others of their settings, when one is asked for."""

    def __init__(self, cases: Sequence[Case], run: RunGroup) -> None:
        self._cases = cases
        self._run = run
        self._done: dict[CaseSettings, Mapping[str, Outcome] | Exception] = {}
        self._tracebacks: dict[CaseSettings, TracebackType | None] = {}

    def outcome(self, case: Case) -> Outcome:
        """Return what became of a case.

        Raises:
            Exception: Its group could not be run; the same for each case of the group.
        """
        if case.settings not in self._done:
            self._done[case.settings] = self._run_group(case.settings)
        done = self._done[case.settings]
        if isinstance(done, Exception):
            # Of the first time, as raising adds to it.
            raise done.with_traceback(self._tracebacks[case.settings])
        return done[case.id]

    def _run_group(self, settings: CaseSettings) -> Mapping[str, Outcome] | Exception:
        try:
            return self._run(settings, [case for case in self._cases if case.settings == settings])
        except Exception as error:
            self._tracebacks[settings] = error.__traceback__
            return error


def assert_conforms(case: Case, outcome: Outcome) -> None:
    """Fail with all differences between what a case expects and what became of it."""
    if outcome.refused:
        pytest.fail(f"refused: {outcome.refused}", pytrace=False)
    if found := differences(case, outcome.events, outcome.rejected):
        pytest.fail("\n".join(found), pytrace=False)


def outcome_of_rows(rows: Sequence[tuple[str, str, Mapping[str, Any]]]) -> Outcome:
    """Return what became of a case from outcome, reason and fields of each of its spans.

    Args:
        rows: Fields by their names in the catalogue: times in Unix microseconds, ids as bytes or
            in hexadecimal.
    """
    return Outcome(
        events=[_as_read_out(fields) for outcome, _, fields in rows if outcome == "stored"],
        rejected=sum(reason in DOOR_REASONS for _, reason, _ in rows),
    )


def _as_read_out(fields: Mapping[str, Any]) -> Event:
    times = {name: fields[name] / 1e6 for name in _TIMES if fields.get(name) is not None}
    ids = {name: _hexadecimal(fields[name]) for name in _IDS if name in fields}
    return {**fields, **times, **ids}


def _hexadecimal(value: bytes | str | None) -> str | None:
    text = value.hex() if isinstance(value, bytes) else (value or "").lower()
    return text if text.strip("0") else None
