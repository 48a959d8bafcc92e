# SPDX-License-Identifier: Apache-2.0
"""Tests of the settings: where each comes from, which wins, and what stops the start."""

from __future__ import annotations

from pathlib import Path

import pytest

from otel_apinalytics.errors import ConfigError
from otel_apinalytics.settings import (
    MappingSetting,
    RetentionSetting,
    Settings,
    read_settings,
)


def write(directory: Path, text: str) -> Path:
    """Write a settings file."""
    path = directory / "apinalytics.toml"
    path.write_text(text, "utf-8")
    return path


def test_defaults_listen_on_localhost() -> None:
    """Nothing given: nothing is open to other machines."""
    settings = read_settings({})
    assert (settings.grpc, settings.http) == ("localhost:4317", "localhost:4318")
    assert settings.write_key is None
    assert settings.secret_key_file is None


def test_argument_wins_over_environment_over_file_over_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each source is used where none before it has the setting."""
    config = write(tmp_path, 'grpc = "file:1"\nhttp = "file:2"\napplication_id = "file"\n')
    monkeypatch.setenv("APINALYTICS_GRPC", "environment:1")
    monkeypatch.setenv("APINALYTICS_HTTP", "environment:2")
    settings = read_settings({"grpc": "argument:1"}, config)
    assert settings.grpc == "argument:1"
    assert settings.http == "environment:2"
    assert settings.application_id == "file"
    assert settings.query_timeout_s == 30.0


def test_an_argument_that_is_none_is_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """An option that was left out does not hide the variable."""
    monkeypatch.setenv("APINALYTICS_GRPC", "environment:1")
    assert read_settings({"grpc": None}).grpc == "environment:1"


def test_an_empty_variable_is_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """`APINALYTICS_GRPC=` in a compose file means the default."""
    monkeypatch.setenv("APINALYTICS_GRPC", "")
    assert read_settings({}).grpc == "localhost:4317"


def test_text_becomes_the_setting_s_type(monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers and paths can be given as variables."""
    monkeypatch.setenv("APINALYTICS_MAX_REQUEST_BYTES", "2048")
    monkeypatch.setenv("APINALYTICS_QUERY_TIMEOUT_S", "1.5")
    monkeypatch.setenv("APINALYTICS_DATA_DIR", "/srv/data")
    settings = read_settings({})
    assert settings.max_request_bytes == 2048
    assert settings.query_timeout_s == 1.5
    assert settings.data_dir == Path("/srv/data")


@pytest.mark.parametrize(
    ("variable", "advice"),
    [
        ("APINALYTICS_GRCP", "did you mean APINALYTICS_GRPC?"),
        ("APINALYTICS_WRITEKEY", "did you mean APINALYTICS_WRITE_KEY?"),
        ("APINALYTICS_DATADIR", "did you mean APINALYTICS_DATA_DIR?"),
        ("APINALYTICS_ZZZZZZZ", ""),
    ],
)
def test_an_unknown_variable_names_the_nearest(
    monkeypatch: pytest.MonkeyPatch, variable: str, advice: str
) -> None:
    """A misspelled variable stops the start."""
    monkeypatch.setenv(variable, "x")
    with pytest.raises(ConfigError, match=f"unknown setting {variable}") as caught:
        read_settings({})
    assert advice in str(caught.value)
    assert bool(advice) == ("did you mean" in str(caught.value))


def test_variables_of_others_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only our prefix is ours."""
    monkeypatch.setenv("OTHER_GRPC", "x")
    monkeypatch.setenv("MY_APINALYTICS_GRPC", "x")
    assert read_settings({}).grpc == "localhost:4317"


def test_an_unknown_key_of_the_file_names_the_nearest(tmp_path: Path) -> None:
    """A misspelled key stops the start."""
    with pytest.raises(ConfigError, match="unknown setting 'htpp'; did you mean 'http'"):
        read_settings({}, write(tmp_path, 'htpp = "localhost:1"'))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_request_bytes", "many"),
        ("max_request_bytes", "1023"),
        ("log_segment_bytes", str(1 << 40)),
        ("log_pending_bytes", "1"),
        ("query_timeout_s", "0"),
        ("query_timeout_s", "3601"),
    ],
)
def test_a_bad_value_names_its_setting(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    """A value that is not allowed stops the start."""
    monkeypatch.setenv(f"APINALYTICS_{name.upper()}", value)
    with pytest.raises(ConfigError, match=f"setting {name}: "):
        read_settings({})


def test_all_bad_values_are_named_at_once(tmp_path: Path) -> None:
    """Nobody has to start three times to find three mistakes."""
    config = write(tmp_path, "max_request_bytes = 1\nquery_timeout_s = -1\nhtttp = 1\n")
    with pytest.raises(ConfigError) as caught:
        read_settings({}, config)
    assert all(name in str(caught.value) for name in ("max_request_bytes", "query_timeout_s"))
    assert "'htttp'" in str(caught.value)


@pytest.mark.parametrize("name", ["write_key", "read_key", "admin_key"])
def test_secrets_do_not_show(name: str) -> None:
    """A key is in no text that the settings are turned into."""
    settings = read_settings({name: "s3cret-key"})
    assert getattr(settings, name).get_secret_value() == "s3cret-key"
    for text in (repr(settings), str(settings), settings.model_dump_json()):
        assert "s3cret-key" not in text


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    """A file that was named must be there."""
    with pytest.raises(ConfigError, match="no settings file"):
        read_settings({}, tmp_path / "missing.toml")


@pytest.mark.parametrize("content", [b"grpc = ", b"[[[", b'grpc = "\xff"'])
def test_a_broken_file_is_an_error(tmp_path: Path, content: bytes) -> None:
    """Text that is no TOML stops the start and names the file."""
    path = tmp_path / "broken.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"broken\.toml"):
        read_settings({}, path)


def test_the_store_is_under_the_data_directory_by_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its DSN is absolute, so that it does not depend on where a later command runs."""
    monkeypatch.chdir(tmp_path)
    settings = read_settings({"data_dir": Path("data")})
    assert settings.store_dsn == f"chdb://{tmp_path}/data/db"
    assert read_settings({"store": "clickhouse://h/d"}).store_dsn == "clickhouse://h/d"


def test_settings_do_not_change() -> None:
    """They are read once."""
    settings = Settings()
    with pytest.raises(ValueError, match="frozen"):
        settings.grpc = "other:1"  # type: ignore[misc]


# ---- the mapping ----

ENTRY = MappingSetting(source="my-header", target="consumer_id")
HASHED = MappingSetting(
    source="x.key", target="attributes.key", treatment="hash", application="shop"
)
TOML = """
[[mapping]]
from = "my-header"
to = "consumer_id"

[[mapping]]
from = "x.key"
to = "attributes.key"
as = "hash"
application = "shop"
"""
JSON = """[{"from": "my-header", "to": "consumer_id"},
{"from": "x.key", "to": "attributes.key", "as": "hash", "application": "shop"}]"""


def test_a_mapping_in_the_file(tmp_path: Path) -> None:
    """A table for each entry; what is left out has a default."""
    assert read_settings({}, write(tmp_path, TOML)).mapping == (ENTRY, HASHED)
    assert (ENTRY.treatment, ENTRY.application) == ("plain", None)


def test_a_mapping_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A list in JSON, with the same names."""
    monkeypatch.setenv("APINALYTICS_MAPPING", JSON)
    assert read_settings({}).mapping == (ENTRY, HASHED)


def test_the_mapping_of_the_environment_replaces_the_file_s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One mapping is in force; entries of two sources are not mixed."""
    monkeypatch.setenv("APINALYTICS_MAPPING", '[{"from": "a.b", "to": "plan_id"}]')
    settings = read_settings({}, write(tmp_path, TOML))
    assert [entry.target for entry in settings.mapping] == ["plan_id"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[[mapping]]\nfrom = "a"\nto = "plan_id"\nhash = true\n', "hash"),
        ('[[mapping]]\nfrom = "a"\n', "to"),
        ('[[mapping]]\nto = "plan_id"\n', "from"),
        ('[[mapping]]\nfrom = 1\nto = "plan_id"\n', "string"),
        ('mapping = "a"\n', "mapping"),
    ],
)
def test_a_mapping_that_is_none_stops_the_start(tmp_path: Path, text: str, message: str) -> None:
    """An unknown key, a missing one or another type is named."""
    with pytest.raises(ConfigError, match="setting mapping") as caught:
        read_settings({}, write(tmp_path, text))
    assert message in str(caught.value)


@pytest.mark.parametrize("value", ["x", "{}", '[{"from": "a"}]', '[{"frm": "a", "to": "plan_id"}]'])
def test_a_variable_that_is_no_mapping_stops_the_start(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    """Text that is no JSON, or is no list of entries, is an error of the settings."""
    monkeypatch.setenv("APINALYTICS_MAPPING", value)
    with pytest.raises(ConfigError, match="mapping"):
        read_settings({})


# ---- retention ----


def test_retention_of_single_applications_in_the_file(tmp_path: Path) -> None:
    """A table for each; what is left out is as for all."""
    text = (
        'retention_events_days = 60\n[[retention]]\napplication = "shop"\nevents_days = 30\n'
        '[[retention]]\napplication = "bank"\nrejected_rows = 5\nledger_days = 4000\n'
    )
    settings = read_settings({}, write(tmp_path, text))
    assert (settings.retention_events_days, settings.retention_rejected_days) == (60, 14)
    assert settings.retention == (
        RetentionSetting(application="shop", events_days=30),
        RetentionSetting(application="bank", rejected_rows=5, ledger_days=4000),
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("retention_events_days = 0", "retention_events_days"),
        ("retention_rejected_rows = 0", "retention_rejected_rows"),
        ("retention_ledger_days = 36501", "retention_ledger_days"),
        ('[[retention]]\napplication = "a"\nevents_days = 0', "retention, entry 1, events_days"),
        ('[[retention]]\napplication = "a"\ndays = 1', "retention, entry 1, days"),
        ("[[retention]]\nevents_days = 1", "retention, entry 1, application"),
        ('[[retention]]\napplication = "a"\n[[retention]]\napplication = "a"', "'a'"),
    ],
)
def test_a_wrong_retention_stops_the_start(tmp_path: Path, text: str, message: str) -> None:
    """Nothing is deleted by a limit that was not meant."""
    with pytest.raises(ConfigError, match="setting retention") as caught:
        read_settings({}, write(tmp_path, text))
    assert message in str(caught.value)


# ---- TLS ----


def test_tls_is_off_and_clear_text_stays_here_by_default() -> None:
    """Neither is turned on by itself."""
    settings = read_settings({})
    assert settings.tls_certificate_file is None
    assert settings.tls_key_file is None
    assert settings.tls_client_ca_file is None
    assert settings.insecure is False


def test_tls_in_the_environment_and_in_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Paths and a switch, by either."""
    monkeypatch.setenv("APINALYTICS_TLS_CERTIFICATE_FILE", "/etc/tls/cert.pem")
    monkeypatch.setenv("APINALYTICS_INSECURE", "true")
    config = write(tmp_path, 'tls_key_file = "key.pem"\ninsecure = false\n')
    settings = read_settings({}, config)
    assert settings.tls_certificate_file == Path("/etc/tls/cert.pem")
    assert settings.tls_key_file == Path("key.pem")
    assert settings.insecure is True
