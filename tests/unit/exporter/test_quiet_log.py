# SPDX-License-Identifier: Apache-2.0
"""Tests of log lines that are limited."""

from __future__ import annotations

import logging

import pytest

from otel_apinalytics.exporter import quiet_log
from otel_apinalytics.exporter.quiet_log import QuietLog


def test_one_line_of_a_kind(caplog: pytest.LogCaptureFixture) -> None:
    """Others are not kept from being said."""
    log = QuietLog(logging.getLogger("test"))
    for number in range(5):
        log.say("a", "a %d", number)
        log.say("b", "b %d", number)
    assert [record.getMessage() for record in caplog.records] == ["a 0", "b 0"]


def test_what_was_not_said_is_counted(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the next line of the kind."""
    log = QuietLog(logging.getLogger("test"))
    for number in range(4):
        log.say("a", "a %d", number)
    monkeypatch.setattr(quiet_log, "INTERVAL_S", 0.0)
    log.say("a", "a %d", 4)
    log.say("a", "a %d", 5)
    assert [record.getMessage() for record in caplog.records] == [
        "a 0",
        "a 4 (and 3 times since the last line)",
        "a 5",
    ]
