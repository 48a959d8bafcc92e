# SPDX-License-Identifier: Apache-2.0
"""Tests of the exporter's settings."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from otel_apinalytics.errors import ConfigError
from otel_apinalytics.exporter import environment_variables
from otel_apinalytics.exporter.hashing import hash_key_text
from otel_apinalytics.exporter.noise import EXCLUDED_PATHS
from otel_apinalytics.exporter.settings import (
    PREFIX,
    SETTINGS,
    ExporterSettings,
    read_settings,
    unknown_variables,
)

KEY = {"write_key": "k"}


def read(arguments: Mapping[str, Any] | None = None, /, **variables: str) -> ExporterSettings:
    """Return the settings from arguments and from variables, which are written without prefix."""
    environment = {PREFIX + name.upper(): value for name, value in variables.items()}
    return read_settings({**KEY, **(arguments or {})}, environment)


def test_defaults() -> None:
    """A write key is enough."""
    settings = read()
    assert settings.endpoint == "http://localhost:4318"
    assert settings.timeout_s == 10
    assert settings.compression == "none"
    assert settings.headers == {}
    assert not settings.client_spans
    assert settings.excluded_paths == EXCLUDED_PATHS
    assert settings.hash_key is None


def test_an_argument_wins_over_a_variable() -> None:
    """And a variable over the default; an empty one is unset."""
    assert read({"timeout": 3}, timeout="4").timeout_s == 3
    assert read(timeout="4.5").timeout_s == 4.5
    assert read(timeout=" ", endpoint="").timeout_s == 10


@pytest.mark.parametrize(
    ("given", "endpoint"),
    [
        ("https://host", "https://host"),
        ("http://host:80/path/", "http://host:80/path"),
        ("http://[::1]:4318/", "http://[::1]:4318"),
        ("http://[fe80::1%eth0]:4318", "http://[fe80::1%eth0]:4318"),
        ("http://apinalytics_http:65535", "http://apinalytics_http:65535"),
        ("https://m\xfcnchen.example.", "https://m\xfcnchen.example."),
    ],
)
def test_endpoints(given: str, endpoint: str) -> None:
    """With or without a port, a path, and a slash at the end."""
    assert read(endpoint=given).endpoint == endpoint


@pytest.mark.parametrize(
    "given", ["a=b,C=d%2C%20e", {"a": "b", "c": "d, e"}, " a = b , c=d%2c%20e,"]
)
def test_headers(given: Any) -> None:
    """As the specification writes them, or as a mapping."""
    assert read({"headers": given}).headers == {"a": "b", "c": "d, e"}


@pytest.mark.parametrize(
    ("given", "paths"),
    [
        ("/a, /b/*", ("/a", "/b/*")),
        ("+,/a", (*EXCLUDED_PATHS, "/a")),
        (["+", "/a"], (*EXCLUDED_PATHS, "/a")),
        ("none", ()),
        (["/a"], ("/a",)),
    ],
)
def test_lists_replace_add_and_switch_off(given: Any, paths: tuple[str, ...]) -> None:
    """A list stands for the default, unless it begins with a plus."""
    assert read({"excluded_paths": given}).excluded_paths == paths


@pytest.mark.parametrize("given", [True, "true", " TRUE "])
def test_flags(given: Any) -> None:
    """True in any case, also from a file of YAML."""
    assert read({"client_spans": given}).client_spans


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("endpoint", "localhost:4318"),
        ("endpoint", "ftp://host"),
        ("endpoint", "http://host:port"),
        ("endpoint", "http://host:99999"),
        ("endpoint", "http://host:0"),
        ("endpoint", "http://a..b:4318"),
        ("endpoint", "http://a b/"),
        ("endpoint", "http://[::1"),
        ("endpoint", "http://:4318"),
        ("endpoint", "http://host/a b"),
        ("endpoint", "http://host/\xe4"),
        ("timeout", "soon"),
        ("timeout", "0"),
        ("timeout", "-1"),
        ("timeout", "nan"),
        ("timeout", "1e9"),
        ("compression", "zip"),
        ("certificate", "/no/such/file"),
        ("client_certificate", "/no/such/file"),
        ("client_spans", "yes"),
        ("application_id", "two\nlines"),
        ("excluded_paths", "internal"),
    ],
)
def test_a_wrong_value_is_named(name: str, given: str) -> None:
    """By its variable, with what was given and what it must be."""
    with pytest.raises(ConfigError, match=r"must be|must begin|cannot be read") as caught:
        read(**{name: given})
    assert PREFIX + name.upper() in str(caught.value)
    assert repr(given.strip()) in str(caught.value)
    with pytest.raises(ConfigError, match=f"^{name} is "):
        read({name: given})


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("timeout", True),
        ("timeout", [1]),
        ("write_key", b"k"),
        ("application_id", True),
        ("headers", {"a": None}),
        ("headers", ["a=b"]),
        ("excluded_paths", 7),
        ("excluded_paths", b"/a"),
        ("excluded_user_agents", ["a", None]),
        ("client_spans", 1),
    ],
)
def test_a_value_of_another_type_is_wrong(name: str, given: Any) -> None:
    """What could be made of it was hardly meant."""
    with pytest.raises(ConfigError, match=f"^{name}( is .*)?: it must be"):
        read({name: given})


@pytest.mark.parametrize(
    "given",
    [
        "http://user:hunter2@host",
        "http://user:hun?ter2@host",
        "https://host/?key=apw_hunter2",
        "https://host/#hunter2",
        "user:hunter2@host",
    ],
)
def test_an_endpoint_with_a_secret_is_not_shown(given: str) -> None:
    """A password or a key has no place in it, and none in the log."""
    with pytest.raises(ConfigError, match="without user, password and query") as caught:
        read(endpoint=given)
    assert "hun" not in str(caught.value)
    assert "user:" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "header"), [("write_key", "X-Auth-Key"), ("application_id", "x-auth-user")]
)
def test_the_same_is_not_said_twice(name: str, header: str) -> None:
    """The service would take one of the two, and nobody knows which."""
    with pytest.raises(ConfigError, match=f"{name.upper()} and the header {header.lower()}"):
        read({name: "a", "headers": {header: "b"}})
    # A proxy's.
    assert read(headers="authorization=Basic%20x").write_key == "k"


@pytest.mark.parametrize(
    ("name", "given"),
    [("headers", "secret"), ("hash_key", "secret"), ("headers", "a=se\ncret")],
)
def test_a_wrong_secret_is_not_shown(name: str, given: str) -> None:
    """Only which setting is wrong, and what it must be."""
    with pytest.raises(ConfigError, match=PREFIX + name.upper()) as caught:
        read(**{name: given})
    assert "cret" not in str(caught.value)


def test_secrets_are_in_no_repr() -> None:
    """Whoever prints the settings prints no key."""
    settings = read(
        {"headers": {"x": "s-header"}, "write_key": "s-key"}, hash_key=hash_key_text(b"s" * 32)
    )
    assert settings.hash_key == b"s" * 32
    assert "s-" not in repr(settings)
    assert b"s" * 32 not in repr(settings).encode()


def test_a_write_key_is_needed() -> None:
    """As a setting, or in a header."""
    with pytest.raises(ConfigError, match=f"set {PREFIX}WRITE_KEY"):
        read_settings({}, {})
    assert read_settings({"headers": {"Authorization": "Bearer k"}}, {}).write_key is None
    assert read_settings({"headers": {"X-Auth-Key": "k"}}, {}).write_key is None


def test_a_client_key_needs_its_certificate(tmp_path: Path) -> None:
    """It alone says nothing."""
    path = tmp_path / "key.pem"
    path.write_text("x")
    with pytest.raises(ConfigError, match="CLIENT_CERTIFICATE"):
        read(client_key=str(path))


def test_unknown_names() -> None:
    """An unknown argument is a mistake; an unknown variable is told, with the nearest name."""
    with pytest.raises(ConfigError, match="unknown argument 'endpiont'; did you mean endpoint"):
        read({"endpiont": "x"})
    assert unknown_variables([PREFIX + "ENDPIONT", PREFIX + "TIMEOUT", "OTEL_OTHER"]) == [
        f"{PREFIX}ENDPIONT is no setting; did you mean {PREFIX}ENDPOINT?"
    ]


def test_each_setting_has_its_variable() -> None:
    """`opentelemetry-instrument` knows all of them."""
    listed = {name for name in vars(environment_variables) if name.startswith("OTEL_")}
    assert listed == {setting.variable for setting in SETTINGS}
    assert all(getattr(environment_variables, name) == name for name in listed)
