# SPDX-License-Identifier: Apache-2.0
"""Tests of `apinalytics config`, and of the options that are made of the table of settings."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from otel_apinalytics.cli.commands import app
from otel_apinalytics.settings import NAMES, SECRETS, Settings, read_settings

SECRET = "s3cret-key"


def run(*arguments: str) -> str:
    """Return what a command prints."""
    result = CliRunner().invoke(app, arguments, env={"COLUMNS": "300"}, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def rows(*arguments: str) -> dict[str, tuple[str, str]]:
    """Return value and origin of each setting, as they are printed."""
    head, *lines = run("config", *arguments).splitlines()
    places = [head.index(word) for word in ("setting", "value", "from")]
    return {
        line[: places[1]].strip(): (line[places[1] : places[2]].strip(), line[places[2] :])
        for line in lines
    }


@pytest.mark.parametrize("command", ["serve", "config"])
def test_every_setting_is_an_option(command: str) -> None:
    """With the words of the table."""
    words = " ".join(re.findall(r"[^│╭╮╰╯─\s]+", run(command, "--help")))
    for name in NAMES:
        assert f"--{name.replace('_', '-')} " in words
    for field in Settings.model_fields.values():
        assert " ".join(str(field.description).split()) in words


def test_defaults_are_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """All settings are there, with nothing given."""
    monkeypatch.chdir(tmp_path)
    printed = rows()
    assert list(printed) == list(Settings.model_fields)
    assert printed["grpc"] == ("localhost:4317", "default")
    assert printed["insecure"] == ("false", "default")
    assert printed["write_key"] == ("", "default")


def test_each_origin_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Argument, environment, file, and the file of a secret."""
    secret = tmp_path / "secret"
    secret.write_text(f"{SECRET}\n")
    config = tmp_path / "a.toml"
    config.write_text(f'query_timeout_s = 5\nadmin_key_file = "{secret}"\n')
    monkeypatch.setenv("APINALYTICS_HTTP", "localhost:1")
    monkeypatch.setenv("APINALYTICS_MAPPING", '[{"from": "a.b", "to": "plan_id"}]')
    printed = rows("--config", str(config), "--max-request-bytes", "2048", "--insecure")
    assert printed["max_request_bytes"] == ("2048", "argument")
    assert printed["insecure"] == ("true", "argument")
    assert printed["http"] == ("localhost:1", "environment")
    assert printed["query_timeout_s"] == ("5.0", "file")
    assert printed["admin_key"] == ("(not shown)", f"file, in {secret}")
    assert printed["mapping"] == (
        '[{"from": "a.b", "to": "plan_id", "as": "plain"}]',
        "environment",
    )


def _some_value(name: str) -> str:
    """Return a value that a setting may have, as text."""
    lists = {
        "retention": '[{"application": "a"}]',
        "mapping": '[{"from": "a", "to": "plan_id"}]',
        "trusted_proxies": '["127.0.0.1"]',
        "cors_origins": '["*"]',
    }
    default = Settings.model_fields[name].default
    return lists.get(name) or (str(default) if isinstance(default, int | float) else "localhost:1")


@pytest.mark.parametrize("name", [name for name in Settings.model_fields if name != "insecure"])
def test_every_setting_by_argument(name: str) -> None:
    """The option of that name is the setting."""
    value = _some_value(name)
    printed = rows(f"--{name.replace('_', '-')}", value)
    assert printed[name][1] == "argument"
    assert printed[name][0]
    assert {origin for other, (_, origin) in printed.items() if other != name} == {"default"}


def test_an_argument_turns_a_switch_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the environment turned on."""
    monkeypatch.setenv("APINALYTICS_INSECURE", "true")
    assert rows()["insecure"] == ("true", "environment")
    assert rows("--no-insecure")["insecure"] == ("false", "argument")


@pytest.mark.parametrize("as_toml", [False, True])
@pytest.mark.parametrize("name", SECRETS)
def test_no_secret_is_printed(name: str, as_toml: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a key, nor the password of a store."""
    options = ["--toml"] if as_toml else []
    for text in (SECRET, f"clickhouse://user:{SECRET}@host/db?password={SECRET}"):
        monkeypatch.setenv(f"APINALYTICS_{name.upper()}", text)
        assert SECRET not in run("config", *options)


@pytest.mark.parametrize(
    ("dsn", "shown"),
    [
        ("chdb:///srv/db", "chdb:///srv/db"),
        ("clickhouse://user:pw@host:9000/db?secure=1", "clickhouse://…@host:9000/db?…"),
        ("clickhouse://host/db", "clickhouse://host/db"),
        ("user:pw", "(not shown)"),
    ],
)
def test_of_a_store_its_place_is_shown(dsn: str, shown: str) -> None:
    """Without who asks it."""
    assert rows("--store", dsn)["store"] == (shown, "argument")


def test_the_file_gives_the_same_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `--toml` prints can be served with."""
    secret = tmp_path / "secret"
    secret.write_text(SECRET)
    monkeypatch.setenv("APINALYTICS_WRITE_KEY_FILE", str(secret))
    monkeypatch.setenv("APINALYTICS_CORS_ORIGINS", '["https://ä.example"]')
    monkeypatch.setenv("APINALYTICS_APPLICATION_ID", 'quote " back \\ delete \x7f line \n é')
    monkeypatch.setenv(
        "APINALYTICS_MAPPING",
        '[{"from": "a.b", "to": "plan_id"}, {"from": "c", "to": "app_id", "as": "hash", '
        '"application": "shop"}]',
    )
    monkeypatch.setenv("APINALYTICS_RETENTION", '[{"application": "shop", "events_days": 3}]')
    options = ("--insecure", "--query-timeout-s", "2.5", "--data-dir", str(tmp_path))
    arguments = {"insecure": True, "query_timeout_s": 2.5, "data_dir": tmp_path}
    before = read_settings(arguments)
    config = tmp_path / "new.toml"
    config.write_text(run("config", *options, "--toml"), "utf-8")
    for name in ("WRITE_KEY_FILE", "CORS_ORIGINS", "APPLICATION_ID", "MAPPING", "RETENTION"):
        monkeypatch.delenv(f"APINALYTICS_{name}")
    assert read_settings({}, config) == before


def test_a_fresh_file_says_nothing(tmp_path: Path) -> None:
    """Defaults are comments: a later default is not pinned."""
    lines = run("config", "--toml").splitlines()
    assert [line for line in lines if line and not line.startswith("#")] == []
