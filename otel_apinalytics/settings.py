# SPDX-License-Identifier: Apache-2.0
"""Settings of the service: one table, read once, from arguments, environment and a TOML file.

An argument wins over a variable `APINALYTICS_…`, that over the file, that over the default. Of a
secret, each of the three may name a file instead: `--write-key-file`, `…_WRITE_KEY_FILE`,
`write_key_file`.
"""

from __future__ import annotations

import difflib
import ipaddress
import json
import os
from collections import ChainMap, Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
)
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from otel_apinalytics.errors import ConfigError

PREFIX = "APINALYTICS_"
# Behind the name of a secret: it is in a file.
FILE_SUFFIX = "_file"
ARGUMENT, ENVIRONMENT, FILE, DEFAULT = "argument", "environment", "file", "default"
# A hundred years.
MAX_DAYS = 36_500
# As browsers write it (RFC 6454, section 6.1): scheme, host, and port if it is not the usual one.
_ORIGIN = r"^(\*|https?://[^/?#*\s]+)$"


def _network(text: str) -> str:
    ipaddress.ip_network(text)
    return text


class MappingSetting(BaseModel):
    """One entry of the mapping, as the settings file writes it."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    source: str = Field(alias="from")
    target: str = Field(alias="to")
    treatment: str = Field("plain", alias="as")
    application: str | None = None


class RetentionSetting(BaseModel):
    """What is kept of one application, where it differs, as the settings file writes it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    application: str
    events_days: int | None = Field(None, ge=1, le=MAX_DAYS)
    rejected_days: int | None = Field(None, ge=1, le=MAX_DAYS)
    rejected_rows: int | None = Field(None, ge=1)
    ledger_days: int | None = Field(None, ge=1, le=MAX_DAYS)
    audit_days: int | None = Field(None, ge=1, le=MAX_DAYS)


class Settings(BaseSettings):
    """What the service is started with. Secrets do not show in its repr."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_ignore_empty=True, extra="forbid", frozen=True
    )

    data_dir: Path = Field(
        Path("apinalytics-data"), description="Directory of everything that is kept."
    )
    store: SecretStr = Field(
        SecretStr(""),
        description="Store DSN: chdb:///directory or clickhouse://user:password@host/database; "
        "default under data_dir.",
    )
    grpc: str = Field("localhost:4317", description="Where OTLP/gRPC listens, host:port.")
    http: str = Field("localhost:4318", description="Where HTTP listens, host:port.")
    tls_certificate_file: Path | None = Field(
        None, description="PEM: certificate of both listeners and its chain; turns on TLS."
    )
    tls_key_file: Path | None = Field(None, description="PEM: its private key, not encrypted.")
    tls_client_ca_file: Path | None = Field(
        None, description="PEM: CAs; only clients with a certificate of one are let in."
    )
    insecure: bool = Field(
        False, description="Listen elsewhere than on localhost without TLS, left to a proxy."
    )
    application_id: str | None = Field(None, description="Application that is made sure of.")
    write_key: SecretStr | None = Field(None, description="Its key to send data.")
    read_key: SecretStr | None = Field(None, description="Its key to query.")
    admin_key: SecretStr | None = Field(None, description="Its key to administer.")
    secret_key_file: Path | None = Field(
        None, description="File of 32 random bytes that seals the log; default under data_dir."
    )
    max_request_bytes: int = Field(
        64 << 20, ge=1 << 10, le=1 << 30, description="Largest request, decompressed."
    )
    log_segment_bytes: int = Field(
        32 << 20, ge=1 << 16, le=256 << 20, description="Size at which a log segment is loaded."
    )
    log_pending_bytes: int = Field(
        512 << 20, ge=1 << 20, description="What may wait to be loaded; beyond it, refuse."
    )
    min_free_bytes: int = Field(
        1 << 30, ge=0, description="Free disk space to leave to the store; below it, refuse."
    )
    retention_events_days: int = Field(
        90, ge=1, le=MAX_DAYS, description="Days for which events are kept."
    )
    retention_rejected_days: int = Field(
        14, ge=1, le=MAX_DAYS, description="Days for which dead letters are kept."
    )
    retention_rejected_rows: int = Field(
        100_000, ge=1, description="Dead letters that are kept of an application, the newest ones."
    )
    retention_ledger_days: int = Field(
        400, ge=1, le=MAX_DAYS, description="Days for which the ledger is kept."
    )
    retention_audit_days: int = Field(
        400, ge=1, le=MAX_DAYS, description="Days for which the audit is kept."
    )
    retention: tuple[RetentionSetting, ...] = Field(
        (), description="What is kept of single applications, where it differs."
    )
    query_timeout_s: float = Field(
        30.0, gt=0, le=3600, description="Longest time that a query may run."
    )
    trusted_proxies: tuple[Annotated[str, AfterValidator(_network)], ...] = Field(
        (),
        description="Addresses and networks of proxies, such as 127.0.0.1, whose X-Forwarded-For "
        "says who asks; others' is not believed.",
    )
    cors_origins: tuple[Annotated[str, Field(pattern=_ORIGIN)], ...] = Field(
        (), description="Origins whose pages may send and ask, such as https://app.example; or *."
    )
    mapping: tuple[MappingSetting, ...] = Field(
        (), description="Your attributes and headers → event fields."
    )

    @field_validator("retention")
    @classmethod
    def _once_each(cls, entries: tuple[RetentionSetting, ...]) -> tuple[RetentionSetting, ...]:
        names = Counter(entry.application for entry in entries)
        if twice := [name for name, count in names.items() if count > 1]:
            raise ValueError(f"there is more than one entry for application {twice[0]!r}")
        return entries

    @property
    def store_dsn(self) -> str:
        """The store's DSN, with its default."""
        return self.store.get_secret_value() or f"chdb://{self.data_dir.absolute() / 'db'}"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Return no source but what it is made with: `read_effective` reads all of them."""
        return (init_settings,)


#: What is not shown, and may be in a file.
SECRETS = tuple(
    name
    for name, field in Settings.model_fields.items()
    if SecretStr in (field.annotation, *get_args(field.annotation))
)
#: Every name that a setting can be given by.
NAMES = (*Settings.model_fields, *(name + FILE_SUFFIX for name in SECRETS))
# Settings that are lists: in JSON, where they are text.
_LISTS = tuple(name for name, field in Settings.model_fields.items() if field.default == ())
#: Lists of tables, with the names that an entry has.
TABLES = {
    name: tuple(entry.alias or key for key, entry in kind.model_fields.items())
    for name, kind in (("mapping", MappingSetting), ("retention", RetentionSetting))
}


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a setting comes from.

    Args:
        source: `argument`, `environment`, `file` or `default`.
        secret_file: File that it is read from, if the source names one.
    """

    source: str
    secret_file: Path | None = None


@dataclass(frozen=True, slots=True)
class Effective:
    """The settings that are in force.

    Args:
        settings: The settings.
        origins: Where each comes from, by its name.
    """

    settings: Settings
    origins: Mapping[str, Origin]


def read_settings(
    arguments: Mapping[str, Any], config: Path | None = None, directory: Path = Path()
) -> Settings:
    """Return the effective settings: as `read_effective`, without their origins.

    Raises:
        ConfigError: As for `read_effective`.
    """
    return read_effective(arguments, config, directory).settings


def read_effective(
    arguments: Mapping[str, Any], config: Path | None = None, directory: Path = Path()
) -> Effective:
    """Return the effective settings, and where each comes from.

    Args:
        arguments: Settings given as arguments; None means not given. Lists may be text in JSON.
        config: TOML file with settings, or None.
        directory: Where paths of secrets begin that are not absolute.

    Raises:
        ConfigError: A name is unknown, a value is not allowed, or a file cannot be read.
    """
    _refuse_unknown_variables(os.environ)
    layers = {
        ARGUMENT: _of_arguments(arguments),
        ENVIRONMENT: _of_environment(os.environ),
        FILE: {} if config is None else _of_file(config),
    }
    given = {source: _with_secrets(values, directory) for source, values in layers.items()}
    try:
        settings = Settings(**ChainMap(*({**values} for values, _ in given.values())))
    except ValidationError as error:
        sources = {
            name: _source(source, name, config)
            for source, (values, _) in reversed(given.items())
            for name in values
        }
        raise ConfigError(_explain(error, sources)) from error
    origins = dict.fromkeys(Settings.model_fields, Origin(DEFAULT))
    for source, (values, files) in reversed(given.items()):
        origins |= {name: Origin(source, files.get(name)) for name in values}
    return Effective(settings, origins)


class _Environment(EnvSettingsSource):
    """Variables, of which those that stand for a list are JSON."""

    def decode_complex_value(self, field_name: str, field: FieldInfo, value: Any) -> Any:
        """Return what a variable in JSON holds.

        Raises:
            ConfigError: It is not JSON.
        """
        return _of_json(field_name, f"{PREFIX}{field_name.upper()}", value)


def _of_arguments(arguments: Mapping[str, Any]) -> dict[str, Any]:
    given = {name: value for name, value in arguments.items() if value is not None}
    for name, value in given.items():
        if isinstance(value, str) and name in _LISTS:
            given[name] = _of_json(name, f"--{name.replace('_', '-')}", value)
    return given


def _of_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    files = {f"{PREFIX}{name}{FILE_SUFFIX}".upper(): name + FILE_SUFFIX for name in SECRETS}
    named = {
        files[variable.upper()]: path
        for variable, path in environment.items()
        # An empty variable is not given.
        if variable.upper() in files and path
    }
    return _Environment(Settings)() | named


def _of_file(config: Path) -> dict[str, Any]:
    if not config.is_file():
        raise ConfigError(f"there is no settings file {config}")
    try:
        return TomlConfigSettingsSource(Settings, toml_file=config)()
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read the settings file {config}: {error}") from error


def _of_json(name: str, source: str, text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise ConfigError(f"setting {name}: {source} is not JSON: {error}") from error


def _with_secrets(
    values: Mapping[str, Any], directory: Path
) -> tuple[dict[str, Any], dict[str, Path]]:
    """Return settings with those secrets that a file is named for, and these files by setting."""
    found, files = dict(values), {}
    for name in SECRETS:
        path = found.pop(name + FILE_SUFFIX, None)
        if path is None:
            continue
        if name in found:
            raise ConfigError(f"settings {name} and {name}{FILE_SUFFIX}: give one of them")
        if not isinstance(path, str | Path):
            raise ConfigError(f"setting {name}{FILE_SUFFIX}: {path!r} is no path")
        files[name] = directory / path
        found[name] = _secret_in(name + FILE_SUFFIX, files[name])
    return found, files


def _secret_in(name: str, path: Path) -> str:
    try:
        secret = path.read_text("utf-8")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text in UTF-8"
        raise ConfigError(f"setting {name}: cannot read {path}: {reason}") from error
    # Editors and `echo` end a line.
    secret = secret.removesuffix("\n").removesuffix("\r")
    if not secret:
        raise ConfigError(f"setting {name}: {path} is empty")
    return secret


def _refuse_unknown_variables(environment: Mapping[str, str]) -> None:
    for variable in environment:
        name = variable.upper().removeprefix(PREFIX).lower()
        if variable.upper().startswith(PREFIX) and name not in NAMES:
            advice = _nearest(name, NAMES, lambda known: f"{PREFIX}{known.upper()}")
            raise ConfigError(f"unknown setting {variable}{advice}")


def _source(source: str, name: str, config: Path | None) -> str:
    """Return where a setting was given, as whoever gave it knows it."""
    named = {
        ARGUMENT: f"--{name.replace('_', '-')}",
        ENVIRONMENT: f"{PREFIX}{name.upper()}",
        FILE: str(config),
    }
    return named[source]


def _explain(error: ValidationError, sources: Mapping[str, str]) -> str:
    """Return what is wrong.

    Args:
        error: What was found.
        sources: Where each setting was given.
    """
    problems = error.errors(include_url=False)
    return "; ".join(_problem(problem, sources) for problem in problems)


def _problem(problem: Any, sources: Mapping[str, str]) -> str:
    *path, name = problem["loc"]
    is_unknown = problem["type"] == "extra_forbidden"
    if is_unknown and not path:
        return f"unknown setting {name!r}{_nearest(name, NAMES)}"
    if is_unknown:
        known = TABLES.get(path[0], ())
        return f"setting {_place(problem['loc'])}: unknown{_nearest(str(name), known)}"
    value, setting = problem["input"], problem["loc"][0]
    is_shown = setting not in SECRETS and isinstance(value, str | int | float)
    shown = f", not {value!r}" if is_shown else ""
    where = f" ({sources[setting]})" if setting in sources else ""
    return f"setting {_place(problem['loc'])}: {problem['msg'].lower()}{shown}{where}"


def _place(path: Sequence[int | str]) -> str:
    """Return where in a setting something is: `mapping, entry 2, from`."""
    return ", ".join(f"entry {part + 1}" if isinstance(part, int) else part for part in path)


def _nearest(name: str, known: Iterable[str], shown: Callable[[str], str] = repr) -> str:
    """Return a question after the known name that is meant, if one is like it."""
    # Only secrets may be in files.
    itself = [each for each in known if each + FILE_SUFFIX == name.lower()]
    found = itself or difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.5)
    return f"; did you mean {shown(found[0])}?" if found else ""
