# SPDX-License-Identifier: Apache-2.0
"""Where a request's consumer is taken from: what a function says, a header, a user."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, TypeAlias, TypeVar
from uuid import UUID

from otel_apinalytics.exporter.consumers import Consumer, is_nobody, sendable
from otel_apinalytics.exporter.hashing import hashed_or_none
from otel_apinalytics.exporter.quiet import Contained
from otel_apinalytics.normalize import rules
from otel_apinalytics.normalize.mapping import HASH, PLAIN, MappingEntry
from otel_apinalytics.normalize.reading import text_of
from otel_apinalytics.normalize.transforms import Transform, is_missing

Request = TypeVar("Request")
# An id, a consumer with more than that, or None for somebody unknown.
Answer: TypeAlias = "Consumer | str | int | UUID | None"
Ask: TypeAlias = Callable[[Request], Answer]

source_contained = Contained(
    logging.getLogger(__name__), "the consumer of a request could not be found: %s"
)
_CONSUMER = "consumer_id"
_READABLE = (str, bool, int, float, tuple, list)
# Of a user of Starlette, of Django, and of others.
_IDS_OF_USERS = ("identity", "pk", "id", "username", "display_name")


def first_said(*sources: Callable[[], Consumer | None]) -> Consumer | None:
    """Return the first consumer that a source gives; one that fails hides none of the others."""
    for source in sources:
        with source_contained:
            if consumer := source():
                return consumer
    return None


def consumer_said(answer: Answer) -> Consumer | None:
    """Return what a function of the application answered as a consumer, if that can be sent."""
    consumer = answer if isinstance(answer, Consumer) else Consumer(answer)
    return consumer if sendable(consumer.id) else None


def consumer_of_user(user: object) -> Consumer | None:
    """Return an authenticated user as a consumer, by their id only."""
    if not getattr(user, "is_authenticated", False):
        return None
    for name in _IDS_OF_USERS:
        # Starlette's users need not have an identity, and say so by raising.
        with suppress(AttributeError, NotImplementedError):
            if not is_nobody(value := getattr(user, name)):
                return consumer_said(value)
    return None


class NamedSource:
    """A header or an attribute that has the consumer, read as the service reads it.

    Args:
        name: Its name.
        attributes: What holds it on a span.
        transform: How it is read.
    """

    def __init__(self, name: str, attributes: tuple[str, ...], transform: Transform) -> None:
        self.name = name
        self._attributes = attributes
        self._transform = transform

    def consumer(self, text: str | None) -> Consumer | None:
        """Return the consumer that its text names."""
        if text is None or is_missing(text):
            return None
        found = hashed_or_none(self._transform.python(text))
        return Consumer(found) if found else None

    def consumer_on(self, attributes: Mapping[str, Any] | None) -> Consumer | None:
        """Return the consumer that it names among a span's attributes."""
        for name in self._attributes:
            value = (attributes or {}).get(name)
            if isinstance(value, _READABLE) and (found := self.consumer(text_of(value))):
                return found
        return None


def header_source(name: str, is_secret: bool) -> NamedSource:
    """Return a request header as a source; what is known to be a secret is hashed in any case."""
    name = name.strip().lower()
    attributes = rules.request_headers(name)
    known = _known_transform(attributes[0])
    if known is None or is_secret:
        known = _mapped(attributes[0], is_secret)
    return NamedSource(name, attributes, known)


def attribute_source(name: str, is_secret: bool) -> NamedSource:
    """Return an attribute of a span as a source."""
    return NamedSource(name, (name,), _mapped(name, is_secret))


def _mapped(attribute: str, is_secret: bool) -> Transform:
    return MappingEntry(attribute, _CONSUMER, HASH if is_secret else PLAIN).transform


def _known_transform(attribute: str) -> Transform | None:
    """Return how the rules read an attribute that names a consumer."""
    for rule in rules.RULES:
        for source in rule.sources:
            if rule.target in rules.CONSUMER_PARTS and attribute in source.attributes:
                return source.transform
    return None
