# SPDX-License-Identifier: Apache-2.0
"""Tests of the operator's mapping: what it takes, where it looks, and what it may never change."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from otel_apinalytics.catalogue import MAX_ENTRIES
from otel_apinalytics.errors import ConfigError
from otel_apinalytics.normalize.identity import hashed
from otel_apinalytics.normalize.mapping import FIELDS, HASH, Mapping, MappingEntry
from otel_apinalytics.normalize.python import SpanView
from otel_apinalytics.normalize.rules import IDENTITY_FIELDS
from tests.engine_fixtures import APPLICATION, HASH_KEY, NormalizeInEngine, Row
from tests.unit.normalize.agreement import agreed_rows
from tests.unit.normalize.strategies import OTHER_APPLICATION, RECEIVED_NS

HEADER = "http.request.header."


def of(*entries: MappingEntry) -> Mapping:
    """Return a mapping with these entries."""
    return Mapping(entries)


def row_of(
    normalize_in_engine: NormalizeInEngine,
    mapping: Mapping,
    attributes: dict[str, Any],
    resource: dict[str, Any] | None = None,
) -> Row:
    """Return what both renderings make of a span."""
    span = SpanView(
        trace_id=b"\1" * 16,
        span_id=b"\2" * 8,
        parent_span_id=b"",
        name="GET",
        kind=2,
        start_ns=RECEIVED_NS,
        end_ns=RECEIVED_NS,
        status=0,
        attributes={"url.path": "/", **attributes},
        resource=resource or {},
    )
    (row,) = agreed_rows(normalize_in_engine, [span], RECEIVED_NS, mapping)
    return row


# ---- what it refuses ----

ALLOWED = f"it must be one of {', '.join(FIELDS)}, attributes.NAME or metrics.NAME"


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (MappingEntry("", "plan_id"), "'from' is empty; it must be the name of an attribute"),
        (MappingEntry("  ", "plan_id"), "'from' is empty"),
        (MappingEntry("x", "plan_id", "sha1"), "'as' is 'sha1'; it must be plain or hash"),
        (MappingEntry("x", "plan"), f"'to' is 'plan'; did you mean plan_id? {ALLOWED}"),
        (MappingEntry("x", "zzzzzz"), f"'to' is 'zzzzzz'; {ALLOWED}"),
        (MappingEntry("x", "attributes."), f"'to' is 'attributes.'; {ALLOWED}"),
        (MappingEntry("x", "attributes.a b"), "'to' is 'attributes.a b'"),
        (MappingEntry("x", "attributes.it's"), "'to' is"),
        (MappingEntry("x", "attributes." + "n" * 129), "'to' is"),
        (MappingEntry("x", "metrics"), "'to' is 'metrics'"),
        (MappingEntry("x", "queue_us", HASH), "queue_us is a number, which cannot be hashed"),
        (MappingEntry("x", "metrics.m", HASH), "metrics.m is a number, which cannot be hashed"),
    ],
)
def test_an_entry_that_means_nothing_is_refused(entry: MappingEntry, message: str) -> None:
    """The error names the entry, what is wrong with it, and what is allowed."""
    with pytest.raises(ConfigError) as caught:
        of(MappingEntry("fine", "plan_id"), entry)
    assert str(caught.value).startswith("mapping, entry 2: ")
    assert message in str(caught.value)


@pytest.mark.parametrize("prefix", ["attributes.", "metrics."])
def test_the_number_of_names_is_bounded(prefix: str) -> None:
    """A row has room for so many of the owner's own, however many entries feed one."""
    entries = [MappingEntry(f"x.{i}", f"{prefix}n{i}") for i in range(MAX_ENTRIES)]
    of(*entries, MappingEntry("x.more", f"{prefix}n0"))
    with pytest.raises(ConfigError, match=f"at most {MAX_ENTRIES} are allowed"):
        of(*entries, MappingEntry("x.more", f"{prefix}more"))


@pytest.mark.parametrize(
    "target",
    [
        "application", "event_id", "timestamp", "trace_id", "span_id", "parent_span_id",
        "received_at", "direction", "consumer_source", "weight", "locality", "status_class",
    ],
)  # fmt: skip
def test_what_makes_an_event_cannot_be_mapped(target: str) -> None:
    """Its key, its tenant, and what the rules themselves say of it."""
    with pytest.raises(ConfigError, match=f"'to' is '{target}'"):
        of(MappingEntry("x", target))


# ---- where it looks ----


@pytest.mark.parametrize(
    ("source", "attribute"),
    [
        ("my-header", "my-header"),
        ("my-header", HEADER + "my-header"),
        ("my-header", HEADER + "my_header"),
        ("My-Header", HEADER + "my-header"),
        ("my_header", HEADER + "my-header"),
        ("my_header", HEADER + "my_header"),
        ("my-header", "rpc.request.metadata.my-header"),
        (HEADER + "my-header", HEADER + "my_header"),
        (HEADER + "my_header", HEADER + "my-header"),
        ("http.response.header.my-header", "http.response.header.my_header"),
        ("my.attribute", "my.attribute"),
        ("it's\\odd", "it's\\odd"),
    ],
)
def test_a_source_is_found_in_any_spelling(
    normalize_in_engine: NormalizeInEngine, source: str, attribute: str
) -> None:
    """A header with `-` or `_`, captured or as metadata; an attribute as it is."""
    row = row_of(normalize_in_engine, of(MappingEntry(source, "plan_id")), {attribute: ["gold"]})
    assert row["plan_id"] == "gold"


def test_a_resource_has_what_the_span_has_not(normalize_in_engine: NormalizeInEngine) -> None:
    """The span's attribute wins over the resource's of the same name."""
    mapping = of(MappingEntry("x.plan", "plan_id"))
    resource = {"x.plan": "resource"}
    assert row_of(normalize_in_engine, mapping, {}, resource)["plan_id"] == "resource"
    span = {"x.plan": "span"}
    assert row_of(normalize_in_engine, mapping, span, resource)["plan_id"] == "span"
    # A word for none is none.
    span = {"x.plan": "-"}
    assert row_of(normalize_in_engine, mapping, span, resource)["plan_id"] == "resource"


# ---- which wins ----

ORDERED = of(
    MappingEntry("x.first", "consumer_id"),
    MappingEntry("x.second", "consumer_id"),
    MappingEntry("x.own", "consumer_id", application=APPLICATION),
    MappingEntry("x.others", "consumer_id", application=OTHER_APPLICATION),
)


@pytest.mark.parametrize(
    ("names", "wins"),
    [
        (("x.first", "x.second", "enduser.id"), "x.first"),
        (("x.second", "enduser.id"), "x.second"),
        (("x.first", "x.own"), "x.own"),
        (("x.others", "enduser.id"), "enduser.id"),
        (("x.own", "apinalytics.consumer.id"), "apinalytics.consumer.id"),
        (("x.first", HEADER + "x-consumer-id"), "x.first"),
    ],
)
def test_precedence(
    normalize_in_engine: NormalizeInEngine, names: tuple[str, ...], wins: str
) -> None:
    """What the application says, its own entries, those of all in order, then the rules."""
    row = row_of(normalize_in_engine, ORDERED, {name: f"of {name}" for name in names})
    assert (row["consumer_id"], row["consumer_source"]) == (f"of {wins}", wins)


def test_one_attribute_may_feed_several_fields(normalize_in_engine: NormalizeInEngine) -> None:
    """Each in its own way; what the rules make of it stays."""
    mapping = of(
        MappingEntry("enduser.id", "attributes.user"),
        MappingEntry("enduser.id", "attributes.hidden", HASH),
        MappingEntry("enduser.id", "metrics.number"),
        MappingEntry("enduser.id", "plan_id"),
    )
    row = row_of(normalize_in_engine, mapping, {"enduser.id": "42"})
    assert row["consumer_id"] == row["plan_id"] == "42"
    assert row["attributes"] == {"user": "42", "hidden": hashed("42", HASH_KEY)}
    assert row["metrics"] == {"number": 42.0}


# ---- what becomes of a value ----


@pytest.mark.parametrize(
    ("target", "value", "expected"),
    [
        ("plan_id", "Gold", "Gold"),
        ("environment", "Prod", "production"),
        ("host", "h:80", "h"),
        ("route", "users/{id}$", "/users/{id}"),
        ("protocol_version", "HTTP/2.0", "2"),
        ("queue_us", "12", 12),
        ("queue_us", "-1", None),
        ("quota_consumed", 3.0, 3),
        ("rpc_status", "5", "5"),
        ("user_agent", "a" * 600, "a" * 512),
        ("experiment", "é" * 1100, "é" * 1024),
        ("attributes.a", "x y " * 200, {"a": "x y " * 200}),
        ("attributes.a", "[FILTERED]", {}),
        ("metrics.m", "1.5e3", {"m": 1500.0}),
        ("metrics.m", "many", {}),
        ("metrics.m", 0, {"m": 0.0}),
    ],
)
def test_a_plain_value(
    normalize_in_engine: NormalizeInEngine, target: str, value: Any, expected: Any
) -> None:
    """It becomes what the field holds, or is no value."""
    row = row_of(normalize_in_engine, of(MappingEntry("x", target)), {"x": value})
    assert row[target.partition(".")[0]] == expected


@pytest.mark.parametrize(
    ("source", "target", "treatment", "value", "hidden"),
    [
        ("x.key", "consumer_id", HASH, "k-123", "k-123"),
        ("x.key", "attributes.key", HASH, "k-123", "k-123"),
        ("x.key", "host", HASH, "k-123", "k-123"),
        ("x-api-key", "attributes.key", "plain", "k-123", "k-123"),
        (HEADER + "x_api_key", "plan_id", "plain", "k-123", "k-123"),
        ("X-Api-Key", "consumer_id", "plain", "k-123", "k-123"),
        ("authorization", "attributes.key", "plain", "Bearer k-123", "k-123"),
        ("Proxy-Authorization", "consumer_id", "plain", "Token k-123", "k-123"),
        ("cookie", "attributes.key", "plain", "session=k-123", "session=k-123"),
        ("set-cookie", "experiment", "plain", "session=k-123", "session=k-123"),
        ("x.key", "attributes.key", "plain", "sk_live_0123456789", "sk_live_0123456789"),
    ],
)
def test_a_secret_is_hashed(
    normalize_in_engine: NormalizeInEngine,
    source: str,
    target: str,
    treatment: str,
    value: str,
    hidden: str,
) -> None:
    """Because the entry says so, for its header, or for what it looks like."""
    name = source if "." in source else HEADER + source.lower()
    mapping = of(MappingEntry(source, target, treatment))
    row = row_of(normalize_in_engine, mapping, {name: [value]})
    field, _, key = target.partition(".")
    assert (row[field][key] if key else row[field]) == hashed(hidden, HASH_KEY)
    assert hidden not in repr(row)


@pytest.mark.parametrize("target", [*IDENTITY_FIELDS, "attributes.token"])
def test_no_identity_is_a_web_token(normalize_in_engine: NormalizeInEngine, target: str) -> None:
    """Whatever an operator maps there: a token gives itself away, and is hashed."""
    token = "eyJhbGciOi.eyJzdWIiOi.c2ln"
    row = row_of(normalize_in_engine, of(MappingEntry("x", target)), {"x": token})
    assert token not in repr(row)
    assert hashed(token, HASH_KEY) in repr(row)


def test_entries_are_values() -> None:
    """Two mappings with the same entries are the same: nothing is made anew."""
    first, second = (of(MappingEntry("x", "plan_id")) for _ in range(2))
    assert first == second
    assert hash(first) == hash(second)
    assert first != of(replace(first.entries[0], source="y"))
