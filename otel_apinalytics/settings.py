# SPDX-License-Identifier: Apache-2.0
"""Settings of the service: one table, read once, from arguments, environment and a TOML file.

An argument wins over a variable `APINALYTICS_…`, that over the file, that over the default.
"""

from __future__ import annotations

import difflib
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from otel_apinalytics.errors import ConfigError

PREFIX = "APINALYTICS_"
# A hundred years.
_MAX_DAYS = 36_500
# As browsers write it (RFC 6454, section 6.1): scheme, host, and port if it is not the usual one.
_ORIGIN = r"^(\*|https?://[^/?#*\s]+)$"


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
    events_days: int | None = Field(None, ge=1, le=_MAX_DAYS)
    rejected_days: int | None = Field(None, ge=1, le=_MAX_DAYS)
    rejected_rows: int | None = Field(None, ge=1)
    ledger_days: int | None = Field(None, ge=1, le=_MAX_DAYS)


class Settings(BaseSettings):
    """What the service is started with. Secrets do not show in its repr."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_ignore_empty=True, extra="forbid", frozen=True
    )

    data_dir: Path = Field(
        Path("apinalytics-data"), description="Directory of everything that is kept."
    )
    store: str = Field(
        "", description="Store DSN: chdb:///directory or clickhouse://…; default under data_dir."
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
        90, ge=1, le=_MAX_DAYS, description="Days for which events are kept."
    )
    retention_rejected_days: int = Field(
        14, ge=1, le=_MAX_DAYS, description="Days for which dead letters are kept."
    )
    retention_rejected_rows: int = Field(
        100_000, ge=1, description="Dead letters that are kept of an application, the newest ones."
    )
    retention_ledger_days: int = Field(
        400, ge=1, le=_MAX_DAYS, description="Days for which the ledger is kept."
    )
    retention: tuple[RetentionSetting, ...] = Field(
        (), description="What is kept of single applications, where it differs."
    )
    query_timeout_s: float = Field(
        30.0, gt=0, le=3600, description="Longest time that a query may run."
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
        return self.store or f"chdb://{self.data_dir.absolute() / 'db'}"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Return the sources in order of precedence."""
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls)


def read_settings(arguments: Mapping[str, Any], config: Path | None = None) -> Settings:
    """Return the effective settings.

    Args:
        arguments: Settings given as arguments; None means not given.
        config: TOML file with settings, or None.

    Raises:
        ConfigError: A name is unknown, a value is not allowed, or the file cannot be read.
    """
    _refuse_unknown_variables(os.environ)
    if config is not None and not config.is_file():
        raise ConfigError(f"there is no settings file {config}")

    class _Settings(Settings):
        model_config = SettingsConfigDict(toml_file=config)

    given = {name: value for name, value in arguments.items() if value is not None}
    try:
        return _Settings(**given)
    except ValidationError as error:
        raise ConfigError(_explain(error)) from error
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read the settings file {config}: {error}") from error


def _refuse_unknown_variables(environment: Mapping[str, str]) -> None:
    for variable in environment:
        name = variable.removeprefix(PREFIX)
        if name != variable and name.lower() not in Settings.model_fields:
            raise ConfigError(f"unknown setting {variable}{_nearest(name, PREFIX)}")


def _explain(error: ValidationError) -> str:
    problems = []
    for problem in error.errors():
        name = str(problem["loc"][0])
        if len(problem["loc"]) > 1:
            problems.append(f"setting {_place(problem['loc'])}: {problem['msg'].lower()}")
        elif problem["type"] == "extra_forbidden":
            problems.append(f"unknown setting {name!r}{_nearest(name, '')}")
        else:
            problems.append(f"setting {name}: {problem['msg'].lower()}")
    return "; ".join(problems)


def _place(path: Sequence[int | str]) -> str:
    """Return where in a setting something is: `mapping, entry 2, from`."""
    return ", ".join(f"entry {part + 1}" if isinstance(part, int) else part for part in path)


def _nearest(name: str, prefix: str) -> str:
    known = difflib.get_close_matches(name.lower(), Settings.model_fields, n=1, cutoff=0.5)
    if not known:
        return ""
    return (
        f"; did you mean {prefix}{known[0].upper()}?" if prefix else f"; did you mean {known[0]!r}?"
    )
