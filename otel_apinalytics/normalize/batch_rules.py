# SPDX-License-Identifier: Apache-2.0
"""Batch rules: what spans of one batch say of each other.

A SERVER span inside a SERVER span of the same process is a part of one call, and what it knows
better is copied to the outer one. A consumer or a GraphQL operation on a direct child is its
parent's. Only what arrived together is seen, so that a rule needs no memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import TypeAlias

from otel_apinalytics.normalize.rules import (
    FLAGS_PARENT_KNOWN,
    FLAGS_PARENT_REMOTE,
    KIND_INTERNAL,
    KIND_SERVER,
)

# Trace id and span id.
Key: TypeAlias = tuple[bytes, bytes]


class BatchRules(IntEnum):
    """Which of these rules a batch needs; each includes those before. Numbers as in the log."""

    NONE = 0
    CHILDREN = 1
    NESTED = 2


@dataclass(frozen=True, slots=True)
class Child:
    """What a span may tell of its parent, or all children of one span together.

    Args:
        key: The span.
        parent: Its parent; the span id is empty for a root.
        kind: OTLP number of the kind.
        flags: OTLP flags.
        service: `service.name` as sent.
        start_ns: Start in Unix nanoseconds.
        is_call: Whether it is a call, if it is not a part of one.
        route: Route of a SERVER span.
        function: Function of a SERVER span.
        graphql: GraphQL operation.
        consumer: Consumer.
        consumer_source: Attribute that named it.
        failed: Whether a span with a GraphQL operation failed.
    """

    key: Key
    parent: Key
    kind: int
    flags: int
    service: str
    start_ns: int
    is_call: bool = True
    route: str = ""
    function: str = ""
    graphql: str = ""
    consumer: str = ""
    consumer_source: str = ""
    failed: bool = False

    @property
    def has_parent(self) -> bool:
        """Whether it is no root, nor its own parent."""
        return bool(self.parent[1]) and self.parent != self.key

    @property
    def is_local_server(self) -> bool:
        """Whether it is a SERVER span that says that its parent is in the same process."""
        known = self.flags & (FLAGS_PARENT_KNOWN | FLAGS_PARENT_REMOTE)
        return self.kind == KIND_SERVER and known == FLAGS_PARENT_KNOWN


def are_nested(spans: Sequence[Child]) -> list[bool]:
    """Return of each span whether it is a SERVER span within the call of another one."""
    servers = {
        (span.key, span.service) for span in spans if span.kind == KIND_SERVER and span.is_call
    }
    return [
        span.is_local_server and span.has_parent and (span.parent, span.service) in servers
        for span in spans
    ]


def children_of(spans: Iterable[Child]) -> dict[Key, Child]:
    """Return for each parent what its children say: of each thing, what the first to begin says."""
    found: dict[Key, Child] = {}
    for span in sorted(spans, key=lambda span: (span.start_ns, span.key)):
        if not (span.has_parent and (span.kind == KIND_INTERNAL or span.is_local_server)):
            continue
        said = span if span.is_local_server else replace(span, route="", function="")
        said = replace(said, failed=said.failed and bool(said.graphql))
        before = found.get(span.parent)
        found[span.parent] = _together(before, said) if before else said
    return found


def _together(first: Child, second: Child) -> Child:
    consumer = first if first.consumer else second
    return replace(
        first,
        route=first.route or second.route,
        function=first.function or second.function,
        graphql=first.graphql or second.graphql,
        consumer=consumer.consumer,
        consumer_source=consumer.consumer_source,
        failed=first.failed or second.failed,
    )
