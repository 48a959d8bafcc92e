# SPDX-License-Identifier: Apache-2.0
"""Conformance of the SQL rendering of the rules, run by the engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice

import pytest

from tests.conformance.outcomes import Groups, Outcome, assert_conforms, outcome_of_rows
from tests.engine_fixtures import NormalizeInEngine
from tests.support.cases import START_NS, Case, CaseSettings, field_mapping, span_views

_SECOND_NS = 1_000_000_000


@pytest.fixture(scope="module")
def groups(cases: Sequence[Case], normalize_in_engine: NormalizeInEngine) -> Groups:
    """Run the cases, those of the same settings by one statement."""

    def run(settings: CaseSettings, group: Sequence[Case]) -> Mapping[str, Outcome]:
        views = {case.id: span_views(case) for case in group}
        spans = [view for case_views in views.values() for view in case_views]
        normalized = normalize_in_engine(spans, START_NS + _SECOND_NS, field_mapping(settings))
        assert len(normalized) == len(spans)
        rows = iter([(row["outcome"], row["reason"], row) for row in normalized])
        return {
            case: outcome_of_rows(list(islice(rows, len(case_views))))
            for case, case_views in views.items()
        }

    return Groups(cases, run)


def test_sql_rendering_conforms(case: Case, groups: Groups) -> None:
    """What the SQL rendering makes of the spans is what the case expects."""
    assert_conforms(case, groups.outcome(case))
