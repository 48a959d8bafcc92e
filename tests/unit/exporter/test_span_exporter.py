# SPDX-License-Identifier: Apache-2.0
"""Tests of the exporter's promise to the program: it never raises, whatever is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from otel_apinalytics.exporter import ApinalyticsSpanExporter
from otel_apinalytics.exporter.settings import PREFIX
from tests.support.certificates import Authority
from tests.support.sdk_spans import calls


def test_it_is_a_span_exporter() -> None:
    """The SDK takes no other."""
    assert issubclass(ApinalyticsSpanExporter, SpanExporter)


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"write_key": "k", "timeout": "soon"},
        {"write_key": "k", "endpoint": 7},
        {"write_key": "k", "headers": ["a"]},
        {"write_key": "k", "excluded_paths": 7},
        {"write_key": "k", "hash_key": "short"},
        {"write_key": "k", "unheard_of": 1},
    ],
)
def test_a_wrong_setting_turns_it_off(
    arguments: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """With one line; it can be used as any other, and does nothing."""
    tested = ApinalyticsSpanExporter(**arguments)
    (record,) = caplog.records
    assert record.getMessage().endswith("; the exporter is off")
    assert record.levelname == "ERROR"
    assert tested.export(calls(1)) is SpanExportResult.FAILURE
    assert tested.counters == {}
    assert tested.force_flush()
    tested.shutdown()
    assert len(caplog.records) == 1


def test_a_variable_that_is_wrong(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As a wrong argument; one that is no setting is told, and changes nothing."""
    monkeypatch.setenv(PREFIX + "WRITE_KEY", "k")
    monkeypatch.setenv(PREFIX + "TIMOUT", "1")
    assert ApinalyticsSpanExporter().counters != {}
    assert f"did you mean {PREFIX}TIMEOUT?" in caplog.text
    monkeypatch.setenv(PREFIX + "COMPRESSION", "zip")
    assert ApinalyticsSpanExporter().counters == {}


def test_a_file_of_configuration_is_all_that_is_read(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Where there is one, variables are ignored but for those that it names."""
    monkeypatch.setenv("OTEL_CONFIG_FILE", "otel.yaml")
    monkeypatch.setenv(PREFIX + "WRITE_KEY", "k")
    monkeypatch.setenv(PREFIX + "TIMEOUT", "soon")
    assert ApinalyticsSpanExporter(write_key="k").counters != {}
    assert caplog.text == ""
    assert ApinalyticsSpanExporter().counters == {}
    assert "no write key" in caplog.text


@pytest.mark.parametrize("content", [b"", b"no certificate", b"-----BEGIN CERTIFICATE-----\nx"])
def test_a_file_that_is_no_certificate(
    content: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It is found when the exporter is made."""
    path = tmp_path / "ca.pem"
    path.write_bytes(content)
    tested = ApinalyticsSpanExporter("https://localhost", write_key="k", certificate=str(path))
    assert tested.counters == {}
    assert "cannot be used" in caplog.text


def test_a_key_with_a_passphrase_asks_nobody(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A program that starts must not wait for an answer."""
    pair = Authority("test").issue()
    (tmp_path / "cert.pem").write_bytes(pair.certificate_pem)
    (tmp_path / "key.pem").write_bytes(pair.encrypted_key_pem)
    tested = ApinalyticsSpanExporter(
        "https://localhost",
        write_key="k",
        client_certificate=tmp_path / "cert.pem",
        client_key=tmp_path / "key.pem",
    )
    assert tested.counters == {}
    assert "cannot be used" in caplog.text


def test_what_is_no_span_costs_the_batch_and_no_more(caplog: pytest.LogCaptureFixture) -> None:
    """A mistake is logged, counted, and stays here."""
    tested = ApinalyticsSpanExporter(write_key="k")
    broken: Any = [object(), object()]
    assert tested.export(broken) is SpanExportResult.FAILURE
    assert tested.export(broken) is SpanExportResult.FAILURE
    assert tested.counters["spans"]["failed"] == 4
    assert len(caplog.records) == 1


def test_a_batch_without_calls_is_no_request() -> None:
    """There is nothing to send, and nobody is asked."""
    tested = ApinalyticsSpanExporter("http://localhost:1", write_key="k")
    assert tested.export([]) is SpanExportResult.SUCCESS
    assert tested.counters["requests"] == {}


def test_the_last_line_has_the_numbers(caplog: pytest.LogCaptureFixture) -> None:
    """Once, and as a warning only if something was lost; nothing if there was nothing."""
    caplog.set_level("INFO")
    ApinalyticsSpanExporter(write_key="k").shutdown()
    assert caplog.records == []
    tested = ApinalyticsSpanExporter(write_key="k", excluded_paths="/users/*")
    tested.export(calls(3))
    tested.shutdown()
    tested.shutdown()
    (record,) = caplog.records
    assert record.getMessage() == "what became of all spans: 3 excluded"
    assert record.levelname == "INFO"
