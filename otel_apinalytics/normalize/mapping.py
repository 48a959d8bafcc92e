# SPDX-License-Identifier: Apache-2.0
"""The operator's mapping: which attributes and headers of theirs set which fields of an event.

It adds sources to the rule table, behind what the application says of itself and before everything
else. It never touches what an event's identity is made of.
"""

from __future__ import annotations

import difflib
import re
from collections import Counter
from dataclasses import dataclass

from otel_apinalytics.catalogue import BY_NAME, MAX_ENTRIES, FieldType
from otel_apinalytics.errors import ConfigError
from otel_apinalytics.normalize import rules, urls
from otel_apinalytics.normalize import transforms as t
from otel_apinalytics.normalize.identity import authorization, identity, secret
from otel_apinalytics.normalize.routes import route
from otel_apinalytics.normalize.transforms import Transform

PLAIN = "plain"
HASH = "hash"
ATTRIBUTES = "attributes."
METRICS = "metrics."

FIELDS = tuple(rule.field for rule in rules.RULES if rule.field is not None)
# How the rules read attributes that are secrets themselves, or have some in them.
_PROTECTIONS = {
    secret: secret,
    authorization: authorization,
    urls.ip_address: urls.ip_address.then(secret),
    t.as_is: urls.redacted,
    urls.bare_query: urls.redacted,
}
_PROTECTED = {
    name: _PROTECTIONS[source.transform]
    for rule in rules.RULES
    for source in rule.sources
    for name in source.attributes
    if source.transform in _PROTECTIONS
}
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,128}", re.ASCII)
# Text that looks like a secret is hashed, wherever it is to go.
_label = t.label.then(identity)
_TRANSFORMS = {
    "host": urls.host.then(identity),
    "route": route,
    "environment": t.environment.then(identity),
    "user_agent": rules.USER_AGENT,
    "protocol_version": t.protocol_version,
}
# Entries that set one target; their names must have room in the look-up.
_MAX_ENTRIES_OF_TARGET = 32


@dataclass(frozen=True, slots=True)
class MappingEntry:
    """One line of the mapping.

    Args:
        source: Name of an attribute of spans or resources, or of a captured request header in
            either spelling.
        target: A field of the event, or `attributes.NAME`, or `metrics.NAME`.
        treatment: `plain`, or `hash` for a secret.
        application: The application that it holds for; None for all.
    """

    source: str
    target: str
    treatment: str = PLAIN
    application: str | None = None

    @property
    def transform(self) -> Transform:
        """How the attribute's text becomes the target's; a credential is hashed in any case."""
        for name in self.attributes:
            if name in _PROTECTED:
                return _PROTECTED[name] if _is_text(self.target) else t.nothing
        header = self._header
        is_credential = header in (
            *rules.CREDENTIAL_HEADERS, *rules.KEY_HEADERS, *rules.COOKIE_HEADERS
        )  # fmt: skip
        if is_credential and not _is_text(self.target):
            return t.nothing
        if header in rules.CREDENTIAL_HEADERS:
            return authorization
        if self.treatment == HASH or is_credential:
            return secret
        return transform_of(self.target)

    @property
    def _header(self) -> str:
        name = self.source.lower()
        for prefix in rules.HEADER_PREFIXES:
            name = name.removeprefix(prefix)
        return name.replace("_", "-")

    @property
    def attributes(self) -> tuple[str, ...]:
        """The names under which the source is looked for."""
        for prefix in rules.HEADER_PREFIXES:
            if self.source.startswith(prefix):
                name = self.source.removeprefix(prefix)
                return rules.spellings((prefix,), (name, name.replace("_", "-")))
        if "." in self.source:
            return (self.source,)
        header = self.source.lower().replace("_", "-")
        return (self.source, *rules.request_headers(header))


_SAID = tuple(
    MappingEntry(attribute, ATTRIBUTES + name) for name, attribute in rules.SAID_ATTRIBUTES.items()
)


@dataclass(frozen=True, slots=True)
class Mapping:
    """All lines of the mapping; earlier ones win, and an application's own ones before all.

    Raises:
        ConfigError: An entry's target does not exist, or cannot be treated so.
    """

    entries: tuple[MappingEntry, ...] = ()

    def __post_init__(self) -> None:
        for number, entry in enumerate(self.entries):
            _check(number, entry)
        for target, count in Counter(entry.target for entry in self.entries).items():
            if count > _MAX_ENTRIES_OF_TARGET:
                raise ConfigError(
                    f"mapping: {count} entries set {target}; "
                    f"at most {_MAX_ENTRIES_OF_TARGET} are allowed"
                )
        for prefix in (ATTRIBUTES, METRICS):
            if len({e.target for e in self.entries if e.target.startswith(prefix)}) > MAX_ENTRIES:
                raise ConfigError(
                    f"mapping: more than {MAX_ENTRIES} different targets {prefix}NAME; "
                    f"at most {MAX_ENTRIES} are allowed"
                )

    def for_target(self, target: str) -> list[MappingEntry]:
        """Return the entries that set a target, in order of precedence."""
        said = [entry for entry in _SAID if entry.target == target]
        found = [entry for entry in self.entries if entry.target == target]
        return said + sorted(found, key=lambda entry: entry.application is None)

    def names(self, prefix: str) -> tuple[str, ...]:
        """Return the targets that begin with a prefix, each once, in order."""
        targets = (entry.target for entry in (*_SAID, *self.entries))
        return tuple(dict.fromkeys(t for t in targets if t.startswith(prefix)))


NO_MAPPING = Mapping()


def transform_of(target: str) -> Transform:
    """Return how plain text becomes the value of a field, of `attributes.` or of `metrics.`."""
    if target.startswith(METRICS):
        return t.number
    if target.startswith(ATTRIBUTES) or target in rules.IDENTITY_FIELDS:
        return identity
    if BY_NAME[target].type is FieldType.INTEGER:
        return t.whole_number
    return _TRANSFORMS.get(target, _label)


def _check(number: int, entry: MappingEntry) -> None:
    where = f"mapping, entry {number + 1}"
    if not entry.source.strip():
        raise ConfigError(
            f"{where}: 'from' is empty; it must be the name of an attribute or header"
        )
    if entry.treatment not in (PLAIN, HASH):
        raise ConfigError(f"{where}: 'as' is {entry.treatment!r}; it must be {PLAIN} or {HASH}")
    for prefix in (ATTRIBUTES, METRICS):
        if entry.target.startswith(prefix) and _NAME.fullmatch(entry.target[len(prefix) :]):
            break
    else:
        if entry.target not in FIELDS:
            near = difflib.get_close_matches(entry.target, FIELDS, 1)
            hint = f"did you mean {near[0]}? " if near else ""
            raise ConfigError(
                f"{where}: 'to' is {entry.target!r}; {hint}it must be one of "
                f"{', '.join(FIELDS)}, {ATTRIBUTES}NAME or {METRICS}NAME"
            )
    if entry.treatment == HASH and not _is_text(entry.target):
        raise ConfigError(f"{where}: {entry.target} is a number, which cannot be hashed")


def _is_text(target: str) -> bool:
    if target.startswith(METRICS):
        return False
    return target.startswith(ATTRIBUTES) or BY_NAME[target].type is FieldType.TEXT
