# SPDX-License-Identifier: Apache-2.0
"""Tests of the transforms: what each one gives, and that Python and the engine give the same."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from otel_apinalytics.normalize import identity, mapping, routes, rpc, rules, sampling, urls
from otel_apinalytics.normalize import transforms as t
from otel_apinalytics.normalize.transforms import Pattern, Transform
from tests.engine_fixtures import HASH_KEY, RunSql
from tests.unit.normalize import strategies

PHASES = (Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink)
MODULES = (t, urls, routes, identity, rpc, sampling, rules, mapping)
MARK = identity.MARK


def parts_of(value: object) -> Iterator[object]:
    """Yield a value and what it holds, as far as the rules' own structures go."""
    yield value
    if isinstance(value, rules.Rule):
        yield from (source.transform for source in value.sources)
    elif isinstance(value, dict):
        yield from value.values()
    elif isinstance(value, tuple):
        for item in value:
            yield from parts_of(item)


def found(kind: type) -> dict[str, Any]:
    """Return what the modules hold of a kind, each once, by some name."""
    everything = {
        f"{module.__name__.rpartition('.')[2]}.{name}.{number}": part
        for module in MODULES
        for name, value in vars(module).items()
        for number, part in enumerate(parts_of(value))
        if isinstance(part, kind)
    }
    return {name: part for part, name in {part: name for name, part in everything.items()}.items()}


TRANSFORMS: dict[str, Transform] = found(Transform)
PATTERNS: dict[str, Pattern] = found(Pattern)

# A transform is given what is present.
present = strategies.texts.filter(bool)


def in_engine(run_sql: RunSql, columns: Sequence[str], values: Sequence[bytes]) -> list[list[Any]]:
    """Return the values of SQL expressions for each of the values of the column `text`."""
    literals = ", ".join(f"'{value.hex()}'" for value in values)
    source = f"SELECT unhex(arrayJoin([{literals}])) AS text, unhex('{HASH_KEY.hex()}') AS hash_key"
    return run_sql(f"SELECT {', '.join(columns)} FROM ({source})")


def test_all_transforms_and_patterns_are_found() -> None:
    """Those of the rules as well, which have no name of their own."""
    assert {rule for rule in rules.RULES if rule.sources}
    used = {source.transform for rule in rules.RULES for source in rule.sources}
    used |= {mapping.transform_of(field) for field in mapping.FIELDS}
    assert used <= set(TRANSFORMS.values())
    assert len(TRANSFORMS) > 40
    assert len(PATTERNS) > 40


@pytest.mark.parametrize(
    ("transform", "text", "expected"),
    [
        (t.as_is, "Ab ", "Ab "),
        (t.as_is, "x" * 5000, "x" * 5000),
        (t.label, "a" * 1024, "a" * 1024),
        (t.label, "é" * 1025, "é" * 1024),
        (t.label, "😀" * 1025, "😀" * 1024),
        (t.user_agent, "a" * 513, "a" * 512),
        (t.url, "/" * 2049, "/" * 2048),
        (t.word, "Ab\u0130", "ab\u0130"),
        (t.not_none, "None", ""),
        (t.not_none, "nonesuch", "nonesuch"),
        (t.environment, "Prod", "production"),
        (t.environment, "dev", "development"),
        (t.environment, "STAGE", "staging"),
        (t.environment, "QA 1", "qa 1"),
        (t.region_of_zone, "eu-west-1a", "eu-west-1"),
        (t.region_of_zone, "us-central1-b", "us-central1"),
        (t.region_of_zone, "eu-west-1", "eu-west-1"),
        (t.protocol_version, "1.1", "1.1"),
        (t.protocol_version, "HTTP/1.1", "1.1"),
        (t.protocol_version, "http/2.0", "2"),
        (t.protocol_version, "2.0", "2"),
        (t.protocol_version, "3.0", "3"),
        (t.protocol_version, "SPDY", "SPDY"),
        (t.protocol_version, "HTTP/", ""),
        (t.cache_status, "HIT", "hit"),
        (t.cache_status, "Hit from cloudfront", "hit"),
        (t.cache_status, "TCP_MISS/200", "miss"),
        (t.cache_status, "MISS, HIT", "miss"),
        (t.cache_status, "warm", "warm"),
        (t.product, "curl/8.0", "curl"),
        (t.product, "Mozilla/5.0 (X11; a/b)", "Mozilla"),
        (t.product, "curl", "curl"),
        (t.product, " curl/8", ""),
        (t.product_version, "curl/8.0", "8.0"),
        (t.product_version, "Mozilla/5.0 (X11; a/b)", "5.0"),
        (t.product_version, "a/b/c d", "b/c"),
        (t.product_version, "curl", ""),
        (t.method, "GET", "GET"),
        (t.method, "delete", "DELETE"),
        (t.method, "Query", "QUERY"),
        (t.method, "PROPFIND", "_OTHER"),
        (t.method, "GET ", "_OTHER"),
        (t.method, "opt\u0131ons", "_OTHER"),
        (t.method_of_name, "GET /a", "GET"),
        (t.method_of_name, "GET", "GET"),
        (t.method_of_name, "GETS /a", ""),
        (t.method_of_name, "HTTP GET", ""),
        (t.method_of_name, "get /a", ""),
        (t.whole_number, "0", "0"),
        (t.whole_number, "999999999999999", "999999999999999"),
        (t.whole_number, "9999999999999999999", ""),
        (t.whole_number, "-1", ""),
        (t.whole_number, "1.0", ""),
        (t.whole_number, "1\n", ""),
        (t.status_code, "100", "100"),
        (t.status_code, "599", "599"),
        (t.status_code, "099", ""),
        (t.status_code, "600", ""),
        (t.status_code, "0", ""),
        (t.status_code, "20", ""),
        (t.status_code, "2000", ""),
        (t.status_code, "2e2", ""),
        (t.status_code, "+99", ""),
        (t.status_code, "20\0", ""),
        (t.status_code, "200\n", ""),
        (t.status_code, "٢٠٠", ""),
        (t.milliseconds, "7", "7000"),
        (t.milliseconds, "0", "0000"),
        (t.milliseconds, "1.5", ""),
        (t.number, "-1.5e-7", "-1.5e-7"),
        (t.number, "12", "12"),
        (t.number, "nan", ""),
        (t.number, "1e999", ""),
        (t.number, "1.", ""),
        (urls.path, "/a/b", "/a/b"),
        (urls.path, "/a?b=c#d", "/a"),
        (urls.path, "/a#d?b=c", "/a"),
        (urls.path, "a", "a"),
        (urls.path, "*", "*"),
        (urls.path, "?b=c", ""),
        (urls.path, "#d", ""),
        (urls.path, "https://h/a?b", "/a"),
        (urls.path, "https://h", "/"),
        (urls.path, "https://h?b", "/"),
        (urls.path, "https://", "/"),
        (urls.path, "/go/https://h/a", "/go/https://h/a"),
        (urls.path, "://h/a", "://h/a"),
        (urls.path, "//h/a", "//h/a"),
        (urls.path, "/ü/😀", "/ü/😀"),
        (urls.path, "https://ü/😀", "/😀"),
        (urls.query, "/a?b=c", "b=c"),
        (urls.query, "/a?b=c#d", "b=c"),
        (urls.query, "/a?b?c", "b?c"),
        (urls.query, "/a#d?b", ""),
        (urls.query, "/a?", ""),
        (urls.query, "/a", ""),
        (urls.query, "https://h?b", "b"),
        (urls.bare_query, "a=1", "a=1"),
        (urls.bare_query, "?a=1", "a=1"),
        (urls.bare_query, "??a", "?a"),
        (urls.bare_query, "?", ""),
        (urls.host, "example.com", "example.com"),
        (urls.host, "example.com:8080", "example.com"),
        (urls.host, ":8080", ""),
        (urls.host, "[::1]:8080", "::1"),
        (urls.host, "[::1]", "::1"),
        (urls.host, "[]", ""),
        (urls.host, "::1", "::1"),
        (urls.url_host, "https://example.com/a", "example.com"),
        (urls.url_host, "https://example.com:443", "example.com"),
        (urls.url_host, "https://user:p@ss@example.com:443/a@b", "example.com"),
        (urls.url_host, "https://[::1]:443/a", "::1"),
        (urls.url_host, "https:///a", ""),
        (urls.url_host, "/go/https://h/a", ""),
        (urls.url_host, "example.com/a", ""),
        (urls.redacted, "/?a=1&token=x&b=2", "/?a=1&token=REDACTED&b=2"),
        (urls.redacted, "/?API_KEY=x", "/?API_KEY=REDACTED"),
        (urls.redacted, "/?sig=a=b;c&sig=", "/?sig=REDACTED;c&sig=REDACTED"),
        (urls.redacted, "/?token=1&token=2", "/?token=REDACTED&token=REDACTED"),
        (urls.redacted, "/?token=1\n2&a", "/?token=REDACTED&a"),
        (urls.redacted, "/?monkey=1&keys=2&key", "/?monkey=1&keys=2&key"),
        (urls.redacted, "/?X-Amz-Signature=x", "/?X-Amz-Signature=REDACTED"),
        (urls.redacted, "/?key=" + "k" * 15, "/?key=" + "k" * 15),
        (urls.redacted, "/?key=" + "k" * 16, "/?key=REDACTED"),
        (urls.redacted, "/reset/eyJhbGciOi.eyJzdWIiOi.c2ln/x", "/reset/REDACTED/x"),
        (urls.redacted, "/go/https://u:p@h/a", "/go/https://REDACTED@h/a"),
        (urls.redacted, "/a;jwt=x", "/a;jwt=REDACTED"),
        (urls.ip_address, "1.2.3.4", "1.2.3.4"),
        (urls.ip_address, "1.2.3.4:56", "1.2.3.4"),
        (urls.ip_address, "ipv4:1.2.3.4:5", "1.2.3.4"),
        (urls.ip_address, "[::1]:80", "::1"),
        (urls.ip_address, "::ffff:1.2.3.4", "1.2.3.4"),
        (urls.ip_address, "fe80::1%eth0", "fe80::1"),
        (urls.ip_address, "unknown, 10.0.0.1, 10.0.0.2", "10.0.0.1"),
        (urls.ip_address, "localhost", ""),
        (urls.version_of_query, "a=1&api-version=2024-05-01&b", "2024-05-01"),
        (urls.version_of_query, "my-api-version=1", ""),
        (urls.version_of_path, "/v1/users", "v1"),
        (urls.version_of_path, "/api/v2.1", "v2.1"),
        (urls.version_of_path, "/users/v1", ""),
        (urls.version_of_path, "/v1beta/users", ""),
        (routes.route, "/users/{id}", "/users/{id}"),
        (routes.route, "GET /users/{id}", "/users/{id}"),
        (routes.route, "example.com/users/{id}", "users/{id}"),
        (routes.route, "GET example.com/users/{id}", "users/{id}"),
        (routes.route, "^users/(?P<id>[0-9]+)/$", "users/(?P<id>[0-9]+)/"),
        (routes.route, "^api/^users/\\Z", "api/users/"),
        (routes.route, "/items/:id(.:format)", "/items/:id"),
        (routes.route, "/a?b=1", "/a"),
        (routes.route, "/a/{id?}", "/a/{id?}"),
        (routes.route, "/a//b", "/a/b"),
        (routes.route, "^$", "/"),
        (routes.route, "root", "/"),
        (routes.route, "-", ""),
        (routes.route, "[REDACTED]", ""),
        (routes.route, "@fallback", routes.NO_MATCH),
        (routes.route, "/**", routes.NO_MATCH),
        (routes.route, "UNKNOWN", routes.NO_MATCH),
        (routes.route, "default", routes.NO_MATCH),
        (routes.route_of_name, "GET /users/{id}", "/users/{id}"),
        (routes.route_of_name, "HTTP GET /users", "/users"),
        (routes.route_of_name, "http get /users/{id}", "/users/{id}"),
        (routes.route_of_name, "HTTP /a", "/a"),
        (routes.route_of_name, "GET", ""),
        (routes.route_of_name, "GET /**", ""),
        (routes.route_of_name, "GET HTTP GET route not found", ""),
        (routes.action_of_name, "Shop::ItemsController#show", "Shop::ItemsController#show"),
        (routes.action_of_name, "GET /a#b", ""),
        (routes.template, "/users", "/users"),
        (routes.template, "/users/7", "/users/{id}"),
        (routes.template, "/users/-7/x", "/users/{id}/x"),
        (routes.template, "/v1/users", "/v1/users"),
        (routes.template, "/deadbeef", "/deadbeef"),
        (routes.template, "/deadbee7", "/{id}"),
        (routes.template, "/0123abc", "/0123abc"),
        (routes.template, "/550e8400-e29b-41d4-a716-446655440000", "/{id}"),
        (routes.template, "/01ARZ3NDEKTSV4RRFFQ69G5FAV", "/{id}"),
        (routes.template, "/a-rather-long-name-of-a-page", "/a-rather-long-name-of-a-page"),
        (routes.template, "/2024-05-01/2024-05/2024-05-01T10:00", "/{id}/{id}/{id}"),
        (routes.template, "/a@b.c/x%20y/1,2", "/{id}/{id}/{id}"),
        (routes.template, "/" + "a" * 40, "/" + "a" * 40),
        (routes.template, "/" + "a" * 41, "/{id}"),
        (routes.template, "/" + "é" * 40, "/" + "é" * 40),
        (routes.template, "/" + "é" * 41, "/{id}"),
        (routes.template, "/a/b/c/d/e/f/g/h", "/a/b/c/d/e/f/g/h"),
        (routes.template, "/a/b/c/d/e/f/g/h/i", "/a/b/c/d/e/f/g/h/*"),
        (rpc.status, "13", "INTERNAL"),
        (rpc.status, "0", "OK"),
        (rpc.status, "17", "17"),
        (rpc.status, "not_found", "NOT_FOUND"),
        (rpc.status, "canceled", "CANCELLED"),
        (rpc.status, "unknown", "UNKNOWN"),
        (rpc.status, "-32601", "-32601"),
        (rpc.status_code, "NOT_FOUND", "404"),
        (rpc.status_code, "OK", "200"),
        (rpc.status_code, "-32601", ""),
        (identity.identity, "alice", "alice"),
        (identity.identity, "x" * 100, "x" * 100),
        (identity.identity, "x" * 101, MARK + "x" * 101),
        (identity.identity, "x " * 60, "x " * 60),
        (identity.identity, "sk_live_0123456789", MARK + "sk_live_0123456789"),
        (identity.identity, "AKIA0123456789ABCDEF", MARK + "AKIA0123456789ABCDEF"),
        (identity.secret, "k", MARK + "k"),
        (identity.authorization, "Basic YWxpY2U6czNjcmV0", "alice"),
        (identity.authorization, "basic  YWxpY2U6czNjcmV0", "alice"),
        (identity.authorization, "Basic YWxpY2U6", "alice"),
        (identity.authorization, "Basic OnMzY3JldA==", MARK + "OnMzY3JldA=="),
        (identity.authorization, "Basic YWxpY2U", MARK + "YWxpY2U"),
        (identity.authorization, "Bearer abc", MARK + "abc"),
        (identity.authorization, "ApiKey abc", MARK + "abc"),
        (identity.authorization, "abc", MARK + "abc"),
        (identity.certificate_subject, "CN=alice,O=shop", "alice"),
        (identity.certificate_subject, "/O=shop/CN=alice", "alice"),
        (identity.certificate_subject, "alice", "alice"),
        (
            identity.forwarded_certificate,
            'By=spiffe://a/b;Hash=1;Subject="CN=alice,O=x";URI=spiffe://c/d',
            "spiffe://c/d",
        ),
        (identity.forwarded_certificate, 'Hash=1;Subject="O=x,CN=alice"', "alice"),
        (identity.forwarded_certificate, "Hash=1", ""),
    ],
)
def test_transform(run_sql: RunSql, transform: Transform, text: str, expected: str) -> None:
    """Each transform gives what the table says, in both renderings."""
    assert transform.python(text) == expected
    assert in_engine(run_sql, [transform.sql("text")], [text.encode()]) == [[expected]]


@pytest.mark.parametrize("name", urls.SECRET_PARAMETERS)
def test_every_secret_parameter_is_redacted(name: str) -> None:
    """A parameter of the list loses its value, in any case and any place."""
    redact = urls.redacted.python
    assert redact(f"/?{name}=s3cret") == f"/?{name}=REDACTED"
    upper = name.upper()
    assert redact(f"/?a=1&{upper}=s3cret&b=2") == f"/?a=1&{upper}=REDACTED&b=2"


@pytest.mark.parametrize("name", urls.SECRET_PARAMETERS)
def test_the_engine_redacts_every_secret_parameter(run_sql: RunSql, name: str) -> None:
    """None of them escapes the look for hints that saves the engine the work."""
    texts = [f"/?{name}=s3cret", f"/?a=1;{name.upper()}=s3cret"]
    rows = in_engine(run_sql, [urls.redacted.sql("text")], [text.encode() for text in texts])
    assert rows == [[f"/?{name}=REDACTED"], [f"/?a=1;{name.upper()}=REDACTED"]]


@pytest.mark.parametrize(
    "text", [*t.MISSING_WORDS, " ", "unknown ", "Unknown", "NULL", "[REDACTED]", "[Filtered]"]
)
def test_a_word_for_none_is_missing(text: str) -> None:
    """Words that senders write for "there is none" count as absent in any case."""
    assert t.is_missing(text)


@pytest.mark.parametrize("text", ["0", "none", "--", "un known", "n\u017full", "nu\u217cl"])
def test_other_words_are_present(text: str) -> None:
    """What only looks like such a word is a value."""
    assert not t.is_missing(text)


@settings(deadline=None, max_examples=60, phases=PHASES)
@given(batch=st.lists(present, min_size=1, max_size=40))
def test_renderings_agree(run_sql: RunSql, batch: list[str]) -> None:
    """Python and the engine give the same for any text: each transform, and `is_missing`."""
    columns = [transform.sql("text") for transform in TRANSFORMS.values()]
    columns.append(f"if({t.is_missing_sql('text')}, 'missing', 'present')")
    rows = in_engine(run_sql, columns, [text.encode() for text in batch])
    for text, row in zip(batch, rows, strict=True):
        expected = {name: transform.python(text) for name, transform in TRANSFORMS.items()}
        expected["is_missing"] = "missing" if t.is_missing(text) else "present"
        assert dict(zip(expected, row, strict=True)) == expected, text


@settings(deadline=None, max_examples=60, phases=PHASES)
@given(batch=st.lists(strategies.texts, min_size=1, max_size=40))
def test_patterns_mean_the_same(run_sql: RunSql, batch: list[str]) -> None:
    """Every pattern is found, and has its first group, in the same texts."""
    grouped = {name: p for name, p in PATTERNS.items() if p.python.groups}
    columns = [f"toBool({pattern.search_sql('text')})" for pattern in PATTERNS.values()]
    columns += [pattern.first_sql("text") for pattern in grouped.values()]
    rows = in_engine(run_sql, columns, [text.encode() for text in batch])
    for text, row in zip(batch, rows, strict=True):
        expected = {name: pattern.search(text) for name, pattern in PATTERNS.items()}
        firsts = {f"group of {name}": p.first(text) for name, p in grouped.items()}
        assert dict(zip([*expected, *firsts], row, strict=True)) == {**expected, **firsts}, text


@settings(deadline=None, max_examples=40, phases=PHASES)
@given(batch=st.lists(strategies.secrets | strategies.any_text, min_size=1, max_size=20))
def test_hashes_agree(run_sql: RunSql, batch: list[str]) -> None:
    """The same secret has the same hash in both renderings; what is not marked is kept."""
    columns = [
        identity.hashed_sql("text"),
        identity.hashed_sql("text", identity.ADDRESS_PREFIX),
        identity.without_secret_sql("text"),
        identity.without_secret_sql("concat('\\0', text)"),
    ]
    rows = in_engine(run_sql, columns, [text.encode() for text in batch])
    for text, row in zip(batch, rows, strict=True):
        assert row == [
            identity.hashed(text, HASH_KEY),
            identity.hashed(text, HASH_KEY, identity.ADDRESS_PREFIX),
            identity.without_secret(text, HASH_KEY),
            identity.hashed(text, HASH_KEY),
        ]


def test_a_hash_is_as_the_reference_says() -> None:
    """HMAC-SHA256 under the application's key, `key_` and 24 digits; another key, another hash."""
    made = identity.hashed("k-123", HASH_KEY)
    assert made == identity.hashed("k-123", HASH_KEY) != identity.hashed("k-123", bytes(32))
    assert made.startswith("key_")
    assert len(made) == len("key_") + 24
    assert identity.without_secret(MARK + "k-123", HASH_KEY) == made
    assert identity.without_secret(MARK + "k-123", None) == ""


@settings(deadline=None, max_examples=60, phases=PHASES)
@given(batch=st.lists(strategies.trace_states, min_size=1, max_size=40))
def test_weights_agree(run_sql: RunSql, batch: list[str]) -> None:
    """Any trace state has the same weight in both renderings."""
    rows = in_engine(run_sql, [sampling.weight_sql("text")], [text.encode() for text in batch])
    assert [weight for (weight,) in rows] == [sampling.weight(text) for text in batch]


@pytest.mark.parametrize(
    ("trace_state", "weight"),
    [
        ("", 1000),
        ("vendor=1", 1000),
        ("ot=th:8", 2000),
        ("ot=th:0", 1000),
        ("vendor=1,ot=th:0;rv:abc", 1000),
        ("ot=rv:abc;th:c", 4000),
        ("ot=th:c;x:y, vendor=1", 4000),
        ("ot=th:zz", 1000),
        ("ot=th:fffffffffffffff", 1000),
        ("ot=th:ffffffffffffff", 10**12),
        ("ot=th:55555555555555", 1500),
        ("ot=p:3", 8000),
        ("ot=p:63", 1000 << 29),
        ("not=th:8", 1000),
    ],
)
def test_weight(run_sql: RunSql, trace_state: str, weight: int) -> None:
    """A threshold T is a weight of 2^56 / (2^56 - T), a power p one of 2^p, at most a billion."""
    assert sampling.weight(trace_state) == weight
    rows = in_engine(run_sql, [sampling.weight_sql("text")], [trace_state.encode()])
    assert rows == [[weight]]


@settings(deadline=None, max_examples=60, phases=PHASES)
@given(pairs=st.lists(st.tuples(strategies.routes, strategies.paths), min_size=1, max_size=20))
def test_conventional_routes_agree(run_sql: RunSql, pairs: list[tuple[str, str]]) -> None:
    """A conventional route takes the same segments of the path in both renderings."""
    literals = ", ".join(f"('{r.encode().hex()}', '{p.encode().hex()}')" for r, p in pairs)
    rows = run_sql(
        f"SELECT {routes.conventional_sql('route', 'path')} FROM (SELECT unhex(pair.1) AS route, "
        f"unhex(pair.2) AS path FROM (SELECT arrayJoin([{literals}]) AS pair))"
    )
    assert [made for (made,) in rows] == [routes.conventional(*pair) for pair in pairs]


@pytest.mark.parametrize(
    ("route", "path", "expected"),
    [
        ("{controller=Home}/{action=Index}/{id?}", "/Users/Show/7", "/Users/Show/{id?}"),
        ("{controller=Home}/{action=Index}/{id?}", "/", "/Home/Index/{id?}"),
        ("/{area:exists}/{controller}/{action}", "/Admin/Users", "/Admin/Users/{action}"),
        ("api/{controller}", "/api/Users/7", "/api/Users"),
    ],
)
def test_conventional_route(route: str, path: str, expected: str) -> None:
    """Controller, action and area are the path's, or the defaults; the rest stays."""
    assert routes.is_conventional.search(route)
    assert routes.conventional(route, path) == expected


def test_nothing_stays_nothing_in_the_engine(run_sql: RunSql) -> None:
    """Every SQL rendering gives empty text for empty text."""
    columns = [transform.sql("text") for transform in TRANSFORMS.values()]
    (row,) = in_engine(run_sql, columns, [b""])
    assert dict(zip(TRANSFORMS, row, strict=True)) == dict.fromkeys(TRANSFORMS, "")


@settings(deadline=None, max_examples=40, phases=PHASES)
@given(batch=st.lists(st.binary(min_size=1, max_size=40), min_size=1, max_size=20))
def test_sql_takes_any_bytes(run_sql: RunSql, batch: list[bytes]) -> None:
    """The engine throws at no bytes, UTF-8 or not."""
    columns = [f"hex({transform.sql('text')})" for transform in TRANSFORMS.values()]
    assert len(in_engine(run_sql, columns, batch)) == len(batch)


@settings(deadline=None, max_examples=50, phases=PHASES)
@given(batch=st.lists(strategies.any_text | strategies.odd, min_size=1, max_size=20))
def test_sql_text_is_a_literal(run_sql: RunSql, batch: list[str]) -> None:
    """The engine reads a literal as the text that it was made of, whatever is in it."""
    literals = [f"hex({t.sql_text(text)})" for text in batch]
    expected = [text.encode().hex().upper() for text in batch]
    assert run_sql(f"SELECT {', '.join(literals)}") == [expected]


def test_sql_list_quotes_each_value(run_sql: RunSql) -> None:
    """A list of values means the same to the engine as to Python."""
    values = ("plain", "it's", "back\\slash", "\\'")
    assert run_sql(f"SELECT {', '.join(t.sql_text(value) for value in values)}") == [list(values)]
    assert run_sql(f"SELECT 'it''s' IN {t.sql_list(values)}, 'its' IN {t.sql_list(values)}") == [
        [1, 0]
    ]


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("second", [False, True])
@pytest.mark.parametrize("third", [False, True])
def test_conditions_are_put_together(
    run_sql: RunSql, first: bool, second: bool, third: bool
) -> None:
    """`all_of` and `any_of` mean AND and OR."""
    conditions = [str(value).lower() for value in (first, second, third)]
    assert run_sql(f"SELECT toBool({t.all_of(*conditions)}), toBool({t.any_of(*conditions)})") == [
        [first and second and third, first or second or third]
    ]
