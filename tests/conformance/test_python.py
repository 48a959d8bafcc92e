# SPDX-License-Identifier: Apache-2.0
"""Conformance of the Python rendering of the rules."""

from __future__ import annotations

from otel_apinalytics.normalize.python import normalize_spans
from tests.conformance.outcomes import assert_conforms, outcome_of_rows
from tests.engine_fixtures import HASH_KEY
from tests.support.cases import START_NS, Case, field_mapping, span_views

_SECOND_NS = 1_000_000_000


def test_python_rendering_conforms(case: Case) -> None:
    """What the Python rendering makes of the spans is what the case expects."""
    normalized = normalize_spans(
        span_views(case),
        START_NS + _SECOND_NS,
        hash_key=HASH_KEY,
        mapping=field_mapping(case.settings),
    )
    rows = [(one.outcome, one.reason, one.fields) for one in normalized]
    assert_conforms(case, outcome_of_rows(rows))
