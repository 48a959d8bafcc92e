# SPDX-License-Identifier: Apache-2.0
"""Tests of where settings come from: secrets in files, origins, names that nobody knows."""

from __future__ import annotations

from pathlib import Path

import pytest

from otel_apinalytics.errors import ConfigError
from otel_apinalytics.settings import (
    ARGUMENT,
    DEFAULT,
    ENVIRONMENT,
    FILE,
    NAMES,
    SECRETS,
    Origin,
    read_effective,
    read_settings,
)

SECRET = "s3cret-key"


def write(path: Path, text: str | bytes) -> Path:
    """Write a file."""
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.fixture
def secret_file(tmp_path: Path) -> Path:
    """Return a file with a secret, as `echo` writes it."""
    return write(tmp_path / "secret", f"{SECRET}\n")


def secret_of(name: str, arguments: dict[str, object], config: Path | None = None) -> str:
    """Return a secret that is in force."""
    return str(getattr(read_settings(arguments, config), name).get_secret_value())


# ---- secrets in files ----


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_in_a_file_by_each_source(
    name: str, secret_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An argument, a variable and a key of the settings file can name it."""
    assert secret_of(name, {f"{name}_file": str(secret_file)}) == SECRET
    config = write(tmp_path / "a.toml", f'{name}_file = "{secret_file}"')
    assert secret_of(name, {}, config) == SECRET
    monkeypatch.setenv(f"APINALYTICS_{name.upper()}_FILE", str(secret_file))
    assert secret_of(name, {}) == SECRET


@pytest.mark.parametrize(
    ("content", "secret"),
    [
        (b"key", "key"),
        (b"key\n", "key"),
        (b"key\r\n", "key"),
        (b" key \n", " key "),
        (b"key\n\n", "key\n"),
    ],
)
def test_one_line_end_is_left_out(content: bytes, secret: str, tmp_path: Path) -> None:
    """All else is the secret's."""
    path = write(tmp_path / "secret", content)
    assert secret_of("read_key", {"read_key_file": path}) == secret


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "No such file or directory"),
        (b"", "is empty"),
        (b"\n", "is empty"),
        (b"\xff\xfe", "is not text in UTF-8"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(
    content: bytes | None, message: str, tmp_path: Path
) -> None:
    """Which setting, which file, and why."""
    path = tmp_path / "secret"
    if content is not None:
        write(path, content)
    with pytest.raises(ConfigError, match=f"setting write_key_file: .*{path}.*{message}"):
        read_settings({"write_key_file": path})


def test_a_file_must_be_named_by_text(tmp_path: Path) -> None:
    """A number in the settings file is no path."""
    with pytest.raises(ConfigError, match="setting read_key_file: 5 is no path"):
        read_settings({}, write(tmp_path / "a.toml", "read_key_file = 5"))


def test_a_source_has_the_secret_or_its_file(
    secret_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which of both is meant, nobody knows."""
    monkeypatch.setenv("APINALYTICS_READ_KEY", "other")
    monkeypatch.setenv("APINALYTICS_READ_KEY_FILE", str(secret_file))
    with pytest.raises(ConfigError, match="read_key and read_key_file: give one of them"):
        read_settings({})


def test_precedence_is_that_of_all_settings(
    secret_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A secret of one source wins over the file of a lower one, and the other way round."""
    config = write(tmp_path / "a.toml", f'write_key_file = "{secret_file}"\nread_key = "low"\n')
    monkeypatch.setenv("APINALYTICS_WRITE_KEY", "high")
    monkeypatch.setenv("APINALYTICS_READ_KEY_FILE", str(secret_file))
    assert secret_of("write_key", {}, config) == "high"
    assert secret_of("read_key", {}, config) == SECRET


def test_an_empty_variable_names_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """As for all settings."""
    monkeypatch.setenv("APINALYTICS_READ_KEY_FILE", "")
    assert read_settings({}).read_key is None


def test_a_variable_without_our_prefix_is_not_ours(
    secret_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`READ_KEY_FILE` is somebody else's."""
    monkeypatch.setenv("READ_KEY_FILE", str(secret_file))
    assert read_settings({}).read_key is None


def test_a_relative_path_begins_where_it_is_said(
    secret_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The service works in its data directory, and reads its settings again there."""
    other = tmp_path / "other"
    other.mkdir()
    monkeypatch.chdir(other)
    settings = read_settings({"read_key_file": secret_file.name}, directory=tmp_path)
    assert settings.read_key is not None
    assert settings.read_key.get_secret_value() == SECRET


@pytest.mark.parametrize("name", SECRETS)
def test_no_secret_shows(name: str) -> None:
    """Neither a key nor a password is in a text that the settings are turned into."""
    settings = read_settings({name: f"clickhouse://user:{SECRET}@host/db"})
    for text in (repr(settings), str(settings), settings.model_dump_json()):
        assert SECRET not in text


# ---- origins ----


def test_where_each_setting_comes_from(
    secret_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The source that wins, and the file of a secret."""
    config = write(
        tmp_path / "a.toml",
        f'grpc = "localhost:1"\nhttp = "localhost:2"\nadmin_key_file = "{secret_file}"',
    )
    monkeypatch.setenv("APINALYTICS_GRPC", "localhost:3")
    monkeypatch.setenv("APINALYTICS_READ_KEY", "r")
    origins = read_effective({"http": "localhost:4", "store": None}, config).origins
    assert origins["grpc"] == origins["read_key"] == Origin(ENVIRONMENT)
    assert origins["http"] == Origin(ARGUMENT)
    assert origins["admin_key"] == Origin(FILE, secret_file)
    others = set(origins) - {"grpc", "http", "read_key", "admin_key"}
    assert {origins[name] for name in others} == {Origin(DEFAULT)}


# ---- names and values ----


@pytest.mark.parametrize("name", NAMES)
def test_a_misspelled_variable_names_the_one_that_is_meant(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of each setting, with a letter too many at its end."""
    variable = f"APINALYTICS_{name.upper()}X"
    monkeypatch.setenv(variable, "1")
    expected = f"unknown setting {variable}; did you mean APINALYTICS_{name.upper()}\\?"
    with pytest.raises(ConfigError, match=expected):
        read_settings({})


def test_what_is_no_secret_is_in_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """The setting itself is meant, not another one that may be."""
    monkeypatch.setenv("APINALYTICS_HTTP_FILE", "/etc/http")
    with pytest.raises(ConfigError, match=r"HTTP_FILE; did you mean APINALYTICS_HTTP\?"):
        read_settings({})


def test_a_wrong_value_is_named_with_its_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one that counts; of a secret, no value."""
    config = write(
        tmp_path / "a.toml",
        "retention_events_days = 0\nwrite_key = 7\n"
        '[[retention]]\napplication = "a"\nevents_days = -1\n',
    )
    with pytest.raises(ConfigError) as caught:
        read_settings({}, config)
    assert f"than or equal to 1, not 0 ({config})" in str(caught.value)
    assert "setting retention, entry 1, events_days: " in str(caught.value)
    assert f"than or equal to 1, not -1 ({config})" in str(caught.value)
    assert "not 7" not in str(caught.value)
    assert f"setting write_key: input should be a valid string ({config})" in str(caught.value)
    monkeypatch.setenv("APINALYTICS_RETENTION_EVENTS_DAYS", "abc")
    with pytest.raises(ConfigError, match=r"not 'abc' \(APINALYTICS_RETENTION_EVENTS_DAYS\)"):
        read_settings({})
    with pytest.raises(ConfigError, match=r"not 'x' \(--retention-events-days\)"):
        read_settings({"retention_events_days": "x"}, config)
    with pytest.raises(ConfigError, match=r"trusted_proxies, entry 2: .*'proxy' does not appear"):
        read_settings({"trusted_proxies": '["10.0.0.0/8", "proxy"]'})


def test_variables_in_lower_case_are_ours_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are read, so that they can be misspelled as well."""
    monkeypatch.setenv("apinalytics_grpc", "localhost:1")
    assert read_settings({}).grpc == "localhost:1"
    monkeypatch.setenv("apinalytics_grcp", "localhost:1")
    with pytest.raises(ConfigError, match="unknown setting apinalytics_grcp; did you mean"):
        read_settings({})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[[mapping]]\nform = "a"\nto = "plan_id"', "mapping, entry 1, form: unknown.*'from'"),
        (
            '[[mapping]]\nfrom = "a"\nto = "b"\n[[mapping]]\nfrom = "a"\nto = "b"\nass = "hash"',
            "mapping, entry 2, ass: unknown; did you mean 'as'",
        ),
        ('[[retention]]\napplication = "a"\nevent_days = 1', "event_days: unknown.*'events_days'"),
        ('[serve]\ngrpc = "a:1"', "unknown setting 'serve'"),
        ("[grpc]\nport = 1", "setting grpc: "),
        ('wriet_key_file = "a"', "unknown setting 'wriet_key_file'; did you mean 'write_key_file'"),
    ],
)
def test_an_unknown_name_in_a_file_names_the_nearest(
    text: str, message: str, tmp_path: Path
) -> None:
    """Also within tables."""
    with pytest.raises(ConfigError, match=message):
        read_settings({}, write(tmp_path / "a.toml", text))


@pytest.mark.parametrize("name", ["mapping", "retention", "cors_origins"])
def test_a_list_that_is_no_json_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By where it comes from."""
    option = f"--{name.replace('_', '-')}"
    with pytest.raises(ConfigError, match=f"setting {name}: {option} is not JSON"):
        read_settings({name: "https://app.example"})
    monkeypatch.setenv(f"APINALYTICS_{name.upper()}", "https://app.example")
    with pytest.raises(ConfigError, match=f"setting {name}: APINALYTICS_.* is not JSON"):
        read_settings({})


def test_a_list_as_an_argument_is_json() -> None:
    """As it is as a variable."""
    settings = read_settings({"cors_origins": '["https://app.example"]'})
    assert settings.cors_origins == ("https://app.example",)
