# SPDX-License-Identifier: Apache-2.0
"""The exporter's settings: each by argument or by variable of the environment, checked once.

They follow the rules for third-party exporters in the OpenTelemetry specification ("Environment
Variable Specification"): `OTEL_EXPORTER_<NAME>_…`, an empty variable is an unset one, headers are
written as W3C Baggage. A value that makes no sense is an error here, never a guess: data would go
somewhere else, or be something else, than was wanted.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

from otel_apinalytics.errors import ConfigError
from otel_apinalytics.exporter.hashing import parse_hash_key
from otel_apinalytics.exporter.noise import EXCLUDED_PATHS, EXCLUDED_USER_AGENTS

PREFIX = "OTEL_EXPORTER_APINALYTICS_"
DEFAULT_ENDPOINT = "http://localhost:4318"
DEFAULT_TIMEOUT_S = 10.0
NONE, GZIP = "none", "gzip"
# What the list of a setting begins with to be added to the default.
_ADD = "+"
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_AUTHORIZATION = ("x-auth-key", "authorization")
# What only one of the two may have.
_HEADER_OF = {"write_key": "x-auth-key", "application_id": "x-auth-user"}
_HOST = re.compile(r"[0-9A-Za-z._-]+|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*(%[0-9A-Za-z._-]+)?")
_PATH = re.compile(r"[!-~]*")
# What stands before or after these may be a password or a key.
_SECRET_PARTS = re.compile("[@?#]")


@dataclass(frozen=True, slots=True)
class ExporterSettings:
    """What the exporter was told. Secrets are in no `repr`.

    Args:
        endpoint: The service's address, without a slash at its end.
        application_id: The application; None leaves it to the key.
        write_key: The write key; None if a header has it.
        headers: Further headers, by name in lower case.
        timeout_s: How long an export may take, over all attempts.
        compression: `gzip` or `none`.
        certificate: File with the authorities that the service's certificate is checked against.
        client_certificate: File with the certificate to show to the service.
        client_key: File with its key.
        hash_key: The application's hash key; None sends no hashed id.
        client_spans: Whether CLIENT spans become events, too.
        excluded_paths: Paths of requests that are not sent.
        excluded_user_agents: How the user agents of requests begin that are not sent.
    """

    endpoint: str
    application_id: str | None
    write_key: str | None = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    timeout_s: float
    compression: str
    certificate: str | None
    client_certificate: str | None
    client_key: str | None
    hash_key: bytes | None = field(repr=False)
    client_spans: bool
    excluded_paths: tuple[str, ...]
    excluded_user_agents: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting.

    Args:
        name: The argument; in upper case and with the prefix also the variable.
        parse: From what was given to the value.
        description: A sentence for users.
        default: The default in words.
        unset: The value where nothing is given.
        is_secret: Whether an error must not show the value.
    """

    name: str
    parse: Callable[[Any], Any]
    description: str
    default: str = ""
    unset: Any = None
    is_secret: bool = False

    @property
    def variable(self) -> str:
        """The variable of the environment."""
        return PREFIX + self.name.upper()


def read_settings(arguments: Mapping[str, Any], environment: Mapping[str, str]) -> ExporterSettings:
    """Return the settings: an argument wins over a variable, that over the default.

    Args:
        arguments: By name; None stands for one that is not given.
        environment: Variables.

    Raises:
        ConfigError: A value makes no sense, or the write key is missing; it says which and why.
    """
    values = {
        setting.name: _value(setting, arguments.get(setting.name), environment)
        for setting in SETTINGS
    }
    if unknown := [name for name in arguments if name not in values]:
        raise ConfigError(f"unknown argument {unknown[0]!r}{_nearest(unknown[0], values)}")
    values["timeout_s"] = values.pop("timeout")
    settings = ExporterSettings(**values)
    if not settings.write_key and not any(name in settings.headers for name in _AUTHORIZATION):
        raise ConfigError(f"no write key: set {PREFIX}WRITE_KEY, or the argument write_key")
    for name, header in _HEADER_OF.items():
        if values[name] and header in settings.headers:
            raise ConfigError(
                f"{PREFIX}{name.upper()} and the header {header} of {PREFIX}HEADERS are the same: "
                "set one of them"
            )
    if settings.client_key and not settings.client_certificate:
        raise ConfigError(f"a client key without certificate: set {PREFIX}CLIENT_CERTIFICATE")
    return settings


def unknown_variables(environment: Iterable[str]) -> list[str]:
    """Return what is wrong with variables that look like settings and are none, one by one."""
    known = [setting.variable for setting in SETTINGS]
    return [
        f"{name} is no setting{_nearest(name, known)}"
        for name in environment
        if name.startswith(PREFIX) and name not in known
    ]


def _value(setting: Setting, argument: Any, environment: Mapping[str, str]) -> Any:
    given, name = argument, setting.name
    if given is None:
        given, name = environment.get(setting.variable, "").strip(), setting.variable
        if not given:
            return setting.unset
    try:
        return setting.parse(given)
    except (ValueError, TypeError, AttributeError) as error:
        # What a library says of a wrong value is no help, and could have the value in it.
        problem = "it makes no sense"
        raise ConfigError(_complaint(setting, name, given, problem)) from error
    except ConfigError as error:
        raise ConfigError(_complaint(setting, name, given, str(error))) from error


def _complaint(setting: Setting, name: str, given: Any, problem: str) -> str:
    is_secret = setting.is_secret or (
        setting.parse is _endpoint and _SECRET_PARTS.search(str(given))
    )
    return f"{name}: {problem}" if is_secret else f"{name} is {given!r}: {problem}"


def _nearest(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, known, 1)
    return f"; did you mean {near[0]}?" if near else ""


def _text(given: Any) -> str:
    # A file of YAML has a number where a name is one.
    if not isinstance(given, (str, int)) or isinstance(given, bool):
        raise ConfigError(f"it must be text, not {type(given).__name__}")
    text = str(given).strip()
    if not _HEADER_VALUE.fullmatch(text):
        raise ConfigError("it must be one line of Latin letters")
    return text


def _endpoint(given: Any) -> str:
    try:
        parts = urlsplit(str(given).strip())
        is_address = _is_address(parts)
    except ValueError:
        # A port that is none, brackets around no address, a label of no length.
        is_address = False
    if not is_address:
        raise ConfigError(
            "it must be like http://localhost:4318 or https://host/path, with a port of 1 to 65535 "
            "if any, and without user, password and query"
        )
    return parts.geturl().rstrip("/")


def _is_address(parts: SplitResult) -> bool:
    host = (parts.hostname or "").encode("idna").decode("ascii")
    return (
        parts.scheme in ("http", "https")
        and _HOST.fullmatch(host) is not None
        and parts.port != 0
        and _PATH.fullmatch(parts.path) is not None
        and not (parts.query or parts.fragment)
        and parts.username is None
    )


def _headers(given: Any) -> dict[str, str]:
    if isinstance(given, Mapping):
        pairs = [(_text(name), _text(value)) for name, value in given.items()]
    else:
        pairs = [_header(pair) for pair in _text(given).split(",") if pair.strip()]
    headers = {name.strip().lower(): value.strip() for name, value in pairs}
    for name, value in headers.items():
        if not _HEADER_NAME.fullmatch(name) or not _HEADER_VALUE.fullmatch(value):
            raise ConfigError("it must be like name=value,other=value, percent-encoded")
    return headers


def _header(pair: str) -> tuple[str, str]:
    name, separator, value = pair.partition("=")
    if not separator:
        raise ConfigError("it must be like name=value,other=value, percent-encoded")
    return unquote(name), unquote(value)


def _seconds(given: Any) -> float:
    try:
        seconds = math.nan if isinstance(given, bool) else float(given)
    except (ValueError, TypeError):
        seconds = math.nan
    if not 0 < seconds <= _MAX_TIMEOUT_S:
        raise ConfigError(f"it must be seconds, more than 0 and at most {_MAX_TIMEOUT_S}")
    return seconds


# A request of minutes would keep a program from ending, and helps nobody.
_MAX_TIMEOUT_S = 300


def _compression(given: Any) -> str:
    word = str(given).strip().lower()
    if word not in (NONE, GZIP):
        raise ConfigError(f"it must be {GZIP} or {NONE}")
    return word


def _file(given: Any) -> str:
    path = Path(str(given))
    try:
        path.open("rb").close()
    except OSError as error:
        raise ConfigError(f"it cannot be read: {error.strerror}") from error
    return str(path)


def _hash_key(given: Any) -> bytes:
    return parse_hash_key(str(given))


def _flag(given: Any) -> bool:
    word = str(given).strip().lower()
    if word not in ("true", "false"):
        raise ConfigError("it must be true or false")
    return word == "true"


def _words(given: Any) -> list[str]:
    words = given.split(",") if isinstance(given, str) else given
    if not isinstance(words, (list, tuple)) or not all(isinstance(word, str) for word in words):
        raise ConfigError("it must be text, or a list of texts")
    return [text for word in words if (text := word.strip())]


def _list(default: tuple[str, ...]) -> Callable[[Any], tuple[str, ...]]:
    def parse(given: Any) -> tuple[str, ...]:
        words = tuple(_words(given))
        if [word.lower() for word in words] == [NONE]:
            return ()
        return (*default, *words[1:]) if words and words[0] == _ADD else words

    return parse


def _paths(given: Any) -> tuple[str, ...]:
    paths = _list(EXCLUDED_PATHS)(given)
    if not all(path.startswith(("/", "*")) for path in paths):
        raise ConfigError("each path must begin with / or *")
    return paths


SETTINGS: tuple[Setting, ...] = (
    Setting("endpoint", _endpoint, "Address of the service's HTTP port.", DEFAULT_ENDPOINT,
            DEFAULT_ENDPOINT),
    Setting("application_id", _text, "The application.", "the one that the write key is of"),
    Setting("write_key", _text, "A write key of the application; required, unless `HEADERS` has "
            "one.", is_secret=True),
    Setting("headers", _headers, "Further headers of each request: `name=value,other=value`, "
            "percent-encoded.", "none", {}, is_secret=True),
    Setting("timeout", _seconds, "Seconds that a batch may take, over all attempts.",
            f"{DEFAULT_TIMEOUT_S:g}", DEFAULT_TIMEOUT_S),
    Setting("compression", _compression, f"`{GZIP}` or `{NONE}`.", NONE, NONE),
    Setting("certificate", _file, "File with the authorities that the service's certificate is "
            "checked against.", "those of the system"),
    Setting("client_certificate", _file, "File with the certificate to show to the service.",
            "none"),
    Setting("client_key", _file, "File with the key of that certificate.",
            "in the certificate's file"),
    Setting("hash_key", _hash_key, "The application's hash key, as `apinalytics apps hash-key` "
            "shows it; without it, no hashed id is sent.", "none", is_secret=True),
    Setting("client_spans", _flag, "`true` sends the calls that the program makes, too.", "false",
            False),
    Setting("excluded_paths", _paths, "Paths of requests that are not sent; a `*` "
            "stands for anything.", "see below", EXCLUDED_PATHS),
    Setting("excluded_user_agents", _list(EXCLUDED_USER_AGENTS), "How the user agents of requests "
            "begin that are not sent.", "see below", EXCLUDED_USER_AGENTS),
)  # fmt: skip
